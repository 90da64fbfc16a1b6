"""The one door to artifacts. Every method blocks, so an event loop calls it in a thread; reading, hashing and writing
let other threads run meanwhile.

Several stores, in one process or many, may share a folder. Whoever builds on blobs holds the folder's lock together
with the others; whoever takes something away holds it alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from slipway.errors import Conflict, DigestMismatch, InvalidSpec, NotFound
from slipway.spec.local_files import find_files, hash_files
from slipway.spec.manifest import (
    check_files,
    check_path,
    digest_hex,
    is_pinned_by,
    manifest_bytes,
    manifest_digest,
    read_manifest,
)
from slipway.spec.resources import Artifact, UploadFile
from slipway.store.artifacts.blobs import Blobs
from slipway.store.artifacts.collect import Collector
from slipway.store.artifacts.disk import Places, check_space, disk, locked, touch, write_file
from slipway.store.artifacts.fetch import Download, Downloaded, Patience, folder_identity, open_source
from slipway.store.artifacts.known import Known
from slipway.store.artifacts.sources import Unchanged, file_name, local_path, redacted
from slipway.store.artifacts.trees import FILES, Trees, artifact_of, no_artifact

GRACE_S = 2 * 3600.0
PARTIAL_S = 24 * 3600.0

Progress = Callable[[int, int | None], None]
"""(bytes done, bytes in all, None while that is unknown)"""


class ArtifactStore:
    """`folder`: made where it is not there, for its owner only. `patience`: with remote servers. `storage`: settings
    for each protocol of `fetch`, such as {"s3": {"endpoint_url": "http://minio:9000"}}; without, a protocol takes its
    own from the environment.

    All methods may raise StoreUnavailable: the disk is full, read-only, or gone.
    """

    def __init__(
        self,
        folder: Path,
        *,
        patience: Patience = Patience(),  # noqa: B008 - frozen
        storage: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._places = Places(folder.absolute())
        self._places.make()
        self._blobs = Blobs(self._places)
        self._trees = Trees(self._places, self._blobs)
        self._patience = patience
        self._storage = dict(storage or {})

    # --- uploads ----------------------------------------------------------------------------------------------------

    def declare(self, files: Sequence[UploadFile]) -> Artifact:
        """Say what an artifact consists of. `missing` of the answer is what `append` and `finish` now take; where
        nothing is missing, the artifact is complete. Asking again is how to learn what is still missing.

        Raises InvalidSpec for paths, hashes and sizes that cannot be.
        """
        found = check_files(files)
        with self._together():
            if self._trees.stands(manifest_digest(found)):
                return self._trees.build(found)
            unique = {file.sha256: file for file in found}
            lacking = [file for file in unique.values() if not self._blobs.has(file.sha256)]
            if lacking:
                self._write_declaration(found)
            for file in lacking:
                self._blobs.expect(file)
            missing = [file for file in lacking if not self._blobs.has(file.sha256)]
            if not missing:
                return self._complete(found)
            arrived = sum(self._blobs.received(file.sha256) for file in missing)
            check_space(self._places.root, sum(file.size_bytes for file in missing) - arrived)
            return artifact_of(found, [file.sha256 for file in missing])

    def received(self, sha256: str) -> int:
        """Bytes that are here of a declared file; all of them once it is verified. Raises NotFound."""
        return self._blobs.received(sha256)

    def append(self, sha256: str, offset: int, chunk: bytes | memoryview) -> int:
        """Bytes that are here after it. Raises Conflict where `offset` is not what `received` says, PayloadTooLarge
        beyond the declared size, NotFound for what nobody declared."""
        return self._blobs.append(sha256, offset, chunk)

    def finish(self, sha256: str) -> None:
        """Verify a file that is all here. Raises Conflict while it is not, and DigestMismatch, which drops it."""
        self._blobs.finish(sha256)

    def commit(self, digest: str) -> Path:
        """Make a declared artifact complete; no harm where it is. Raises NotFound for one that nobody declared, and
        Conflict while files are missing."""
        with self._together():
            if not self._trees.stands(digest):
                try:
                    files = self._declared_files(digest)
                except NotFound:  # unless another has just done it
                    return self._trees.path(digest)
                self._complete(files)
            return self._trees.path(digest)

    # --- what is there ----------------------------------------------------------------------------------------------

    def path(self, digest: str) -> Path:
        """Of a complete artifact: the file itself where it is one, else the folder. Raises NotFound."""
        with disk(self._places.root):
            return self._trees.path(digest)

    def folder(self, digest: str) -> Path:
        """Of a complete artifact: where its files lie, also where it is only one. Raises NotFound."""
        with disk(self._places.root):
            self._trees.files(digest)
            return self._trees.folder(digest) / FILES

    def get(self, digest: str) -> Artifact:
        """Complete, or with what is missing. Raises NotFound."""
        with disk(self._places.root):
            if self._trees.has(digest):
                return artifact_of(self._trees.files(digest))
            files = self._declared_files(digest)
            return artifact_of(files, self._missing(files))

    def list(self) -> Sequence[Artifact]:
        """All that are complete, by digest."""
        found = []
        with disk(self._places.root):
            for digest in self._trees.digests():
                try:
                    found.append(artifact_of(self._trees.files(digest)))
                except (NotFound, DigestMismatch):  # gone meanwhile, or damaged: `verify` says which
                    continue
        return found

    def verify(self, digest: str) -> Artifact:
        """Read all of it. What is damaged is taken out, so that the next upload or fetch brings it anew, and only it.
        Raises DigestMismatch that names each damaged file, and NotFound."""
        with disk(self._places.root):
            try:
                files = self._trees.files(digest)
            except DigestMismatch as error:
                with self._alone():
                    if self._trees.has(digest):
                        self._trees.remove(digest)
                raise DigestMismatch(
                    f"{error.message}. It was taken out: deploy the model again from its source"
                ) from None
            wrong = self._trees.damaged(digest, files)
            if not wrong:
                return artifact_of(files)
            with self._alone():
                return self._repair(digest, files, wrong)

    def _repair(self, digest: str, files: Sequence[UploadFile], wrong: Mapping[str, UploadFile]) -> Artifact:
        if not self._trees.has(digest):
            raise no_artifact(digest)  # it was collected while it was read
        wrong = self._trees.damaged(digest, list(wrong.values()))
        if not wrong:
            return artifact_of(files)
        for file in wrong.values():
            if not self._blobs.is_sound(file.sha256, file.size_bytes):
                self._blobs.path(file.sha256).unlink(missing_ok=True)
        self._trees.remove(digest)
        if not self._missing(files):  # only links were lost, not what they led to
            return self._trees.build(files)
        self._write_declaration(files)  # keeps what is sound for the next upload
        raise DigestMismatch(
            f"{digest} is damaged on disk: {'; '.join(wrong)}. It was taken out: deploy the model again from its "
            "source, only what is damaged is sent anew"
        )

    # --- taking in --------------------------------------------------------------------------------------------------

    def import_path(
        self,
        path: Path,
        *,
        digest: str = "",
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Artifact:
        """A file or folder of this machine, copied (sharing its blocks where the file system can). `progress` counts
        what was hashed and what was copied, so the total is twice the size.

        Raises NotFound, Forbidden, InvalidSpec for links that lead out, devices and other things that are no model,
        Conflict for what changes meanwhile, DigestMismatch where it is not the `digest` that was pinned, Cancelled.
        """
        tell, stop = progress or _nobody, cancelled or _never
        local = find_files(path)
        total = 2 * sum(file.size_bytes for file in local)
        files = hash_files(local, progress=lambda done, _: tell(done, total), cancelled=stop)
        check_pin(files, digest, str(path))
        with self._together():
            if self._trees.stands(manifest_digest(files)):
                tell(total, total)
                return self._trees.build(files)
            self._write_declaration(files)  # what is copied first must not be collected before the last is
        done = total // 2

        def step(size: int) -> None:
            nonlocal done
            done += size
            tell(done, total)

        where = {file.path: file for file in local}
        with disk(self._places.root):
            for file in files:
                self._blobs.take(where[file.path], file.sha256, step=step, cancelled=stop)
        with self._together():
            return self._complete(files)

    def combine(self, parts: Mapping[str, str]) -> Artifact:
        """One artifact of several complete ones: name → digest. A one-file artifact becomes the file of that name, any
        other a folder. Raises NotFound, and InvalidSpec for names that cannot be."""
        files: list[UploadFile] = []
        with self._together():
            for name, digest in parts.items():
                found = self._trees.files(digest)
                for file in found:
                    files.append(_moved(file, name if len(found) == 1 else f"{name}/{file.path}"))
            return self._complete(check_files(files))

    def fetch(
        self,
        url: str,
        *,
        digest: str = "",
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
        allow_local: bool = False,
    ) -> Artifact:
        """What a URL holds: a file by http(s)://, a file or folder by any protocol of fsspec. Goes on where an earlier
        try stopped, as long as the remote side is the same; asks nobody where what `digest` pins is here already.

        `allow_local`: also `file://` and plain paths of this machine. Raises InvalidSpec for an unknown protocol or a
        refused one, MissingExtra, NotFound, Forbidden, DigestMismatch (the artifact is not what `digest` says, or the
        SHA-256 of its one file), Unavailable after all retries, Cancelled (what has come is kept for the next try).
        """
        tell, stop = progress or _nobody, cancelled or _never
        if digest:
            digest_hex(digest)
        local = local_path(url, allow_local=allow_local)
        if local is not None:
            return self.import_path(local, digest=digest, progress=progress, cancelled=cancelled)
        with disk(self._places.root):
            if digest and self._trees.stands(digest):
                return self._trees.build(self._trees.files(digest))
            if digest and (found := self._find_file(digest, url)):
                return found
            return self._fetch(url, digest, tell, stop)

    # --- taking away ------------------------------------------------------------------------------------------------

    def collect(
        self, keep: Collection[str], *, now: float, grace_s: float = GRACE_S, partial_s: float = PARTIAL_S
    ) -> int:
        """Delete what nothing needs; the bytes freed. `keep`: the digests that versions need. `now`: seconds since
        1970. Spared is what was sent, fetched or asked for in the last `grace_s`, and what is incomplete but grew in
        the last `partial_s`."""
        with self._alone():
            collector = Collector(self._places, self._blobs, self._trees, now=now, grace_s=grace_s, partial_s=partial_s)
            return collector.collect(keep)

    # --- inside -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _together(self) -> Iterator[None]:
        with disk(self._places.root), locked(self._places.lock, exclusive=False):
            yield

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with disk(self._places.root), locked(self._places.lock, exclusive=True):
            yield

    def _complete(self, files: Sequence[UploadFile]) -> Artifact:
        missing = self._missing(files)
        if missing:
            raise Conflict(
                f"{len(missing)} files of {manifest_digest(files)} are not here yet: send {missing[0]} first"
            )
        artifact = self._trees.build(files)
        self._declaration(artifact.digest).unlink(missing_ok=True)
        return artifact

    def _missing(self, files: Sequence[UploadFile]) -> Sequence[str]:
        return [sha256 for sha256 in dict.fromkeys(file.sha256 for file in files) if not self._blobs.has(sha256)]

    def _declaration(self, digest: str) -> Path:
        return self._places.declared / f"{digest_hex(digest)}.json"

    def _write_declaration(self, files: Sequence[UploadFile]) -> None:
        path = self._declaration(manifest_digest(files))
        write_file(path, manifest_bytes(files), scratch=self._places.new_scratch())

    def _declared_files(self, digest: str) -> Sequence[UploadFile]:
        declaration = self._declaration(digest)
        try:
            return read_manifest(declaration.read_bytes())
        except (FileNotFoundError, InvalidSpec):
            raise no_artifact(digest) from None

    def _find_file(self, digest: str, url: str) -> Artifact | None:
        """A file that a URL names and `sha256sum` pins, if it is here: nobody needs to be asked for it."""
        sha256, name = digest_hex(digest), file_name(urlsplit(url).path)
        with self._together():
            if not self._blobs.has(sha256) or check_path(name):
                return None
            size = self._blobs.path(sha256).stat().st_size
            return self._complete(check_files([UploadFile(path=name, sha256=sha256, size_bytes=size)]))

    def _fetch(self, url: str, digest: str, progress: Progress, cancelled: Callable[[], bool]) -> Artifact:
        folder = self._places.fetches / hashlib.sha256(url.encode()).hexdigest()
        with self._together():  # young from now on, so that nobody collects it before it is locked
            folder.mkdir(mode=0o700, exist_ok=True)
            touch(folder)
        with locked(folder / "lock", exclusive=True, cancelled=cancelled):
            known = Known(self._places, self._trees, url)  # what another has fetched while this one waited, counts
            source = open_source(url, known=known.identity, storage=self._storage, patience=self._patience)
            download = Download(
                source, folder, root=self._places.root, patience=self._patience, progress=progress, cancelled=cancelled
            )
            try:
                listing = download.look()
                if known.identity and folder_identity(listing) == known.identity:
                    raise Unchanged
                got = download.run(listing)
                check_pin(got.files, digest, redacted(url))
                artifact = self._adopt(got)
            except Unchanged:
                artifact = artifact_of(self._trees.files(known.digest))
                check_pin(artifact.files, digest, redacted(url))
                with self._together():
                    return self._trees.build(artifact.files)
            except DigestMismatch:
                download.drop()
                raise
            known.remember(artifact.digest, got.identity)
            download.drop()
            return artifact

    def _adopt(self, got: Downloaded) -> Artifact:
        with self._together():
            for file, part in zip(got.files, got.parts, strict=True):
                self._blobs.adopt(part, file.sha256)
            return self._complete(got.files)


def check_pin(files: Sequence[UploadFile], digest: str, source: str) -> None:
    if digest and not is_pinned_by(files, digest):
        alone = f" (its one file: sha256:{files[0].sha256})" if len(files) == 1 else ""
        raise DigestMismatch(
            f"{source} is not what was pinned: it should have {digest}, and has {manifest_digest(files)}{alone}. If "
            "the new content is right, change `digest` in the spec"
        )


def _moved(file: UploadFile, path: str) -> UploadFile:
    return UploadFile(path=path, sha256=file.sha256, size_bytes=file.size_bytes, executable=file.executable)


def _nobody(done: int, total: int | None) -> None:
    """Progress that interests nobody."""


def _never() -> bool:
    return False
