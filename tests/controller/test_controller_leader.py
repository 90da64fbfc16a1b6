"""Two controllers at one database: one decides, the other reads and takes over; and a database that goes away."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from controller_stage import OWNER, begin_at, spec, stage

from slipway.controller import leader
from slipway.errors import NotFound, NotLeader, StoreUnavailable
from slipway.testing.supervisor import FakeSupervisor


def two(tmp_path: Path):
    database = f"sqlite:///{tmp_path / 'shared.db'}"
    one = begin_at(tmp_path / "one", database=database, admin="http://one:8082")
    other = begin_at(tmp_path / "other", database=database, admin="http://other:8082")
    return one, other


def test_one_leads_the_other_only_reads_and_names_it(tmp_path: Path) -> None:
    async def story() -> None:
        begin, second = two(tmp_path)
        async with stage(begin) as at, stage(second) as by:
            assert at.controller.leadership.leading
            assert by.stands_by
            await at.commands.deploy(spec(), caller=OWNER)
            with pytest.raises(NotLeader, match="http://one:8082"):
                await by.commands.deploy(spec("digits"), caller=OWNER)
            await by.until(lambda: "iris" in by.controller.world.deployments)
            assert (await by.commands.deployment("iris")).target == "v1"
            assert by.fake.plans == []
            assert not (await by.commands.status()).leader

    asyncio.run(story())


def test_what_is_revoked_at_one_is_revoked_at_the_other(tmp_path: Path) -> None:
    async def story() -> None:
        begin, second = two(tmp_path)
        async with stage(begin) as at, stage(second) as by:
            key = await at.commands.create_key("ci", scopes=["admin"], caller=OWNER)
            await by.until(lambda: by.fake.accesses and key.id in {one.id for one in by.fake.accesses[-1].keys})
            await at.commands.revoke_key(key.id, caller=OWNER)
            await by.until(lambda: not by.fake.accesses[-1].keys)

    asyncio.run(story())


def test_the_other_takes_over_when_the_first_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert leader.TTL_S + leader.EVERY_S < 10
    monkeypatch.setattr(leader, "TTL_S", 0.5)
    monkeypatch.setattr(leader, "EVERY_S", 0.1)

    async def story() -> None:
        begin, second = two(tmp_path)
        async with stage(begin) as at:
            await at.commands.deploy(spec(), caller=OWNER)
            await at.settled("iris")
            async with stage(second) as by:
                await at.crash()
                await by.until(lambda: by.controller.leadership.leading)
                assert (await by.settled("iris")).live == "v1"
                assert by.fake.live == {"iris": "v1"}

    asyncio.run(story())


def test_a_successor_in_the_same_place_leads_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        begin = begin_at(tmp_path)
        async with stage(begin) as at:
            first = at.controller.leadership.lease
            await at.crash()
        async with stage(begin) as at:
            second = at.controller.leadership.lease
            assert first is not None and second is not None
            assert second.expires_at - first.expires_at < leader.TTL_S

    asyncio.run(story())


def test_one_that_was_overtaken_writes_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        begin, _ = two(tmp_path)
        async with stage(begin) as at:
            await at.commands.deploy(spec(), caller=OWNER)
            await at.settled("iris")

            def steal(store):
                store.release_lease(store.lease(holder=at.controller.leadership._me, ttl_s=60).holder)
                return store.lease(holder="http://thief:1 elsewhere/1", ttl_s=60)

            await at.controller.store.call(steal)
            with pytest.raises(NotLeader):
                await at.commands.scale("iris", 2, caller=OWNER)
            assert not at.controller.leadership.leading
            await at.controller.leadership.look()
            with pytest.raises(NotLeader, match="http://thief:1"):
                await at.commands.scale("iris", 2, caller=OWNER)
            assert at.fake.live == {"iris": "v1"}

    asyncio.run(story())


def test_a_database_that_vanishes_stops_decisions_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader, "EVERY_S", 0.1)

    async def story() -> None:
        fake = FakeSupervisor()
        (tmp_path / "db").mkdir()
        async with stage(begin_at(tmp_path / "data", database=f"sqlite:///{tmp_path / 'db' / 'x.db'}"), fake) as at:
            await at.commands.deploy(spec(), caller=OWNER)
            await at.settled("iris")
            (tmp_path / "db").rename(tmp_path / "away")
            plans = len(fake.plans)
            with pytest.raises(StoreUnavailable):
                await at.commands.deploy(spec(queue={"rows": 9}), caller=OWNER)
            assert len(fake.plans) == plans
            assert fake.live == {"iris": "v1"}
            assert (await at.commands.deployment("iris")).live == "v1"
            (tmp_path / "away").rename(tmp_path / "db")
            await _until_it_works(at)
            assert (await at.commands.deployment("iris")).target == "v2"
            await at.until(lambda: fake.live == {"iris": "v2"})

    async def _until_it_works(at) -> None:
        for _ in range(200):
            try:
                await at.commands.deploy(spec(queue={"rows": 9}), caller=OWNER)
                return
            except StoreUnavailable:
                await asyncio.sleep(0.02)
        raise AssertionError("the store is there again, and nothing can be deployed")

    asyncio.run(story())


def test_a_database_that_is_not_there_at_the_start_is_waited_for(tmp_path: Path) -> None:
    blocked = tmp_path / "db"
    blocked.write_text("a file where the folder should be")

    async def story() -> None:
        from controller_stage import Stage

        at = Stage(begin_at(tmp_path / "data", database=f"sqlite:///{blocked / 'x.db'}"), FakeSupervisor())
        at.fake.attach(at.controller.heard)
        try:
            for _ in range(3):
                with pytest.raises(StoreUnavailable):
                    await at.commands.deploy(spec(), caller=OWNER)
                with pytest.raises(StoreUnavailable):
                    await at.commands.deployments()
                await asyncio.sleep(0.02)
            assert at.commands.access.required
            blocked.unlink()
            blocked.mkdir()
            await at.until(lambda: at.controller.leadership.leading)
            with pytest.raises(NotFound):
                await at.commands.deployment("iris")
        finally:
            await at.crash()

    asyncio.run(story())
