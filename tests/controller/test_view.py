"""The words of the management API for what runs: a deployment is ready when all that was asked for is there."""

from __future__ import annotations

from slipway.controller import view
from slipway.controller.decide import Seen
from slipway.store.records import DeploymentRecord, VersionRecord
from slipway.wire.messages import ReplicaSeen, VersionSeen


def deployment(replicas: int) -> DeploymentRecord:
    return DeploymentRecord(
        name="iris", spec={"name": "iris", "model": "m", "replicas": {"min": replicas}}, revision=1, live=1, target=1,
        hold=False, deleting=False, created_at=0.0, updated_at=0.0, updated_by="owner",
    )  # fmt: skip


def version() -> VersionRecord:
    return VersionRecord(
        deployment="iris", number=1, source="m", digest="", size_bytes=0, settings={}, state="fetched", progress=1.0,
        error="", platform="", created_at=0.0, created_by="owner",
    )  # fmt: skip


def replica(index: int, *, state: str = "ready", trouble: str = "") -> ReplicaSeen:
    return ReplicaSeen(
        index=index, generation=1, pid=100 + index, state=state, stage="", restarts=0, trouble=trouble, last_end="",
        threads=1, sandbox="", memory_bytes=0, cpu_s=0.0, busy_s=0.0, load=0.0, batches=0,
    )  # fmt: skip


def state(wanted: int, *replicas: ReplicaSeen) -> tuple[str, str]:
    seen = VersionSeen(
        model="iris", version="v1", stage="ready", live=True, wanted=True, error_code="", error="", facts=None,
        replicas=list(replicas),
    )  # fmt: skip
    return view.state_of(deployment(wanted), {1: version()}, Seen(plan=1, versions={1: seen}))


def test_replicas_that_nobody_has_seen_yet_are_waited_for() -> None:
    assert state(1, replica(1)) == ("ready", "")
    assert state(2, replica(1)) == ("deploying", "1 of 2 replicas of v1 are ready")
    assert state(2, replica(1), replica(2, state="starting")) == ("deploying", "1 of 2 replicas of v1 are ready")
    assert state(2, replica(1), replica(2)) == ("ready", "")


def test_a_replica_in_trouble_is_told() -> None:
    assert state(3, replica(1), replica(2, state="backing_off", trouble="no weights")) == (
        "degraded",
        "1 of 3 replicas of v1 are ready: no weights",
    )
