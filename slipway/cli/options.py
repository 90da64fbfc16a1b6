"""The options of `slipway serve`: each with its default, panel, help and bounds.

A table and not a signature, since forty parameters are no function that anybody can read. `command_of` turns such a
table into what typer takes: a field `hang_s` is `--hang-s`, and is read from SLIPWAY_HANG_S where it is not given.
"""

# ruff: noqa: RUF009  (`setting` makes a dataclass field, with an immutable default)
from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

T = TypeVar("T")

MODELS, DOORS, BATCHING, BOUNDS = "Models", "Doors", "Batching", "Queue, cache and limits"
REPLICAS, SANDBOX, SERVER, LOGS = "Replicas", "Sandbox and trust", "Server", "Logs and traces"
PORTS = {"min": -1, "max": 65535}
METAVARS = {bool: " ", int: "N", float: "F"}


def setting(default: Any, panel: str, text: str, **more: Any) -> Any:
    """A field of a table of options. `more` is for typer: bounds, metavar."""
    return field(default=default, metadata={"panel": panel, "help": text, "more": more})


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """What was given, in the units of the options. `cli.plan` makes a ServerSpec of it."""

    paths: list[str]

    name: str = setting("", MODELS, "Name of the one model; default: from its file.", metavar="NAME")
    runtime: str = setting("auto", MODELS, "auto: recognise it from the content; or onnx, sklearn, python.")
    option: list[str] | None = setting(None, MODELS, "A free setting of the runtime; repeatable.", metavar="KEY=VALUE")
    not_idempotent: bool = setting(False, MODELS, "Never compute a request again when its replica died.")
    dry_run: bool = setting(False, MODELS, "Recognise and check everything, say what would run, and exit.")

    host: str = setting("127.0.0.1", DOORS, "Address that all doors listen on; 0.0.0.0 for every one.")
    port: int = setting(8080, DOORS, "HTTP. For all ports, 0 is any free one and -1 none.", **PORTS)
    grpc_port: int = setting(8081, DOORS, "gRPC.", **PORTS)
    admin_port: int = setting(8082, DOORS, "Management API, metrics and health.", **PORTS)
    open: bool = setting(False, DOORS, "Nobody needs a credential, though the doors listen beyond this machine.")
    grpc_door: str = setting("auto", DOORS, "native, grpcio, or auto: native where it is installed.")
    cors_origin: list[str] | None = setting(None, DOORS, "Browsers from there may call; repeatable.", metavar="ORIGIN")

    max_batch_rows: int = setting(64, BATCHING, "Rows of a batch at most.", min=1)
    max_batch_delay_ms: float = setting(0.0, BATCHING, "A batch may wait this long to fill while replicas work.", min=0)
    slo_ms: float = setting(0.0, BATCHING, "Answer within this: batches adapt, what comes too late is refused.", min=0)

    queue_rows: int = setting(4096, BOUNDS, "Rows that may wait; more are refused with 429.", min=1)
    queue_mb: float = setting(256.0, BOUNDS, "MB of inputs that may wait.", min=0.001)
    cache_mb: float = setting(0.0, BOUNDS, "Cache of predictions; 0: none.", min=0)
    cache_ttl_s: float = setting(60.0, BOUNDS, "How long a cached prediction may be given again.", min=0)
    max_body_mb: float = setting(256.0, BOUNDS, "Largest request body.", min=0.001)
    max_head_kb: float = setting(64.0, BOUNDS, "Largest request head.", min=1)
    max_connections: int = setting(10_000, BOUNDS, "Open connections of each gateway.", min=1)
    idle_timeout_s: float = setting(75.0, BOUNDS, "Close a connection that is idle for longer.", min=0.1)
    head_timeout_s: float = setting(20.0, BOUNDS, "Give up on a request head that takes longer.", min=0.1)

    replicas: int = setting(1, REPLICAS, "Worker processes of each model.", min=1)
    threads: int = setting(0, REPLICAS, "Threads of each replica; 0: the cores divided by the replicas.", min=0)
    memory_mb: float = setting(0.0, REPLICAS, "A replica that uses more is replaced; 0: no limit.", min=0)
    device: str = setting("cpu", REPLICAS, "cpu, or cuda:N.")
    hang_s: float = setting(10.0, REPLICAS, "A replica silent, or in one batch, for longer is replaced.", min=0.1)
    startup_s: float = setting(120.0, REPLICAS, "A replica has to load and warm up within this.", min=0.1)

    sandbox: bool = setting(True, SANDBOX, "Workers see their model and a scratch folder only.")
    allow_read: list[str] | None = setting(None, SANDBOX, "Workers may also read this; repeatable.", metavar="PATH")
    allow_write: list[str] | None = setting(None, SANDBOX, "Workers may also write here; repeatable.", metavar="PATH")
    trust_pickle: bool = setting(False, SANDBOX, "Load pickle files whatever code they name. They can run anything.")

    gateways: int = setting(1, SERVER, "Gateway processes that share the ports.", min=1)
    drain_s: float = setting(30.0, SERVER, "At the end, wait this long for accepted requests.", min=0)
    keep_going: bool = setting(False, SERVER, "Serve the models that load though others cannot.")

    log_json: bool = setting(False, LOGS, "One JSON object a line.")
    log_level: str = setting("info", LOGS, "debug, info, warning, error or critical.")
    otlp_endpoint: str = setting("", LOGS, "Send spans to this OpenTelemetry collector.", metavar="URL")


def variable_of(name: str) -> str:
    """The environment variable of an option, by its field's name."""
    return f"SLIPWAY_{name.upper()}"


def command_of(act: Callable[[T], None], table: type[T]) -> Callable[..., None]:
    """A function for typer, whose parameters are the fields of `table`; it calls `act` with one of these."""

    def command(**given: Any) -> None:
        act(table(**given))

    kinds = get_type_hints(table)
    parameters = []
    for one in fields(table):  # type: ignore[arg-type]
        option = _parameter(one, is_flag=kinds[one.name] in (bool, bool | None))
        kind: Any = Annotated.__class_getitem__((kinds[one.name], option))  # type: ignore[attr-defined]
        default = inspect.Parameter.empty if one.name == "paths" else one.default
        parameters.append(inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = act.__doc__
    return command


def _parameter(one: Field[Any], *, is_flag: bool) -> Any:
    if one.name == "paths":
        return typer.Argument(
            metavar="PATH|NAME=PATH...",
            envvar=variable_of("paths"),
            show_default=False,
            show_envvar=False,
            help="A model file or folder, or module:Class for Python code. Several serve several models at once.",
        )
    flag = one.name.replace("_", "-")
    more: dict[str, Any] = {"metavar": METAVARS.get(type(one.default), "TEXT")} | one.metadata["more"]
    return typer.Option(
        f"--{flag}/--no-{flag}" if is_flag and one.default is not False else f"--{flag}",
        envvar=variable_of(one.name),
        rich_help_panel=one.metadata["panel"],
        help=one.metadata["help"],
        show_default=one.default not in ("", None, False),
        show_envvar=False,
        **more,
    )
