"""What a URL held when it was fetched last, so that deploying the same again downloads nothing.

Believed only where the source has an identity that changes whenever the content does (a strong ETag, a version, a
hash), never for times of change; the source is asked for it each time.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from slipway.store.artifacts.disk import Places, write_file
from slipway.store.artifacts.trees import Trees


class Known:
    """`digest`, `identity`: '' where nothing is known, or it is not here any more."""

    def __init__(self, places: Places, trees: Trees, url: str) -> None:
        self._places = places
        self._path = places.known / hashlib.sha256(url.encode()).hexdigest()
        self.digest, self.identity = read_known(self._path)
        if self.digest and not trees.stands(self.digest):
            self.digest, self.identity = "", ""

    def remember(self, digest: str, identity: str) -> None:
        if identity.startswith("strong "):
            write_file(self._path, f"{digest} {identity}".encode(), scratch=self._places.new_scratch())
        else:
            self._path.unlink(missing_ok=True)


def read_known(path: Path) -> tuple[str, str]:
    """(digest, identity) as they were remembered; '' where the file holds nothing of the kind."""
    try:
        digest, _, identity = path.read_text().partition(" ")
    except (FileNotFoundError, UnicodeDecodeError):
        return "", ""
    return (digest, identity) if digest.startswith("sha256:") and len(digest) == 71 else ("", "")
