"""Several who use one database at the same moment, and some who are killed in the middle."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from postgres import Database

from slipway.errors import NotLeader, PreconditionFailed
from slipway.store.records import VersionSettings
from slipway.store.store import Store

WAIT_S = 60
OPENER = """
import pathlib, sys, time
from slipway.store.opening import open_store
url, go = sys.argv[1], pathlib.Path(sys.argv[2])
print("waiting", flush=True)
while not go.exists():
    time.sleep(0.001)
store = open_store(url)
store.note(actor="opener", action="opened", target="", details={}, now=1.0)
"""
DECLARER = """
import itertools, sys
from slipway.store.opening import open_store
from slipway.store.records import VersionSettings
store = open_store(sys.argv[1])
for number in itertools.count():
    name = f"d{number % 7}"
    made = store.declare(name=name, spec={"name": name, "n": number}, action="update", changes=["x"] * (number % 50),
        version=VersionSettings(source="m", settings={"text": "x" * 2000}), target=None, hold=False,
        expected_revision=None, now=1.0, actor="ann")
    store.add_event(kind="k", deployment=name, version=made.target, message="", data={}, now=1.0)
    print(name, made.revision, flush=True)
"""


def together(*work: Callable[[], Any]) -> list[Any]:
    """All at once, each in its thread; their answers, or the first error."""
    barrier = threading.Barrier(len(work))

    def one(task: Callable[[], Any]) -> Any:
        barrier.wait(WAIT_S)
        return task()

    with ThreadPoolExecutor(len(work)) as pool:
        return [future.result(WAIT_S) for future in [pool.submit(one, task) for task in work]]


def declare(store: Store, *, spec: dict[str, Any], expected_revision: int | None) -> int:
    version = VersionSettings(source="m", settings=spec)
    return store.declare(
        name="iris", spec=spec, action="update", changes=[], version=version, target=None, hold=False,
        expected_revision=expected_revision, now=1.0, actor="ann",
    ).revision  # fmt: skip


def test_no_update_is_lost(database: Database) -> None:
    stores = [database.open(), database.open()]
    declare(stores[0], spec={"count": 0}, expected_revision=0)

    def count_up(store: Store) -> None:
        for _ in range(8):
            while True:
                read = store.deployment("iris")
                with contextlib.suppress(PreconditionFailed):
                    declare(store, spec={"count": read.spec["count"] + 1}, expected_revision=read.revision)
                    break

    together(*(lambda store=store: count_up(store) for store in stores * 2))
    last = stores[0].deployment("iris")
    assert (last.spec, last.revision) == ({"count": 32}, 33)
    assert [version.number for version in stores[1].versions("iris")] == list(range(1, 34))
    assert [entry.spec["count"] for entry in stores[1].revisions("iris")] == list(range(32, -1, -1))


def test_one_of_several_creates_it(database: Database) -> None:
    stores = [database.open(), database.open()]

    def create(store: Store) -> bool:
        with contextlib.suppress(PreconditionFailed):
            return bool(declare(store, spec={}, expected_revision=0))
        return False

    assert sum(together(*(lambda store=store: create(store) for store in stores * 3))) == 1
    assert len(stores[0].versions("iris")) == 1


def test_the_audit_log_does_not_fork(database: Database) -> None:
    stores = [database.open(), database.open()]

    def write(store: Store, who: int) -> None:
        for number in range(15):
            store.note(actor=f"w{who}", action="a", target="", details={"n": number}, now=1.0)

    together(*(lambda store=store, who=who: write(store, who) for who, store in enumerate(stores * 2)))
    entries = stores[0].audit(limit=1000)
    assert [entry.seq for entry in entries] == list(range(1, 61))
    for who in range(4):
        assert [entry.details["n"] for entry in entries if entry.actor == f"w{who}"] == list(range(15))
    assert stores[1].verify_audit() is None


def test_who_follows_events_misses_none(database: Database) -> None:
    stores = [database.open(), database.open()]
    done = threading.Event()
    seen: list[int] = []

    def write(store: Store) -> list[int]:
        add = lambda: store.add_event(kind="k", deployment="", version=0, message="", data={}, now=1.0)  # noqa: E731
        return [add().id for _ in range(25)]

    def follow() -> None:
        while True:
            last_round = done.is_set()
            seen.extend(event.id for event in stores[0].events(after=seen[-1] if seen else -1, limit=7))
            if last_round and len(seen) == 75:
                return
            assert not last_round or seen[-1:] != [event.id for event in stores[0].events(limit=1)], "one was missed"

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    written = together(*(lambda store=store: write(store) for store in [stores[0], stores[1], stores[1]]))
    done.set()
    follower.join(WAIT_S)
    assert not follower.is_alive()
    assert seen == sorted(number for numbers in written for number in numbers)


def test_a_deposed_leader_writes_nothing_after_its_successor_began(database: Database) -> None:
    """Two that grab the lease from each other as fast as it runs out: in the log their epochs never mix."""
    stores = {"one": database.open(), "two": database.open()}
    leases = []

    def rule(who: str) -> None:
        store = stores[who]
        for _ in range(12):
            while (lease := store.lease(holder=who, ttl_s=0.02)).holder != who:
                pass
            leases.append(lease)
            store.fence = lease.epoch
            with contextlib.suppress(NotLeader):
                for _ in range(3):
                    store.note(actor=who, action="led", target="", details={"epoch": lease.epoch}, now=1.0)
            store.fence = None

    together(lambda: rule("one"), lambda: rule("two"))
    log = [(entry.details["epoch"], entry.actor) for entry in stores["one"].audit(limit=1000)]
    assert log == sorted(log)
    holders = {(lease.epoch, lease.holder) for lease in leases}
    assert len(holders) == len({epoch for epoch, _ in holders}), "an epoch had two leaders"
    assert {actor for _, actor in log} == {"one", "two"}


def test_several_open_a_new_database_at_once(database: Database, tmp_path: Path) -> None:
    go = tmp_path / "go"
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", OPENER, database.url, go], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(4)
    ]
    for opener in openers:
        assert opener.stdout is not None and opener.stdout.readline() == b"waiting\n"
    go.touch()
    for opener in openers:
        _, said = opener.communicate(timeout=WAIT_S)
        assert opener.returncode == 0, said.decode()
    store = database.open(migrate=False)
    assert [entry.action for entry in store.audit()] == ["opened"] * 4
    assert store.verify_audit() is None


def test_killed_in_the_middle_of_a_stream_of_changes(database: Database) -> None:
    chance = random.Random(7)
    acknowledged: dict[str, int] = {}
    for _ in range(4):
        with declaring(database.url) as process:
            assert process.stdout is not None
            kill_at = None
            for line in process.stdout:  # to the last one that it wrote before it died
                name, revision = line.split()
                acknowledged[name] = int(revision)
                kill_at = kill_at or time.monotonic() + chance.uniform(0.0, 0.08)
                if time.monotonic() > kill_at:
                    process.kill()
        check_whole(database.open(), acknowledged)


@contextlib.contextmanager
def declaring(url: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", DECLARER, url], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def check_whole(store: Store, acknowledged: dict[str, int]) -> None:
    """What was answered is there, and of what was not answered all or nothing."""
    assert store.verify_audit() is None
    entries = store.audit(limit=10**6)
    deployments = {record.name: record for record in store.deployments()}
    assert sum(record.revision for record in deployments.values()) == len(entries)
    for name, revision in acknowledged.items():
        assert deployments[name].revision in (revision, revision + 1)
    for name, record in deployments.items():
        numbers = list(range(1, record.revision + 1))
        assert record.target == record.revision
        assert [version.number for version in store.versions(name)] == numbers
        assert [entry.revision for entry in store.revisions(name, limit=10**6)][::-1] == numbers
        assert [entry.details["revision"] for entry in entries if entry.target == name] == numbers
    store.close()
