"""What a person who deploys sees, from the first version to the last, over a real store."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from controller_stage import OWNER, begin_at, spec, stage

from slipway.errors import Conflict, NotFound, PreconditionFailed


async def _states(at):
    return [version.state for version in await at.commands.versions("iris")]


async def _happened(at, kind):
    return kind in await at.kinds("iris")


async def _first(at, **fields):
    await at.commands.deploy(spec(**fields), caller=OWNER)
    return await at.settled("iris")


def test_the_first_deployment_becomes_ready_step_by_step(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            made = await at.commands.deploy(spec(), caller=OWNER)
            assert (made.change, made.target, made.live) == ("created", "v1", "")
            found = await at.settled("iris")
            assert (found.live, found.target, found.versions[0].state) == ("v1", "v1", "live")
            kinds = await at.kinds("iris")
            order = ["deployment.created", "version.created", "version.ready", "version.live"]
            assert [kind for kind in kinds if kind in order] == order

    asyncio.run(story())


def test_a_swap_never_leaves_a_gap(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await _first(at)
            before = len(at.fake.plans)
            made = await at.commands.deploy(spec(batching={"max_rows": 8}), caller=OWNER)
            assert (made.change, made.target) == ("new_version", "v2")
            await at.until(lambda: at.fake.live == {"iris": "v2"} and ("iris", "v1") not in at.fake.versions)
            for plan in at.fake.plans[before:]:
                assert [one.spec.version for one in plan.versions if one.live] in (["v1"], ["v2"])
            sets = [{(one.spec.version, one.live) for one in plan.versions} for plan in at.fake.plans[before:]]
            assert sets == [
                {("v1", True), ("v2", False)},
                {("v1", False), ("v2", True)},
                {("v2", True)},
            ]

    asyncio.run(story())


def test_a_version_that_fails_never_gets_traffic_and_the_old_one_goes_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await _first(at)
            at.fake.fail("iris", "v2", "ValueError: weights of layer 3 are missing")
            await at.commands.deploy(spec(batching={"max_rows": 8}), caller=OWNER)
            await at.until(lambda: at.controller.world.of("iris")[2].state == "failed")
            found = await at.settled("iris")
            assert (found.live, found.target) == ("v1", "v1")
            assert "weights of layer 3" in found.reason
            version = await at.commands.version("iris", "v2")
            assert (version.state, version.error) == ("failed", "ValueError: weights of layer 3 are missing")
            assert not any(one.spec.version == "v2" and one.live for plan in at.fake.plans for one in plan.versions)
            await at.until(lambda: ("iris", "v2") not in at.fake.versions)

    asyncio.run(story())


def test_the_first_version_that_fails_says_so_and_the_same_spec_tries_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            at.fake.fail("iris", "v1", "no such module")
            await at.commands.deploy(spec(), caller=OWNER)
            found = await at.settled("iris", state="failed")
            assert "no such module" in found.reason
            await at.until(lambda: "no such module" in at.fake.plans[-1].absent.get("iris", ""))
            again = await at.commands.deploy(spec(), caller=OWNER)
            assert (again.change, again.target) == ("new_version", "v2")
            assert (await at.settled("iris")).live == "v2"

    asyncio.run(story())


def test_nothing_changed_is_no_new_version(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            first = await _first(at)
            again = await at.commands.deploy(spec(), caller=OWNER)
            assert (again.change, again.revision) == ("unchanged", first.revision)
            live = await at.commands.deploy(spec(labels={"team": "a"}, replicas={"min": 2}), caller=OWNER)
            assert (live.change, live.target, len(live.versions)) == ("updated", "v1", 1)
            await at.until(lambda: len(at.fake.versions["iris", "v1"].pids) == 2)
            assert at.fake.versions["iris", "v1"].loads == 1
            forced = await at.commands.deploy(
                spec(labels={"team": "a"}, replicas={"min": 2}), force_version=True, caller=OWNER
            )
            assert (forced.change, forced.target) == ("new_version", "v2")

    asyncio.run(story())


def test_a_dry_run_tells_and_touches_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            would = await at.commands.deploy(spec(), dry_run=True, caller=OWNER)
            assert (would.change, would.target) == ("created", "v1")
            assert await at.commands.deployments() == []
            first = await _first(at)
            would = await at.commands.deploy(spec(queue={"rows": 7}), dry_run=True, caller=OWNER)
            assert (would.change, would.target) == ("new_version", "v2")
            assert (await at.commands.deployment("iris")).revision == first.revision

    asyncio.run(story())


def test_held_versions_wait_to_be_promoted(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await _first(at)
            await at.commands.deploy(spec(queue={"rows": 7}), hold=True, caller=OWNER)
            await at.until(lambda: ("iris", "v2") in at.fake.versions and at.fake.versions["iris", "v2"].takes_requests)
            found = await at.settled("iris")
            assert (found.live, found.target) == ("v1", "v2")
            assert "held" in found.reason
            await at.commands.deploy(spec(queue={"rows": 8}), hold=True, caller=OWNER)
            with pytest.raises(Conflict, match="v2 is not held"):
                await at.commands.promote("iris", "v2", caller=OWNER)
            await at.commands.promote("iris", caller=OWNER)
            await at.until(lambda: at.fake.live == {"iris": "v3"})

    asyncio.run(story())


def test_rollback_brings_the_same_version_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await _first(at)
            await at.commands.deploy(spec(queue={"rows": 7}), caller=OWNER)
            await at.until(lambda: at.fake.live == {"iris": "v2"} and ("iris", "v1") not in at.fake.versions)
            await at.settled("iris")
            back = await at.commands.rollback("iris", caller=OWNER)
            assert (back.target, back.change) == ("v1", "updated")
            assert back.spec.get("queue") is None
            await at.until(lambda: at.fake.live == {"iris": "v1"})
            found = await at.settled("iris")
            assert [version.version for version in found.versions] == ["v2", "v1"]
            assert [one.action for one in await at.commands.history("iris")] == ["rollback", "update", "create"]
            with pytest.raises(NotFound, match="v2"):
                await at.commands.rollback("iris", "v3", caller=OWNER)
            same = await at.commands.rollback("iris", "v1", caller=OWNER)
            assert same.change == "unchanged"

    asyncio.run(story())


def test_a_failed_version_cannot_come_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await _first(at)
            at.fake.fail("iris", "v2", "it is broken")
            await at.commands.deploy(spec(queue={"rows": 7}), caller=OWNER)
            await at.until(lambda: at.controller.world.of("iris")[2].state == "failed")
            with pytest.raises(Conflict, match="it is broken"):
                await at.commands.rollback("iris", "v2", caller=OWNER)

    asyncio.run(story())


def test_scaling_stays_within_the_spec(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await _first(at, replicas={"min": 1, "max": 2})
            await at.commands.scale("iris", 2, caller=OWNER)
            await at.until(lambda: len(at.fake.versions["iris", "v1"].pids) == 2)
            with pytest.raises(Conflict, match=r"replicas\.max 2"):
                await at.commands.scale("iris", 3, caller=OWNER)

    asyncio.run(story())


def test_stop_and_start(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await _first(at)
            await at.commands.stop("iris", caller=OWNER)
            await at.until(lambda: not at.fake.versions)
            await at.settled("iris", state="stopped")
            assert "slipway start iris" in at.fake.plans[-1].absent["iris"]
            assert (await at.commands.stop("iris", caller=OWNER)).change == "unchanged"
            await at.commands.start("iris", caller=OWNER)
            assert (await at.settled("iris")).live == "v1"
            assert "enabled" not in (await at.commands.deployment("iris")).spec

    asyncio.run(story())


def test_a_deleted_deployment_disappears_and_its_name_is_free_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await _first(at)
            at.fake.paused = True
            gone = await at.commands.delete("iris", caller=OWNER)
            assert gone.state == "deleting"
            with pytest.raises(Conflict, match="being deleted"):
                await at.commands.deploy(spec(), caller=OWNER)
            at.fake.paused = False
            at.fake._play()
            await at.until(lambda: not at.controller.world.deployments and not at.fake.versions)
            with pytest.raises(NotFound):
                await at.commands.deployment("iris")
            assert (await at.commands.deploy(spec(), caller=OWNER)).target == "v1"
            assert (await at.settled("iris")).live == "v1"

    asyncio.run(story())


def test_deleted_in_the_middle_of_a_deploy(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await _first(at)
            at.fake.paused = True
            await at.commands.deploy(spec(queue={"rows": 7}), caller=OWNER)
            await at.until(lambda: len(at.fake.plans[-1].versions) == 2)
            await at.commands.delete("iris", caller=OWNER)
            at.fake.paused = False
            at.fake._play()
            await at.until(lambda: not at.controller.world.deployments and not at.fake.versions)

    asyncio.run(story())


def test_whoever_comes_second_is_told(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            first = await _first(at)
            with pytest.raises(PreconditionFailed, match="already"):
                await at.commands.deploy(spec(), expected_revision=0, caller=OWNER)
            await at.commands.deploy(spec(labels={"a": "b"}), expected_revision=first.revision, caller=OWNER)
            with pytest.raises(PreconditionFailed, match="somebody else was first"):
                await at.commands.scale("iris", 2, expected_revision=first.revision, caller=OWNER)
            both = await asyncio.gather(
                *(at.commands.deploy(spec(queue={"rows": n}), expected_revision=2, caller=OWNER) for n in (5, 6)),
                return_exceptions=True,
            )
            assert sorted(isinstance(one, PreconditionFailed) for one in both) == [False, True]

    asyncio.run(story())


def test_a_newer_deploy_supersedes_the_one_on_its_way(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await _first(at)
            at.fake.paused = True
            await at.commands.deploy(spec(queue={"rows": 7}), caller=OWNER)
            await at.commands.deploy(spec(queue={"rows": 8}), caller=OWNER)
            back = await at.commands.deploy(spec(), caller=OWNER)
            assert (back.change, back.target) == ("updated", "v1")
            at.fake.paused = False
            at.fake._play()
            await at.until(lambda: set(at.fake.versions) == {("iris", "v1")})
            assert at.fake.versions["iris", "v1"].loads == 1
            await at.eventually(lambda: _states(at), ["stopped", "stopped", "live"])

    asyncio.run(story())


def test_a_replica_that_dies_is_told_of(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await _first(at)
            at.fake.die("iris", "v1")
            await at.settled("iris")
            await at.eventually(lambda: _happened(at, "replica.ended"), True)

    asyncio.run(story())
