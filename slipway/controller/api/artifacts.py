"""Models on their way in: declared by their files' hashes, sent in pieces, verified, and never whole in memory."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import Header
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from slipway.controller.api.bodies import MOST_MANIFEST_BYTES, ArtifactBody
from slipway.controller.api.desk import Desk, Given, Who, reply
from slipway.controller.api.names import Digest, Sha256
from slipway.controller.api.operations import Operation
from slipway.controller.api.pages import Cursor, Limit, page_of
from slipway.controller.api.rules import Rule
from slipway.spec.resources import Artifact, Page

TAG = "artifacts"
BYTES = "application/octet-stream"
PIECE_BYTES = 2**20
BLOB = "/api/v1/artifacts/blobs/{sha256}"
OFFSET = "upload-offset"
Offset = Annotated[
    int,
    Header(
        alias="Upload-Offset",
        ge=0,
        le=2**53 - 1,
        description="Where in the file this begins: how much is there already.",
    ),
]


class ArtifactHandlers:
    def __init__(self, desk: Desk) -> None:
        self._commands = desk.commands

    async def declare_artifact(self, who: Who, body: ArtifactBody = Given) -> Response:
        return reply(await self._commands.declare_artifact(body.upload_files(), caller=who))

    async def list_artifacts(self, limit: Limit = 100, cursor: Cursor = "") -> Response:
        found = await self._commands.artifacts()
        return reply(page_of(found, key=lambda one: (one.digest,), kind="artifacts", limit=limit, cursor=cursor))

    async def get_artifact(self, digest: Digest) -> Response:
        return reply(await self._commands.artifact(digest))

    async def get_blob_offset(self, sha256: Sha256) -> Response:
        return _at(await self._commands.blob_offset(sha256), status=200)

    async def append_blob(self, request: Request, sha256: Sha256, upload_offset: Offset) -> Response:
        offset, piece = upload_offset, bytearray()

        async def keep() -> None:
            nonlocal offset
            offset = await self._commands.append_blob(sha256, offset=offset, chunk=bytes(piece))
            piece.clear()

        sent = False
        try:
            async for chunk in request.stream():
                piece += chunk
                if len(piece) >= PIECE_BYTES:
                    await keep()
                    sent = True
        except ClientDisconnect:
            if piece:  # what came is kept: the client goes on behind it
                await keep()
            raise
        if piece or not sent:
            await keep()
        return _at(offset, status=204)


def operations(desk: Desk) -> list[Operation]:
    do = ArtifactHandlers(desk)
    one = partial(Operation, tag=TAG, needs=Rule.DEPLOYER)
    offset = {OFFSET: "How many bytes of the file are here."}
    return [
        one(
            method="POST",
            path="/api/v1/artifacts",
            call=do.declare_artifact,
            summary="Say which files a model has; the answer says which of them to send, and the digest to deploy",
            takes=ArtifactBody,
            example={"files": [{"path": "iris.onnx", "sha256": "9f86d081884c7d65" * 4, "size_bytes": 1024}]},
            answers={200: Artifact},
            once=True,
            most_bytes=MOST_MANIFEST_BYTES,
            refuses=(409, 422),
        ),
        Operation(
            method="GET",
            path="/api/v1/artifacts",
            call=do.list_artifacts,
            tag=TAG,
            summary="All artifacts that are kept",
            needs=Rule.ADMINISTRATOR,
            answers={200: Page[Artifact]},
        ),
        one(
            method="HEAD",
            path=BLOB,
            call=do.get_blob_offset,
            summary="How much of a file is here",
            answers={200: None},
            headers=offset,
            refuses=(404, 422),
        ),
        one(
            method="PUT",
            path=BLOB,
            call=do.append_blob,
            summary="Send a file, or what is missing of it; it is verified when it is whole",
            raw_body=BYTES,
            answers={204: None},
            headers=offset,
            refuses=(404, 409, 422),
        ),
        one(
            method="GET",
            path="/api/v1/artifacts/{digest}",
            call=do.get_artifact,
            summary="One artifact, and which of its files are missing",
            answers={200: Artifact},
            refuses=(404, 422),
        ),
    ]


def _at(offset: int, *, status: int) -> Response:
    return Response(status_code=status, headers={OFFSET: str(offset)})
