"""The data directory of a server: what has to outlive it, for its owner's eyes only, and one server at a time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import time
from pathlib import Path

import msgspec

from slipway.auth.keys import new_owner_key
from slipway.errors import SetupError
from slipway.spec.data_folder import LOCK, OWNER_KEY, SERVER, ServerFile, read_server_file
from slipway.spec.resources import Addresses
from slipway.spec.serve import Tls

OWNER_PREFIX = "sw_owner_"


class DataFolder:
    """Made where it is missing, and locked. Raises SetupError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self.path = path.resolve()
            status = path.stat()
            if status.st_uid != os.getuid():
                raise SetupError(f"--data-dir {path} belongs to another user; give one of your own")
            if status.st_mode & 0o077:
                path.chmod(0o700)
            self._lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SetupError(f"--data-dir {path} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise SetupError(
                f"--data-dir {path}: {self._holder()} runs on it already; `slipway down` ends it"
            ) from None
        self.owner_hash = hashlib.sha256(self._owner_key().encode()).hexdigest()

    def worker_log(self, deployment: str, version: str, index: int) -> str:
        """The file for what a replica writes. Raises OSError."""
        folder = self.path / "logs" / deployment
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return str(folder / f"{version}-{index}.log")

    def publish(self, addresses: Addresses, *, version: str, tls: Tls | None = None) -> None:
        """Say where this server is found. Raises SetupError."""
        found = ServerFile(
            pid=os.getpid(),
            http=addresses.http,
            grpc=addresses.grpc,
            admin=addresses.admin,
            started_at=time.time(),
            version=version,
            certificate="" if tls is None else str(Path(tls.certificate).absolute()),
            client_certificate=tls is not None and tls.client == "required",
        )
        self._write(SERVER, msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")

    def release(self) -> None:
        (self.path / SERVER).unlink(missing_ok=True)
        os.close(self._lock)

    def _owner_key(self) -> str:
        path = self.path / OWNER_KEY
        try:
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
                raise SetupError(f"{path} is no file of yours, so somebody else may know what is in it; remove it")
            if status.st_mode & 0o077:
                path.chmod(0o600)
            key = path.read_text().strip()
        except FileNotFoundError:
            key = ""
        except OSError as error:
            raise SetupError(f"{path} cannot be read: {error.strerror}") from error
        if not key.startswith(OWNER_PREFIX) or len(key) < len(OWNER_PREFIX) + 40:
            key = new_owner_key()
            self._write(OWNER_KEY, key + "\n")
        return key

    def _write(self, name: str, text: str) -> None:
        """Whole or not at all, and never readable by others, not even for a moment."""
        unnamed = self.path / f".{name}.{os.getpid()}"
        try:
            with open(os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            unnamed.replace(self.path / name)
        except OSError as error:
            raise SetupError(f"{self.path / name} cannot be written: {error.strerror}") from error

    def _holder(self) -> str:
        with contextlib.suppress(SetupError):
            found = read_server_file(self.path)
            if found is not None:
                return f"the server with process {found.pid}"
        return "another server"
