"""What is true now, as the management API says it: records and observations made into resources. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from slipway.controller import decide
from slipway.controller.decide import Seen
from slipway.spec.resources import Deployment, Gateway, Replica, Revision, Route, Version
from slipway.store.records import DeploymentRecord, RevisionRecord, VersionRecord
from slipway.wire.messages import GatewaySeen, Observed, ReplicaSeen, VersionSeen

Versions = Mapping[int, VersionRecord]


def name_of(number: int) -> str:
    """`v3`; '' for none."""
    return f"v{number}" if number else ""


def replica_of(version: VersionSeen, seen: ReplicaSeen) -> Replica:
    return Replica(
        deployment=version.model,
        version=version.version,
        index=seen.index,
        generation=seen.generation,
        pid=seen.pid,
        state=seen.state,
        stage=seen.stage,
        device=str(version.facts.extra.get("device", "")) if version.facts else "",
        sandbox=seen.sandbox,
        threads=seen.threads,
        restarts=seen.restarts,
        trouble=seen.trouble,
        last_end=seen.last_end,
        memory_bytes=seen.memory_bytes,
        cpu_s=seen.cpu_s,
        busy_s=seen.busy_s,
        load=seen.load,
        batches=seen.batches,
    )


def replicas_of(seen: VersionSeen | None, *, device: str) -> list[Replica]:
    if seen is None:
        return []
    made = [replica_of(seen, replica) for replica in seen.replicas]
    return [_on(replica, device) for replica in sorted(made, key=lambda each: (each.index, each.generation))]


def _on(replica: Replica, device: str) -> Replica:
    return replica if replica.device else Replica(**{**vars(replica), "device": device})


def version_state(deployment: DeploymentRecord, record: VersionRecord, seen: VersionSeen | None) -> str:
    """pending, fetching, loading, probing, ready, live, draining, stopped or failed."""
    if record.state == decide.FAILED:
        return "failed"
    if seen is not None and (seen.stage == decide.LEAVING or record.state == decide.RETIRED):
        return "draining"
    if record.state in (decide.PENDING, decide.FETCHING):
        return record.state
    runs = not deployment.deleting and decide.is_enabled(deployment)
    if record.state == decide.RETIRED or (seen is None and not runs):
        return "stopped"
    if seen is None:
        return "loading"
    if not runs:
        return "draining"
    if seen.stage == decide.READY:
        return "live" if seen.live and record.number == deployment.live else "ready"
    return "probing" if seen.stage == decide.PROBING else "loading"


def version_of(deployment: DeploymentRecord, record: VersionRecord, seen: VersionSeen | None) -> Version:
    state = version_state(deployment, record, seen)
    device = str((record.settings.get("replicas") or {}).get("device", "cpu"))
    return Version(
        deployment=record.deployment,
        version=name_of(record.number),
        number=record.number,
        state=state,
        progress=_progress(state, record, seen),
        error=record.error or (seen.error if seen and state != "live" else ""),
        digest=record.digest,
        source=record.source,
        size_bytes=record.size_bytes,
        platform=record.platform or (seen.facts.platform if seen and seen.facts else ""),
        settings=record.settings,
        created_at=record.created_at,
        created_by=record.created_by,
        replicas=replicas_of(seen, device=device),
    )


def _progress(state: str, record: VersionRecord, seen: VersionSeen | None) -> float:
    if state == "fetching":
        return record.progress
    if state in ("ready", "live"):
        return 1.0
    if state not in ("loading", "probing") or seen is None or not seen.replicas:
        return 0.0
    return round(sum(replica.state == "ready" for replica in seen.replicas) / len(seen.replicas), 3)


def deployment_of(
    deployment: DeploymentRecord,
    versions: Versions,
    seen: Seen | None,
    *,
    with_versions: bool = False,
    change: str = "",
    warnings: list[str] | None = None,
) -> Deployment:
    """`seen` None: nothing was observed yet. Without `with_versions` those alone that run or are on their way, which is
    what a list of all deployments is read for."""
    state, reason = state_of(deployment, versions, seen)
    running = seen.versions if seen else {}
    coming = deployment.target if deployment.target != deployment.live else 0
    listed = [one for one in versions.values() if with_versions or one.number in running or one.number == coming]
    return Deployment(
        name=deployment.name,
        state=state,
        reason=reason,
        revision=deployment.revision,
        spec=deployment.spec,
        live=name_of(deployment.live),
        target=name_of(deployment.target),
        created_at=deployment.created_at,
        updated_at=deployment.updated_at,
        updated_by=deployment.updated_by,
        change=change,
        warnings=list(warnings or []),
        versions=[
            version_of(deployment, record, running.get(record.number))
            for record in sorted(listed, key=lambda each: -each.number)
        ],
    )


def state_of(deployment: DeploymentRecord, versions: Versions, seen: Seen | None) -> tuple[str, str]:
    """(state, why): ready, deploying, degraded, failed, stopped or deleting."""
    running = seen.versions if seen else {}
    if deployment.deleting:
        return "deleting", "it finishes what it accepted" if running else ""
    if not decide.is_enabled(deployment):
        return ("deploying", "it stops: it finishes what it accepted") if running else ("stopped", "")
    if seen is None:
        return "deploying", "the controller has just begun, and has not seen yet what runs"
    incoming = versions.get(deployment.target) if deployment.target != deployment.live else None
    held = bool(incoming and deployment.hold)
    if incoming is not None and not (held and _is_ready(running.get(incoming.number))):
        return "deploying", _on_its_way(deployment, incoming, running.get(incoming.number))
    if not deployment.live:
        if incoming is not None:
            return "deploying", f"{name_of(incoming.number)} is ready and held; promote it to let it take requests"
        newest = max(versions.values(), key=lambda version: version.number, default=None)
        return "failed", f"{name_of(newest.number)}: {newest.error}" if newest else "it has no version"
    wanted = int((deployment.spec.get("replicas") or {}).get("min", 1))
    state, reason = _health(deployment, running.get(deployment.live), wanted)
    if state == "ready" and incoming is not None:
        reason = f"{name_of(incoming.number)} is ready and held; promote it to let it take requests"
    elif state == "ready":
        reason = _last_failure(deployment, versions)
    return state, reason


def _is_ready(seen: VersionSeen | None) -> bool:
    return seen is not None and seen.stage == decide.READY


def _on_its_way(deployment: DeploymentRecord, incoming: VersionRecord, seen: VersionSeen | None) -> str:
    where = version_state(deployment, incoming, seen)
    if where != "fetching":
        return f"{name_of(incoming.number)} is {where}"
    trouble = f", and is tried again: {incoming.error}" if incoming.error else ""
    return f"{name_of(incoming.number)} is fetching ({incoming.progress:.0%}){trouble}"


def _health(deployment: DeploymentRecord, seen: VersionSeen | None, wanted: int) -> tuple[str, str]:
    """`wanted`: replicas, of which some may be too new to have been seen."""
    live = name_of(deployment.live)
    if seen is None:
        return "deploying", f"{live} is about to start"
    if not seen.wanted:
        return "degraded", f"{live} was unloaded through a model repository's door; load it there"
    ready = [replica for replica in seen.replicas if replica.state == "ready"]
    if not seen.live:
        return "deploying", f"the gateways turn to {live}"
    count = max(wanted, len(seen.replicas))
    if ready and seen.stage == decide.READY and len(ready) == count:
        return "ready", ""
    trouble = next((replica.trouble for replica in seen.replicas if replica.trouble), "") or seen.error
    if ready:
        so_far = f"{len(ready)} of {count} replicas of {live} are ready"
        return ("degraded", f"{so_far}: {trouble}") if trouble else ("deploying", so_far)
    if trouble:
        return "degraded", f"no replica of {live} is ready: {trouble}"
    return "deploying", f"{live} is {seen.stage}"


def _last_failure(deployment: DeploymentRecord, versions: Versions) -> str:
    newest = max(versions, default=0)
    if newest > deployment.live and versions[newest].state == decide.FAILED:
        return f"{name_of(newest)} failed, {name_of(deployment.live)} goes on: {versions[newest].error}"
    return ""


def revision_of(record: RevisionRecord) -> Revision:
    return Revision(
        revision=record.revision,
        at=record.at,
        actor=record.actor,
        action=record.action,
        version=name_of(record.version),
        changes=list(record.changes),
    )


def gateway_of(seen: GatewaySeen) -> Gateway:
    return Gateway(
        number=seen.number,
        generation=seen.generation,
        pid=seen.pid,
        state=seen.state,
        restarts=seen.restarts,
        trouble=seen.trouble,
        memory_bytes=seen.memory_bytes,
        cpu_s=seen.cpu_s,
    )


def routes_of(observed: Observed | None) -> list[Route]:
    """What gateways can be asked for; a version that leaves takes nothing new."""
    return [
        Route(
            model=version.model,
            version=version.version,
            live=version.live,
            replicas=sum(replica.state == "ready" for replica in version.replicas),
        )
        for version in (observed.versions if observed else [])
        if version.wanted and version.stage != decide.LEAVING
    ]
