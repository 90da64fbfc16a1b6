"""The options of `slipway up`, and how they come on top of the configuration file: what is typed, then the environment,
then the file, then the default."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.cli.options import DOORS, LOGS, PORTS, SERVER, setting
from slipway.errors import SetupError

if TYPE_CHECKING:
    from slipway.spec.server import ServerConfig

STATE = "What it remembers, and where"
START = "This time"


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Of the server itself. None: as the configuration file has it."""

    data_dir: str = setting("", STATE, "Everything that outlives the server; default: ~/.slipway.", metavar="DIR")
    database: str = setting("", STATE, "postgresql://… instead of SQLite in the data directory.", metavar="URL")
    config: str = setting("", STATE, "The server's configuration, as YAML or JSON.", metavar="FILE")

    host: str | None = setting(None, DOORS, "Address that all doors listen on; default: 127.0.0.1.", metavar="TEXT")
    port: int | None = setting(None, DOORS, "HTTP; default: 8080. 0 is any free one, -1 none.", metavar="N", **PORTS)
    grpc_port: int | None = setting(None, DOORS, "gRPC; default: 8081.", metavar="N", **PORTS)
    admin_port: int | None = setting(None, DOORS, "Management API, metrics; default: 8082.", metavar="N", **PORTS)

    gateways: int | None = setting(None, SERVER, "Gateway processes that share the ports.", metavar="N", min=1)
    drain_s: float | None = setting(
        None, SERVER, "At the end, wait this long for accepted requests.", metavar="F", min=0
    )

    log_json: bool | None = setting(None, LOGS, "One JSON object a line.", metavar=" ")
    log_level: str | None = setting(None, LOGS, "debug, info, warning, error or critical.", metavar="TEXT")


@dataclass(frozen=True, kw_only=True)
class UpOptions(ServerOptions):
    detach: bool = setting(False, START, "Go on in the background, and return when it is ready.")
    timeout_s: float = setting(120.0, START, "With --detach: give up when it is not ready by then.", min=0.1)
    dry_run: bool = setting(False, START, "Check the configuration, the ports and the data directory; start nothing.")


@dataclass(frozen=True, kw_only=True)
class UnitOptions(ServerOptions):
    user: bool = setting(False, START, "A unit of your own session, which needs no root.")


def config_from(given: ServerOptions) -> ServerConfig:
    """Raises SetupError and InvalidSpec, with line and column, for what cannot be."""
    import msgspec

    from slipway.logs import LEVELS
    from slipway.spec.server import ServerConfig

    config = _read(given.config) if given.config else ServerConfig()

    def replaced(part: object, **values: object) -> object:
        return msgspec.structs.replace(part, **{k: v for k, v in values.items() if v is not None})  # type: ignore[type-var]

    config = replaced(  # type: ignore[assignment]
        config,
        ports=replaced(config.ports, http=given.port, grpc=given.grpc_port, admin=given.admin_port),
        logs=replaced(config.logs, json=given.log_json, level=given.log_level),
        host=given.host,
        gateways=given.gateways,
        drain_s=given.drain_s,
        data_dir=str(Path(given.data_dir).expanduser().absolute()) if given.data_dir else None,
        database=given.database or None,
    )
    if config.logs.level not in LEVELS:
        raise SetupError(f"--log-level is {config.logs.level!r}; it is one of {', '.join(LEVELS)}")
    return config


def _read(path: str) -> ServerConfig:
    from slipway.spec.reading import read_server_config

    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise SetupError(f"--config {path}: {error.strerror or error}") from None
    return _rooted(read_server_config(text, file=path), Path(path).expanduser().absolute().parent)


def _rooted(config: ServerConfig, folder: Path) -> ServerConfig:
    """Its relative paths begin at its folder, as those of a spec do: systemd starts the server somewhere else than the
    person who tried it. Raises SetupError for a key set that is not there, which nobody would miss before the first
    token is refused."""
    from msgspec.structs import replace

    def placed(path: str) -> str:
        return os.path.normpath(folder / Path(path).expanduser()) if path else ""

    issuers = []
    for number, issuer in enumerate(config.auth.jwt):
        source = issuer.jwks_source
        if source and "://" not in source and not source.lstrip().startswith("{"):
            source = placed(source)
            if not Path(source).is_file():
                raise SetupError(f"auth.jwt[{number}].jwks: there is no file {source}")
        issuers.append(replace(issuer, jwks_source=source))
    tls = config.tls and replace(
        config.tls,
        certificate=placed(config.tls.certificate),
        key=placed(config.tls.key),
        client_ca=placed(config.tls.client_ca),
    )
    return replace(
        config,
        data_dir=placed(config.data_dir),
        artifacts=placed(config.artifacts),
        tls=tls,
        auth=replace(config.auth, jwt=tuple(issuers)),
    )


def arguments_of(given: ServerOptions) -> list[str]:
    """The command line that says the same again, from wherever it is read, without what is of this start only."""
    return list(_arguments(given))


def _arguments(given: ServerOptions) -> Iterator[str]:
    for one in fields(ServerOptions):
        value = getattr(given, one.name)
        if value is None or value == "":
            continue
        flag = one.name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{flag}" if value else f"--no-{flag}"
        elif one.name in ("data_dir", "config"):
            yield f"--{flag}={Path(value).expanduser().absolute()}"
        else:
            yield f"--{flag}={value}"
