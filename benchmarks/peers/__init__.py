"""The contenders: one folder each, with `peer.py` (read by the bench) and what runs in its own environment."""

from importlib import import_module

from benchmarks.contender import Peer

# In the order of the tables. Neighbours run one after the other, so those that are compared stand together.
NAMES = (
    "slipway",
    "closed",
    "triton",
    "floor",
    "bare",
    "fastapi",
    "flask",
    "mlserver",
    "kserve",
    "litserve",
    "bentoml",
    "ray",
)


def load(names: tuple[str, ...] = NAMES) -> list[Peer]:
    return [import_module(f"benchmarks.peers.{name}.peer").PEER for name in names]
