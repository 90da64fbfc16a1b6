"""Equal requests that share a compute, under every order of events: each gets one answer, its own, and in its time."""

from __future__ import annotations

from engine_stage import BAD, Call, Stage, ask
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from slipway.engine.cache import CachedEngine
from slipway.errors import Cancelled, DeadlineExceeded, ModelFailure, NotReady, Overloaded, ReplicaLost
from slipway.infer.request import NEVER, Response
from slipway.spec.serve import Batching, CacheLimits


class Callers:
    """Calls through a cache."""

    def __init__(self, *, slo_s: float = 0.0, ttl_s: float = 5.0) -> None:
        self.stage = Stage(batching=Batching(max_rows=4, slo_s=slo_s))
        limits = CacheLimits(bytes=20_000, ttl_s=ttl_s)
        self.cached: CachedEngine = self.stage.loop.do(
            CachedEngine, self.stage.engine, limits, now=self.stage.loop.time
        )
        self.calls: list[Call] = []

    def call(self, value: int, *, within: float | None = None) -> Call:
        loop = self.stage.loop
        call = Call([value], 1, NEVER if within is None else loop.time() + within)
        request = ask([value], deadline=call.deadline)
        call.entry = loop.do(self.cached.submit, request, rows=1, done=call.outcomes.append)
        self.calls.append(call)
        return call


def test_the_slo_holds_though_a_compute_is_shared() -> None:
    callers = Callers(slo_s=0.5)
    replica = callers.stage.replica()
    first, second = callers.call(1), callers.call(1)
    callers.stage.loop.settle()
    callers.stage.loop.advance(0.6)
    assert isinstance(first.outcome, DeadlineExceeded)
    assert isinstance(second.outcome, DeadlineExceeded)
    callers.stage.loop.advance(10)
    callers.stage.loop.run(replica.answer)
    assert len(replica.batches) == 1  # and nobody computes it again for nobody
    assert callers.stage.engine.unanswered == 0
    callers.stage.loop.close()


def test_every_answer_is_counted_once_under_its_own_name() -> None:
    callers = Callers()
    replica = callers.stage.replica()
    for value, outcomes in ((BAD, 3), (2, 3)):
        for _ in range(outcomes):
            callers.call(value)
        callers.stage.answer_all()
    callers.call(2)  # a hit
    callers.call(9)
    callers.stage.loop.settle()
    gone = [callers.call(3), callers.call(3)]
    for call in gone:
        callers.stage.cancel(call)
    callers.call(4, within=1.0)
    callers.call(4, within=2.0)
    callers.stage.loop.advance(3.0)
    callers.stage.loop.run(replica.answer)
    meter = callers.stage.engine.meter
    meter.fold()
    counted = {code: count for (_, code), count in meter.codes.items()}
    assert counted == {
        "ok": 5,
        ModelFailure.code: 3,
        Cancelled.code: 2,
        DeadlineExceeded.code: 2,
    }
    callers.stage.loop.close()


class FlightMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.deaths = 0

    @initialize(slo_s=st.sampled_from([0.0, 0.0, 1.0]))
    def begin(self, slo_s: float) -> None:
        self.callers = Callers(slo_s=slo_s)
        self.stage = self.callers.stage
        self.slo_s = slo_s

    @rule(value=st.integers(0, 2) | st.just(BAD), within=st.none() | st.floats(0.05, 3.0))
    def call(self, value: int, within: float | None) -> None:
        try:
            self.callers.call(value, within=within)
        except (NotReady, Overloaded):
            pass

    @precondition(lambda self: hasattr(self, "callers") and self.callers.calls)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(self.callers.calls))
        if call.entry is not None:
            self.stage.cancel(call)

    @rule()
    def attach(self) -> None:
        if len([replica for replica in self.stage.replicas if not replica.closed]) < 2:
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

    @rule()
    def turn(self) -> None:
        self.stage.loop.settle()

    @rule(seconds=st.floats(0.0, 2.0))
    def wait(self, seconds: float) -> None:
        self.stage.loop.advance(seconds)

    @invariant()
    def outcomes_are_honest(self) -> None:
        if not hasattr(self, "callers"):
            return
        now = self.stage.loop.time()
        for call in self.callers.calls:
            if not call.outcomes:
                continue
            assert not call.cancelled
            outcome = call.outcome
            if isinstance(outcome, Response):
                assert call.right
            elif isinstance(outcome, ModelFailure):
                assert BAD in call.values
            elif isinstance(outcome, ReplicaLost):
                assert self.deaths
            else:
                assert isinstance(outcome, DeadlineExceeded | NotReady)
                assert self.slo_s or call.deadline <= now or isinstance(outcome, NotReady)

    def teardown(self) -> None:
        if not hasattr(self, "callers"):
            return
        self.stage.replica()
        self.stage.answer_all()
        self.stage.loop.advance(10)
        self.stage.answer_all()
        for call in self.callers.calls:
            assert len(call.outcomes) == (0 if call.cancelled else 1)
        self.outcomes_are_honest()
        assert self.callers.cached._flights == {}
        assert self.stage.engine.unanswered == 0
        meter = self.stage.engine.meter
        meter.fold()
        answered = sum(1 for call in self.callers.calls if call.outcomes and isinstance(call.outcome, Response))
        assert sum(count for (_, code), count in meter.codes.items() if code == "ok") == answered
        self.stage.loop.close()


FlightMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestFlights = FlightMachine.TestCase
