"""The folder of one running server: its sockets and scratch space, for its owner's eyes only, gone when it ends.

The supervisor holds a lock on the file `owner` in it for as long as it lives. The kernel lets go of the lock however
the supervisor ends, so a later start can tell what is left behind from what is in use, also across containers that
share a temp dir, where process numbers prove nothing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from slipway.errors import SetupError

PREFIX = "slipway-"
OWNER = "owner"

MAX_SOCKET_BYTES = 107
"""`sun_path` holds 108 bytes with the closing zero."""
_NAMES_BYTES = len("/" + PREFIX + "12345678" + "/12345678.sock")


class RuntimeFolder:
    """Made on construction, and everything that dead servers left beside it is removed. Raises SetupError."""

    def __init__(self) -> None:
        base = _base()
        sweep(base)
        try:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))  # mode 0700
            self._owner = _own(self.path)
        except OSError as error:
            raise SetupError(f"cannot make a folder for sockets in {base}: {error.strerror}") from error
        self._serial = 0

    def next_socket(self) -> str:
        """A path for a Unix socket, never given before."""
        self._serial += 1
        return str(self.path / f"{self._serial}.sock")

    def next_scratch(self) -> str:
        """A new empty folder that one worker may write to."""
        self._serial += 1
        scratch = self.path / f"{self._serial}.scratch"
        scratch.mkdir(mode=0o700)
        return str(scratch)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._owner)


def sweep(base: Path) -> list[Path]:
    """Remove the folders under `base` that are ours and whose supervisor is dead; which they were."""
    removed = []
    for folder in base.glob(PREFIX + "*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            owner = os.open(folder / OWNER, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # not such a folder, or its own gateway was faster
            continue
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
        except OSError:  # its supervisor lives
            pass
        finally:
            os.close(owner)
    return removed


def _own(folder: Path) -> int:
    """The file appears under its name only when it is locked, so that nobody can take it for one left behind."""
    unnamed = folder / f".{OWNER}"
    owner = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(owner, fcntl.LOCK_EX)
    os.write(owner, f"{os.getpid()}\n".encode())
    unnamed.rename(folder / OWNER)
    return owner


def _base() -> Path:
    """XDG_RUNTIME_DIR where it can be used, else the temp dir; /tmp where their paths are too long for a socket."""
    for candidate in (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"):
        fits = len(os.fsencode(candidate)) + _NAMES_BYTES <= MAX_SOCKET_BYTES
        if candidate and fits and os.access(candidate, os.W_OK | os.X_OK):
            return Path(candidate).resolve()
    raise SetupError("no folder for sockets: set TMPDIR to one with a short path that can be written to")
