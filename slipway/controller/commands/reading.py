"""Verbs that only look."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from slipway import __version__
from slipway.controller import view
from slipway.controller.commands.office import Office
from slipway.controller.decide import Seen
from slipway.controller.exposition import model_of, render
from slipway.controller.logs import read_logs
from slipway.controller.metrics import controller_series
from slipway.spec.resources import (
    Addresses,
    AuditEntry,
    Deployment,
    Event,
    Replica,
    Revision,
    Route,
    ServerStatus,
    Version,
)
from slipway.store.records import DeploymentRecord, IdempotentAnswer
from slipway.wire.messages import AccessSeen


class ReadingCommands(Office):
    """On a controller that stands by too; what it shows of processes is then only what runs on its own machine."""

    # --- deployments ------------------------------------------------------------------------------------------------

    async def deployments(self) -> list[Deployment]:
        """By name, without their versions."""
        self._may_look()
        return [self._shown(self._world.deployments[name]) for name in sorted(self._world.deployments)]

    async def deployment(self, name: str) -> Deployment:
        """With its versions, newest first, and their replicas. Raises NotFound with the nearest name."""
        self._may_look()
        return self._shown(self._world.get(name), with_versions=True)

    async def versions(self, name: str) -> list[Version]:
        """Newest first."""
        return (await self.deployment(name)).versions

    async def version(self, name: str, version: str) -> Version:
        self._may_look()
        record, seen = self._world.version(name, version), self._seen(name)
        running = seen.versions.get(record.number) if seen else None
        return view.version_of(self._world.get(name), record, running)

    async def history(self, name: str, *, limit: int = 100, before: int = 0) -> list[Revision]:
        """Newest first; `before`: only revisions with a smaller number, 0: from the newest."""
        self._may_look()
        self._world.get(name)
        found = await self._store.call(lambda store: store.revisions(name, limit=limit, before=before))
        return [view.revision_of(record) for record in found]

    async def replicas(self, name: str = "") -> list[Replica]:
        """That run now, by deployment, version and index."""
        observed = self._reconciler.observed
        versions = sorted(observed.versions, key=lambda each: (each.model, each.version)) if observed else []
        return [
            replica
            for version in versions
            if name in ("", version.model)
            for replica in view.replicas_of(version, device=self._device(version.model, version.version))
        ]

    async def routes(self) -> list[Route]:
        return view.routes_of(self._reconciler.observed)

    # --- the server -------------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """starting, ready, degraded or draining."""
        observed = self._reconciler.observed
        if observed is None or not self._world.known:
            return "starting"
        if observed.draining:
            return "draining"
        if not self._started:
            self._started = not any(map(self._is_coming, self._world.deployments.values()))
        if not self._started:
            return "starting"
        states = {self._state(record) for record in self._world.deployments.values()}
        served = any(gateway.state == "ready" for gateway in observed.gateways)
        if not served or "degraded" in states:
            return "degraded"
        return "ready"

    def _is_coming(self, record: DeploymentRecord) -> bool:
        """It served before the server was started anew, and does not yet. Counts until all did once: a deployment that
        is started later does not take the server out of anybody's rotation."""
        seen = self._seen(record.name)
        live = seen.versions.get(record.live) if seen else None
        serves = live is not None and any(replica.state == "ready" for replica in live.replicas)
        return bool(record.live) and not serves and self._state(record) == "deploying"

    @property
    def ready(self) -> bool:
        """For /readyz: the store was read, the supervisor's word was heard, and everything that should serve does."""
        return self.state == "ready"

    async def status(self) -> ServerStatus:
        observed, begin = self._reconciler.observed, self._begin
        refusal = self._leadership.refusal()
        http, grpc, admin = begin.addresses
        return ServerStatus(
            state=self.state,
            version=__version__,
            pid=begin.supervisor_pid,
            controller_pid=os.getpid(),
            uptime_s=round(self._clock.now() - self._begun, 3),
            leader=self._leadership.leading,
            trouble=self._leadership.trouble or (refusal.message if refusal else ""),
            database=self._store.shown,
            auth="required" if self.access.required else "open",
            addresses=Addresses(http=http, grpc=grpc, admin=admin),
            gateways=[view.gateway_of(gateway) for gateway in (observed.gateways if observed else [])],
            deployments=await self.deployments() if self._world.known else [],
        )

    async def metrics_page(self, *, shows: Callable[[str], bool] = lambda _: True) -> bytes:
        """Prometheus text, format 0.0.4 (`exposition.CONTENT_TYPE`). `shows`: of which deployments."""
        told = await self._ask_metrics()
        own = controller_series(
            states=[self._state(record) for record in self._world.deployments.values()],
            leading=self._leadership.leading,
            turns=self._reconciler.turns,
            turn_s=self._reconciler.turn_s,
        )
        series = [*told.series, *own, *self._tally.series()]
        return render([one for one in series if not (model := model_of(one)) or shows(model)])

    def logs(self, name: str, *, version: str = "", tail: int = 100, follow: bool = False) -> AsyncIterator[bytes]:
        """Whole lines of the replicas' logs. `version` '': all that have any. Raises NotFound at once for a name or
        version that is not there, and at the first step where there is no log."""
        self._may_look()
        self._world.get(name)
        if version:
            version = view.name_of(self._world.version(name, version).number)
        folder = Path(self._begin.data_dir) / "logs" / name
        return read_logs(folder, name=name, version=version, tail=tail, follow=follow)

    # --- what happened ----------------------------------------------------------------------------------------------

    async def events(self, *, deployment: str = "", after: int = 0, before: int = 0, limit: int = 100) -> list[Event]:
        """Oldest first. `after`: those that follow; else the newest, or the newest of those before `before`."""
        return await self._events.read(deployment=deployment, after=after, before=before, limit=limit)

    def subscribe(self, *, deployment: str = "", after: int | None = None) -> AsyncIterator[Event]:
        """Each event as it happens, for ever; those stored since `after` come first, None: only new ones."""
        return self._events.subscribe(deployment=deployment, after=after)

    async def audit(self, *, after: int = 0, before: int = 0, limit: int = 100) -> list[AuditEntry]:
        """Oldest first: those that follow `after`, or with `before` the newest of those before it."""
        return await self._store.call(lambda store: store.audit(after=after, before=before, limit=limit))

    async def verify_audit(self) -> int | None:
        """The number of the first entry that was tampered with; None: the chain holds."""
        return await self._store.call(lambda store: store.verify_audit())

    # --- what the API itself needs ----------------------------------------------------------------------------------

    def access_seen(self, seen: AccessSeen) -> None:
        """Who came in by the management API and who did not, as the gateways say it of their doors."""
        self._keeper.seen(seen)

    def count_request(self, *, method: str, status: int, took_s: float) -> None:
        """For the metrics: one request to the management API was answered."""
        self._tally.count(method=method, status=status, took_s=took_s)

    async def answer(self, key: str) -> IdempotentAnswer | None:
        """What a request with this Idempotency-Key was answered."""
        return await self._store.call(lambda store: store.answer(key))

    async def remember_answer(self, answer: IdempotentAnswer) -> None:
        await self._ledger.call(lambda store: store.remember_answer(answer))

    # --- for these verbs and the others -----------------------------------------------------------------------------

    def _seen(self, name: str) -> Seen | None:
        observed = self._reconciler.observed
        return None if observed is None else self._reconciler.seen.get(name, Seen(observed.plan, {}))

    def _state(self, record: DeploymentRecord) -> str:
        return view.state_of(record, self._world.of(record.name), self._seen(record.name))[0]

    def _shown(
        self,
        record: DeploymentRecord,
        *,
        with_versions: bool = False,
        change: str = "",
        warnings: list[str] | None = None,
    ) -> Deployment:
        return view.deployment_of(
            record,
            self._world.of(record.name),
            self._seen(record.name),
            with_versions=with_versions,
            change=change,
            warnings=warnings,
        )

    def _device(self, name: str, version: str) -> str:
        record = next((one for one in self._world.of(name).values() if f"v{one.number}" == version), None)
        return str((record.settings.get("replicas") or {}).get("device", "cpu")) if record else ""
