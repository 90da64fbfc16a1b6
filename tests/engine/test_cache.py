"""The prediction cache: same question, same answer, one compute; and never another's answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from engine_stage import Stage, ask, is_right
from hypothesis import given
from hypothesis import strategies as st

from slipway.engine.cache import OVERHEAD_BYTES, CachedEngine, PredictionCache
from slipway.errors import DeadlineExceeded, ModelFailure, Overloaded, SlipwayError
from slipway.infer.request import NEVER, Response
from slipway.infer.tensor import Tensor
from slipway.spec.serve import CacheLimits, QueueLimits

ANSWER = [Tensor("y", "UINT8", (100,), b"a" * 100)]


class CachedStage:
    """A stage whose engine has a cache before it."""

    def __init__(self, *, ttl_s: float = 60.0, queue: QueueLimits | None = None) -> None:
        self.stage = Stage(queue=queue)
        self.loop = self.stage.loop
        limits = CacheLimits(bytes=1_000_000, ttl_s=ttl_s)
        self.cached: CachedEngine = self.loop.run(CachedEngine, self.stage.engine, limits, now=self.loop.time)

    def ask(self, values: list[int], *, within: float | None = None, id: str = "") -> tuple[list[object], object]:
        outcomes: list[object] = []
        deadline = NEVER if within is None else self.loop.time() + within
        request = ask(values, deadline=deadline, id=id)
        ticket = self.loop.do(self.cached.submit, request, rows=len(values), done=outcomes.append)
        return outcomes, ticket


@pytest.fixture
def cached() -> Iterator[CachedStage]:
    made = CachedStage()
    yield made
    made.loop.close()


def computed(stage: Stage) -> int:
    return sum(len(replica.batches) for replica in stage.replicas)


def test_the_second_time_nothing_is_computed(cached: CachedStage) -> None:
    cached.stage.replica()
    first, _ = cached.ask([1, 2])
    cached.stage.answer_all()
    second, ticket = cached.ask([1, 2], id="mine")
    assert ticket is None
    assert computed(cached.stage) == 1
    assert all(isinstance(only, Response) and is_right([1, 2], 1, only) for only in (*first, *second))
    (answer,) = second
    assert isinstance(answer, Response)
    assert answer.id == "mine"
    assert (cached.cached.hits, cached.cached.misses) == (1, 1)


def test_another_question_is_another_compute(cached: CachedStage) -> None:
    cached.stage.replica()
    for values in ([1, 2], [2, 1], [1], [1, 2, 3]):
        outcomes, _ = cached.ask(values)
        cached.stage.answer_all()
        (answer,) = outcomes
        assert isinstance(answer, Response)
        assert is_right(values, 1, answer)
    assert cached.cached.hits == 0


def test_equal_requests_at_once_share_one_compute_and_each_has_its_answer(cached: CachedStage) -> None:
    cached.stage.replica()
    waiting = [cached.ask([7], id=str(number))[0] for number in range(5)]
    cached.stage.answer_all()
    assert computed(cached.stage) == 1
    ids = []
    for (answer,) in waiting:
        assert isinstance(answer, Response)
        assert is_right([7], 1, answer)
        ids.append(answer.id)
    assert ids == ["0", "1", "2", "3", "4"]


def test_an_old_answer_is_computed_anew() -> None:
    cached = CachedStage(ttl_s=10.0)
    cached.stage.replica()
    for _ in range(2):
        cached.ask([1])
        cached.stage.answer_all()
        cached.loop.advance(10.5)
    assert computed(cached.stage) == 2
    cached.loop.close()


def test_a_failure_is_not_kept(cached: CachedStage) -> None:
    cached.stage.replica()
    for _ in range(2):
        outcomes, _ = cached.ask([-1])
        cached.stage.answer_all()
        (error,) = outcomes
        assert isinstance(error, ModelFailure)
    assert computed(cached.stage) == 2


def test_the_compute_goes_on_while_anybody_waits_for_it(cached: CachedStage) -> None:
    first, first_ticket = cached.ask([1]) if cached.stage.replica() else ([], None)
    second, second_ticket = cached.ask([1])
    cached.loop.run(first_ticket.cancel)  # type: ignore[attr-defined]
    cached.stage.answer_all()
    assert first == []
    assert len(second) == 1
    assert isinstance(second[0], Response)
    assert second_ticket is not None


def test_when_all_have_gone_it_is_never_begun(cached: CachedStage) -> None:
    replica = cached.stage.replica()
    cached.ask([5])
    cached.loop.settle()  # the replica is busy from now on
    tickets = [cached.ask([1])[1], cached.ask([1])[1]]
    for ticket in tickets:
        cached.loop.run(ticket.cancel)  # type: ignore[attr-defined]
    cached.stage.answer_all()
    assert len(replica.batches) == 1
    again, _ = cached.ask([1])
    cached.stage.answer_all()
    assert len(again) == 1


def test_each_waits_only_as_long_as_it_said(cached: CachedStage) -> None:
    replica = cached.stage.replica()
    hasty, _ = cached.ask([1], within=1.0)
    patient, _ = cached.ask([1], within=60.0)
    cached.loop.settle()
    cached.loop.advance(2.0)
    assert [type(outcome) for outcome in hasty] == [DeadlineExceeded]
    assert patient == []
    while replica.in_flight:
        cached.loop.run(replica.answer)
    (answer,) = patient
    assert isinstance(answer, Response)
    assert is_right([1], 1, answer)


def test_what_the_queue_refuses_is_refused_and_leaves_nothing_behind() -> None:
    cached = CachedStage(queue=QueueLimits(rows=1))
    replica = cached.stage.replica()
    cached.ask([1])
    cached.loop.settle()
    cached.ask([2])
    with pytest.raises(Overloaded):
        cached.ask([3])
    while replica.in_flight:
        cached.loop.run(replica.answer)
    later, _ = cached.ask([3])
    cached.stage.answer_all()
    assert len(later) == 1
    assert not isinstance(later[0], SlipwayError)
    cached.loop.close()


@given(st.lists(st.tuples(st.sampled_from(["get", "put"]), st.integers(0, 9), st.integers(0, 400)), max_size=60))
def test_the_budget_holds_whatever_happens(history: list[tuple[str, int, int]]) -> None:
    cache = PredictionCache(CacheLimits(bytes=3 * (OVERHEAD_BYTES + 200), ttl_s=30.0))
    held: dict[int, int] = {}
    for now, (verb, key, size) in enumerate(history):
        if verb == "put":
            cache.put(key, [Tensor("y", "UINT8", (size,), bytes([key]) * size)], key_bytes=0, now=now)
            held[key] = size
        else:
            found = cache.get(key, now=now)
            if found is not None:
                assert bytes(found[0].data) == bytes([key]) * held[key], "another's answer, or an older one"
        assert 0 <= cache.nbytes <= 3 * (OVERHEAD_BYTES + 200)


def test_the_least_recently_used_goes_first() -> None:
    cache = PredictionCache(CacheLimits(bytes=2 * (OVERHEAD_BYTES + 100), ttl_s=60.0))
    cache.put("a", ANSWER, key_bytes=0, now=0.0)
    cache.put("b", ANSWER, key_bytes=0, now=1.0)
    assert cache.get("a", now=2.0)
    cache.put("c", ANSWER, key_bytes=0, now=3.0)
    assert cache.get("a", now=4.0)
    assert cache.get("b", now=4.0) is None
    assert cache.evictions == 1
