"""The queue's promises, under every order of offers, takes, removals and passing time that hypothesis can think of."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from slipway.errors import Overloaded
from slipway.schedule.queue import DEFAULT_PATIENCE_S, LEVELS, MIN_COMPACT, Entry, Queue

MAX_ROWS = 40
MAX_BYTES = 4_000


class Waiting(Entry):
    """An entry with a name, so that failures can be read."""

    def __init__(self, name: int) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Waiting({self.name})"


def offer(queue: Queue[Waiting], name: int = 0, **changes: object) -> Waiting:
    entry = Waiting(name)
    facts: dict = {"now": 0.0, "rows": 1, "nbytes": 10, "key": "k", "deadline": math.inf, "priority": 1}
    queue.offer(entry, **(facts | changes))
    return entry


class QueueMachine(RuleBasedStateMachine):
    """The queue beside a model of it that is too simple to be wrong: a list of what waits, with rows that remain."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: Queue[Waiting] = Queue(max_rows=MAX_ROWS, max_bytes=MAX_BYTES)
        self.now = 100.0
        self.waiting: list[Waiting] = []
        self.left: list[Waiting] = []  # each exactly once, in whatever way
        self.next_row: dict[Waiting, int] = {}
        self.count = 0

    @rule(
        rows=st.integers(1, 12) | st.integers(1, 2 * MAX_ROWS),
        nbytes=st.integers(0, 600),
        key=st.integers(0, 2),
        patience=st.none() | st.floats(-0.1, 3),
        priority=st.integers(-1, LEVELS + 1),
    )
    def offer(self, rows: int, nbytes: int, key: int, patience: float | None, priority: int) -> None:
        entry = Waiting(self.count)
        self.count += 1
        before = self.queue.rows, self.queue.nbytes
        full = before[0] + rows > MAX_ROWS or before[1] + nbytes > MAX_BYTES
        try:
            self.queue.offer(
                entry,
                now=self.now,
                rows=rows,
                nbytes=nbytes,
                key=key,
                deadline=math.inf if patience is None else self.now + patience,
                priority=priority,
            )
        except Overloaded as refusal:
            assert full
            assert self.waiting
            assert refusal.retry_after_s
            assert (self.queue.rows, self.queue.nbytes) == before
        else:
            assert not full or not self.waiting
            self.waiting.append(entry)
            self.next_row[entry] = 0

    @rule(max_rows=st.integers(1, 16), compute_s=st.sampled_from([0.0, 0.0, 0.5]))
    def take(self, max_rows: int, compute_s: float) -> None:
        expected_first = self.first(self.now + compute_s)
        batch, dropped = self.queue.take(now=self.now, max_rows=max_rows, compute_s=compute_s)
        for entry in dropped:
            assert entry.deadline < self.now + compute_s
            self.leave(entry)
        assert sum(stop - start for _, start, stop in batch) <= max_rows
        assert len({entry.key for entry, _, _ in batch}) <= 1
        assert len({entry for entry, _, _ in batch}) == len(batch)
        assert (batch[0].entry if batch else None) is expected_first
        for entry, start, stop in batch:
            assert entry in self.waiting
            assert entry.deadline >= self.now + compute_s
            assert start == self.next_row[entry] < stop <= entry.rows
            self.next_row[entry] = stop
            if stop == entry.rows:
                self.leave(entry)
        order = [(entry.virtual, entry.number) for entry, _, _ in batch]
        assert order == sorted(order)

    def first(self, latest: float) -> Waiting | None:
        alive = [entry for entry in self.waiting if entry.deadline >= latest]
        return min(alive, key=lambda entry: (entry.virtual, entry.number), default=None)

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        everyone = self.waiting + self.left
        if not everyone:
            return
        entry = data.draw(st.sampled_from(everyone))
        assert self.queue.remove(entry) == (entry in self.waiting)
        if entry in self.waiting:
            self.leave(entry)

    @rule()
    def look(self) -> None:
        assert self.queue.head() is self.first(-math.inf)

    @rule()
    def drain(self) -> None:
        gone = self.queue.drop_all()
        assert set(gone) == set(self.waiting)
        assert len(gone) == len(self.waiting)
        for entry in gone:
            self.leave(entry)

    @rule(seconds=st.floats(0.0, 2.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    def leave(self, entry: Waiting) -> None:
        self.waiting.remove(entry)
        assert entry not in self.left
        self.left.append(entry)

    @invariant()
    def counts_are_the_sum_of_what_waits(self) -> None:
        assert self.queue.rows == sum(entry.rows - self.next_row[entry] for entry in self.waiting)
        assert self.queue.nbytes == sum(entry.nbytes for entry in self.waiting)
        assert all(entry.queued for entry in self.waiting)
        assert not any(entry.queued for entry in self.left)


QueueMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestQueue = QueueMachine.TestCase


def names(batch: list) -> list[int]:
    return [entry.name for entry, _, _ in batch]


def test_equal_times_leave_in_the_order_in_which_they_came_whatever_their_keys() -> None:
    queue: Queue[Waiting] = Queue(max_rows=99, max_bytes=9999)
    # A line that exists already must not overtake because it is older than the other key's.
    for name, key in enumerate(["a", "b", "a", "b"]):
        offer(queue, name, key=key)
    queue.take(now=0.0, max_rows=1)
    assert [names(queue.take(now=0.0, max_rows=1)[0]) for _ in range(3)] == [[1], [2], [3]]


def test_a_large_entry_leaves_in_parts_in_order_and_lets_others_fill_its_last() -> None:
    queue: Queue[Waiting] = Queue(max_rows=99, max_bytes=9999)
    offer(queue, 1, rows=2)
    offer(queue, 2, rows=10)
    offer(queue, 3, rows=1)
    taken = [[(e.name, a, b) for e, a, b in queue.take(now=0.0, max_rows=4)[0]] for _ in range(4)]
    assert taken == [[(1, 0, 2), (2, 0, 2)], [(2, 2, 6)], [(2, 6, 10)], [(3, 0, 1)]]
    assert queue.take(now=0.0, max_rows=4) == ([], [])


def test_the_limit_may_change_while_a_large_entry_is_on_its_way() -> None:
    queue: Queue[Waiting] = Queue(max_rows=99, max_bytes=9999)
    offer(queue, rows=9)
    taken = [[(a, b) for _, a, b in queue.take(now=0.0, max_rows=limit)[0]] for limit in (4, 1, 2, 64)]
    assert taken == [[(0, 4)], [(4, 5)], [(5, 7)], [(7, 9)]]
    assert (queue.rows, queue.nbytes) == (0, 0)


def test_an_urgent_entry_overtakes_but_not_for_ever() -> None:
    queue: Queue[Waiting] = Queue(max_rows=99, max_bytes=9999)
    offer(queue, 1, now=0.0, priority=3)
    offer(queue, 2, now=3 * DEFAULT_PATIENCE_S - 0.1, priority=0)
    offer(queue, 3, now=3 * DEFAULT_PATIENCE_S + 0.1, priority=0)
    assert [names(queue.take(now=9.0, max_rows=1)[0]) for _ in range(3)] == [[2], [1], [3]]


@settings(deadline=None)
@given(
    flood_key=st.integers(0, 1),
    flood_priority=st.integers(0, LEVELS - 1),
    priority=st.integers(0, LEVELS - 1),
    max_rows=st.integers(1, 4),
)
def test_nobody_starves(flood_key: int, flood_priority: int, priority: int, max_rows: int) -> None:
    """The bound: a batch that is begun without it holds somebody who came at most `patience` for each level later.

    So under a flood that fills every batch, it waits as many turns as the flood could bring in that time.
    """
    queue: Queue[Waiting] = Queue(max_rows=10_000, max_bytes=10_000_000)
    turn_s = 0.1
    victim = offer(queue, -1, key=0, priority=priority)
    bound = max_rows + 2 + math.ceil(max(0, priority - flood_priority) * DEFAULT_PATIENCE_S / turn_s)
    backlog = 0
    for turn in range(bound + 1):
        now = turn * turn_s
        for _ in range(max_rows):  # as much comes as goes: the queue never runs empty
            offer(queue, turn, now=now, key=flood_key, priority=flood_priority)
            backlog += 1
        batch, _ = queue.take(now=now, max_rows=max_rows)
        if any(entry is victim for entry, _, _ in batch):
            return
    raise AssertionError(f"still waiting after {bound} turns")


def test_what_was_removed_does_not_pile_up_while_nothing_is_taken() -> None:
    queue: Queue[Waiting] = Queue(max_rows=99, max_bytes=9999)
    keeper = offer(queue, 0)
    for name in range(20 * MIN_COMPACT):
        queue.remove(offer(queue, name, key=name % 7))
    standing = sum(map(len, queue._lines.values()))
    assert standing <= MIN_COMPACT
    assert names(queue.take(now=0.0, max_rows=9)[0]) == [keeper.name]


def test_a_full_queue_says_so_with_numbers() -> None:
    queue: Queue[Waiting] = Queue(max_rows=4, max_bytes=9999)
    offer(queue, rows=3)
    with pytest.raises(Overloaded, match=r"3 of 4 rows.*brings 2 rows"):
        offer(queue, rows=2)
    offer(queue, rows=1)


def test_what_is_larger_than_the_queue_gets_in_when_it_is_empty() -> None:
    queue: Queue[Waiting] = Queue(max_rows=4, max_bytes=9999)
    offer(queue, rows=50)
    with pytest.raises(Overloaded):
        offer(queue, rows=1)


script = st.lists(
    st.tuples(st.integers(1, 9), st.integers(0, 2), st.integers(0, 3), st.floats(0, 1), st.integers(0, 6)), max_size=30
)


@given(script)
def test_deterministic(steps: list) -> None:
    def play() -> list:
        queue: Queue[Waiting] = Queue(max_rows=50, max_bytes=9999)
        seen: list = []
        now = 0.0
        for name, (rows, key, priority, wait, take) in enumerate(steps):
            now += wait
            try:
                offer(queue, name, now=now, rows=rows, key=key, priority=priority, deadline=now + 3 * wait)
            except Overloaded:
                seen.append("full")
            if take:
                batch, dropped = queue.take(now=now, max_rows=take)
                seen.append(([(e.name, a, b) for e, a, b in batch], [e.name for e in dropped]))
        return seen

    assert play() == play()
