"""A controller that is killed at any moment of a swap: its successor reads the store, hears what runs, and goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from controller_stage import OWNER, begin_at, spec, stage

from slipway.spec.serve import Batching, CacheLimits, ModelSpec, QueueLimits, ReplicaSpec
from slipway.testing.supervisor import FakeSupervisor


def plays_on(fake: FakeSupervisor) -> None:
    fake.paused = False
    fake._play()


@pytest.mark.parametrize("steps", range(7))
def test_a_swap_goes_on_where_the_dead_one_was(tmp_path: Path, steps: int) -> None:
    async def story() -> None:
        begin, fake = begin_at(tmp_path), FakeSupervisor()
        async with stage(begin, fake) as at:
            await at.commands.deploy(spec(), caller=OWNER)
            await at.settled("iris")
            fake.paused = True
            await at.commands.deploy(spec(queue={"rows": 7}), caller=OWNER)
            for _ in range(steps):
                before = fake.observed()
                fake.step()
                if fake.observed() == before:
                    break
                at.controller.heard(fake.observed())
                await asyncio.sleep(0.03)
            await at.crash()
        serving = [key for key, one in fake.versions.items() if one.live and one.takes_requests]
        assert len(serving) == 1
        before = len(fake.plans)
        async with stage(begin, fake) as at:
            plays_on(fake)
            await at.until(lambda: fake.live == {"iris": "v2"} and len(fake.versions) == 1)
            assert (await at.settled("iris")).live == "v2"
            assert fake.versions["iris", "v2"].loads == 1
            numbers = [plan.number for plan in fake.plans]
            assert numbers == sorted(set(numbers))
            for plan in fake.plans[before:]:
                assert len([one for one in plan.versions if one.live]) == 1

    asyncio.run(story())


def test_a_restart_changes_nothing_of_what_runs(tmp_path: Path) -> None:
    async def story() -> None:
        begin, fake = begin_at(tmp_path), FakeSupervisor()
        async with stage(begin, fake) as at:
            await at.commands.deploy(spec(), caller=OWNER)
            await at.commands.deploy(spec("digits"), caller=OWNER)
            await at.settled("iris")
            await at.settled("digits")
            await at.crash()
        pids = {key: one.pids for key, one in fake.versions.items()}
        last = fake.plans[-1]
        async with stage(begin, fake) as at:
            await at.until(lambda: fake.plans[-1].number > last.number)
            assert fake.plans[-1].versions == last.versions
            assert (await at.settled("iris")).live == "v1"
            assert {key: one.pids for key, one in fake.versions.items()} == pids

    asyncio.run(story())


def test_nothing_is_planned_before_the_supervisor_was_heard(tmp_path: Path) -> None:
    async def story() -> None:
        fake = FakeSupervisor()
        async with stage(begin_at(tmp_path), fake) as at:
            await at.commands.deploy(spec(), caller=OWNER)
            await at.settled("iris")
            await at.crash()
        fake.plans.clear()
        deaf = FakeSupervisor()
        deaf.attach = lambda _: None  # it never says what runs
        async with stage(begin_at(tmp_path), deaf) as at:
            await at.commands.deploy(spec(queue={"rows": 3}), caller=OWNER)
            assert not at.commands.ready
            assert (await at.commands.deployment("iris")).state == "deploying"
            assert deaf.plans == []

    asyncio.run(story())


def test_a_deletion_that_was_cut_off_is_finished(tmp_path: Path) -> None:
    async def story() -> None:
        begin, fake = begin_at(tmp_path), FakeSupervisor()
        async with stage(begin, fake) as at:
            await at.commands.deploy(spec(), caller=OWNER)
            await at.settled("iris")
            fake.paused = True
            await at.commands.delete("iris", caller=OWNER)
            await at.crash()
        async with stage(begin, fake) as at:
            plays_on(fake)
            await at.until(lambda: not at.controller.world.deployments and not fake.versions)

    asyncio.run(story())


SERVED = (
    ModelSpec("iris", "/models/iris/1/model.onnx", "v1"),
    ModelSpec(
        "iris",
        "/models/iris/7/model.onnx",
        "v7",
        replicas=ReplicaSpec(count=2, threads=3, memory_bytes=123_456_789, hang_s=0.7, allow_read=("/data",)),
        batching=Batching(max_rows=7, max_delay_s=0.0137, slo_s=1 / 3),
        queue=QueueLimits(rows=9, bytes=1_000_001),
        cache=CacheLimits(bytes=777, ttl_s=1.5),
        idempotent=False,
        options={"a": "b"},
        environment={"HOME": "/x"},
        drain_s=2.5,
    ),
    ModelSpec("python", "package.module:Class", trust_pickle=True),
)


def test_what_slipway_serve_runs_is_taken_over_untouched(tmp_path: Path) -> None:
    models = [SERVED[0], SERVED[1], SERVED[2]]
    models[0] = ModelSpec("iris", "/models/iris/1/model.onnx", "v1", replicas=ReplicaSpec(count=2))

    async def story() -> None:
        begin, fake = begin_at(tmp_path, adopt=models), FakeSupervisor()
        fake.adopt(*models)
        pids = {key: one.pids for key, one in fake.versions.items()}
        async with stage(begin, fake) as at:
            await at.until(lambda: fake.plans)
            planned = {(one.spec.name, one.spec.version): one for one in fake.plans[0].versions}
            assert {key: one.spec for key, one in planned.items()} == {(m.name, m.version): m for m in models}
            assert [key for key, one in planned.items() if one.live] == [("iris", "v7"), ("python", "v1")]
            assert {key: one.pids for key, one in fake.versions.items()} == pids
            found = await at.settled("iris")
            assert [one.state for one in found.versions] == ["live", "ready"]
            await at.commands.deploy(spec(queue={"rows": 11}), caller=OWNER)
            await at.until(lambda: fake.live.get("iris") == "v8")
            await at.commands.delete("python", caller=OWNER)
            await at.until(lambda: "python" not in at.controller.world.deployments)
            await at.crash()
        async with stage(begin, fake) as at:  # what was changed since stays changed
            assert (await at.settled("iris")).live == "v8"
            assert "python" not in at.controller.world.deployments

    asyncio.run(story())
