"""What the engine promises, scene by scene."""

from __future__ import annotations

import pytest
from engine_stage import BAD, Stage, ask, model

from slipway.engine.engine import MAX_LOSSES, ORPHAN_PATIENCE_S
from slipway.errors import DeadlineExceeded, InvalidOutput, ModelFailure, NotReady, Overloaded, ReplicaLost
from slipway.infer.request import Response
from slipway.infer.tensor import Tensor
from slipway.spec.serve import Batching, QueueLimits


def rows_sent(stage: Stage) -> list[list[int]]:
    return [[batch.rows for batch in replica.batches] for replica in stage.replicas]


def test_requests_of_one_turn_share_a_batch_and_each_gets_its_own(stage: Stage) -> None:
    stage.replica()
    calls = [stage.submit([number]) for number in range(5)]
    stage.answer_all()
    assert all(call.right for call in calls)
    assert sum(rows_sent(stage)[0]) == 5


def test_while_a_replica_computes_the_rest_gathers(stage: Stage) -> None:
    stage.replica()
    first = stage.submit([1])
    stage.loop.settle()
    later = [stage.submit([number, number]) for number in range(2, 6)]
    stage.answer_all()
    assert rows_sent(stage) == [[1, 8]]
    assert all(call.right for call in [first, *later])


def test_a_lone_request_waits_for_no_timer() -> None:
    stage = Stage(batching=Batching(max_delay_s=10.0))
    stage.replica()
    began = stage.loop.time()
    call = stage.submit([7])
    stage.answer_all()
    assert call.right
    assert stage.loop.time() == began
    stage.loop.close()


def test_a_batch_is_held_only_while_others_compute() -> None:
    stage = Stage(batching=Batching(max_rows=4, max_delay_s=0.5))
    busy, free = stage.replica(), stage.replica()
    stage.submit([1])
    stage.loop.settle()
    assert [bool(busy.in_flight), bool(free.in_flight)] == [True, False]
    held = stage.submit([2])
    stage.loop.advance(0.49)
    assert not free.batches  # it waits for company
    stage.loop.advance(0.02)
    assert free.in_flight  # but not longer than the spec says
    stage.loop.run(free.answer)
    assert held.right
    full = [stage.submit([number, number]) for number in (3, 4)]
    stage.loop.settle()
    assert free.in_flight  # full: nothing to wait for
    waiting = stage.submit([5])
    stage.loop.run(free.answer)
    assert all(call.right for call in full)
    assert not free.in_flight
    stage.loop.run(busy.answer)  # nobody computes any more: nothing to wait for either
    assert not waiting.outcomes
    stage.answer_all()
    assert waiting.right
    stage.loop.close()


def test_only_equal_shapes_share_a_batch(stage: Stage) -> None:
    stage.replica()
    calls = [stage.submit([number], width=1 + number % 3) for number in range(9)]
    stage.answer_all()
    assert all(call.right for call in calls)
    for inputs in stage.replicas[0].inputs:
        assert len({tensor.shape[0] for tensor in inputs}) == 1


def test_a_large_request_is_computed_in_parts_by_several_and_answered_as_a_whole() -> None:
    stage = Stage(batching=Batching(max_rows=4))
    one, two = stage.replica(), stage.replica()
    call = stage.submit(range(11))
    stage.loop.settle()
    assert one.in_flight
    assert two.in_flight
    stage.loop.run(two.answer)  # parts come back in any order
    stage.loop.run(two.answer)
    assert not call.outcomes
    stage.loop.run(one.answer)
    assert call.right
    assert rows_sent(stage) == [[4], [4, 3]]
    stage.loop.close()


def test_one_bad_request_fails_alone(stage: Stage) -> None:
    replica = stage.replica()
    blocker = stage.submit([1])
    stage.loop.settle()
    calls = [stage.submit([number] if number != 3 else [BAD]) for number in range(6)]
    stage.answer_all()
    assert replica.batches[1].rows == 6
    assert blocker.right
    assert [type(call.outcome) for call in calls] == [ModelFailure if n == 3 else Response for n in range(6)]
    assert all(call.right for number, call in enumerate(calls) if number != 3)


