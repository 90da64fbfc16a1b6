"""A model reaches the server whole, by the blocking and the asyncio client, whatever happens on the way."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from artifact_door import Door, artifact_door

from slipway.client import upload as uploading
from slipway.client.admin import Admin
from slipway.client.admin_async import AsyncAdmin
from slipway.client.admin_protocol import AdminProtocol
from slipway.client.retry import Circumstances, Retry
from slipway.client.upload import upload
from slipway.errors import Conflict, DigestMismatch, NotFound, StoreUnavailable, Unavailable
from slipway.spec.resources import Artifact

MB = 2**20
QUICK = Retry(attempts=3, first_wait_s=0.001, longest_wait_s=0.002)
Send = Callable[..., Artifact]


def send_blocking(door: Door, source: Path, progress: Any = None) -> Artifact:
    with Admin(server=door.url) as admin:
        return admin._run(upload(source, protocol=AdminProtocol(""), at=circumstances(door), progress=progress))


def send_async(door: Door, source: Path, progress: Any = None) -> Artifact:
    async def run() -> Artifact:
        async with AsyncAdmin(server=door.url) as admin:
            return await admin._run(
                upload(source, protocol=AdminProtocol(""), at=circumstances(door), progress=progress)
            )

    return asyncio.run(run())


def circumstances(door: Door) -> Circumstances:
    now = time.monotonic()
    return Circumstances(now + 5, now, QUICK, random.random, door.url)


@pytest.fixture(params=[send_blocking, send_async], ids=["blocking", "asyncio"])
def send(request: pytest.FixtureRequest) -> Send:
    sender: Send = request.param
    return sender


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with artifact_door(tmp_path / "artifacts") as opened:
        yield opened


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "big").write_bytes(os.urandom(5 * MB + 3))
    (folder / "sub" / "small").write_bytes(b"small")
    (folder / "twin").write_bytes(b"small")
    (folder / "empty").write_bytes(b"")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def arrived(door: Door, artifact: Artifact, model: Path) -> bool:
    return contents(door.store.path(artifact.digest)) == contents(model)


def test_a_folder_arrives(door: Door, model: Path, send: Send) -> None:
    seen: list[tuple[str, int, int]] = []
    artifact = send(door, model, lambda *step: seen.append(step))
    assert arrived(door, artifact, model)
    total = 5 * MB + 3 + 5
    assert ("hashing", total + 5, total + 5) in seen
    assert seen[-1] == ("uploading", total, total)
    amounts = [done for stage, done, _ in seen if stage == "uploading"]
    assert amounts == sorted(amounts)
    assert len(amounts) > 4


def test_a_file_arrives(door: Door, model: Path, send: Send) -> None:
    artifact = send(door, model / "big")
    assert door.store.path(artifact.digest).read_bytes() == (model / "big").read_bytes()
    assert door.store.path(artifact.digest).name == "big"


def test_what_is_there_is_not_sent(door: Door, model: Path, send: Send) -> None:
    send(door, model / "big")
    door.puts = []
    artifact = send(door, model)
    assert door.puts == [(0, 5)]  # one of the twins
    door.puts = []
    assert send(door, model) == artifact
    assert door.puts == []


def test_pieces_grow_while_the_line_is_quick(door: Door, model: Path, send: Send) -> None:
    send(door, model / "big")
    assert [size for _, size in door.puts][:2] == [MB, 2 * MB]


@pytest.mark.parametrize("fault", ["hang up", "forget"])
def test_a_line_that_breaks_is_taken_up(door: Door, model: Path, send: Send, fault: str) -> None:
    """With the piece lost, or done and only the answer lost."""
    door.before = lambda method, _, number: fault if method == "PUT" and number in (2, 3, 5) else None
    assert arrived(door, send(door, model), model)


def test_the_next_run_goes_on_where_this_one_ended(door: Door, model: Path, send: Send) -> None:
    def fail(method: str, _: str, number: int) -> None:
        if method == "PUT" and number > 2:
            raise StoreUnavailable("the disk is full: free some space")

    door.before = fail
    with pytest.raises(StoreUnavailable, match="free some space"):
        send(door, model / "big")
    door.before, door.puts = lambda *_: None, []
    artifact = send(door, model / "big")
    assert door.puts[0][0] == 3 * MB
    assert door.store.path(artifact.digest).read_bytes() == (model / "big").read_bytes()


def test_what_is_spoiled_on_the_way_is_sent_again(door: Door, model: Path, send: Send) -> None:
    door.before = lambda method, _, number: (lambda body: b"?" + body[1:]) if method == "PUT" and number == 2 else None
    assert arrived(door, send(door, model), model)


def test_but_not_for_ever(door: Door, model: Path, send: Send) -> None:
    door.before = lambda method, *_: (lambda body: b"?" + body[1:]) if method == "PUT" else None
    with pytest.raises(DigestMismatch):
        send(door, model / "big")
    assert len(door.puts) < 12


def test_a_server_that_forgot_is_told_again(door: Door, model: Path, send: Send) -> None:
    def forget(method: str, _: str, number: int) -> None:
        if method == "PUT" and number == 3:
            door.store.collect(set(), now=time.time() + 10 * 86400)

    door.before = forget
    assert arrived(door, send(door, model), model)
    assert door.counts["POST"] > 2


def test_a_server_that_always_forgets_is_given_up(door: Door, model: Path, send: Send) -> None:
    def forget(method: str, *_: Any) -> None:
        if method == "PUT":
            raise NotFound("no such file was declared")

    door.before = forget
    with pytest.raises(Unavailable, match="missing again and again"):
        send(door, model)


def test_a_file_that_changes_meanwhile(door: Door, model: Path, send: Send) -> None:
    def change(method: str, _: str, number: int) -> None:
        if method == "PUT" and number == 2:
            with (model / "big").open("ab") as opened:
                opened.write(b"more")

    door.before = change
    with pytest.raises(Conflict, match="changed while it was read"):
        send(door, model / "big")
    assert arrived(door, send(door, model), model)


def test_two_that_send_the_same_at_once_help_each_other(door: Door, model: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda sender: sender(door, model), [send_blocking, send_async])
    assert first == second
    assert arrived(door, first, model)


def test_a_server_that_is_too_slow_gets_smaller_pieces(
    door: Door, model: Path, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploading, "REQUEST_S", 0.3)
    late = threading.Event()

    def stall(method: str, _: str, number: int) -> Any:
        if method == "PUT" and number == 2:
            late.wait(5)
            return "hang up"
        return None

    door.before = stall
    try:
        artifact = send(door, model / "big")
    finally:
        late.set()
    assert door.store.path(artifact.digest).read_bytes() == (model / "big").read_bytes()
    assert uploading.SMALLEST_BYTES in [size for _, size in door.puts]


def test_nobody_there(door: Door, model: Path, send: Send) -> None:
    door.url = "http://127.0.0.1:1"
    with pytest.raises(Unavailable, match="cannot reach"):
        send(door, model)
    with pytest.raises(NotFound, match="there is no"):
        send(door, model / "nothing")
