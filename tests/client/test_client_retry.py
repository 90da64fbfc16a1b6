"""Who is asked again, when, and when never: the Talk is played against a made-up network and clock."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.client.exchange import Exchange, Heard, Incoming, Lost, Outcome, Outgoing, Pause, TimedOut
from slipway.client.http_protocol import HttpProtocol
from slipway.client.retry import Circumstances, Retry, backoff_s, converse
from slipway.errors import (
    BadRequest,
    DeadlineExceeded,
    Draining,
    Overloaded,
    RequestTimeout,
    SetupError,
    SlipwayError,
    Unavailable,
)

OK = Incoming(200, {}, b"fine")
FULL = Incoming(429, {}, b'{"error": "full", "code": "overloaded"}')
DRAINING = Incoming(503, {}, b'{"error": "bye", "code": "draining"}')


@dataclass
class Network:
    """Answers in turn, the last one for ever; each send takes `travel_s`."""

    outcomes: list[Outcome]
    travel_s: float = 0.01
    sent: list[tuple[float, Outgoing]] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    now: float = 100.0

    def play(self, retry: Retry, *, allowed_s: float = math.inf, draw: float = 0.5) -> bytes:
        at = Circumstances(self.now + allowed_s, self.now, retry, lambda: draw, "http://there")
        talk = converse(Exchange(Outgoing("/x", b"body"), lambda answer: answer.body), HttpProtocol(), at)
        try:
            step = next(talk)
            while True:
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    self.now += step.seconds
                    outcome: Outcome = None
                else:
                    outcome = self.outcomes[min(len(self.sent), len(self.outcomes) - 1)]
                    self.sent.append((self.now, step.outgoing))
                    self.now += self.travel_s
                step = talk.send(Heard(self.now, outcome))
        except StopIteration as end:
            return bytes(end.value)


@pytest.mark.parametrize("refusal", [FULL, DRAINING, Lost("refused", sent=False), Lost("reset", sent=True)])
def test_what_may_pass_is_asked_again(refusal: Outcome) -> None:
    network = Network([refusal, refusal, OK])
    assert network.play(Retry(attempts=3)) == b"fine"
    assert len(network.sent) == 3


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (Incoming(400, {}, b'{"error": "no", "code": "invalid_input"}'), BadRequest),
        (Incoming(500, {}, b'{"error": "boom", "code": "model_failure"}'), SlipwayError),
        (Incoming(408, {}, b""), RequestTimeout),
        (TimedOut(), DeadlineExceeded),
    ],
)
def test_what_would_only_fail_again_is_not(refusal: Outcome, error: type[SlipwayError]) -> None:
    network = Network([refusal, OK])
    with pytest.raises(error):
        network.play(Retry())
    assert len(network.sent) == 1


def test_attempts_are_bounded_and_the_last_error_is_told() -> None:
    network = Network([FULL, DRAINING])
    with pytest.raises(Draining, match="bye"):
        network.play(Retry(attempts=3))
    assert len(network.sent) == 3


def test_what_may_have_arrived_is_sent_once_for_models_that_are_not_idempotent() -> None:
    network = Network([Lost("reset by peer", sent=True), OK])
    with pytest.raises(Unavailable, match="lost the connection to http://there: reset by peer"):
        network.play(Retry(resend=False))
    assert len(network.sent) == 1
    assert Network([Lost("refused", sent=False), OK]).play(Retry(resend=False)) == b"fine"


def test_waits_grow_and_jitter_spreads_them() -> None:
    network = Network([FULL])
    with pytest.raises(Overloaded):
        network.play(Retry(attempts=5, first_wait_s=0.1, longest_wait_s=0.4), draw=0.5)
    assert network.pauses == pytest.approx([0.05, 0.1, 0.2, 0.2])


def test_a_retry_hint_is_a_least_wait() -> None:
    network = Network([Incoming(429, {"retry-after": "3"}, FULL.body), OK])
    network.play(Retry(first_wait_s=1.0), draw=0.25)
    assert network.pauses == pytest.approx([3.25])


def test_a_retry_hint_that_is_no_number_is_left_aside() -> None:
    network = Network([Incoming(429, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, FULL.body), OK])
    network.play(Retry(first_wait_s=1.0), draw=0.25)
    assert network.pauses == pytest.approx([0.25])


def test_each_attempt_tells_the_server_what_is_left() -> None:
    network = Network([FULL, OK], travel_s=1.0)
    network.play(Retry(first_wait_s=2.0), allowed_s=10.0, draw=0.5)
    assert [sent.headers["slipway-timeout-ms"] for _, sent in network.sent] == ["10000", "8000"]


@given(
    allowed_s=st.floats(0.001, 30),
    travel_s=st.floats(0.001, 5),
    draw=st.floats(0, 1, exclude_max=True),
    outcomes=st.lists(st.sampled_from([FULL, DRAINING, Lost("x", sent=False), Lost("x", sent=True)]), min_size=1),
)
def test_nothing_is_sent_after_the_deadline(
    allowed_s: float, travel_s: float, draw: float, outcomes: list[Outcome]
) -> None:
    network = Network(outcomes, travel_s=travel_s)
    with pytest.raises(SlipwayError):
        network.play(Retry(attempts=10), allowed_s=allowed_s, draw=draw)
    assert all(when < 100.0 + allowed_s for when, _ in network.sent)
    assert network.now < 100.0 + allowed_s + travel_s


@given(attempt=st.integers(1, 2000), draw=st.floats(0, 1, exclude_max=True))
def test_a_wait_is_never_longer_than_allowed(attempt: int, draw: float) -> None:
    assert 0 <= backoff_s(Retry(), attempt, draw=draw, retry_after_s=None) <= Retry().longest_wait_s


def test_no_attempt_at_all_is_no_retry_policy() -> None:
    with pytest.raises(SetupError, match="attempts is 0"):
        Retry(attempts=0)
