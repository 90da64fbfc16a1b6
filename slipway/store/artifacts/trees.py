"""Complete artifacts as files and folders that a runtime can open: hard links to blobs, under the digest's name.

A tree is built aside and gets its name by one rename, manifest included, so it is there whole or not at all.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from slipway.errors import DigestMismatch, NotFound, SlipwayError
from slipway.spec.manifest import digest_hex, manifest_bytes, manifest_digest, read_manifest
from slipway.spec.resources import Artifact, UploadFile
from slipway.store.artifacts.blobs import READ_ONLY, Blobs, hash_path
from slipway.store.artifacts.disk import Places, clone, remove_folder, sync_folder, touch, write_file

MANIFEST = "manifest.json"
FILES = "files"
_NO_LINK = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.EACCES)


class Trees:
    def __init__(self, places: Places, blobs: Blobs) -> None:
        self._places = places
        self._blobs = blobs

    def folder(self, digest: str) -> Path:
        return self._places.trees / digest_hex(digest)

    def has(self, digest: str) -> bool:
        return self.folder(digest).exists()

    def stands(self, digest: str) -> bool:
        """It is there, and its manifest says so. Whether its files are sound is a longer question."""
        try:
            return bool(self.files(digest))
        except SlipwayError:
            return False

    def digests(self) -> list[str]:
        return sorted(f"sha256:{entry.name}" for entry in self._places.trees.iterdir())

    def files(self, digest: str) -> list[UploadFile]:
        """Raises NotFound, and DigestMismatch where the manifest itself is damaged."""
        try:
            data = (self.folder(digest) / MANIFEST).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise no_artifact(digest) from None
        found = hashlib.sha256(data).hexdigest()
        if found != digest_hex(digest):
            raise DigestMismatch(f"the manifest of {digest} is damaged on disk: it has the SHA-256 {found}")
        return read_manifest(data)

    def path(self, digest: str) -> Path:
        """The file itself of a one-file artifact, else the folder. Raises NotFound."""
        files = self.files(digest)
        folder = self.folder(digest) / FILES
        return folder / files[0].path if len(files) == 1 else folder

    def build(self, files: Sequence[UploadFile]) -> Artifact:
        """Of blobs that are all there; nothing to do where it stands already."""
        digest = manifest_digest(files)
        if self.has(digest):  # asked first: once it is there, it is there whole
            if self.stands(digest):
                touch(self.folder(digest))
                return artifact_of(files)
            self.remove(digest)
        scratch = self._places.new_scratch()
        try:
            self._lay_out(files, scratch)
            target = self.folder(digest)
            try:
                scratch.rename(target)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                remove_folder(scratch)  # another was faster
            sync_folder(target.parent)
        except BaseException:
            if scratch.exists():
                remove_folder(scratch)
            raise
        return artifact_of(files)

    def damaged(self, digest: str, files: Sequence[UploadFile]) -> dict[str, UploadFile]:
        """What is wrong with each file that is not as the manifest has it."""
        folder = self.folder(digest) / FILES
        wrong: dict[str, UploadFile] = {}
        for file in files:
            found = hash_path(folder / file.path, file.size_bytes)
            if found != file.sha256:
                state = f"has the SHA-256 {found}" if found else "is missing, unreadable or of another size"
                wrong[f"{file.path!r} {state}, and should have {file.sha256}"] = file
        return wrong

    def remove(self, digest: str) -> int:
        """At once, as far as anybody can see; the bytes freed."""
        scratch = self._places.new_scratch()
        self.folder(digest).rename(scratch)
        return remove_folder(scratch)

    def _lay_out(self, files: Sequence[UploadFile], scratch: Path) -> None:
        top = scratch / FILES
        top.mkdir(mode=0o700, parents=True)
        scratch.chmod(0o700)
        folders = {top}
        for file in files:
            place = top / file.path
            if place.parent not in folders:
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                folders.update(parent for parent in place.parents if parent.is_relative_to(top))
            self._place(file, place)
        write_file(scratch / MANIFEST, manifest_bytes(files), scratch=scratch / f"{MANIFEST}.new")
        (scratch / MANIFEST).chmod(READ_ONLY)
        for folder in sorted(folders, key=lambda each: len(each.parts), reverse=True):
            sync_folder(folder)
            folder.chmod(0o555)  # nobody adds a __pycache__ to what is verified
        sync_folder(scratch)

    def _place(self, file: UploadFile, place: Path) -> None:
        """A link; a copy where it needs a mode of its own, or where the file system has no (more) links."""
        blob = self._blobs.path(file.sha256)
        if not file.executable:
            try:
                place.hardlink_to(blob)
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
            else:
                return
        with blob.open("rb") as source, place.open("xb") as target:
            if not clone(source.fileno(), target.fileno()):
                shutil.copyfileobj(source, target, 2**20)
            target.flush()
            os.fchmod(target.fileno(), READ_ONLY | (0o111 if file.executable else 0))
            os.fsync(target.fileno())


def artifact_of(files: Sequence[UploadFile], missing: Sequence[str] = ()) -> Artifact:
    return Artifact(
        digest=manifest_digest(files),
        size_bytes=sum(file.size_bytes for file in files),
        files=list(files),
        missing=list(missing),
    )


def no_artifact(digest: str) -> NotFound:
    return NotFound(f"there is no artifact {digest}: upload it, or fetch it from its source again")
