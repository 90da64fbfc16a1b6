"""Verbs for artifacts: what is uploaded, in pieces that a broken line does not lose."""

from __future__ import annotations

from slipway.spec.access import Caller
from slipway.spec.resources import Artifact, UploadFile


class ArtifactCommands:
    async def declare_artifact(self, files: list[UploadFile], *, caller: Caller) -> Artifact:
        """`missing` of the answer: which files to send. Send them to `append_blob`, then deploy with the digest."""
        raise NotImplementedError

    async def artifacts(self) -> list[Artifact]:
        raise NotImplementedError

    async def artifact(self, digest: str) -> Artifact:
        raise NotImplementedError

    async def blob_offset(self, sha256: str) -> int:
        """How many bytes of it are here. Raises NotFound for one that no artifact declared."""
        raise NotImplementedError

    async def append_blob(self, sha256: str, *, offset: int, chunk: bytes) -> int:
        """The new offset. Verified when it is whole: DigestMismatch then, and it begins again at 0. Conflict when
        `offset` is not where it stands."""
        raise NotImplementedError