def test_when_a_part_of_a_large_request_fails_the_rest_of_it_is_not_computed() -> None:
    stage = Stage(batching=Batching(max_rows=2))
    replica = stage.replica()
    call = stage.submit([BAD, 1, 2, 3, 4, 5])
    other = stage.submit([9])
    stage.answer_all()
    assert isinstance(call.outcome, ModelFailure)
    assert other.right
    assert [batch.rows for batch in replica.batches] in ([2, 2, 1], [2, 1])  # at most the part that left meanwhile
    assert (stage.engine.queue.rows, stage.engine.queue.nbytes, stage.engine.unanswered) == (0, 0, 0)
    stage.loop.close()


def test_without_a_replica_it_is_not_ready(stage: Stage) -> None:
    with pytest.raises(NotReady):
        stage.submit([1])
    assert stage.engine.unanswered == 0


def test_a_full_queue_refuses_at_once() -> None:
    stage = Stage(queue=QueueLimits(rows=4, bytes=10_000), batching=Batching(max_rows=1))
    stage.replica()
    calls = [stage.submit([1])]
    stage.loop.settle()
    calls += [stage.submit([2, 3]), stage.submit([4, 5])]
    with pytest.raises(Overloaded):
        stage.submit([6])
    assert stage.engine.unanswered == 3
    stage.answer_all()
    assert all(call.right for call in calls)
    stage.loop.close()


def test_bytes_bound_the_queue_too() -> None:
    stage = Stage(queue=QueueLimits(rows=1000, bytes=100))
    stage.replica()
    stage.submit([1])
    stage.loop.settle()
    stage.submit([2] * 4)
    with pytest.raises(Overloaded, match="bytes"):
        stage.submit([3] * 4)
    stage.loop.close()


def test_a_deadline_is_kept_while_queued_and_while_computing(stage: Stage) -> None:
    replica = stage.replica()
    computing = stage.submit([1], within=1.0)
    stage.loop.settle()
    queued = stage.submit([2], within=0.5)
    patient = stage.submit([3], within=60.0)
    stage.loop.advance(0.6)
    assert isinstance(queued.outcome, DeadlineExceeded)
    assert not computing.outcomes
    stage.loop.advance(0.5)
    assert isinstance(computing.outcome, DeadlineExceeded)
    stage.answer_all()
    assert patient.right
    assert len(computing.outcomes) == 1
    assert [batch.rows for batch in replica.batches] == [1, 1]  # the queued one never reached a model


def test_a_deadline_that_has_passed_is_refused(stage: Stage) -> None:
    stage.replica()
    with pytest.raises(DeadlineExceeded):
        stage.submit([1], within=0.0)
    assert stage.engine.unanswered == 0


def test_cancelled_work_never_reaches_a_model(stage: Stage) -> None:
    replica = stage.replica()
    stage.submit([1])
    stage.loop.settle()
    gone = stage.submit([2])
    kept = stage.submit([3])
    stage.cancel(gone)
    stage.cancel(gone)
    stage.answer_all()
    assert gone.outcomes == []
    assert kept.right
    assert [batch.rows for batch in replica.batches] == [1, 1]
    assert stage.engine.unanswered == 0


def test_cancel_after_the_answer_changes_nothing(stage: Stage) -> None:
    stage.replica()
    call = stage.submit([1])
    stage.answer_all()
    stage.cancel(call)
    assert call.right
    assert stage.engine.unanswered == 0


def test_what_a_dead_replica_held_is_computed_elsewhere(stage: Stage) -> None:
    doomed = stage.replica()
    calls = [stage.submit([number]) for number in range(3)]
    stage.loop.settle()
    other = stage.replica()
    stage.loop.run(doomed.die)
    stage.answer_all()
    assert all(call.right for call in calls)
    assert sum(batch.rows for batch in other.batches) == 3
    assert stage.engine.meter.retries == 3


def test_a_retry_goes_to_the_replica_that_was_heard_of_last(stage: Stage) -> None:
    """Replicas die in series: the one that has just answered is the safest."""
    doomed, silent, lively = (stage.replica() for _ in range(3))
    call = stage.submit([1])
    stage.loop.settle()
    for _ in range(2):
        stage.submit([2])
        stage.loop.settle()
    stage.loop.run(silent.answer)
    stage.loop.run(lively.answer)
    stage.loop.run(doomed.die)
    assert lively.in_flight
    stage.loop.run(lively.answer)
    assert call.right


