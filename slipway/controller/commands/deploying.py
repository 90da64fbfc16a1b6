"""Deploying: what a spec declares becomes a version, or a change that applies as it runs, or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from slipway.controller import view
from slipway.controller.commands.changing import ChangingCommands
from slipway.controller.commands.grants import check_grants
from slipway.controller.commands.office import author
from slipway.controller.commands.sources import Settled, Sources
from slipway.controller.events import Note
from slipway.errors import Conflict, InvalidSpec
from slipway.spec.access import Caller
from slipway.spec.deployment import DeploymentSpec, SecretRef
from slipway.spec.diff import diff_specs
from slipway.spec.reading import spec_from_json
from slipway.spec.resources import Deployment
from slipway.spec.writing import spec_to_json
from slipway.store.part import check_revision
from slipway.store.records import DeploymentRecord, VersionRecord, VersionSettings
from slipway.store.store import Store

CREATED, NEW_VERSION, UPDATED, UNCHANGED = "created", "new_version", "updated", "unchanged"


@dataclass
class _Verdict:
    """What deploying comes to. `version`: to be made; `target`: an earlier one that it is; with neither, only what
    applies live changes."""

    change: str
    changes: list[str]
    hold: bool
    version: VersionSettings | None = None
    target: int | None = None
    warnings: list[str] = field(default_factory=list)


class DeployCommands(ChangingCommands):
    """Every verb answers the deployment as it is afterwards, with `change`: created, new_version, updated, unchanged.
    `expected_revision`: PreconditionFailed when the deployment's differs; 0: it must not exist yet."""

    async def deploy(
        self,
        spec: DeploymentSpec,
        *,
        artifact: str = "",
        hold: bool = False,
        dry_run: bool = False,
        force_version: bool = False,
        expected_revision: int | None = None,
        caller: Caller,
    ) -> Deployment:
        """Make what runs under a name be what `spec` says. `artifact`: the digest of a model that was uploaded. `hold`:
        a new version is loaded, and takes no requests before it is promoted. `dry_run`: say what would happen, and
        touch nothing. `force_version`: make a version even though nothing changed; a URL is then fetched again.

        Raises InvalidSpec, NotFound, DigestMismatch, Conflict, Forbidden, PreconditionFailed.
        """
        await self._may_change()
        name = spec.name
        async with self._world.lock(name):
            old = self._world.deployments.get(name)
            check_revision("deployment", name, found=old.revision if old else 0, expected=expected_revision)
            if old is not None and old.deleting:
                raise Conflict(f"{name!r} is being deleted; deploy it again when it is gone, in a moment")
            before = None if old is None else spec_from_json(old.spec)
            check_grants(spec, before, caller, host=self._begin.config.host)
            self._check_secrets(spec)
            sources = Sources(self._specs, host=self._begin.config.host)
            settled = await sources.settle(spec, artifact=artifact, dry_run=dry_run, caller=caller)
            verdict = self._judge(spec, settled, sources, old, hold=hold, force=force_version)
            verdict.warnings += [*settled.warnings, *_warnings(spec)]
            if dry_run:
                return self._would_be(spec, old, verdict)
            if verdict.change == UNCHANGED:
                return self._shown(self._world.get(name), change=UNCHANGED, warnings=verdict.warnings)
            await self._declare(spec, old, verdict, caller=caller)
        self._moved(name)
        return self._shown(self._world.get(name), with_versions=True, change=verdict.change, warnings=verdict.warnings)

    def _judge(
        self,
        spec: DeploymentSpec,
        settled: Settled,
        sources: Sources,
        old: DeploymentRecord | None,
        *,
        hold: bool,
        force: bool,
    ) -> _Verdict:
        fresh = VersionSettings(
            source=spec.model,
            settings=settled.settings,
            digest=settled.digest,
            size_bytes=settled.size_bytes,
            state=settled.state,
        )
        if old is None:
            return _Verdict(CREATED, [], hold, version=fresh)
        changes = diff_specs(spec_from_json(old.spec), spec)
        versions = self._world.of(spec.name)
        alike = None if force else _alike(settled, sources, (versions.get(n) for n in (old.target, old.live) if n))
        if alike is None:
            before = versions.get(old.target)
            if before and before.digest and settled.digest and before.digest != settled.digest:
                changes.append(f"artifact: {before.digest} → {settled.digest}")
            return _Verdict(NEW_VERSION, changes, hold, version=fresh)
        if alike.number != old.target:  # back to what is live, while another is on its way in
            changes.append(f"version: v{old.target} → v{alike.number}")
            return _Verdict(UPDATED, changes, False, target=alike.number)
        still_held = old.hold and hold
        if old.hold and not hold and old.target != old.live:
            changes.append("hold: true → false")
        return _Verdict(UPDATED if changes else UNCHANGED, changes, still_held)

    async def _declare(
        self, spec: DeploymentSpec, old: DeploymentRecord | None, verdict: _Verdict, *, caller: Caller
    ) -> None:
        name, by, now = spec.name, author(caller), self._wall()
        number = max(self._world.of(name), default=0) + 1
        data: dict[str, Any] = {"revision": (old.revision if old else 0) + 1, "changes": verdict.changes, "by": by}
        notes = [Note(f"deployment.{'updated' if old else 'created'}", _told(name, verdict, by), name, 0, data)]
        if verdict.version is not None:
            words = f"{name}: v{number} was declared by {by}"
            made = {"digest": verdict.version.digest, "source": verdict.version.source, "hold": verdict.hold}
            notes.append(Note("version.created", words, name, number, made))

        def work(store: Store) -> None:
            store.declare(
                name=name,
                spec=spec_to_json(spec),
                action="update" if old else "create",
                changes=verdict.changes,
                version=verdict.version,
                target=verdict.target,
                hold=verdict.hold,
                expected_revision=old.revision if old else 0,
                now=now,
                actor=by,
            )

        await self._ledger.change(name, work, notes)

    def _would_be(self, spec: DeploymentSpec, old: DeploymentRecord | None, verdict: _Verdict) -> Deployment:
        """As if it had been done, but for times and revision."""
        now = self._wall()
        versions = dict(self._world.of(spec.name))
        number = max(versions, default=0) + 1
        target = verdict.target if verdict.target is not None else (old.target if old else 0)
        if verdict.version is not None:
            target = number
            versions[number] = VersionRecord(
                deployment=spec.name, progress=0.0, error="", created_at=now, created_by="",
                **{**vars(verdict.version), "number": number},
            )  # fmt: skip
        record = DeploymentRecord(
            name=spec.name,
            spec=spec_to_json(spec),
            revision=old.revision if old else 0,
            live=old.live if old else 0,
            target=target,
            hold=verdict.hold,
            deleting=False,
            created_at=old.created_at if old else now,
            updated_at=old.updated_at if old else now,
            updated_by=old.updated_by if old else "",
        )
        seen = self._seen(spec.name)
        return view.deployment_of(
            record, versions, seen, with_versions=True, change=verdict.change, warnings=verdict.warnings
        )

    def _check_secrets(self, spec: DeploymentSpec) -> None:
        known = self._specs.secret_names
        problems = []
        for variable, value in spec.env.items():
            if isinstance(value, SecretRef) and value.secret not in known:
                near = get_close_matches(value.secret, known, n=1)
                hint = f"did you mean {near[0]!r}? Or make it" if near else "make it"
                wanted = value.secret
                problems.append(
                    f"/spec/env/{variable}: there is no secret {wanted!r}; {hint}: slipway secrets set {wanted}"
                )
        if problems:
            raise InvalidSpec(problems[0], problems=tuple(problems))


def _alike(settled: Settled, sources: Sources, candidates: Any) -> VersionRecord | None:
    return next((version for version in candidates if version is not None and sources.same(settled, version)), None)


def _told(name: str, verdict: _Verdict, by: str) -> str:
    if verdict.change == CREATED:
        return f"{name} was created by {by}"
    return f"{name} was changed by {by}: {'; '.join(verdict.changes[:5]) or 'a new version of the same'}"


def _warnings(spec: DeploymentSpec) -> list[str]:
    found = []
    if spec.replicas.max > spec.replicas.min and not spec.autoscaling:
        found.append("replicas.max: nothing scales beyond replicas.min by itself without `autoscaling`")
    if spec.sandbox.trust_pickle:
        found.append("sandbox.trust_pickle: whoever can change the artifact can run code in its replicas")
    if not spec.sandbox.enabled:
        found.append("sandbox.enabled: is false; the model's code may do all that this server's user may")
    if not spec.enabled:
        found.append("enabled: is false; nothing runs before `slipway start`")
    return found
