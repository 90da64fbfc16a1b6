"""Verbs that change a deployment without a new version: how many replicas, whether it runs, which version it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from slipway.controller import decide
from slipway.controller.commands.grants import check_grants
from slipway.controller.commands.office import author
from slipway.controller.commands.reading import ReadingCommands
from slipway.controller.events import Note
from slipway.errors import Conflict, InvalidInput, NotFound
from slipway.spec.access import Caller
from slipway.spec.model_source import read_source
from slipway.spec.reading import spec_from_json
from slipway.spec.resources import Deployment
from slipway.spec.settings import with_settings
from slipway.spec.writing import spec_to_json
from slipway.store.part import check_revision
from slipway.store.records import DeploymentRecord, VersionRecord
from slipway.store.store import Store

MOST_REPLICAS = 1024


class ChangingCommands(ReadingCommands):
    async def scale(
        self, name: str, replicas: int, *, expected_revision: int | None = None, caller: Caller
    ) -> Deployment:
        """`replicas` run from now on, of every version that runs. Raises InvalidInput, and Conflict beyond what the
        spec allows."""
        if not 1 <= replicas <= MOST_REPLICAS:
            hint = f"; `slipway stop {name}` ends all of them" if replicas == 0 else ""
            raise InvalidInput(f"replicas: {replicas} is not between 1 and {MOST_REPLICAS}{hint}")
        async with self._changeable(name, expected_revision) as old:
            rules = dict(old.spec.get("replicas") or {})
            before, most = int(rules.get("min", 1)), int(rules.get("max", 0))
            if most and replicas > most:
                raise Conflict(
                    f"{name!r} has replicas.max {most}, and {replicas} are more: raise replicas.max in its spec "
                    "and deploy it, then scale"
                )
            if replicas == before:
                return self._shown(old, change="unchanged")
            spec = {**old.spec, "replicas": {**rules, "min": replicas}}
            changes = [f"replicas.min: {before} → {replicas}"]
            await self._redeclare(old, spec, "scale", changes, caller=caller)
        return self._after(name)

    async def stop(self, name: str, *, expected_revision: int | None = None, caller: Caller) -> Deployment:
        """It finishes what it accepted, and none of its processes stays; nothing else of it is lost."""
        return await self._enable(name, False, expected_revision, caller)

    async def start(self, name: str, *, expected_revision: int | None = None, caller: Caller) -> Deployment:
        return await self._enable(name, True, expected_revision, caller)

    async def delete(self, name: str, *, expected_revision: int | None = None, caller: Caller) -> Deployment:
        """It finishes what it accepted, and is gone then, with all its versions. Twice is once."""
        await self._may_change()
        async with self._world.lock(name):
            old = self._world.get(name)
            check_revision("deployment", name, found=old.revision, expected=expected_revision)
            if old.deleting:
                return self._shown(old, change="unchanged")
            by = author(caller)

            def work(store: Store) -> None:
                store.mark_deleting(name, expected_revision=old.revision, now=self._wall(), actor=by)

            note = Note("deployment.deleting", f"{name} is deleted by {by}", name, 0, {"by": by})
            await self._ledger.change(name, work, [note])
        return self._after(name)

    async def rollback(
        self, name: str, to: str = "", *, expected_revision: int | None = None, caller: Caller
    ) -> Deployment:
        """An earlier version is on its way in again, as it was: same artifact, same settings. `to` '': the one before
        the live one; or the live one, where another is on its way in.

        Raises NotFound, and Conflict for one that failed, or whose artifact is gone.
        """
        async with self._changeable(name, expected_revision) as old:
            goal = await self._earlier(old, to)
            if goal.number == old.target:
                return self._shown(old, change="unchanged")
            comes_from = await asyncio.to_thread(self._where_from, goal)
            before = spec_from_json(old.spec)
            after = with_settings(before, goal.settings)
            check_grants(after, before, caller, host=self._begin.config.host)
            spec = spec_to_json(after)
            changes = [f"version: v{old.target or old.live} → v{goal.number}"]

            def also(store: Store) -> None:
                if goal.number != old.live:
                    store.set_version(name, goal.number, state=comes_from, error="", now=self._wall())

            await self._redeclare(old, spec, "rollback", changes, target=goal.number, also=also, caller=caller)
        return self._after(name)

    async def promote(
        self, name: str, version: str = "", *, expected_revision: int | None = None, caller: Caller
    ) -> Deployment:
        """A version that is held takes the requests as soon as it is ready. `version` '': whichever is held."""
        async with self._changeable(name, expected_revision) as old:
            number = self._world.version(name, version).number if version else old.target
            if number == old.live and number:
                return self._shown(old, change="unchanged")
            if number != old.target or not number:
                which = f"v{old.target} is" if old.target != old.live else "no version is"
                raise Conflict(
                    f"{name!r}: {version or 'nothing'} is not held ({which} on its way in); `slipway rollback {name} "
                    f"--to {version or 'vN'}` brings back an earlier one"
                )
            if not old.hold:
                return self._shown(old, change="unchanged")
            changes = [f"hold: true → false (v{number})"]
            await self._redeclare(old, old.spec, "promote", changes, hold=False, caller=caller)
        return self._after(name)

    # --- what they share --------------------------------------------------------------------------------------------

    async def _enable(self, name: str, enabled: bool, expected_revision: int | None, caller: Caller) -> Deployment:
        async with self._changeable(name, expected_revision) as old:
            if decide.is_enabled(old) == enabled:
                return self._shown(old, change="unchanged")
            spec = {key: value for key, value in old.spec.items() if key != "enabled"}
            if not enabled:
                spec["enabled"] = False
            changes = [f"enabled: {str(not enabled).lower()} → {str(enabled).lower()}"]
            await self._redeclare(old, spec, "start" if enabled else "stop", changes, caller=caller)
        return self._after(name)

    @asynccontextmanager
    async def _changeable(self, name: str, expected_revision: int | None) -> AsyncIterator[DeploymentRecord]:
        """Holds a deployment still while a verb looks at it and changes it."""
        await self._may_change()
        self._world.get(name)
        async with self._world.lock(name):
            old = self._world.get(name)
            check_revision("deployment", name, found=old.revision, expected=expected_revision)
            if old.deleting:
                raise Conflict(f"{name!r} is being deleted; deploy it again when it is gone, in a moment")
            yield old

    async def _redeclare(
        self,
        old: DeploymentRecord,
        spec: dict[str, Any],
        action: str,
        changes: Sequence[str],
        *,
        target: int | None = None,
        hold: bool | None = None,
        also: Callable[[Store], None] | None = None,
        caller: Caller,
    ) -> None:
        name, by, now = old.name, author(caller), self._wall()

        def work(store: Store) -> None:
            if also is not None:
                also(store)
            store.declare(
                name=name,
                spec=spec,
                action=action,
                changes=changes,
                version=None,
                target=target,
                hold=(old.hold and target is None) if hold is None else hold,
                expected_revision=old.revision,
                now=now,
                actor=by,
            )

        data = {"revision": old.revision + 1, "changes": list(changes), "by": by}
        words = f"{name}: {action} by {by}: {'; '.join(changes)}"
        await self._ledger.change(name, work, [Note(f"deployment.{action}", words, name, target or 0, data)])

    def _moved(self, name: str) -> None:
        self._keeper.tell()
        self._reconciler.wake(name)

    def _after(self, name: str) -> Deployment:
        """The answer to a change that was made."""
        self._moved(name)
        record = self._world.deployments.get(name)
        if record is None:
            raise NotFound(f"{name!r} was deleted meanwhile")
        return self._shown(record, with_versions=True, change="updated")

    async def _earlier(self, old: DeploymentRecord, to: str) -> VersionRecord:
        if to:
            return self._world.version(old.name, to)
        versions = self._world.of(old.name)
        if old.live and old.target != old.live:
            return versions[old.live]
        history = await self._store.call(lambda store: store.revisions(old.name, limit=1000))
        for revision in history:
            found = versions.get(revision.version)
            if found is not None and found.number != old.live and found.platform and found.state != decide.FAILED:
                return found
        raise Conflict(f"{old.name!r} has no earlier version that ever was ready; name one: --to vN")

    def _where_from(self, goal: VersionRecord) -> str:
        """The state in which it begins anew."""
        name = f"v{goal.number} of {goal.deployment!r}"
        if goal.state == decide.FAILED:
            raise Conflict(
                f"{name} failed, and a version never changes: {goal.error}. Deploy it again as a new version"
            )
        try:
            self._specs.check_here(goal)
        except NotFound:
            if read_source(goal.source).kind == "url":
                return decide.PENDING
            raise Conflict(f"the artifact of {name} is gone ({goal.digest}); deploy its model again") from None
        if not goal.digest and read_source(goal.source).kind == "url":
            return decide.PENDING
        return decide.FETCHED
