"""An open server is not the servant of every web site that a browser on its machine happens to show."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest
from api_stand import Stand, standing

STOP = "/api/v1/deployments/iris/stop"


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with standing(tmp_path_factory.mktemp("closed"), required=True) as made:
        yield made


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8082", "127.0.0.1.evil.example", "10.0.0.1", "", "[::1", "a@127.0.0.1"]
)
def test_a_name_that_is_not_ours_is_refused(stand: Stand, host: str) -> None:
    with socket.create_connection(("127.0.0.1", stand.port), timeout=20) as line:
        line.sendall(f"GET /api/v1/status HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: line.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 403"), answer
    assert b"127.0.0.1 or localhost" in answer


@pytest.mark.parametrize(
    "host", ["localhost:1", "127.0.0.1", "127.8.8.8:99", "[::1]:8082", "app.localhost", "slipway.example"]
)
def test_names_of_this_machine_and_our_own_are_not(stand: Stand, host: str) -> None:
    assert httpx.get(f"{stand.url}/api/v1/status", headers={"host": host}).status_code == 200


def test_probes_may_call_us_anything(stand: Stand) -> None:
    assert httpx.get(f"{stand.url}/healthz", headers={"host": "10.1.2.3:8082"}).status_code == 200


def test_a_server_that_asks_for_credentials_may_be_called_anything(closed: Stand) -> None:
    headers = {"host": "models.example", "authorization": f"Bearer {closed.owner_key}"}
    assert httpx.get(f"{closed.url}/api/v1/status", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "file://"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://[", "content-type": "text/plain"},
    ],
)
@pytest.mark.parametrize("is_open", [True, False])
def test_a_page_of_another_site_changes_nothing(
    stand: Stand, closed: Stand, headers: dict[str, str], is_open: bool
) -> None:
    asked = stand if is_open else closed
    answer = asked.web.post(STOP, headers=headers)
    assert answer.status_code == 403
    assert "may not change anything here" in answer.json()["detail"]


def test_our_own_page_may(stand: Stand) -> None:
    headers = {"origin": stand.url, "sec-fetch-site": "same-origin"}
    assert stand.web.post(STOP, headers=headers).status_code == 404  # there is no such deployment: it was let in


def test_no_other_site_may_read(stand: Stand) -> None:
    answer = stand.web.get("/api/v1/status", headers={"origin": "http://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
    asked = stand.web.request(
        "OPTIONS", STOP, headers={"origin": "http://evil.example", "access-control-request-method": "POST"}
    )
    assert asked.status_code == 405


def test_two_hosts_are_none(stand: Stand) -> None:
    with socket.create_connection(("127.0.0.1", stand.port), timeout=20) as line:
        line.sendall(b"GET /api/v1/status HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 400")


def test_the_page_for_people_runs_nothing_from_elsewhere(stand: Stand) -> None:
    answer = stand.web.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "http://" not in answer.text and "https://" not in answer.text
