"""What a runtime is: the adapter that loads one framework's models and runs them, in a worker and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from slipway.infer.signature import Signature
from slipway.infer.tensor import Tensor


class LoadOptions(msgspec.Struct, frozen=True):
    """`threads`: how many the runtime may compute with (≥ 1). `device`: cpu, or cuda:N.

    `trust_pickle`: load pickle-family files whatever they name. `options`: free settings for this runtime,
    from `--option KEY=VALUE`; an unknown key is a LoadFailure that names the known ones.
    """

    threads: int = 1
    device: str = "cpu"
    trust_pickle: bool = False
    options: dict[str, str] = {}


class Runtime(Protocol):
    """One loaded model. Made by `load` of its module; used from one thread.

    `platform` names runtime and format for metadata, such as `onnx_onnxruntime`.
    """

    platform: str
    signature: Signature

    def predict(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """One batch: checked inputs with the same number of rows in, all outputs in signature order out.

        Raises ModelFailure with the model's own words; InvalidOutput when what the model returned is not what
        its signature promises. MemoryError is left to the worker, which ends.
        """
        ...

    def example(self, rows: int) -> list[Tensor]:
        """Inputs that fit the signature, for warm-up: zeros (or empty strings), -1 dimensions as 1."""
        ...

    def close(self) -> None: ...


Load = Callable[[str, LoadOptions], Runtime]
"""`load(path, options)`: raises LoadFailure, UnsafeModel, MissingExtra."""


class ReplicaFacts(msgspec.Struct):
    """What a replica says of itself once it is ready."""

    signature: Signature
    platform: str
    pid: int = 0
    sandbox: str = ""
    extra: dict[str, Any] = {}
