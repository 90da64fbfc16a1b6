"""Which artifacts go. Nobody else deletes one.

Kept is what a version needs (the caller says which), what came or was asked for lately (whoever sent it may not have
declared its version yet), and what is being sent or fetched now. All else goes, and so do the traces of crashes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from slipway.errors import SlipwayError
from slipway.spec.manifest import digest_hex, read_manifest
from slipway.spec.resources import UploadFile
from slipway.store.artifacts.blobs import Blobs
from slipway.store.artifacts.disk import Places, locked, remove_file, remove_folder
from slipway.store.artifacts.known import read_known
from slipway.store.artifacts.trees import Trees


class Collector:
    """One pass, for a caller that holds the artifact folder's lock against all others. Ages are by the file system's
    times; a time in the future is as good as now."""

    def __init__(self, places: Places, blobs: Blobs, trees: Trees, *, now: float, grace_s: float, partial_s: float):
        self._places = places
        self._blobs = blobs
        self._trees = trees
        self._now = now
        self._grace_s = grace_s
        self._partial_s = partial_s

    def collect(self, keep: Collection[str]) -> int:
        """The bytes freed."""
        needed: set[str] = set()
        freed = self._scratch()
        freed += self._old_trees({f"sha256:{digest_hex(digest)}" for digest in keep}, needed)
        freed += self._old_declarations(needed)
        freed += self._old_blobs(needed)
        freed += self._old_uploads(needed)
        freed += self._old_fetches()
        return freed + self._unknown()

    def _scratch(self) -> int:
        """Trees are made and removed under the lock that we hold; a file may be a copy in progress."""
        freed = 0
        for entry in self._places.scratch.iterdir():
            if entry.is_dir():
                freed += remove_folder(entry)
            elif self._age_s(entry) >= self._partial_s:
                freed += self._remove_unlocked(entry)
        return freed

    def _old_trees(self, keep: set[str], needed: set[str]) -> int:
        freed = 0
        for digest in self._trees.digests():
            if digest in keep or self._age_s(self._trees.folder(digest)) < self._grace_s:
                needed.update(file.sha256 for file in _files_or_none(self._trees, digest))
            else:
                freed += self._trees.remove(digest)
        return freed

    def _old_declarations(self, needed: set[str]) -> int:
        freed = 0
        for entry in self._places.declared.iterdir():
            try:
                files = read_manifest(entry.read_bytes())
            except SlipwayError:
                files = []
            if not files or min(self._ages_s(entry, files)) >= self._partial_s:
                freed += remove_file(entry)
            else:
                needed.update(file.sha256 for file in files)
        return freed

    def _ages_s(self, entry: Path, files: list[UploadFile]) -> Iterator[float]:
        """An upload is as young as the last byte of it that came."""
        yield self._age_s(entry)
        for file in files:
            for path in (self._places.uploads / file.sha256, self._blobs.path(file.sha256)):
                if path.exists():
                    yield self._age_s(path)

    def _old_blobs(self, needed: set[str]) -> int:
        freed = 0
        for shelf in self._places.blobs.iterdir():
            for blob in shelf.iterdir():
                if blob.name not in needed and self._age_s(blob) >= self._grace_s:
                    freed += remove_file(blob)
        return freed

    def _old_uploads(self, needed: set[str]) -> int:
        freed = 0
        for part in self._places.uploads.iterdir():
            if part.suffix == ".size":
                continue
            is_wanted = part.name in needed and not self._blobs.has(part.name)
            if not is_wanted and self._age_s(part) >= self._partial_s:
                freed += self._remove_unlocked(part)
        for size in self._places.uploads.glob("*.size"):
            if not size.with_suffix("").exists() and self._age_s(size) >= self._partial_s:
                freed += remove_file(size)
        return freed

    def _old_fetches(self) -> int:
        freed = 0
        for folder in self._places.fetches.iterdir():
            if min(map(self._age_s, (folder, *folder.iterdir()))) < self._partial_s:
                continue
            with locked(folder / "lock", exclusive=True, wait=False) as is_ours:
                if is_ours:
                    freed += remove_folder(folder)
        return freed

    def _unknown(self) -> int:
        """What a URL held is of no use once that is gone."""
        freed = 0
        for entry in self._places.known.iterdir():
            digest, _ = read_known(entry)
            if not digest or not self._trees.stands(digest):
                freed += remove_file(entry)
        return freed

    def _remove_unlocked(self, path: Path) -> int:
        with locked(path, exclusive=True, wait=False) as is_ours:
            return remove_file(path) if is_ours else 0

    def _age_s(self, path: Path) -> float:
        try:
            return self._now - path.stat().st_mtime
        except FileNotFoundError:
            return 0.0


def _files_or_none(trees: Trees, digest: str) -> list[UploadFile]:
    """A damaged manifest keeps nothing, and must not keep the others from being collected."""
    try:
        return trees.files(digest)
    except SlipwayError:
        return []
