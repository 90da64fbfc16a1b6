"""Sending a model to the server: hash it, ask what is missing, send only that, and go on where a broken line stopped.

Like every call of this room it is a conversation without sockets and clocks; reading and hashing files are work for
its driver. The server may be restarted, time out, or hear the same piece twice: it is asked how far it is, and
believed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from slipway.client.admin_protocol import API, AdminProtocol, AdminTalk, perform, read_json
from slipway.client.exchange import Exchange, Incoming
from slipway.client.retry import Circumstances, converse
from slipway.errors import Conflict, DeadlineExceeded, DigestMismatch, NotFound, SlipwayError, Unavailable
from slipway.spec.local_files import LocalFile, find_files, hash_files, read_piece
from slipway.spec.manifest import manifest_digest
from slipway.spec.resources import Artifact, UploadFile

T = TypeVar("T")

Progress = Callable[[str, int, int], None]
"""(`hashing` or `uploading`, bytes done, bytes in all); hashing is told from the thread that hashes"""

OFFSET = "upload-offset"
REQUEST_S = 120.0
"""For one piece; the whole may take as long as it takes."""
SMALLEST_BYTES, FIRST_BYTES, LARGEST_BYTES = 64 * 2**10, 2**20, 8 * 2**20
QUICK_S, SLOW_S = 0.5, 5.0
ROUNDS = 3
SETBACKS = 5


def upload(
    source: Path, *, protocol: AdminProtocol, at: Circumstances, progress: Progress | None = None
) -> AdminTalk[Artifact]:
    """The artifact, complete on the server.

    `at`: of the call that this is a part of; its deadline counts for no upload, as long as it moves on. Raises what
    `slipway.spec.local_files` does for files that cannot be read, Conflict for those that change meanwhile,
    StoreUnavailable where the server's disk is full, Unavailable where it cannot be reached.
    """
    return _Upload(protocol, at, progress or _nobody).talk(source)


class _Upload:
    def __init__(self, protocol: AdminProtocol, at: Circumstances, progress: Progress) -> None:
        self._protocol = protocol
        self._at = at
        self._progress = progress
        self._piece_bytes = FIRST_BYTES
        self._sent = 0
        self._total = 0

    def talk(self, source: Path) -> AdminTalk[Artifact]:
        local = yield from perform(self._at, partial(find_files, source))
        told = partial(self._progress, "hashing")
        files = yield from perform(self._at, partial(hash_files, local, progress=told, cancelled=lambda: False))
        artifact = yield from self._declare(files)
        for _ in range(ROUNDS):
            if not artifact.missing:
                return artifact
            yield from self._send_all(artifact.missing, files, {file.path: file for file in local})
            artifact = yield from self._declare(files)
        if not artifact.missing:
            return artifact
        raise Unavailable(
            f"{self._at.url} does not keep what it is sent: {len(artifact.missing)} files of {artifact.digest} are "
            "missing again and again; see the server's log"
        )

    def _send_all(self, missing: list[str], files: list[UploadFile], local: dict[str, LocalFile]) -> AdminTalk[None]:
        by_hash = {file.sha256: file for file in files}
        wanted = [by_hash[sha256] for sha256 in missing]
        self._sent, self._total = 0, sum(file.size_bytes for file in wanted)
        for file in wanted:
            before = self._sent
            try:
                yield from self._send(file, local[file.path], before)
            except NotFound:
                return  # the server forgot what was declared: it is told again in the next round
            self._sent = before + file.size_bytes
            self._progress("uploading", self._sent, self._total)

    def _send(self, file: UploadFile, local: LocalFile, before: int) -> AdminTalk[None]:
        offset = 0 if file.size_bytes <= FIRST_BYTES else (yield from self._offset(file))
        best, setbacks, is_resent = offset, 0, False
        while offset < file.size_bytes:
            self._progress("uploading", before + offset, self._total)
            piece = yield from perform(self._at, partial(read_piece, local, offset, self._piece_bytes))
            try:
                offset = yield from self._put(file, offset, piece)
            except DigestMismatch:
                if is_resent:
                    raise
                offset, is_resent = 0, True  # spoiled on the way, or by another client: once more from the start
                best = 0
                continue
            except (Conflict, DeadlineExceeded) as error:
                setbacks += 1
                if setbacks >= SETBACKS:
                    raise
                if isinstance(error, DeadlineExceeded):
                    self._piece_bytes = SMALLEST_BYTES
                offset = yield from self._offset(file)  # another sends it too, or an answer was lost
            if offset > best:
                best, setbacks = offset, 0

    def _put(self, file: UploadFile, offset: int, piece: bytes) -> AdminTalk[int]:
        began = self._at.now
        headers = {OFFSET: str(offset), "content-type": "application/octet-stream"}
        outgoing = self._protocol.outgoing("PUT", f"{API}/artifacts/blobs/{file.sha256}", headers=headers)
        outgoing.body = piece
        now_at: int = yield from self._ask(Exchange(outgoing, _read_offset))
        taken_s = self._at.now - began
        if taken_s < QUICK_S:
            self._piece_bytes = min(self._piece_bytes * 2, LARGEST_BYTES)
        elif taken_s > SLOW_S:
            self._piece_bytes = max(self._piece_bytes // 2, SMALLEST_BYTES)
        return now_at

    def _offset(self, file: UploadFile) -> AdminTalk[int]:
        outgoing = self._protocol.outgoing("HEAD", f"{API}/artifacts/blobs/{file.sha256}")
        return self._ask(Exchange(outgoing, _read_offset))

    def _declare(self, files: list[UploadFile]) -> AdminTalk[Artifact]:
        body = {"files": msgspec.to_builtins(files)}
        outgoing = self._protocol.outgoing("POST", f"{API}/artifacts", body=body)
        artifact: Artifact = yield from self._ask(Exchange(outgoing, read_json(Artifact)))
        if artifact.digest != manifest_digest(files):
            raise DigestMismatch(
                f"{self._at.url} calls this {artifact.digest}, and it is {manifest_digest(files)}: client and "
                "server are of versions that do not go together"
            )
        return artifact

    def _ask(self, exchange: Exchange[T]) -> AdminTalk[T]:
        at = Circumstances(self._at.now + REQUEST_S, self._at.now, self._at.retry, self._at.draw, self._at.url)
        try:
            return (yield from converse(exchange, self._protocol, at))
        finally:
            self._at.now = at.now


def _read_offset(incoming: Incoming) -> int:
    try:
        return int(incoming.headers[OFFSET])
    except (KeyError, ValueError):
        raise SlipwayError("the answer does not say how much has arrived: is this a Slipway management API?") from None


def _nobody(stage: str, done: int, total: int) -> None:
    """Progress that interests nobody."""