def test_what_a_dead_replica_held_waits_for_the_next_one(stage: Stage) -> None:
    doomed = stage.replica()
    call = stage.submit([1])
    stage.loop.settle()
    stage.loop.run(doomed.die)
    with pytest.raises(NotReady):
        stage.submit([2])
    stage.loop.advance(ORPHAN_PATIENCE_S - 1)
    assert not call.outcomes
    stage.replica()
    stage.answer_all()
    assert call.right
    stage.loop.advance(10 * ORPHAN_PATIENCE_S)
    assert stage.submit([3])


def test_but_not_for_ever(stage: Stage) -> None:
    doomed = stage.replica()
    held, queued = stage.submit([1] * 64), stage.submit([2])
    stage.loop.settle()
    stage.loop.run(doomed.die)
    stage.loop.advance(ORPHAN_PATIENCE_S + 1)
    assert isinstance(held.outcome, NotReady)
    assert isinstance(queued.outcome, NotReady)
    assert stage.engine.unanswered == 0


def test_a_request_that_kills_replicas_is_found_out(stage: Stage) -> None:
    stage.replica()
    calls = [stage.submit([number]) for number in (BAD, 1, 2)]
    stage.loop.settle()
    deaths = 0
    for _ in range(20):
        for replica in stage.replicas:
            if not replica.in_flight:
                continue
            if any(BAD in call.values for call in calls if call.entry in entries(replica)):
                deaths += 1
                stage.loop.run(replica.die)
                stage.replica()
            else:
                stage.loop.run(replica.answer)
    assert isinstance(calls[0].outcome, ReplicaLost)
    assert deaths == MAX_LOSSES + 2  # once in company, then alone
    assert calls[1].right
    assert calls[2].right


def entries(replica: object) -> list:
    return [entry for batch in replica.in_flight.values() for entry, _, _ in batch.slices]  # type: ignore[attr-defined]


def test_what_must_not_be_computed_twice_is_not() -> None:
    stage = Stage(idempotent=False)
    doomed = stage.replica()
    lost = stage.submit([1])
    stage.loop.settle()
    queued = stage.submit([2])
    stage.loop.run(doomed.die)
    assert isinstance(lost.outcome, ReplicaLost)
    stage.replica()
    stage.answer_all()
    assert queued.right  # it was never sent, so it may be
    failing = [stage.submit([3]), stage.submit([BAD])]
    stage.answer_all()
    sent = [entry for replica in stage.replicas for batch in replica.batches for entry, _, _ in batch.slices]
    assert len(sent) == len(set(sent))
    assert isinstance(failing[1].outcome, ModelFailure)
    stage.loop.close()


def test_a_detached_replica_finishes_what_it_holds(stage: Stage) -> None:
    old = stage.replica()
    call = stage.submit([1])
    stage.loop.settle()
    stage.loop.run(old.retire)
    new = stage.replica()
    later = stage.submit([2])
    stage.loop.run(old.answer)
    assert call.right
    assert old.closed
    stage.answer_all()
    assert later.right
    assert [len(old.batches), len(new.batches)] == [1, 1]


def test_a_closed_engine_answers_everything(stage: Stage) -> None:
    finishing, dying, failing = stage.replica(), stage.replica(), stage.replica()
    calls = []
    for number in range(3):
        calls.append(stage.submit([number]))
        stage.loop.settle()
    pair = [stage.submit([4]), stage.submit([5])]
    stage.loop.run(failing.answer)
    queued = stage.submit([6])
    stage.loop.run(stage.engine.close, NotReady("closed"))
    assert isinstance(queued.outcome, NotReady)
    stage.loop.run(finishing.answer)
    stage.loop.run(dying.die)
    stage.loop.run(failing.fail, ModelFailure("no"))
    assert [type(call.outcome) for call in calls] == [Response, NotReady, Response]
    assert all(isinstance(call.outcome, ModelFailure) for call in pair)
    assert stage.engine.unanswered == 0
    late = stage.replica()
    assert late.closed
    with pytest.raises(NotReady):
        stage.submit([7])


