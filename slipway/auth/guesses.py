"""Failed attempts: counted for the audit log, and slowed down.

Keys and tokens cannot be guessed, so for them a wait is only what the caller is told. Passwords can, and each check
costs a core tens of milliseconds, so there a wait comes before the check: for one name from one address after few
failures, and more generously for one address over all names (or it would lock out everybody behind a proxy) and for
one name over all addresses (or anybody could lock out anybody). Addresses from which a name got in before are spared
the last.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

from slipway.auth.throttle import Throttle

MAX_REFUSED = 512
"""Different refusals kept between two reports; the rest is counted without names."""
MAX_FAMILIAR = 4096


class Guesses:
    def __init__(self) -> None:
        self._pairs = Throttle(free=5, longest_s=60.0)
        self._peers = Throttle(free=20, longest_s=10.0)
        self._users = Throttle(free=50, longest_s=10.0)
        self._familiar: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._refused: dict[tuple[str, str, str], int] = {}

    def wait_s(self, *, peer: str, user: str, now: float) -> float:
        """Seconds before a password of `user` from `peer` is looked at; 0: now."""
        place = network(peer)
        wait_s = max(self._pairs.wait_s((place, user), now=now), self._peers.wait_s(place, now=now))
        if (place, user) not in self._familiar:
            wait_s = max(wait_s, self._users.wait_s(user, now=now))
        return wait_s

    def failed(self, kind: str, who: str, *, peer: str, user: str, now: float) -> float:
        """Count it. `who`: the key's prefix, a user or an issuer that exists, or ''. `user`: the name that a password
        was tried with. Seconds to wait from now."""
        place = network(peer)
        row = (kind, who, place)
        if row not in self._refused and len(self._refused) >= MAX_REFUSED:
            row = (kind, "", "")
        self._refused[row] = self._refused.get(row, 0) + 1
        wait_s = self._pairs.failed((place, user), now=now)
        if user:
            if place:  # who comes by a Unix socket has no address, and is not one and the same with all others who do
                self._peers.failed(place, now=now)
            self._users.failed(user, now=now)
        return wait_s

    def succeeded(self, *, peer: str, user: str) -> None:
        place = network(peer)
        self._pairs.succeeded((place, user))
        self._familiar[place, user] = None
        self._familiar.move_to_end((place, user))
        if len(self._familiar) > MAX_FAMILIAR:
            self._familiar.popitem(last=False)

    def drain(self) -> list[tuple[str, str, str, int]]:
        """(kind, who, network of the peer, how often) since the last time."""
        refused, self._refused = self._refused, {}
        return [(*row, count) for row, count in refused.items()]


def network(peer: str) -> str:
    """One IPv4 address, or the /64 that one IPv6 subscriber has; anything else as it is, cut short."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return peer[:64]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return str(address)
