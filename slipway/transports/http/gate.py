"""Who may come in through the HTTP door: takes credentials off a head, and remembers on it what the guard said.

A head that repeats byte for byte carries the same credentials to the same path, so it needs no second look until the
guard no longer holds the pass: when access has changed, or the credential has expired. A client certificate is no part
of the head but of its connection, and is compared.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

from slipway.errors import SlipwayError
from slipway.infer.guard import OPEN, UNGUARDED, Guard, Presented
from slipway.transports.http.exchange import Exchange
from slipway.transports.http.head import Head


class Needs(Protocol):
    """What a request's path calls for: a right, and the model that it is about, '' for none."""

    @property
    def right(self) -> str: ...

    @property
    def model(self) -> str: ...


class Entry(NamedTuple):
    """`needs`: by a head's path and method. `refused`: told of everyone who was turned away."""

    guard: Guard
    needs: Callable[[Head], Needs]
    refused: Callable[[Head, SlipwayError], None]

    def admit(self, exchange: Exchange) -> bool:
        """Ask only while the guard is on duty. True: go on. False: that takes long; `admitted` of its connection is
        called when it is known. Raises what the guard raises."""
        head, connection = exchange.head, exchange.connection
        passed = head.passed
        if passed is not None and passed.certificate == connection.certificate and self.guard.holds(passed):
            return True
        needs = self.needs(head)
        if needs.right == OPEN:
            return True
        headers = head.headers
        presented = Presented(
            headers.get("authorization", ""), headers.get("x-api-key", ""), connection.certificate, connection.peer
        )
        try:
            passed = self.guard.identify(presented)
            if passed is None:
                told = partial(self._told, exchange)
                exchange.on_cancel = self.guard.find_out(presented, told).cancel
                return False
            self.guard.check(passed, needs.right, needs.model)
        except SlipwayError as error:
            self.refused(head, error)
            raise
        head.passed = passed
        return True

    def _told(self, exchange: Exchange, error: SlipwayError | None) -> None:
        if error is not None:
            self.refused(exchange.head, error)
        exchange.connection.admitted(exchange, error)


def _nothing(_: Head) -> Needs:
    raise AssertionError("nobody asks while the guard is off duty")


EVERYBODY = Entry(UNGUARDED, _nothing, lambda _head, _error: None)
"""The entry of an application that asks nobody."""
