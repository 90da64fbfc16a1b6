"""A server on this machine as its data directory shows it: whether it runs, and where."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import NamedTuple

from slipway.errors import SetupError


class ServerCard(NamedTuple):
    """`server.json`. `admin`: the URL of the management API, '' where that door is shut. `asks_certificate`: of whoever
    calls."""

    pid: int
    http: str
    grpc: str
    admin: str
    asks_certificate: bool = False


def is_running(folder: Path) -> bool:
    """Whether a server holds the directory. Its lock says so, and not the number of a process, which may by now be
    somebody else's. Raises SetupError where the lock cannot be looked at."""
    try:
        handle = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
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


def read_card(folder: Path) -> ServerCard | None:
    """None where there is none (yet). Raises SetupError where it cannot be read."""
    path = folder / "server.json"
    try:
        said = json.loads(path.read_bytes())
        http, grpc, admin = (str(said.get(name) or "") for name in ("http", "grpc", "admin"))
        return ServerCard(int(said["pid"]), http, grpc, admin, bool(said.get("client_certificate")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SetupError(f"{path} cannot be read: {error}") from None


def tail_of(path: Path, *, lines: int, since: int = 0) -> list[str]:
    """The last lines that were written behind byte `since`."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(since, path.stat().st_size - 65_536))
        return file.read().decode(errors="replace").splitlines()[-lines:]
    return []
