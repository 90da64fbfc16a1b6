"""A server on this machine as its data directory shows it: whether it runs, and what it wrote."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from slipway.errors import SetupError
from slipway.spec.data_folder import LOCK


def is_running(folder: Path) -> bool:
    """Whether a server holds the directory. Its lock says so, and not the number of a process, which may by now be
    somebody else's. Raises SetupError where the lock cannot be looked at."""
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SetupError(f"{folder / 'lock'}: {error.strerror or error}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def tail_of(path: Path, *, lines: int, since: int = 0) -> list[str]:
    """The last lines that were written behind byte `since`."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(since, path.stat().st_size - 65_536))
        return file.read().decode(errors="replace").splitlines()[-lines:]
    return []
