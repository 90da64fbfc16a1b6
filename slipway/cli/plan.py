"""From what was typed to a ServerSpec: names, paths, versions and units. Nothing of a model is read here."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

from slipway.cli.options import ServeOptions
from slipway.errors import SetupError
from slipway.spec.serve import (
    NAME,
    Batching,
    CacheLimits,
    Doors,
    ModelSpec,
    QueueLimits,
    ReplicaSpec,
    ServerSpec,
    check_server,
)

CODE = re.compile(r"(?P<module>[^:]+):(?P<name>[A-Za-z_]\w*)\Z")
"""`package.module:Class`, or `file.py:Class`."""

MB, KB = 2**20, 2**10


def plan_server(given: ServeOptions) -> ServerSpec:
    """Raises SetupError for what cannot be: a path that is not there, a name that is none, clashes."""
    if given.name and len(given.paths) != 1:
        raise SetupError(f"--name names one model, but {len(given.paths)} are given: use NAME=PATH for each")
    models = [model for path in given.paths for model in _models(path, given)]
    spec = ServerSpec(
        models=tuple(models),
        doors=_doors(given),
        gateways=given.gateways,
        drain_s=given.drain_s,
        log_json=given.log_json,
        log_level=given.log_level,
        otlp_endpoint=given.otlp_endpoint,
        keep_going=given.keep_going,
        open=given.open,
    )
    check_server(spec)
    return spec


def _models(typed: str, given: ServeOptions) -> list[ModelSpec]:
    name, path = split_name(typed)
    name = given.name or name or name_of(path)
    path = _found(path)
    return [_model(name, version, where, given) for version, where in versions_in(path)]


def split_name(typed: str) -> tuple[str, str]:
    """`NAME=PATH` as its parts; the name is '' for a bare PATH, also one that holds an equals sign."""
    name, equals, path = typed.partition("=")
    if not equals or not NAME.match(name) or (Path(typed).exists() and not Path(path).exists()):
        return "", typed
    return name, path


def name_of(path: str) -> str:
    """The name that a model goes by when nobody gave one: of the class, the file without its suffix, the folder."""
    code = CODE.match(path)
    if code and not Path(path).exists():
        return code["name"].lower()
    where = Path(path).resolve()
    name = where.name if where.is_dir() else where.stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("._-")[:128] or "model"


def versions_in(path: str) -> list[tuple[str, str]]:
    """(version, path) of each: a folder whose entries are numbered folders, `1/`, `2/`, holds versions v1, v2.

    A numbered folder with a single file in it stands for that file.
    """
    folder = Path(path)
    if not folder.is_dir():
        return [("v1", path)]
    numbered = sorted((int(entry.name), entry) for entry in folder.iterdir() if entry.is_dir() and _number(entry.name))
    if not numbered:
        return [("v1", path)]
    found = []
    for number, entry in numbered:
        held = [inner for inner in entry.iterdir() if not inner.name.startswith(".")]
        found.append((f"v{number}", str(held[0] if len(held) == 1 and held[0].is_file() else entry)))
    return found


def _number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and name == str(int(name)) and name != "0"


def _found(path: str) -> str:
    """Absolute, so that it means the same wherever it is read. Code that is to be imported stays as it is."""
    where = Path(path)
    if where.exists():
        return str(where.absolute())
    code = CODE.match(path)
    if code and Path(code["module"]).suffix != ".py":
        return path
    if code and Path(code["module"]).exists():
        return f"{Path(code['module']).absolute()}:{code['name']}"
    folder = where.parent
    beside = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    near = get_close_matches(where.name, beside, n=1, cutoff=0.5)
    hint = f"did you mean {folder / near[0]}?" if near else "a model is a file, a folder, or module:Class"
    raise SetupError(f"there is no {path!r}; {hint}")


def _model(name: str, version: str, path: str, given: ServeOptions) -> ModelSpec:
    return ModelSpec(
        name=name,
        path=path,
        version=version,
        runtime=given.runtime,
        replicas=ReplicaSpec(
            count=given.replicas,
            threads=given.threads,
            memory_bytes=int(given.memory_mb * MB),
            device=given.device,
            hang_s=given.hang_s,
            startup_s=given.startup_s,
            sandbox=given.sandbox,
            allow_read=_absolute(given.allow_read),
            allow_write=_absolute(given.allow_write),
        ),
        batching=Batching(
            max_rows=given.max_batch_rows, max_delay_s=given.max_batch_delay_ms / 1000, slo_s=given.slo_ms / 1000
        ),
        queue=QueueLimits(rows=given.queue_rows, bytes=int(given.queue_mb * MB)),
        cache=CacheLimits(bytes=int(given.cache_mb * MB), ttl_s=given.cache_ttl_s),
        idempotent=not given.not_idempotent,
        trust_pickle=given.trust_pickle,
        options=dict(_pair(text) for text in given.option or ()),
    )


def _doors(given: ServeOptions) -> Doors:
    return Doors(
        host=given.host,
        http_port=given.port,
        grpc_port=given.grpc_port,
        admin_port=given.admin_port,
        grpc_door=given.grpc_door,
        max_body_bytes=int(given.max_body_mb * MB),
        max_head_bytes=int(given.max_head_kb * KB),
        max_connections=given.max_connections,
        idle_timeout_s=given.idle_timeout_s,
        head_timeout_s=given.head_timeout_s,
        cors_origins=tuple(given.cors_origin or ()),
    )


def _absolute(paths: list[str] | None) -> tuple[str, ...]:
    return tuple(str(Path(path).absolute()) for path in paths or ())


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise SetupError(f"--option {text!r} is not KEY=VALUE")
    return key, value
