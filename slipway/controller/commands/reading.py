"""Verbs that only look."""

from __future__ import annotations

from collections.abc import AsyncIterator

from slipway.spec.access import Access
from slipway.spec.resources import AuditEntry, Deployment, Event, Replica, Revision, Route, ServerStatus, Version
from slipway.store.records import IdempotentAnswer
from slipway.wire.messages import AccessSeen


class ReadingCommands:
    @property
    def access(self) -> Access:
        """Who may do what, as of now; its `epoch` says whether a Verifier made of an earlier one still holds."""
        raise NotImplementedError

    def access_seen(self, seen: AccessSeen) -> None:
        """Who came in by the management API and who did not, as the gateways say it of their doors."""
        raise NotImplementedError

    def count_request(self, *, method: str, status: int, took_s: float) -> None:
        """For the metrics: one request to the management API was answered."""
        raise NotImplementedError

    def check_leading(self) -> None:
        """Raises NotLeader, naming who leads. Each verb that changes something does so itself."""
        raise NotImplementedError

    @property
    def ready(self) -> bool:
        """For /readyz: the store was read, the supervisor's word was heard, and everything that should serve does."""
        raise NotImplementedError

    async def status(self) -> ServerStatus:
        raise NotImplementedError

    async def deployments(self) -> list[Deployment]:
        """By name, without their versions."""
        raise NotImplementedError

    async def deployment(self, name: str) -> Deployment:
        """With its versions, newest first, and their replicas. Raises NotFound with the nearest name."""
        raise NotImplementedError

    async def versions(self, name: str) -> list[Version]:
        """Newest first."""
        raise NotImplementedError

    async def version(self, name: str, version: str) -> Version:
        raise NotImplementedError

    async def history(self, name: str, *, limit: int = 100, before: int = 0) -> list[Revision]:
        """Newest first; `before`: only revisions with a smaller number, 0: from the newest."""
        raise NotImplementedError

    async def replicas(self, name: str = "") -> list[Replica]:
        raise NotImplementedError

    async def routes(self) -> list[Route]:
        raise NotImplementedError

    async def events(self, *, deployment: str = "", after: int = 0, before: int = 0, limit: int = 100) -> list[Event]:
        """`after`: oldest first from there; else newest last, of those before `before` (0: the newest of all)."""
        raise NotImplementedError

    def subscribe(self, *, deployment: str = "", after: int | None = None) -> AsyncIterator[Event]:
        """Each event as it happens, for ever; those stored since `after` come first, None: only new ones."""
        raise NotImplementedError

    async def audit(self, *, after: int = 0, limit: int = 100) -> list[AuditEntry]:
        raise NotImplementedError

    async def verify_audit(self) -> int | None:
        """The number of the first entry that was tampered with; None: the chain holds."""
        raise NotImplementedError

    async def metrics_page(self) -> bytes:
        """Prometheus text, format 0.0.4 (`slipway.controller.metrics.CONTENT_TYPE`)."""
        raise NotImplementedError

    def logs(self, name: str, *, version: str = "", tail: int = 100, follow: bool = False) -> AsyncIterator[bytes]:
        """Whole lines of the replicas' logs. `version` '': all that have any. Raises NotFound at the first step."""
        raise NotImplementedError

    async def answer(self, key: str) -> IdempotentAnswer | None:
        """What a request with this Idempotency-Key was answered."""
        raise NotImplementedError

    async def remember_answer(self, answer: IdempotentAnswer) -> None:
        raise NotImplementedError
