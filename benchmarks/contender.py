"""The words of the bench: a model, the bytes of one request, and what a contender has to tell about itself.

A contender is data: how its environment is made, how it starts, and how one request looks on each of its
protocols. Everything that is done to a contender (starting, checking, loading, stopping) is done alike for
all of them elsewhere, so that no one is treated better than another.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

Protocol = Literal["json", "binary", "grpc"]
Outputs = Mapping[str, np.ndarray]

ROOT = Path(__file__).resolve().parent.parent
PEERS = Path(__file__).resolve().parent / "peers"


@dataclass(frozen=True, kw_only=True)
class Model:
    """One ONNX file to serve, with the rows that every request of its workloads carries."""

    key: str
    path: Path
    input_name: str
    main_output: str
    rows: np.ndarray
    """FP32, shape [rows, ...]: the input of every request."""
    expected: Outputs
    """What onnxruntime answers for `rows` in this process: the judge of every contender."""
    batch_rows: int
    """The largest batch a server may form."""
    one_instance: bool
    """True where compute is compared: one copy of the model on one thread, for everyone."""


@dataclass(frozen=True, kw_only=True)
class Request:
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Codec:
    """How one question and its answer look on one protocol of one contender."""

    encode: Callable[[Model], Request]
    decode: Callable[[Model, Mapping[str, str], bytes], Outputs]
    """(model, answer's headers in lower case, answer's body) -> outputs by name; may leave out side outputs."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    http: int
    grpc: int
    admin: int


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a contender may use to start itself."""

    python: Path
    """The interpreter of its own environment; its scripts lie beside it."""
    model: Model
    ports: Ports
    scratch: Path
    """An empty folder of this one start."""

    def script(self, name: str) -> str:
        return str(self.python.parent / name)


@dataclass(frozen=True, kw_only=True)
class Command:
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to a plain environment; `variables_for_servers` is there for the server files under peers/."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One contender."""

    name: str
    title: str
    how: str
    """The settings in one sentence, printed beside the results: a reader must be able to object."""
    packages: tuple[str, ...]
    """Packages whose versions are reported, the one that names the contender first."""
    start: Callable[[Start], Command]
    codecs: Mapping[Protocol, Codec]
    ready_path: str | None = None
    """A GET that answers 200 once the server takes requests; None: the first right answer is the only sign."""
    models: frozenset[str] | None = None
    """Keys of the models it can serve; None: all."""
    serves: bool = True
    """False: not a server but a loop that measures itself (the bare `session.run`)."""
    missing: Callable[[], str | None] = lambda: None
    """A reason why it cannot even be installed here today, or None."""

    @property
    def folder(self) -> Path:
        return PEERS / self.name

    def can(self, model_key: str, protocol: Protocol) -> bool:
        return protocol in self.codecs and (self.models is None or model_key in self.models)


def variables_for_servers(start: Start) -> dict[str, str]:
    """The environment variables that the small server files under peers/ read."""
    return {
        "BENCH_MODEL": str(start.model.path),
        "BENCH_MODEL_NAME": start.model.key,
        "BENCH_BATCH_ROWS": str(start.model.batch_rows),
        "BENCH_ONE_INSTANCE": "1" if start.model.one_instance else "",
        "BENCH_HTTP_PORT": str(start.ports.http),
        "BENCH_GRPC_PORT": str(start.ports.grpc),
        "BENCH_ADMIN_PORT": str(start.ports.admin),
        "PYTHONPATH": str(PEERS),
    }
