"""The store: what the controller remembers, in SQLite or PostgreSQL, by methods that are one transaction each."""

from __future__ import annotations

from slipway.store.credentials import Credentials
from slipway.store.deployments import Deployments
from slipway.store.journal import Journal
from slipway.store.leases import Leases


class Store(Deployments, Journal, Credentials, Leases):
    """Made by `slipway.store.opening.open_store`. Synchronous; several threads may use it. `now` is in seconds since
    1970, and only written down: no decision depends on it.

    Every method may raise StoreUnavailable, which says what to do; when the cause is gone the same object works again.
    A change that raised it may have been made all the same if the connection broke while it was being committed; with
    `expected_revision`, or after a look, it can be repeated safely.
    """

    @property
    def url_shown(self) -> str:
        """The database's URL without its password."""
        return self._database.shown

    @property
    def fence(self) -> int | None:
        """The lease's epoch under which this controller leads; every change by another epoch raises NotLeader. None: no
        check. Once set, it changes by itself where another file is put in the place of the database: nothing is written
        there before the lease was asked for, and the fence set, again."""
        return self._database.fence

    @fence.setter
    def fence(self, epoch: int | None) -> None:
        self._database.fence = epoch

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        self._database.close()
