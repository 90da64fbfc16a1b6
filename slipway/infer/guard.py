"""What a public door may ask about its callers. A door takes credentials off a request; all judgement is the guard's.

A door asks in three steps. Who is it? `identify`, or `find_out` where that takes long. May he do this? `check`. Has he
not had enough? `count`. What it may remember of the answers is a Pass, for as long as the guard `holds` it.
"""

# ruff: noqa: ARG002 - the guard who is none looks at nothing

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from slipway.errors import SlipwayError

Told = Callable[[SlipwayError | None], None]

OPEN = "open"  # whoever knocks: liveness, readiness, a browser's preflight
ANY = "any"  # whoever there may be something here for: any identity, and where a model is public, everybody
KNOWN = "known"  # any identity
SEE = "see"  # to know of a model: who may predict with it, or deploy it
PREDICT = "predict"
DEPLOY = "deploy"


class Identity(Protocol):
    """Who asks: a `spec.access.Caller`, as far as doors look at one. `id` is unique over kinds."""

    @property
    def kind(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def id(self) -> str: ...


class Presented(NamedTuple):
    """What a request carries of its caller, as it came. `certificate`: the common name of a client certificate that TLS
    has verified. `peer`: the address, of which failed attempts are counted."""

    authorization: str = ""
    api_key: str = ""
    certificate: str = ""
    peer: str = ""


class Allowance(NamedTuple):
    """Of a caller's limit: how much there is, how much of it is left, and seconds until it is whole again."""

    limit: int
    remaining: int
    reset_s: float


class Pass:
    """A caller who was identified. `epoch`: of the access under which he was; `until`: seconds since 1970.

    `rights`: the guard's own memory of what was checked. `free`: models that he may predict with and that nobody counts
    for him: there is nothing to ask about these. `used`: when it was last held, seconds since 1970.
    """

    __slots__ = ("caller", "certificate", "epoch", "free", "rights", "until", "used")

    def __init__(self, caller: Identity, *, certificate: str, epoch: int, until: float) -> None:
        self.caller = caller
        self.certificate = certificate
        self.epoch = epoch
        self.until = until
        self.free: set[str] = set()
        self.rights: set[tuple[str, str]] = set()
        self.used = 0.0


class Waiting(Protocol):
    def cancel(self) -> None:
        """The client is gone. Nobody is told any more."""
        ...


class Guard(Protocol):
    """`on_duty` False: nothing is asked, everything is open and nothing is limited. It may change at any moment."""

    on_duty: bool

    @property
    def is_open(self) -> bool:
        """Whether everybody may do everything, so that nothing but the machine's edge keeps others out."""
        ...

    @property
    def told(self) -> bool:
        """It has its rules; before that a server is not ready."""
        ...

    def holds(self, passed: Pass) -> bool:
        """Whether it still stands: not expired, and nothing about access has changed since."""
        ...

    def identify(self, presented: Presented) -> Pass | None:
        """None: that takes long, see `find_out`. Nothing presented is nobody in particular, who may do what is public.

        Raises Unauthenticated, RateLimited after too many failures, NotReady before this server was told its rules.
        """
        ...

    def find_out(self, presented: Presented, told: Told) -> Waiting:
        """Identify off the loop. `told` None: now `identify` knows. Raises Overloaded where too many wait already."""
        ...

    def check(self, passed: Pass, right: str, model: str = "") -> None:
        """Raises Unauthenticated (of nobody in particular) and Forbidden, the same whether the model exists or not."""
        ...

    def sees(self, caller: Identity | None, model: str) -> bool:
        """Whether he may know of this model; None, of whom nobody was asked, sees everything."""
        ...

    def count(self, passed: Pass, model: str) -> Allowance | None:
        """One request more; None where nothing is limited. Raises RateLimited."""
        ...

    def spend(self, caller: Identity, model: str, rows: int) -> Allowance | None:
        """The house itself asks this, of a request that is good: so many rows of the day's. Raises RateLimited."""
        ...

    def refund(self, caller: Identity, model: str, rows: int) -> None:
        """It was refused nevertheless."""
        ...


_OFF_DUTY = "nobody asks a guard who is off duty"


class Unguarded:
    """The guard of a house that has none."""

    on_duty = False
    is_open = True
    told = True

    def holds(self, passed: Pass) -> bool:
        raise AssertionError(_OFF_DUTY)

    def identify(self, presented: Presented) -> Pass | None:
        raise AssertionError(_OFF_DUTY)

    def find_out(self, presented: Presented, told: Told) -> Waiting:
        raise AssertionError(_OFF_DUTY)

    def check(self, passed: Pass, right: str, model: str = "") -> None:
        """Everything is open."""

    def sees(self, caller: Identity | None, model: str) -> bool:
        return True

    def count(self, passed: Pass, model: str) -> Allowance | None:
        return None

    def spend(self, caller: Identity, model: str, rows: int) -> Allowance | None:
        return None

    def refund(self, caller: Identity, model: str, rows: int) -> None:
        """Nothing was spent."""


UNGUARDED = Unguarded()
