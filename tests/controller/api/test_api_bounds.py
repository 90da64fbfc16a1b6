"""What one identity sees and takes of a server that it shares with others."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import httpx
import pytest
from api_stand import Stand, standing, wait_for

from slipway.controller.api import desk, listening
from slipway.wire.messages import Series

STREAM = "/api/v1/events/stream"


def client(stand: Stand, key: str) -> httpx.Client:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.Client(base_url=stand.url, headers={"authorization": f"Bearer {key}"}, timeout=10, limits=limits)


def test_metrics_tell_of_what_a_caller_may_see(tmp_path: Path) -> None:
    with standing(tmp_path, required=True) as stand:
        told = [
            Series("slipway_requests_total", (name, "v1", "http", "ok"), 7.0) for name in ("iris", "hidden-thing")
        ] + [
            Series("slipway_process_resident_bytes", (f"worker {name} v1 #1",), 9.0)
            for name in ("iris", "hidden-thing")
        ]
        told.append(Series("slipway_process_resident_bytes", ("supervisor",), 9.0))
        stand.supervisor.series = told
        everything = {"iris", "hidden-thing", "supervisor"}
        expected = {
            "admin": everything,
            "deploy:*": everything,
            "predict:*": everything,
            "predict:iris": {"iris", "supervisor"},
            "deploy:iris": {"iris", "supervisor"},
            "feedback:iris": {"supervisor"},
        }
        for scope, wanted in expected.items():
            with client(stand, stand.key("scraper", scope)) as web:
                page = web.get("/metrics").text
            assert {word for word in everything if word in page} == wanted, scope


def test_no_identity_takes_all_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "MOST_STREAMS", 5)
    monkeypatch.setattr(desk, "MOST_STREAMS_EACH", 2)
    monkeypatch.setattr(desk, "KEPT_STREAMS", 2)
    with standing(tmp_path, required=True) as stand, contextlib.ExitStack() as stack:
        stand.deploy("iris")
        one, other = (client(stand, stand.key(name, "deploy:iris")) for name in ("one", "other"))
        for web in (one, other):
            stack.enter_context(web)

        def opens(web: httpx.Client, path: str = f"{STREAM}?deployment=iris") -> bool:
            answer = stack.enter_context(web.stream("GET", path))
            assert answer.status_code in (200, 429), answer.status_code
            return answer.status_code == 200

        assert [opens(one) for _ in range(4)] == [True, True, False, False]
        assert [opens(other) for _ in range(3)] == [True, False, False]
        assert [opens(stand.web, STREAM) for _ in range(3)] == [True, True, False]
        stack.close()
        wait_for(lambda: stand.app.state.desk.streams.total() == 0)


def test_one_address_does_not_take_all_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a head each, as an attacker sends it before he is asked who he is."""
    monkeypatch.setattr(listening, "MAX_CONNECTIONS_EACH", 20)
    with standing(tmp_path, required=True) as stand, contextlib.ExitStack() as stack:
        slow = []
        for _ in range(40):
            line = stack.enter_context(socket.create_connection(("127.0.0.1", stand.port), 10, ("127.0.0.2", 0)))
            with contextlib.suppress(ConnectionError):
                line.sendall(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n")
            slow.append(line)
        assert stand.web.get("/api/v1/whoami").json()["kind"] == "owner"
        wait_for(lambda: listening.AdminProtocol._here["127.0.0.2"] == 20)
        for line in slow:
            line.close()
        wait_for(lambda: "127.0.0.2" not in listening.AdminProtocol._here)
