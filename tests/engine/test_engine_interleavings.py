"""Everything that can happen to an engine, in any order: each request gets exactly one answer, and its own."""

from __future__ import annotations

import math

from engine_stage import BAD, Call, Stage
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from slipway.engine.engine import MAX_LOSSES, ORPHAN_PATIENCE_S
from slipway.errors import (
    DeadlineExceeded,
    ModelFailure,
    NotReady,
    Overloaded,
    ReplicaLost,
    SlipwayError,
)
from slipway.infer.request import Response
from slipway.spec.serve import Batching, QueueLimits
from slipway.testing.replica import StubReplica

QUEUE_ROWS = 60


class EngineMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.judged: set[Call] = set()
        self.deaths = 0
        self.orphaned = False
        self.number = 0

    @initialize(
        max_rows=st.integers(1, 8),
        slo_s=st.sampled_from([0.0, 0.0, 1.0]),
        max_delay_s=st.sampled_from([0.0, 0.0, 0.3]),
        idempotent=st.sampled_from([True, True, False]),
    )
    def begin(self, max_rows: int, slo_s: float, max_delay_s: float, idempotent: bool) -> None:
        self.delayed = max_delay_s > 0
        self.slo_s = slo_s
        self.idempotent = idempotent
        self.max_rows = max_rows
        self.stage = Stage(
            batching=Batching(max_rows=max_rows, slo_s=slo_s, max_delay_s=max_delay_s),
            queue=QueueLimits(rows=QUEUE_ROWS, bytes=3000),
            idempotent=idempotent,
        )

    def teardown(self) -> None:
        """In the end a healthy replica comes: nobody is left without an answer."""
        if not hasattr(self, "stage"):
            return
        self.stage.replica()
        self.stage.loop.settle()
        for _ in range(1000):
            self.stage.loop.advance(0.4)  # batches that were held back leave
            busy = [replica for replica in self.stage.replicas if replica.in_flight]
            if not busy:
                break
            self.stage.loop.run(busy[0].answer)
        self.stage.loop.settle()
        for call in self.calls:
            assert len(call.outcomes) == (0 if call.cancelled else 1), "a request without an answer"
        assert self.stage.engine.unanswered == 0
        assert (self.stage.engine.queue.rows, self.stage.engine.queue.nbytes) == (0, 0)
        self.outcomes_are_honest()
        self.stage.loop.close()

    # --- what callers do ---

    @rule(
        rows=st.integers(1, 4) | st.integers(1, 30),
        width=st.integers(1, 2),
        within=st.none() | st.floats(0.01, 3.0),
        priority=st.integers(0, 3),
        bad=st.sampled_from([False, False, False, True]),
        turn=st.booleans(),
    )
    def submit(self, rows: int, width: int, within: float | None, priority: int, bad: bool, turn: bool) -> None:
        values = [self.number + row for row in range(rows)]
        self.number += rows
        if bad:
            values[rows // 2] = BAD
        queued_rows = self.stage.engine.queue.rows
        try:
            self.calls.append(self.stage.submit(values, width=width, within=within, priority=priority))
        except NotReady:
            assert not self.attached
        except Overloaded:
            assert queued_rows
        if turn:
            self.stage.loop.settle()

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.stage.cancel(data.draw(st.sampled_from(self.calls)))

    # --- what replicas do ---

    @property
    def attached(self) -> list[StubReplica]:
        return [replica for replica in self.stage.replicas if replica in self.stage.engine._links]

    @precondition(lambda self: len(self.attached) < 4)
    @rule()
    def attach(self) -> None:
        self.stage.replica()

    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        busy = [replica for replica in self.stage.replicas if replica.in_flight]
        if busy:
            self.stage.loop.run(data.draw(st.sampled_from(busy)).answer)

    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        alive = [replica for replica in self.stage.replicas if not replica.closed]
        if alive:
            self.deaths += 1
            self.stage.loop.run(data.draw(st.sampled_from(alive)).die)

    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        if self.attached:
            self.stage.loop.run(data.draw(st.sampled_from(self.attached)).retire)

    @rule(seconds=st.floats(0.0, 1.0) | st.just(ORPHAN_PATIENCE_S + 1))
    def wait(self, seconds: float) -> None:
        if not self.attached and seconds > 1.0:
            self.orphaned = True
        self.stage.loop.advance(seconds)

    # --- what must hold at every moment ---

    @invariant()
    def outcomes_are_honest(self) -> None:
        if not hasattr(self, "stage"):
            return
        for call in self.calls:
            if not call.outcomes:
                continue
            assert not call.cancelled
            outcome = call.outcome  # exactly one
            if call in self.judged:
                continue
            self.judged.add(call)
            if isinstance(outcome, Response):
                assert call.right, "an answer that is not the caller's own"
            else:
                self.error_is_honest(call, outcome)

    def error_is_honest(self, call: Call, outcome: SlipwayError) -> None:
        if isinstance(outcome, ModelFailure):
            assert BAD in call.values or not self.idempotent
        elif isinstance(outcome, DeadlineExceeded):
            assert call.deadline < math.inf or self.slo_s
        elif isinstance(outcome, ReplicaLost):
            assert self.deaths > (MAX_LOSSES if self.idempotent else 0)
        else:
            assert isinstance(outcome, NotReady)
            assert self.orphaned

    @invariant()
    def work_is_conserved(self) -> None:
        """With a free replica nothing waits, unless the spec asks for a delay and others compute."""
        if not hasattr(self, "stage"):
            return
        self.stage.loop.settle()
        engine = self.stage.engine
        idle = [replica for replica in self.attached if not replica.in_flight]
        if idle and not (self.delayed and len(idle) < len(self.attached)):
            assert engine.queue.rows == 0
            assert not any(piece.entry.done for piece in engine._again)

    @invariant()
    def batches_are_proper(self) -> None:
        if not hasattr(self, "stage"):
            return
        sends: dict[tuple[int, int], int] = {}
        for replica in self.stage.replicas:
            assert len(replica.in_flight) <= 1
            for batch in replica.batches:
                assert 1 <= batch.rows <= self.max_rows
                for entry, start, _ in batch.slices:
                    place = id(entry), start
                    sends[place] = sends.get(place, 0) + 1
        most = MAX_LOSSES + 3 if self.idempotent else 1  # failed in company, lost in company, lost alone, and the last
        assert max(sends.values(), default=0) <= most

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "stage"):
            waiting = sum(1 for call in self.calls if not call.outcomes and not call.cancelled)
            assert self.stage.engine.unanswered == waiting
            queued = sum(call.entry.rows - call.entry.taken for call in self.calls if call.entry and call.entry.queued)
            assert self.stage.engine.queue.rows == queued


EngineMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestEngineInterleavings = EngineMachine.TestCase
