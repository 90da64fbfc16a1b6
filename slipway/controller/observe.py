"""What moved between two looks at what runs, as events for people. Pure: the numbers come with each."""

from __future__ import annotations

from collections.abc import Iterator

from slipway.controller.decide import LEAVING, LOADING, PROBING, READY, Seen
from slipway.controller.events import Note
from slipway.controller.world import number_of
from slipway.wire.messages import GatewaySeen, Observed, ReplicaSeen, VersionSeen

STAGES = {
    LOADING: ("version.loading", "{name} is loading"),
    PROBING: ("version.probing", "{name} is loaded; every gateway tries it"),
    READY: ("version.ready", "{name} is ready"),
    LEAVING: ("version.draining", "{name} finishes what it accepted"),
}


def seen_of(observed: Observed) -> dict[str, Seen]:
    """By deployment; one of which nothing runs is left out."""
    by_name: dict[str, dict[int, VersionSeen]] = {}
    for version in observed.versions:
        by_name.setdefault(version.model, {})[number_of(version.version)] = version
    return {name: Seen(observed.plan, versions) for name, versions in by_name.items()}


def what_moved(before: Observed | None, after: Observed) -> list[Note]:
    """Nothing at the first look: what is there then may have been there for days."""
    return [] if before is None else [*_versions(before, after), *_gateways(before, after)]


def moved_names(before: Observed | None, after: Observed) -> set[str]:
    """The deployments about which a decision may be due; load and memory decide nothing."""
    old = {(version.model, version.version): version for version in before.versions} if before else {}
    new = {(version.model, version.version): version for version in after.versions}
    moved = {name for name, _ in old.keys() ^ new.keys()}
    for key in old.keys() & new.keys():
        if _decisive(old[key]) != _decisive(new[key]):
            moved.add(key[0])
    return moved


def _decisive(version: VersionSeen) -> tuple[object, ...]:
    ready = sum(replica.state == "ready" for replica in version.replicas)
    return version.stage, version.live, version.wanted, version.error, version.facts is None, ready


def _versions(before: Observed, after: Observed) -> Iterator[Note]:
    old = {(version.model, version.version): version for version in before.versions}
    for version in after.versions:
        was = old.pop((version.model, version.version), None)
        name, number = f"{version.model} {version.version}", number_of(version.version)
        yield from _replicas(was, version)
        if version.stage in STAGES and (was is None or was.stage != version.stage):
            kind, words = STAGES[version.stage]
            data = {"replicas": len(version.replicas), "before": was.stage if was else ""}
            yield Note(kind, words.format(name=name), version.model, number, data)
    for version in old.values():
        name = f"{version.model} {version.version}"
        yield Note(
            "version.stopped",
            f"{name} has ended, and its memory is free again",
            version.model,
            number_of(version.version),
            {"replicas": len(version.replicas)},
        )


def _replicas(was: VersionSeen | None, version: VersionSeen) -> Iterator[Note]:
    old = {replica.index: replica for replica in was.replicas} if was else {}
    for replica in version.replicas:
        then = old.get(replica.index)
        name = f"{version.model} {version.version} #{replica.index}"
        number = number_of(version.version)
        if _died(then, replica):
            why = replica.last_end or replica.trouble or "it ended"
            words = f"replica {name} ended: {why}"
            yield Note("replica.ended", words, version.model, number, _numbers(replica))
        if replica.state == "ready" and (then is None or then.state != "ready" or then.generation < replica.generation):
            words = f"replica {name} is ready (process {replica.pid})"
            yield Note("replica.ready", words, version.model, number, _numbers(replica))


def _died(then: ReplicaSeen | None, now: ReplicaSeen) -> bool:
    """Not on purpose: its place waits for another try, or has had one."""
    if then is None or now.state in ("stopping", "stopped"):
        return False
    fell = then.state in ("ready", "starting") and now.state == "backing_off"
    return fell or (now.restarts > then.restarts and then.state != "backing_off")


def _numbers(replica: ReplicaSeen) -> dict[str, object]:
    return {
        "replica": replica.index,
        "generation": replica.generation,
        "pid": replica.pid,
        "restarts": replica.restarts,
        "memory_bytes": replica.memory_bytes,
    }


def _gateways(before: Observed, after: Observed) -> Iterator[Note]:
    old: dict[int, GatewaySeen] = {gateway.number: gateway for gateway in before.gateways}
    for gateway in after.gateways:
        was = old.get(gateway.number)
        if was is not None and gateway.restarts > was.restarts:
            data = {"gateway": gateway.number, "restarts": gateway.restarts, "pid": gateway.pid}
            why = f": {gateway.trouble}" if gateway.trouble else ""
            yield Note("gateway.restarted", f"gateway #{gateway.number} was started again{why}", data=data)
    if after.draining and not before.draining:
        yield Note("server.draining", "the server finishes what it accepted, and ends")
