"""The card that a running server leaves in its data directory, by which the rest of its machine finds it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from slipway.errors import SetupError

LOCK, SERVER, OWNER_KEY = "lock", "server.json", "admin.key"


class ServerFile(msgspec.Struct, frozen=True, kw_only=True):
    """`server.json`. `http`, `grpc`, `admin`: addresses, '' where that door is shut. `started_at`: seconds since 1970.
    `certificate`: the PEM file with what its doors show, '' where they speak plainly; whoever reads it here need not
    believe anybody else. `client_certificate`: whether a caller has to show one."""

    pid: int
    http: str = ""
    grpc: str = ""
    admin: str = ""
    started_at: float = 0.0
    version: str = ""
    certificate: str = ""
    client_certificate: bool = False


def read_server_file(folder: Path) -> ServerFile | None:
    """None where there is none: no server, or none yet. Raises SetupError where it cannot be read."""
    path = folder / SERVER
    try:
        return msgspec.json.decode(path.read_bytes(), type=ServerFile)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror or error}") from None
    except msgspec.DecodeError as error:
        raise SetupError(f"{path} cannot be read: {error}") from None
