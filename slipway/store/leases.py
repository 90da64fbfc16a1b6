"""Who leads, where two controllers share a database.

The lease runs by the database's clock, so the controllers' own may differ or jump. Leading is not believed but checked:
each change of a controller that has set `fence` looks, within its own transaction, whether the lease still has that
epoch (a fencing token, as in Gray and Cheriton, "Leases", 1989, and Burrows, "The Chubby lock service", 2006).
"""

from __future__ import annotations

from slipway.store.database import Head
from slipway.store.part import Part
from slipway.store.records import Lease


class Leases(Part):
    def lease(self, *, holder: str, ttl_s: float) -> Lease:
        """Take the lease, or renew it, for `ttl_s` seconds from now; while somebody else has it, theirs comes back.
        `holder` has to be of one process only: who comes with the same name is the same."""
        if not holder or ttl_s <= 0:
            raise ValueError("a lease needs a holder and a time above 0 seconds")
        with self._database.writing(fenced=False) as change:
            now = self._database.clock(change.connection)
            given = decide(change.head, holder=holder, ttl_s=ttl_s, now=now)
            if given != change.head:
                change.write_head(given)
            return Lease(holder=given.holder, expires_at=given.expires_at, epoch=given.epoch)

    def release_lease(self, holder: str) -> None:
        """Let the next one lead at once. Its changes are refused from here on. Somebody else's lease stays theirs."""
        with self._database.writing(fenced=False) as change:
            head = change.head
            if head.holder == holder:
                change.write_head(head._replace(holder="", expires_at=0.0, epoch=head.epoch + 1))


def decide(head: Head, *, holder: str, ttl_s: float, now: float) -> Head:
    """What the lease is after `holder` asked for it."""
    if head.holder == holder:
        return head._replace(expires_at=now + ttl_s)
    if head.holder and head.expires_at > now:
        # More than was ever given means that the clock was set back. The holder has one full time from now to show that
        # it lives, instead of all the time that the clock went back.
        return head._replace(expires_at=min(head.expires_at, now + ttl_s))
    return head._replace(holder=holder, expires_at=now + ttl_s, epoch=head.epoch + 1)