@pytest.mark.parametrize("wrong", ["rows", "bytes", "words", "datatype"])
def test_an_answer_of_the_wrong_size_is_nobodys(stage: Stage, wrong: str) -> None:
    replica = stage.replica()
    blocker = stage.submit([0])
    stage.loop.settle()
    calls = [stage.submit([1]), stage.submit([2])]
    stage.loop.run(replica.answer)
    assert blocker.right
    numbers, words = model(replica.inputs[-1])
    if wrong == "rows":
        numbers = Tensor("out", "INT64", (1, 1), numbers.data[:8])
    elif wrong == "bytes":
        numbers.data = numbers.data[:-8]
    elif wrong == "words":
        words.data = words.data[:-1]
    else:
        words.datatype = "INT64"
    stage.loop.run(replica.answer, [numbers, words])
    assert [type(call.outcome) for call in calls] == [InvalidOutput, InvalidOutput]
    after = stage.submit([3])
    stage.answer_all()
    assert after.right


def test_only_the_outputs_that_were_asked_for(stage: Stage) -> None:
    stage.replica()
    outcomes: list = []
    request = ask([1], outputs=("words",))
    stage.loop.run(stage.engine.submit, request, rows=1, done=outcomes.append)
    stage.answer_all()
    assert [tensor.name for tensor in outcomes[0].outputs] == ["words"]


def test_a_caller_that_breaks_does_not_take_others_with_it(stage: Stage) -> None:
    replica = stage.replica()
    blocker = stage.submit([0])
    stage.loop.settle()

    def broken(_: object) -> None:
        raise RuntimeError("a bug of a door")

    stage.loop.do(stage.engine.submit, ask([1]), rows=1, done=broken)
    calls = [stage.submit([2])]
    stage.answer_all()
    assert blocker.right
    assert calls[0].right
    assert stage.engine.unanswered == 0
    assert len(replica.batches) == 2


def test_a_slow_start_does_not_lock_everybody_out() -> None:
    """One batch far over the SLO must not make the estimate refuse all that could correct it."""
    stage = Stage(batching=Batching(slo_s=0.1))
    replica = stage.replica()
    cold = stage.submit([1])
    stage.loop.settle()
    stage.loop.advance(3.0)
    stage.loop.run(replica.answer)
    assert isinstance(cold.outcome, DeadlineExceeded)
    outcomes = []
    for number in range(20):
        call = stage.submit([number])
        stage.loop.settle()
        stage.loop.advance(0.01)
        stage.answer_all()
        outcomes.append(call.outcome)
    assert isinstance(outcomes[0], DeadlineExceeded)
    assert isinstance(outcomes[-1], Response)
    stage.loop.close()


def test_the_slo_is_a_deadline_for_all() -> None:
    stage = Stage(batching=Batching(slo_s=0.1))
    stage.replica()
    call = stage.submit([1])
    stage.loop.settle()
    stage.loop.advance(0.2)
    assert isinstance(call.outcome, DeadlineExceeded)
    stage.loop.close()


def test_answered_requests_are_forgotten_though_their_deadline_is_far(stage: Stage) -> None:
    stage.replica()
    for number in range(5_000):
        call = stage.submit([number], within=3600.0)
        stage.answer_all()
        assert call.entry is not None
        assert call.entry.request.inputs == []
        call.outcomes.clear()
    assert len(stage.engine._deadlines._heap) < 2_100


def test_a_model_that_cannot_batch_gets_one_request_at_a_time() -> None:
    stage = Stage(batchable=False)
    replica = stage.replica()
    calls = [stage.submit([number]) for number in range(3)]
    stage.answer_all()
    assert all(call.right for call in calls)
    assert [batch.rows for batch in replica.batches] == [1, 1, 1]
    stage.loop.close()


def test_very_many_rows_of_bytes_are_cut_once() -> None:
    """Finding the rows of BYTES anew for each part would take quadratic time: hours, for this."""
    stage = Stage(batching=Batching(max_rows=64))
    stage.replica()
    call = stage.submit(range(60_000))
    stage.answer_all()
    assert call.right
    stage.loop.close()
