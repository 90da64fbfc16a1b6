"""What should run, and what is the next step to get there: pure functions of what was declared and what is seen.

The swap, one observation at a time; every arrow is a record in the store, so any process may die between two steps:

    fetched ─▶ in the plan ─▶ seen ready ─▶ Flip ─▶ in the plan as live ─▶ every gateway follows ─▶ MarkRetired
                    └─▶ seen failing ─▶ MarkFailed: never had traffic, the one before goes on

What is not known ends nothing: an observation counts only if it was made under a plan that already said what is asked
about, so a version that was on its way out when it was wanted again is not taken for one that is ready.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from slipway.spec.serve import ModelSpec
from slipway.store.records import DeploymentRecord, VersionRecord
from slipway.wire.messages import Plan, PlannedVersion, VersionSeen

PENDING, FETCHING, FETCHED, KEPT, FAILED, RETIRED = "pending", "fetching", "fetched", "kept", "failed", "retired"
"""States of a version in the store. KEPT: it runs beside the live one for those who ask for it by name, until the
deployment ends; so are the earlier ones of the versions that `slipway serve` was given together."""
LOADING, PROBING, READY, LEAVING = "loading", "probing", "ready", "leaving"
"""Stages of a version that runs, as the supervisor sees it."""


@dataclass(frozen=True)
class Seen:
    """Of one deployment. `plan`: the last plan that every gateway follows; `versions`: those that run, by number."""

    plan: int
    versions: Mapping[int, VersionSeen]


@dataclass(frozen=True)
class Told:
    """Of one deployment: since which plan each of its versions is in it, as one that loads or as the `live` one;
    `absent_since`: since when none is. What is not there was not told, or not by this process."""

    candidates: Mapping[int, int] = field(default_factory=dict)
    live: Mapping[int, int] = field(default_factory=dict)
    absent_since: int | None = None


NOTHING_TOLD = Told()


@dataclass(frozen=True)
class Flip:
    """`version` takes the traffic; `before`: whose it was, 0 for nobody's."""

    version: int
    before: int


@dataclass(frozen=True)
class MarkFailed:
    version: int
    code: str
    error: str


@dataclass(frozen=True)
class MarkRetired:
    version: int


@dataclass(frozen=True)
class MarkProven:
    """It was ready for the first time."""

    version: int
    platform: str


@dataclass(frozen=True)
class Forget:
    """Nothing of a deployment that was deleted runs any more."""


Step = Flip | MarkFailed | MarkRetired | MarkProven | Forget


def is_enabled(deployment: DeploymentRecord) -> bool:
    return bool(deployment.spec.get("enabled", True))


def wanted(deployment: DeploymentRecord, versions: Iterable[VersionRecord]) -> list[tuple[VersionRecord, bool]]:
    """The versions that should run, and which of them is live."""
    if deployment.deleting or not is_enabled(deployment):
        return []
    return [
        (version, version.number == deployment.live)
        for version in sorted(versions, key=lambda each: each.number)
        if version.state in (FETCHED, KEPT)
    ]


def plan_of(
    deployments: Iterable[DeploymentRecord],
    versions: Mapping[str, Iterable[VersionRecord]],
    *,
    spec_of: Callable[[DeploymentRecord, VersionRecord], ModelSpec | None],
) -> tuple[list[PlannedVersion], dict[str, str]]:
    """Every version that should run, and the deployments of which none does, with why. `spec_of` gives what a version's
    workers are told, None where that cannot be made (whoever cannot make it marks it failed)."""
    planned: list[PlannedVersion] = []
    absent: dict[str, str] = {}
    for deployment in deployments:
        of_it = list(versions.get(deployment.name, ()))
        made = [(spec_of(deployment, version), live) for version, live in wanted(deployment, of_it)]
        runs = [PlannedVersion(spec, live) for spec, live in made if spec is not None]
        planned += runs
        if not any(version.live for version in runs):
            absent[deployment.name] = why_absent(deployment, of_it)
    return planned, absent


