from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from slipway.launchers.launcher import EXIT_OUT_OF_MEMORY
from slipway.supervisor.backoff import Backoff
from slipway.supervisor.place import (
    BACKING_OFF,
    LOOK_S,
    READY,
    STARTING,
    STOPPED,
    STOPPING,
    Act,
    Ending,
    Limits,
    Place,
    ending_of,
)

LIMITS = Limits(startup_s=20.0, hang_s=5.0, memory_bytes=100, stop_s=3.0)


def ready_place(now: float = 0.0, limits: Limits = LIMITS) -> Place:
    place = Place(limits=limits)
    assert place.decide(now) is Act.START
    place.launched(now)
    place.became_ready(now)
    return place


def wait(place: Place, start: float, until: float, step: float = 0.1) -> tuple[float, Act | None]:
    """Look every `step` until something is due, or `until` has come."""
    now = start
    while now < until:
        now += step
        act = place.decide(now)
        if act is not None:
            return now, act
    return now, None


def crash(place: Place, now: float, status: int = -9) -> float:
    """The next generation comes, is ready, and ends; when that was."""
    if place.state == BACKING_OFF:
        now = max(now, place.next_try)
        assert place.decide(now) is Act.START
        place.launched(now)
        place.became_ready(now)
    place.ended(status, now)
    return now


def test_a_new_place_asks_for_its_first_process_at_once() -> None:
    place = Place(limits=LIMITS)
    assert place.decide(0.0) is Act.START
    place.launched(0.0)
    assert (place.state, place.generation, place.restarts.total()) == (STARTING, 1, 0)
    assert place.decide(0.1) is None


def test_a_silent_replica_is_hung_and_a_beating_one_is_not() -> None:
    place = ready_place()
    for tick in range(1, 300):
        if tick % 5 == 0:
            place.beat()
        assert place.decide(tick / 10) is None
    now, act = wait(place, 30.0, 40.0)
    assert act is Act.KILL
    assert now == pytest.approx(30.0 + LIMITS.hang_s, abs=0.7)
    assert place.state == STOPPING
    place.ended(-9, now)
    assert place.last is not None and place.last.reason == "hung"
    assert "no sign of life for 5" in place.trouble(now)


def test_a_supervisor_that_was_asleep_blames_nobody() -> None:
    place = ready_place()
    assert place.decide(1000.0) is None
    place.beat()
    assert wait(place, 1000.0, 1000.0 + LIMITS.hang_s - 0.5)[1] is None


def test_one_batch_that_takes_too_long_is_hung_though_the_pulse_goes_on() -> None:
    place = ready_place()
    place.beat(busy_s=4.9)
    assert place.decide(0.1) is None
    place.beat(busy_s=5.1)
    assert place.decide(0.2) is Act.KILL
    place.ended(-9, 0.3)
    assert "one batch computed for 5.1 s" in place.trouble(0.3)


def test_over_its_memory_it_is_asked_to_end_and_killed_when_it_does_not() -> None:
    place = ready_place()
    place.beat(rss_bytes=100)
    assert place.decide(0.1) is None
    place.beat(rss_bytes=101)
    assert place.decide(0.2) is Act.TERMINATE
    assert place.state == STOPPING
    now, act = wait(place, 0.2, 10.0)
    assert act is Act.KILL
    assert now == pytest.approx(0.2 + LIMITS.stop_s, abs=0.2)
    place.ended(-9, now)
    assert place.last is not None and place.last.reason == "memory"


def test_loading_for_too_long_names_the_stage_and_the_option() -> None:
    place = Place(limits=LIMITS)
    place.launched(0.0)
    place.progressed("warm-up")
    now, act = wait(place, 0.0, 30.0)
    assert act is Act.KILL
    place.ended(-9, now)
    assert place.trouble(now).startswith("not ready after 20 s (stage: warm-up); --startup-s")


def test_a_replica_that_loads_for_long_is_not_hung() -> None:
    place = Place(limits=LIMITS)
    place.launched(0.0)
    assert wait(place, 0.0, LIMITS.startup_s - 0.2)[1] is None


def test_a_crash_loop_is_told_in_words_and_waited_out() -> None:
    place = ready_place()
    now, delays = 10.0, []
    for _ in range(8):
        now = crash(place, now)
        delays.append(place.next_try - now)
    assert delays == sorted(delays)
    assert delays[0] <= 0.2
    assert delays[-1] == Backoff().cap_s
    assert place.restarts == {"signal": 7}
    recent = place.trouble(now)
    assert "crashes in 60 s; last: exit by signal 9 (SIGKILL); next try in 30.0 s" in recent
    assert place.decide(now + 29.0) is None
    assert place.decide(now + 30.0) is Act.START


def test_one_crash_is_no_loop() -> None:
    place = ready_place()
    place.ended(1, 10.0)
    assert place.trouble(10.0) == "exit with status 1; next try in 0.1 s"


