"""Verbs for artifacts: what is uploaded, in pieces that a broken line does not lose."""

from __future__ import annotations

import asyncio

from slipway.controller.commands.office import Office
from slipway.errors import Conflict
from slipway.spec.access import Caller
from slipway.spec.resources import Artifact, UploadFile


class ArtifactCommands(Office):
    async def declare_artifact(self, files: list[UploadFile], *, caller: Caller) -> Artifact:  # noqa: ARG002
        """`missing` of the answer: which files to send. Send them to `append_blob`, then deploy with the digest."""
        self._leadership.check()
        return await asyncio.to_thread(self._specs.artifacts.declare, files)

    async def artifacts(self) -> list[Artifact]:
        return list(await asyncio.to_thread(self._specs.artifacts.list))

    async def artifact(self, digest: str) -> Artifact:
        """Complete, or with what is missing. Raises NotFound."""
        return await asyncio.to_thread(self._specs.artifacts.get, digest)

    async def blob_offset(self, sha256: str) -> int:
        """How many bytes of it are here. Raises NotFound for one that no artifact declared."""
        return await asyncio.to_thread(self._specs.artifacts.received, sha256)

    async def append_blob(self, sha256: str, *, offset: int, chunk: bytes) -> int:
        """The new offset. Verified when it is whole: DigestMismatch then, and it begins again at 0. Conflict when
        `offset` is not where it stands."""
        self._leadership.check()
        return await asyncio.to_thread(self._append, sha256, offset, chunk)

    def _append(self, sha256: str, offset: int, chunk: bytes) -> int:
        artifacts = self._specs.artifacts
        received = artifacts.append(sha256, offset, chunk)
        try:
            artifacts.finish(sha256)
        except Conflict:
            pass  # there is more to come
        return received
