"""What is measured, in which order, and about how long it takes. Data and arithmetic only."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from benchmarks.contender import Peer, Protocol

# Apart from these, open-loop runs and conv runs of everyone would double the run and change no verdict.
OPEN_LOOP_BY_DEFAULT = frozenset({"slipway", "triton", "floor", "fastapi"})
# The two whose open-loop latencies are compared at one and the same rate.
PAIR = ("slipway", "triton")
_UP_AND_DOWN_S = {"ray": 20.0, "kserve": 5.0, "bentoml": 5.0, "floor": 1.5}
SHARES = (0.3, 0.6, 0.9)
CAPACITY_CONNECTIONS = 32


@dataclass(frozen=True, kw_only=True)
class Workload:
    name: str
    about: str
    model: str
    protocol: Protocol
    connections: tuple[int, ...] = ()
    requests: int | None = None
    """A fixed number of requests instead of a fixed time, for requests so long that counting them in a fixed
    time would round by several per cent."""


START_UP = Workload(name="start-up", about="start-up time and memory, tiny model", model="iris", protocol="json")
OPEN_LOOP = Workload(
    name="open-loop", about="Poisson arrivals over HTTP JSON, tiny model", model="iris", protocol="json"
)
_TINY = (1, 8, 32, 128)
CLOSED_LOOP = (
    Workload(name="tiny-json", about="iris, one row, HTTP JSON", model="iris", protocol="json", connections=_TINY),
    Workload(
        name="tiny-binary", about="iris, one row, HTTP binary", model="iris", protocol="binary", connections=_TINY
    ),
    Workload(name="tiny-grpc", about="iris, one row, gRPC", model="iris", protocol="grpc", connections=_TINY),
    Workload(name="large-json", about="3x224x224 FP32, HTTP JSON", model="pixels", protocol="json", connections=(8,)),
    Workload(
        name="large-binary",
        about="3x224x224 FP32, HTTP binary",
        model="pixels",
        protocol="binary",
        connections=(8,),
    ),
    Workload(name="large-grpc", about="3x224x224 FP32, gRPC", model="pixels", protocol="grpc", connections=(8,)),
    Workload(
        name="conv",
        about="ResNet-18 shape, 8 images a request, HTTP binary, compute on one thread",
        model="convnet",
        protocol="binary",
        connections=(4,),
        requests=12,
    ),
)
WORKLOADS = (START_UP, *CLOSED_LOOP, OPEN_LOOP)


@dataclass(frozen=True, kw_only=True)
class Plan:
    peers: tuple[Peer, ...]
    workloads: tuple[Workload, ...]
    rounds: int
    seconds: float
    open_loop_names: frozenset[str]

    def closed_loop(self, model_key: str) -> list[Workload]:
        return [each for each in self.workloads if each.model == model_key and each != OPEN_LOOP]

    @property
    def has_open_loop(self) -> bool:
        return OPEN_LOOP in self.workloads

    @property
    def open_loop_seconds(self) -> float:
        """Longer than a closed-loop run: a p99.9 needs thousands of requests even at a third of the capacity."""
        return 1.5 * self.seconds

    def blocks(self, turn: int) -> list[tuple[str, Peer, list[Workload]]]:
        """The (model, contender, workloads) of one round, in order.

        Every second round runs backwards, so that what drifts slowly (heat, neighbours) favours nobody.
        """
        peers = self.peers if turn % 2 == 0 else self.peers[::-1]
        found = []
        for key in ("iris", "pixels", "convnet"):
            for peer in peers:
                mine = [each for each in self.closed_loop(key) if peer.can(key, each.protocol)]
                if mine:
                    found.append((key, peer, mine))
        return found


def quick(workloads: Iterable[Workload]) -> tuple[Workload, ...]:
    """The same workloads with the connection counts that the verdicts need."""
    shorter = []
    for each in workloads:
        kept = tuple(count for count in each.connections if count in (1, 32))
        shorter.append(replace(each, connections=kept or each.connections, requests=each.requests and 8))
    return tuple(shorter)


def about_seconds(plan: Plan) -> float:
    """A guess of the run's length: load time plus what starting and stopping took where this was written."""
    total = 0.0
    for turn in range(plan.rounds):
        for _, peer, workloads in plan.blocks(turn):
            total += _UP_AND_DOWN_S.get(peer.name, 3.5)
            for each in workloads:
                took = 0.35 * each.requests if each.requests else plan.seconds + 0.3
                total += took * len(each.connections) + 0.7
    if plan.has_open_loop:
        for peer in plan.peers:
            if peer.name in plan.open_loop_names and peer.serves:
                rates = len(SHARES) * (2 if peer.name == PAIR[0] else 1)
                once = _UP_AND_DOWN_S.get(peer.name, 3.5) + 1.5 + rates * (plan.open_loop_seconds + 0.4)
                total += plan.rounds * once
    return total