def told_of(before: Mapping[str, Told], plan: Plan, names: Iterable[str]) -> dict[str, Told]:
    """What has been told once `plan` is, to each deployment of `names`."""
    by_name: dict[str, tuple[list[int], list[int]]] = {name: ([], []) for name in names}
    for version in plan.versions:
        by_name[version.spec.name][version.live].append(int(version.spec.version[1:]))
    told = {}
    for name, (candidates, live) in by_name.items():
        was = before.get(name, NOTHING_TOLD)
        nothing = not candidates and not live
        told[name] = Told(
            candidates={one: was.candidates.get(one, plan.number) for one in candidates},
            live={one: was.live.get(one, plan.number) for one in live},
            absent_since=(plan.number if was.absent_since is None else was.absent_since) if nothing else None,
        )
    return told


def told_to(name: str, told: Mapping[str, Told], last: Plan | None) -> Told:
    """What was told of a deployment. One that came after the last plan, and made no other necessary, is not in it."""
    if last is None:
        return NOTHING_TOLD
    return told.get(name) or Told(absent_since=last.number)


def why_absent(deployment: DeploymentRecord, versions: Iterable[VersionRecord]) -> str:
    """For those who call it. No progress: each change of these words is told to every gateway."""
    if deployment.deleting:
        return "it is being deleted"
    if not is_enabled(deployment):
        return f"it is stopped; `slipway start {deployment.name}` starts it"
    newest = max(versions, key=lambda version: version.number, default=None)
    if newest is not None and newest.state == FAILED:
        return f"v{newest.number} failed: {newest.error}"
    if deployment.target and deployment.hold:
        return f"v{deployment.target} is held; `slipway promote {deployment.name}` lets it take requests"
    if deployment.target:
        return f"v{deployment.target} is on its way in"
    return "it has no version that could serve"


def advance(
    deployment: DeploymentRecord,
    versions: Mapping[int, VersionRecord],
    seen: Seen | None,
    *,
    told: Told = NOTHING_TOLD,
) -> list[Step]:
    """What follows from what is seen now; the steps may be taken in order, and [] means to wait for the next look."""
    if seen is None:
        return []
    if deployment.deleting:
        followed = told.absent_since is not None and seen.plan >= told.absent_since
        return [Forget()] if followed and not seen.versions else []
    steps: list[Step] = [
        MarkProven(number, its.facts.platform)
        for number, its in sorted(seen.versions.items())
        if its.stage == READY and its.facts is not None and number in versions and not versions[number].platform
    ]
    incoming = _incoming(deployment, versions, seen, told)
    if incoming is not None:
        return [*steps, incoming]
    return [*steps, *_leaving(deployment, versions, seen, told)]


def _incoming(
    deployment: DeploymentRecord, versions: Mapping[int, VersionRecord], seen: Seen, told: Told
) -> Flip | MarkFailed | None:
    target = versions.get(deployment.target)
    if target is None or target.number == deployment.live or not is_enabled(deployment):
        return None
    its, since = seen.versions.get(target.number), told.candidates.get(target.number)
    if its is None or since is None or seen.plan < since:
        return None
    if its.stage == READY:
        return None if deployment.hold else Flip(target.number, deployment.live)
    if its.stage in (LOADING, PROBING) and its.error:
        return MarkFailed(target.number, its.error_code, its.error)
    return None


def _leaving(
    deployment: DeploymentRecord, versions: Mapping[int, VersionRecord], seen: Seen, told: Told
) -> list[MarkRetired]:
    """Whoever is neither live nor to be goes; but while something should serve, only once that does. What is not here
    yet never served, and goes at once."""
    over = {
        number: version.state
        for number, version in sorted(versions.items())
        if number not in (deployment.live, deployment.target) and version.state in (PENDING, FETCHING, FETCHED)
    }
    if deployment.live and is_enabled(deployment):
        its, since = seen.versions.get(deployment.live), told.live.get(deployment.live)
        if its is None or its.stage != READY or since is None or seen.plan < since:
            over = {number: state for number, state in over.items() if state != FETCHED}
    return [MarkRetired(number) for number in over]