def test_good_service_is_remembered() -> None:
    place = ready_place()
    now = 0.0
    for _ in range(6):
        now = crash(place, now)
    now = place.next_try
    place.decide(now)
    place.launched(now)
    place.became_ready(now)
    assert place.trouble(now) == ""
    now += Backoff().healthy_s
    place.ended(-11, now)
    assert place.next_try - now == pytest.approx(Backoff().first_s)


def test_a_refusal_is_kept_though_the_exit_status_says_less() -> None:
    place = Place(limits=LIMITS)
    place.launched(0.0)
    place.refused(code="unsafe_model", words="it names os.system", now=1.0)
    place.ended(3, 1.1)
    assert place.last == Ending("load", "it names os.system", "unsafe_model")


def test_a_closed_line_takes_it_out_of_service_before_it_is_reaped() -> None:
    place = ready_place()
    place.lost(1.0)
    assert place.state == STOPPING
    assert wait(place, 1.0, 10.0)[1] is Act.KILL
    place.ended(-11, 5.0)
    assert place.last == Ending("signal", "exit by signal 11 (SIGSEGV)")


def test_nothing_is_started_where_nothing_is_wanted() -> None:
    place = ready_place()
    assert place.retire(1.0, patience_s=30.0) is True
    assert wait(place, 1.0, 30.9)[1] is None
    assert wait(place, 30.9, 32.0)[1] is Act.KILL
    place.ended(0, 32.0)
    assert place.state == STOPPED
    assert wait(place, 32.0, 200.0, step=1.0)[1] is None
    waiting = ready_place()
    waiting.ended(1, 0.0)
    assert waiting.retire(0.05) is False
    assert waiting.state == STOPPED


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (0, "exit", "exit with status 0"),
        (-9, "signal", "exit by signal 9 (SIGKILL)"),
        (-64, "signal", "exit by signal 64 (SIGRTMAX)"),
        (EXIT_OUT_OF_MEMORY, "memory", "out of memory"),
    ],
)
def test_exit_statuses_in_words(status: int, reason: str, words: str) -> None:
    ending = ending_of(status)
    assert ending.reason == reason
    assert words in ending.words


@given(st.integers(1, 10_000), st.floats(0.01, 5), st.floats(1, 10), st.floats(5, 500))
def test_backoff_grows_to_its_cap(failures: int, first_s: float, factor: float, cap_s: float) -> None:
    backoff = Backoff(first_s=first_s, factor=factor, cap_s=cap_s)
    assert backoff.delay_s(1) == first_s
    assert first_s <= backoff.delay_s(failures) <= backoff.delay_s(failures + 1) <= cap_s


class PlaceMachine(RuleBasedStateMachine):
    """A supervisor that only does what `decide` says, and processes that do whatever they like."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.place = Place(limits=LIMITS)
        self.running = False
        self.starts: list[float] = []
        self.silent_since = 0.0
        self.retired = False

    @rule(seconds=st.floats(0.01, 40.0))
    def look(self, seconds: float) -> None:
        """Steps below LOOK_S, as the real one makes."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + LOOK_S / 2)
            act = self.place.decide(self.now)
            if act is Act.START:
                assert not self.running, "two processes in one place"
                assert not self.retired, "started where none is wanted"
                self.place.launched(self.now)
                self.running = True
                self.starts.append(self.now)
            elif act is Act.KILL:
                assert self.running
                self.end(-9)
            if self.place.state == READY:
                assert self.now - self.silent_since <= LIMITS.hang_s + LOOK_S, "hung, and nobody noticed"

    @precondition(lambda self: self.running)
    @rule()
    def get_ready(self) -> None:
        if self.place.state == STARTING:
            self.silent_since = self.now
        self.place.became_ready(self.now)

    @precondition(lambda self: self.running)
    @rule(busy_s=st.floats(0, 6), rss_bytes=st.integers(0, 120))
    def beat(self, busy_s: float, rss_bytes: int) -> None:
        self.place.beat(busy_s=busy_s, rss_bytes=rss_bytes)
        self.silent_since = self.now

    @precondition(lambda self: self.running)
    @rule(status=st.sampled_from([0, 1, -9, -11]))
    def end(self, status: int) -> None:
        self.running = False
        self.place.ended(status, self.now)

    @precondition(lambda self: self.running)
    @rule()
    def lose(self) -> None:
        self.place.lost(self.now)

    @precondition(lambda self: self.running)
    @rule()
    def refuse(self) -> None:
        self.place.refused(code="load_failure", words="no", now=self.now)

    @rule()
    def retire(self) -> None:
        self.place.retire(self.now)
        self.retired = True

    @invariant()
    def state_fits_the_process(self) -> None:
        assert self.running == (self.place.state in (STARTING, READY, STOPPING))
        assert self.place.generation == len(self.starts)

    @invariant()
    def never_a_spin(self) -> None:
        """Not more starts within a minute than the backoff allows, whatever happens."""
        recent = [start for start in self.starts if start > self.now - 60.0]
        assert len(recent) <= 10


PlaceMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestPlaceMachine = PlaceMachine.TestCase
