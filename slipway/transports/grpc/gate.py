"""Who may call through the gRPC doors: takes credentials off a call's metadata, and asks the guard."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import ceil
from urllib.parse import unquote

import msgspec

from slipway.errors import MalformedRequest, SlipwayError
from slipway.infer.guard import ANY, Allowance, Guard, Identity, Pass, Presented, Told, Waiting
from slipway.infer.request import NEVER

Metadata = Sequence[tuple[str, str | bytes]]
Trailers = list[tuple[str, str | bytes]]
MAX_PASSES = 4096
_BINARY = frozenset({"authorization-bin", "x-api-key-bin"})
_CREDENTIALS = frozenset({"authorization", "x-api-key"})
_NAMES = _CREDENTIALS | _BINARY
_NOTHING: tuple[str, str | bytes] = ("", "")


class Call(msgspec.Struct, gc=False):
    """What a call carries beside its message. Times in seconds on the monotonic clock.

    `certificate`: the client's common name, verified by TLS. `passed`: who it is, once somebody has asked.
    """

    received: float
    deadline: float = NEVER
    trace: str = ""
    metadata: Metadata = ()
    peer: str = ""
    certificate: str = ""
    passed: Pass | None = None

    @property
    def caller(self) -> Identity | None:
        return None if self.passed is None else self.passed.caller


class Gate:
    """Asks the guard about calls; only while he is on duty. Remembers passes by the one credential they came with."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self._passes: dict[tuple[str, str | bytes], Pass] = {}

    def identify(self, call: Call) -> bool:
        """Set `call.passed`. False: that takes long, see `find_out`. Raises what the guard raises, MalformedRequest."""
        shown, count = _NOTHING, 0
        for pair in call.metadata:
            if pair[0] in _NAMES:
                shown = pair
                count += 1
        by_one = count == 1 and not call.certificate
        if by_one:
            passed = self._passes.get(shown)
            if passed is not None and self.guard.holds(passed):
                call.passed = passed
                return True
        passed = call.passed = self.guard.identify(presented(call))
        if passed is None:
            return False
        if by_one:
            if len(self._passes) >= MAX_PASSES:
                self._passes.clear()
            self._passes[shown] = passed
        return True

    def find_out(self, call: Call, told: Told) -> Waiting:
        return self.guard.find_out(presented(call), told)

    def check(self, call: Call, right: str, model: str = "") -> None:
        """Raises Unauthenticated, Forbidden."""
        if call.passed is not None:
            self.guard.check(call.passed, right, model)

    async def enter(self, call: Call, right: str = ANY) -> None:
        """Find out who it is, however long that takes, where it is not known or holds no more."""
        if not self.guard.on_duty:
            call.passed = None
            return
        if call.passed is not None and self.guard.holds(call.passed):
            return
        while not self.identify(call):
            known: asyncio.Future[SlipwayError | None] = asyncio.get_running_loop().create_future()
            waiting = self.find_out(call, known.set_result)
            try:
                error = await known
            finally:
                waiting.cancel()
            if error is not None:
                raise error
        self.check(call, right)


def presented(call: Call) -> Presented:
    """Raises MalformedRequest for credentials that are given twice, or in a form that one reader takes and another
    does not."""
    found: dict[str, str] = {}
    for key, value in call.metadata:
        name = key.lower()
        if name in _CREDENTIALS:
            if name in found:
                raise MalformedRequest(f"metadata {name!r} is given twice")
            if not isinstance(value, str):
                raise MalformedRequest(f"metadata {name!r} is bytes, expected text")
            found[name] = value
        elif name in _BINARY:
            raise MalformedRequest(f"metadata {name!r}: credentials travel as text, in authorization or x-api-key")
    return Presented(
        found.get("authorization", ""), found.get("x-api-key", ""), call.certificate, peer_address(call.peer)
    )


def peer_address(peer: str) -> str:
    """`192.0.2.1` of `ipv4:192.0.2.1:5000` and `192.0.2.1:5000`, `2001:db8::1` of `ipv6:%5B2001:db8::1%5D:5000`; '' of
    a Unix socket."""
    kind, colon, rest = peer.partition(":")
    if kind == "unix":
        return ""
    text = unquote(rest if colon and kind in ("ipv4", "ipv6") else peer)
    return text.rpartition(":")[0].strip("[]") or text


def allowance_trailers(allowance: Allowance) -> Trailers:
    """What is left to the caller, as over HTTP."""
    return [
        ("ratelimit-limit", str(allowance.limit)),
        ("ratelimit-remaining", str(allowance.remaining)),
        ("ratelimit-reset", str(ceil(allowance.reset_s))),
    ]
