"""The controller as the process that it is: `python -m slipway.controller`, with a socket that listens for it."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from controller_stage import begin_at

from slipway.launchers.launcher import EXIT_SETUP_FAILED, ChildPlan
from slipway.launchers.local import LocalChild, LocalLauncher
from slipway.wire.control import ControlLine
from slipway.wire.messages import Access, Beat, BeginController, ControlMessage, Observed, Plan, Ready, SetupFailed

PATIENCE_S = 30.0


class Child:
    """What it says is in `said`."""

    def __init__(self, begin: BeginController, listener: socket.socket) -> None:
        plan = ChildPlan("slipway.controller", "slipway: controller under test", listeners=(listener,))
        self.process: LocalChild = LocalLauncher().launch(plan)
        self.line = ControlLine(self.process.line)
        self.line.say(begin)
        self.said: list[ControlMessage] = []
        self._hearing = threading.Thread(target=self._hear, daemon=True)
        self._hearing.start()

    def _hear(self) -> None:
        try:
            while (message := self.line.hear()) is not None:
                self.said.append(message)
        except OSError:
            pass

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.said if isinstance(message, kind)]

    def status(self) -> int | None:
        return self.process.poll()


def until(found: Callable[[], Any], child: Child | None = None) -> Any:
    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends:
        value = found()
        if value not in (None, False, []):
            return value
        if child is not None and child.status() is not None:
            raise AssertionError(f"it ended with {child.status()}: {child.said}")
        time.sleep(0.02)
    raise AssertionError("it did not come to be")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
def start(listener: socket.socket) -> Iterator[Callable[[BeginController], Child]]:
    children: list[Child] = []

    def start(begin: BeginController) -> Child:
        children.append(Child(begin, listener))
        return children[-1]

    yield start
    for child in children:
        child.process.kill()
        until(lambda child=child: child.status() is not None)
        child.process.close()


def ask(listener: socket.socket, path: str, *, method: str = "GET", body: Any = None) -> tuple[int, Any]:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}{path}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_it_gets_ready_answers_beats_and_ends_when_told(tmp_path: Path, listener: socket.socket, start) -> None:
    child = start(begin_at(tmp_path))
    until(lambda: child.of(Ready), child)
    until(lambda: child.of(Access), child)
    assert ask(listener, "/api/v1/deployments")[1]["items"] == []
    child.line.say(Observed(0, [], [], False))
    until(lambda: child.of(Plan), child)
    spec = {"apiVersion": "slipway.dev/v1", "name": "iris", "model": "package.module:Model"}
    status, made = ask(listener, "/api/v1/deployments/iris", method="PUT", body={"spec": spec})
    assert (status, made["target"]) == (201, "v1")
    planned = until(lambda: child.of(Plan)[-1].versions, child)
    assert [(one.spec.name, one.spec.version, one.live) for one in planned] == [("iris", "v1", False)]
    until(lambda: len(child.of(Beat)) >= 2 and child.of(Beat)[-1].rss_bytes > 0, child)
    os.kill(child.process.pid, signal.SIGTERM)
    assert until(lambda: child.status() is not None) and child.status() == 0


def test_requests_wait_while_a_killed_one_is_replaced(tmp_path: Path, listener: socket.socket, start) -> None:
    begin = begin_at(tmp_path)
    first = start(begin)
    until(lambda: first.of(Access), first)
    spec = {"apiVersion": "slipway.dev/v1", "name": "iris", "model": "package.module:Model"}
    assert ask(listener, "/api/v1/deployments/iris", method="PUT", body={"spec": spec})[0] == 201
    first.process.kill()
    until(lambda: first.status() is not None)
    answers: list[tuple[int, Any]] = []
    asking = threading.Thread(target=lambda: answers.append(ask(listener, "/healthz")))
    asking.start()
    second = start(begin)
    asking.join(PATIENCE_S)
    assert answers and answers[0][0] == 200
    until(lambda: ask(listener, "/api/v1/deployments/iris")[0] == 200, second)


def test_without_its_database_it_says_so_and_waits(tmp_path: Path, listener: socket.socket, start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        nobody = f"postgresql://nobody:secret@127.0.0.1:{deaf.getsockname()[1]}/nothing"
    child = start(begin_at(tmp_path, database=nobody))
    until(lambda: child.of(Ready), child)
    status, problem = ask(listener, "/api/v1/deployments")
    assert status in (401, 503), problem  # until it knows who may come in, nobody but the owner may
    assert "secret" not in json.dumps(problem)
    assert ask(listener, "/healthz")[0] == 200
    assert ask(listener, "/readyz")[0] == 503
    assert child.of(Plan) == []


def test_a_store_of_a_newer_slipway_ends_it_with_words(tmp_path: Path, start) -> None:
    begin = begin_at(tmp_path)
    import sqlite3

    from slipway.store.opening import open_store

    open_store(begin.database).close()
    with sqlite3.connect(tmp_path / "slipway.db") as database:
        database.execute("UPDATE slipway_schema SET version_num = '9999'")
    child = start(begin)
    failed = until(lambda: child.of(SetupFailed))
    assert "newer Slipway" in failed[0].message
    assert until(lambda: child.status() is not None) and child.status() == EXIT_SETUP_FAILED


def test_without_its_supervisor_it_ends(tmp_path: Path, start) -> None:
    child = start(begin_at(tmp_path))
    until(lambda: child.of(Ready), child)
    child.process.line.shutdown(socket.SHUT_RDWR)
    assert until(lambda: child.status() is not None)
