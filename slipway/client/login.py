"""Which server to administer, and with which credential: found the same way by the command line and by `Admin`."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from slipway.client.address import read_address
from slipway.client.identity import identified
from slipway.errors import InvalidInput, SetupError
from slipway.spec.data_folder import OWNER_KEY, ServerFile, read_server_file

DEFAULT_SERVER = "http://127.0.0.1:8082"


class Login(msgspec.Struct, frozen=True):
    """`found`: where from, for messages: argument, SLIPWAY_SERVER, data directory …, login file, default. `pinned`: the
    PEM file with the certificate of a server on this machine, as its data directory names it."""

    server: str
    key: str = ""
    user: str = ""
    password: str = ""
    ca_file: str = ""
    found: str = ""
    pinned: str = ""

    def headers(self) -> dict[str, str]:
        return identified(None, key=self.key, user=(self.user, self.password) if self.user else None)

    def __repr__(self) -> str:
        return f"Login({self.server!r}, found={self.found!r})"  # what opens doors is not for logs


class SavedLogin(msgspec.Struct, frozen=True, omit_defaults=True):
    """What `slipway login` remembers of one server."""

    key: str = ""
    ca_file: str = ""


class LoginFile(msgspec.Struct, frozen=True):
    """`current`: the server that is meant where none is named."""

    current: str = ""
    servers: dict[str, SavedLogin] = {}


def find_server(
    *,
    server: str = "",
    key: str = "",
    data_dir: str = "",
    user: str = "",
    password: str = "",
    environment: Mapping[str, str] | None = None,
) -> Login:
    """The server and a credential for it: by argument, SLIPWAY_SERVER and SLIPWAY_KEY, the data directory of a server
    that runs on this machine, the login file; at last the default address, without a credential.

    A credential that was remembered goes to the server that it was remembered for, and to no other. Raises SetupError
    for a server that is no URL, files that cannot be read, and a `data_dir` in which no server runs.
    """
    around = os.environ if environment is None else environment
    found, remembered = _find(server, data_dir, around)
    if user:
        if key:
            raise SetupError("give a key, or a user with a password, not both")
        chosen = msgspec.structs.replace(found, key="", user=user, password=password)
    else:
        chosen = msgspec.structs.replace(found, key=key or around.get("SLIPWAY_KEY", "") or remembered)
    chosen.headers()  # what no header can carry is said here
    return chosen


def _find(server: str, data_dir: str, around: Mapping[str, str]) -> tuple[Login, str]:
    """(where, the credential that is remembered for it)."""
    folder = data_folder(data_dir, around)
    if server or (not data_dir and around.get("SLIPWAY_SERVER")):
        named = normal_url(server or around["SLIPWAY_SERVER"])
        how = "the argument" if server else "SLIPWAY_SERVER"
        saved = read_logins(around).servers.get(named)
        if saved is not None:
            return Login(named, ca_file=saved.ca_file, found=how), saved.key
        local = _running(folder)
        if local is None or local.admin != named:
            return Login(named, found=how), ""
        return Login(named, found=how, pinned=local.certificate), _owner_key(folder)
    local = _running(folder)
    if local is not None:
        if not local.admin:
            raise SetupError(f"the server in {folder} has no management door (its admin port is -1)")
        found = f"the data directory {folder}"
        return Login(local.admin, found=found, pinned=local.certificate), _owner_key(folder)
    if data_dir or around.get("SLIPWAY_DATA_DIR"):
        raise SetupError(f"no server runs in {folder}: start one with `slipway up --data-dir {folder}`")
    logins = read_logins(around)
    if logins.current:
        saved = logins.servers.get(logins.current, SavedLogin())
        return Login(logins.current, ca_file=saved.ca_file, found="`slipway login`"), saved.key
    return Login(DEFAULT_SERVER, found="the default address"), ""


def data_folder(data_dir: str = "", environment: Mapping[str, str] | None = None) -> Path:
    """`data_dir`, SLIPWAY_DATA_DIR, or ~/.slipway; absolute."""
    around = os.environ if environment is None else environment
    return Path(data_dir or around.get("SLIPWAY_DATA_DIR") or "~/.slipway").expanduser().absolute()


def _running(folder: Path) -> ServerFile | None:
    """The server that runs in `folder`; `admin` is '' where it has no management door."""
    said = read_server_file(folder)
    if said is None or not _alive(said.pid):  # it was killed, and left its card
        return None
    return msgspec.structs.replace(said, admin=normal_url(said.admin)) if said.admin else said


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False  # somebody else's: not the server of this folder, which is ours, but who has its number now
    return pid > 0


def _owner_key(folder: Path) -> str:
    """'' where there is none, or it is not for us."""
    with contextlib.suppress(SetupError):
        return (_read(folder / OWNER_KEY) or b"").decode(errors="replace").strip()
    return ""


def normal_url(server: str) -> str:
    """As the servers of a login file are named. Raises SetupError for what is no URL of a management API."""
    address = read_address(server if "://" in server else f"http://{server}")
    if address.is_grpc:
        raise SetupError(f"{server!r} is gRPC; the management API is http:// or https://, such as {DEFAULT_SERVER}")
    return address.url


# --- what `slipway login` remembers -----------------------------------------------------------------------------------


def login_path(environment: Mapping[str, str] | None = None) -> Path:
    around = os.environ if environment is None else environment
    config = around.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(config).expanduser() / "slipway" / "login.json"


def read_logins(environment: Mapping[str, str] | None = None) -> LoginFile:
    """Empty where there is no such file. Raises SetupError for one that cannot be read, or that others can read."""
    path = login_path(environment)
    text = _read(path)
    if text is None:
        return LoginFile()
    if path.stat().st_mode & 0o077:
        raise SetupError(f"{path} holds keys and can be read by others: chmod 600 {path}")
    try:
        return msgspec.json.decode(text, type=LoginFile)
    except msgspec.DecodeError as error:
        raise SetupError(f"{path} cannot be read: {error}; remove it, and log in again") from None


def save_login(server: str, *, key: str = "", ca_file: str = "", environment: Mapping[str, str] | None = None) -> Path:
    """Remember a key for a server, and that it is the one that is meant from now on. The file's path."""
    named = normal_url(server)
    servers = dict(read_logins(environment).servers) | {named: SavedLogin(key, ca_file)}
    return _write(LoginFile(named, servers), environment)


def forget_login(server: str = "", *, environment: Mapping[str, str] | None = None) -> str:
    """Forget one server, '' is the current one. Its URL. Raises InvalidInput for one that is not remembered."""
    logins = read_logins(environment)
    named = normal_url(server) if server else logins.current
    if named not in logins.servers:
        raise InvalidInput(f"there is no login for {named}" if named else "there is no login to forget")
    servers = {url: saved for url, saved in logins.servers.items() if url != named}
    _write(LoginFile("" if logins.current == named else logins.current, servers), environment)
    return named


def _write(logins: LoginFile, environment: Mapping[str, str] | None) -> Path:
    """Whole or not at all, and never readable by others, not even for a moment."""
    path = login_path(environment)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".login-")  # mode 0600
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(logins)) + b"\n")
        Path(temporary).replace(path)
    except OSError as error:
        raise SetupError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror or error}") from error


def new_idempotency_key() -> str:
    return os.urandom(16).hex()
