"""An engine in a world whose time stands still, with replicas that a test plays."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from slipway.engine.batch import Pending
from slipway.engine.engine import Engine
from slipway.errors import ModelFailure, SlipwayError
from slipway.infer.request import NEVER, Request, Response
from slipway.infer.tensor import Tensor, pack_bytes, unpack_bytes
from slipway.spec.serve import Batching, ModelSpec, QueueLimits
from slipway.testing.loop import FakeLoop
from slipway.testing.replica import StubReplica

BAD = -1


def ask(values: Sequence[int], *, width: int = 1, **facts: object) -> Request:
    """A request with one row for each value: `n` INT64 [rows, width] and its words `s` BYTES [rows, 1]."""
    rows = len(values)
    numbers = [value for value in values for _ in range(width)]
    words = [b"w" * (abs(value) % 5) + str(value).encode() for value in values]
    inputs = [
        Tensor("n", "INT64", (rows, width), struct.pack(f"<{len(numbers)}q", *numbers)),
        Tensor("s", "BYTES", (rows, 1), pack_bytes(words)),
    ]
    return Request("m", inputs, **facts)  # type: ignore[arg-type]


def model(inputs: Sequence[Tensor]) -> list[Tensor]:
    """`out` = 3n + 1 and `words` = s backwards, row by row. A batch with a BAD value fails as a whole."""
    n, s = inputs
    numbers = struct.unpack(f"<{n.elements}q", n.data)
    if BAD in numbers:
        raise ModelFailure("this model cannot stand bad values")
    words = [word[::-1] for word in unpack_bytes(s)]
    assert len(words) == n.shape[0] == s.shape[0]
    return [
        Tensor("out", "INT64", n.shape, struct.pack(f"<{n.elements}q", *[3 * item + 1 for item in numbers])),
        Tensor("words", "BYTES", s.shape, pack_bytes(words)),
    ]


def is_right(values: Sequence[int], width: int, response: Response) -> bool:
    expected = model(ask(values, width=width).inputs)
    got = response.outputs
    return [(t.name, t.datatype, t.shape, bytes(t.data)) for t in got] == [
        (t.name, t.datatype, t.shape, bytes(t.data)) for t in expected
    ]


class Call:
    """A request that was submitted, and all that its `done` was called with."""

    def __init__(self, values: Sequence[int], width: int, deadline: float) -> None:
        self.values = list(values)
        self.width = width
        self.deadline = deadline
        self.outcomes: list[Response | SlipwayError] = []
        self.entry: Pending | None = None
        self.cancelled = False

    @property
    def outcome(self) -> Response | SlipwayError:
        (only,) = self.outcomes
        return only

    @property
    def right(self) -> bool:
        return isinstance(self.outcome, Response) and is_right(self.values, self.width, self.outcome)


class Stage:
    """`engine` under `loop`. Whatever is sent to a replica is checked: wanted by somebody, and not too late."""

    def __init__(
        self,
        *,
        batching: Batching | None = None,
        queue: QueueLimits | None = None,
        idempotent: bool = True,
        batchable: bool = True,
    ) -> None:
        self.loop = FakeLoop()
        spec = ModelSpec("m", "p", batching=batching or Batching(), queue=queue or QueueLimits(), idempotent=idempotent)
        self.engine: Engine = self.loop.run(Engine, spec, batchable=batchable, now=self.loop.time)
        self.replicas: list[StubReplica] = []

    def submit(self, values: Sequence[int], *, width: int = 1, within: float | None = None, priority: int = 1) -> Call:
        """Submit without letting the loop turn. Raises what the engine raises."""
        deadline = NEVER if within is None else self.loop.time() + within
        call = Call(values, width, deadline)
        request = ask(values, width=width, deadline=deadline, priority=priority)
        rows = len(values)
        call.entry = self.loop.do(self.engine.submit, request, rows=rows, done=call.outcomes.append)
        return call

    def cancel(self, call: Call) -> None:
        assert call.entry is not None
        if not call.outcomes:
            call.cancelled = True
        self.loop.run(call.entry.cancel)

    def replica(self) -> StubReplica:
        replica = StubReplica(self.engine, compute=model)
        run = replica.run

        def checked(batch: object) -> None:
            for entry, _, _ in batch.slices:  # type: ignore[attr-defined]
                assert entry.done is not None, "sent though nobody waits for it"
                assert entry.deadline >= self.loop.time(), "sent though it is too late"
            run(batch)  # type: ignore[arg-type]

        replica.run = checked  # type: ignore[method-assign,assignment]
        self.loop.run(replica.attach)
        self.replicas.append(replica)
        return replica

    def answer_all(self) -> None:
        """Every replica computes whatever it gets until there is nothing left."""
        self.loop.settle()
        while busy := [replica for replica in self.replicas if replica.in_flight]:
            self.loop.run(busy[0].answer)
