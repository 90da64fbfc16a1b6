"""Streams: each event once and in order over any number of connections, and an end when there should be one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_stand import Stand, standing, wait_for

from slipway.controller.api import streams

STREAM = "/api/v1/events/stream"


def events_of(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Server-sent events as they come; comments as {'': …}."""
    event: dict[str, str] = {}
    for line in lines:
        if line:
            field, _, value = line.partition(": ")
            event[field] = value
        elif event:
            yield event
            event = {}


def take(stand: Stand, count: int, *, last: int | None = None, deployment: str = "") -> tuple[int, list[int]]:
    """(the id that the stream began with, ids of the first `count` events)."""
    headers = {} if last is None else {"last-event-id": str(last)}
    with stand.web.stream("GET", STREAM, params={"deployment": deployment}, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        coming = events_of(answer.iter_lines())
        began = next(coming)
        assert set(began) == {"retry", "id"}
        told = []
        while len(told) < count:
            event = next(coming)
            if "data" in event:
                data = json.loads(event["data"])
                assert (str(data["id"]), data["kind"]) == (event["id"], event["event"])
                told.append(data["id"])
    return int(began["id"]), told


def test_a_stream_that_is_cut_again_and_again_loses_nothing(stand: Stand) -> None:
    stand.deploy("streamed")
    stand.wait_live("streamed", "v1")
    busy = threading.Thread(
        target=lambda: [stand.deploy("streamed", batching={"max_rows": rows}) for rows in range(1, 9)]
    )
    last, _ = take(stand, 0)
    begin, told = last, []
    busy.start()
    for count in (1, 2, 3, 1, 4, 1, 1):
        began, ids = take(stand, count, last=last)
        assert began == last
        told += ids
        last = ids[-1]
    busy.join(20)
    stored = stand.web.get(f"/api/v1/events?limit=1000&after={begin}").json()["items"]
    assert told == [one["id"] for one in stored][: len(told)]


def test_a_stream_of_one_deployment_tells_of_no_other(stand: Stand) -> None:
    stand.deploy("mine")
    stand.deploy("theirs")
    stand.wait_live("theirs", "v1")
    stand.wait_live("mine", "v1")
    wanted = [one["id"] for one in stand.web.get("/api/v1/events?limit=1000&deployment=mine").json()["items"]]
    _, told = take(stand, len(wanted), last=0, deployment="mine")
    assert told == wanted


def test_many_follow_at_once(stand: Stand) -> None:
    found: list[list[int]] = []
    newest = stand.web.get("/api/v1/events?limit=1").json()["items"][-1]["id"]
    threads = [threading.Thread(target=lambda: found.append(take(stand, 4, last=newest)[1])) for _ in range(5)]
    for thread in threads:
        thread.start()
    stand.deploy("watched")
    for thread in threads:
        thread.join(20)
    assert len(found) == 5 and all(ids == found[0] for ids in found)


def test_silence_is_broken_by_heartbeats(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(streams, "LOOK_S", 0.02)
    with stand.web.stream("GET", STREAM) as answer:
        comments = (line for line in answer.iter_lines() if line.startswith(":"))
        assert [next(comments), next(comments)] == [": still here"] * 2


def test_streams_are_bounded_and_let_go(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    from slipway.controller.api import desk

    wait_for(lambda: stand.app.state.desk.streams.total() == 0)
    monkeypatch.setattr(desk, "MOST_STREAMS", 1)
    with stand.web.stream("GET", STREAM):
        refused = stand.web.get(STREAM)
        assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
    wait_for(lambda: stand.app.state.desk.streams.total() == 0)
    with stand.web.stream("GET", STREAM) as answer:
        assert answer.status_code == 200


def test_a_stream_ends_with_the_server_at_once(tmp_path: Path) -> None:
    with standing(tmp_path) as stand:
        ended = threading.Event()

        def follow() -> None:
            with httpx.stream("GET", stand.url + STREAM, timeout=30) as answer:
                for _ in answer.iter_lines():
                    begun.set()
            ended.set()

        begun = threading.Event()
        thread = threading.Thread(target=follow)
        thread.start()
        assert begun.wait(20)
    assert ended.wait(20)
    thread.join(20)


def test_a_stream_ends_with_the_key_that_opened_it(tmp_path: Path) -> None:
    with standing(tmp_path, required=True) as stand:
        key = stand.key("follower", "admin")
        with httpx.stream("GET", stand.url + STREAM, headers={"x-api-key": key}, timeout=20) as answer:
            lines = answer.iter_lines()
            next(lines)
            assert stand.web.delete(f"/api/v1/keys/{key.split('_')[1]}").status_code == 200
            list(lines)  # it would go on for ever


@pytest.mark.parametrize("last", ["-1", "abc", "1" * 16, "1.5", "٣"])
def test_an_id_that_is_none(stand: Stand, last: str) -> None:
    answer = stand.web.get(STREAM, headers={"last-event-id": last.encode()})
    assert answer.status_code == 400
    assert "Last-Event-ID" in answer.json()["detail"]


# --- logs -----------------------------------------------------------------------------------------------------------


def log_file(stand: Stand, name: str, version: str = "v1", index: int = 1) -> Path:
    folder = stand.folder / "data" / "logs" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{version}-{index}.log"


def test_logs_from_the_end(stand: Stand) -> None:
    stand.deploy("talkative")
    log_file(stand, "talkative").write_text("".join(f"line {number}\n" for number in range(500)))
    answer = stand.web.get("/api/v1/deployments/talkative/logs", params={"tail": 3})
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.splitlines() == ["line 497", "line 498", "line 499"]
    assert len(stand.web.get("/api/v1/deployments/talkative/logs").text.splitlines()) == 100
    assert stand.web.get("/api/v1/deployments/talkative/logs", params={"tail": 0}).text == ""


@pytest.mark.parametrize(
    ("name", "query", "status"),
    [
        ("silent", {}, 404),
        ("silent", {"version": "v9"}, 404),
        ("unknown", {}, 404),
        ("unknown", {"follow": True}, 404),
        ("silent", {"version": "../v1"}, 400),
        ("silent", {"tail": -1}, 400),
        ("silent", {"tail": 10_001}, 400),
    ],
)
def test_logs_that_are_not_there(stand: Stand, name: str, query: dict[str, Any], status: int) -> None:
    stand.deploy("silent")
    answer = stand.web.get(f"/api/v1/deployments/{name}/logs", params=query)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_logs_are_followed_line_by_line(stand: Stand) -> None:
    stand.deploy("growing")
    path = log_file(stand, "growing")
    path.write_text("first\n")
    with stand.web.stream("GET", "/api/v1/deployments/growing/logs", params={"follow": True}) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "first"
        for text in ("second", "third, ü"):
            with path.open("a") as file:
                file.write(f"{text}\n")
            assert next(lines) == text


def test_a_follower_who_leaves_is_noticed(stand: Stand) -> None:
    stand.deploy("left")
    log_file(stand, "left").write_text("first\n")
    with stand.web.stream("GET", "/api/v1/deployments/left/logs", params={"follow": True}) as answer:
        next(answer.iter_lines())
    wait_for(lambda: stand.app.state.desk.streams.total() == 0)
