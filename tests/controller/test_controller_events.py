"""What happened, for those who ask later and those who watch; and what replicas wrote."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from controller_stage import OWNER, begin_at, spec, stage

from slipway.controller import events
from slipway.controller.events import Note
from slipway.errors import NotFound
from slipway.spec.resources import Event


async def take(source, count: int) -> list[Event]:
    found = []
    async with asyncio.timeout(10):
        async for event in source:
            found.append(event)
            if len(found) == count:
                break
    return found


def test_a_watcher_gets_each_event_once_and_goes_on_where_it_was(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            watching = asyncio.ensure_future(take(at.commands.subscribe(deployment="iris"), 3))
            await asyncio.sleep(0)
            await at.commands.deploy(spec("digits"), caller=OWNER)
            await at.commands.deploy(spec(), caller=OWNER)
            first = await watching
            assert {event.deployment for event in first} == {"iris"}
            await at.settled("iris")
            rest = await take(at.commands.subscribe(deployment="iris", after=first[-1].id), 2)
            stored = await at.commands.events(deployment="iris", after=first[0].id - 1, limit=1000)
            assert [event.id for event in first + rest] == [event.id for event in stored][:5]

    asyncio.run(story())


def test_a_slow_watcher_misses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "IN_MEMORY", 10)

    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await at.eventually(lambda: at.kinds(), ["controller.leading"])
            source = at.commands.subscribe(after=at.controller.events.last)
            at.controller.events.add(Note("test", f"number {number}") for number in range(100))
            await at.eventually(lambda: _count(at), 100)
            seen = await take(source, 100)
            assert [event.message for event in seen] == [f"number {number}" for number in range(100)]

    async def _count(at) -> int:
        return sum(event.kind == "test" for event in await at.commands.events(limit=1000))

    asyncio.run(story())


def test_events_outlive_the_controller(tmp_path: Path) -> None:
    async def story() -> None:
        begin = begin_at(tmp_path)
        async with stage(begin) as at:
            await at.commands.deploy(spec(), caller=OWNER)
            await at.settled("iris")
            before = await at.commands.events(limit=1000)
            await at.crash()
        async with stage(begin) as at:
            seen = await take(at.commands.subscribe(after=0), len(before))
            assert [event.id for event in seen] == [event.id for event in before]

    asyncio.run(story())


def test_logs_end_with_the_last_lines_and_grow(tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "iris"
    folder.mkdir(parents=True)
    (folder / "v1-1.log").write_text("".join(f"line {n}\n" for n in range(500)) + "half")
    (folder / "v1-1.log.1").write_text("older\n")

    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            with pytest.raises(NotFound):
                at.commands.logs("iris")
            await at.commands.deploy(spec(), caller=OWNER)
            lines = b"".join([part async for part in at.commands.logs("iris", tail=3)])
            assert lines == b"line 497\nline 498\nline 499\n"
            lines = b"".join([part async for part in at.commands.logs("iris", tail=501)])
            assert lines.startswith(b"older\nline 0\n") and lines.count(b"\n") == 501
            with pytest.raises(NotFound, match="v7"):
                at.commands.logs("iris", version="v7")
            following = at.commands.logs("iris", tail=1, follow=True)
            assert await anext(following) == b"line 499\n"
            with (folder / "v1-1.log").open("a") as file:
                file.write(" and half\n")
            async with asyncio.timeout(10):
                assert await anext(following) == b"half and half\n"
                (folder / "v1-1.log").write_text("after it was cut\n")
                assert await anext(following) == b"after it was cut\n"
                (folder / "v1-2.log").write_text("another\n")
                assert await anext(following) == b"v1-2 | another\n"
            await following.aclose()

    asyncio.run(story())


def test_no_log_is_said(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await at.commands.deploy(spec(), caller=OWNER)
            with pytest.raises(NotFound, match="no log"):
                async for _ in at.commands.logs("iris"):
                    pass

    asyncio.run(story())
