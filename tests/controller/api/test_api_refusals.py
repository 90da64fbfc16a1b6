"""What is refused, and in which words: one form for all of it, and never a traceback."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx
import pytest
from api_stand import Stand, wait_for

from slipway.errors import SlipwayError
from slipway.spec.resources import Problem

PUT = "/api/v1/deployments/iris"
SPEC = {"name": "iris", "model": "s3://somewhere/iris.onnx"}


def check_problem(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert set(body) == set(Problem.__dataclass_fields__)
    assert body["status"] == answer.status_code
    assert body["type"] == f"urn:slipway:error:{body['code']}"
    assert body["instance"] == f"urn:slipway:request:{answer.headers['x-request-id']}"
    assert "Traceback" not in answer.text and 'File "' not in answer.text
    return body


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "words"),
    [
        ("GET", "/nothing", 404, "not_found", "there is nothing at '/nothing'"),
        ("GET", "/api/v1/status/", 404, "not_found", "there is nothing at"),
        ("GET", "/api/v1/deployments/irish", 404, "not_found", "irish"),
        ("PATCH", PUT, 405, "method_not_allowed", "it takes DELETE, GET, PUT"),
        ("POST", "/api/v1/status", 405, "method_not_allowed", "it takes GET"),
        ("GET", "/api/v1/deployments/a%2Fb", 400, "malformed_request", "encoded slash"),
        ("GET", "/api/v1/deployments/a%5cb", 400, "malformed_request", "backslash"),
        ("GET", "/api/v1/deployments/a%00b", 400, "malformed_request", "control character"),
        ("GET", "/api/v1/deployments/a%0Ab", 400, "malformed_request", "control character"),
        ("GET", "/api/v1/deployments/%ff", 400, "malformed_request", "UTF-8"),
        ("GET", "/api/v1/deployments/%252e%252e", 400, "invalid_input", "a name has letters"),
        ("GET", "/api/v1/deployments/-iris", 400, "invalid_input", "a name has letters"),
        ("GET", "/api/v1/deployments/" + "a" * 129, 400, "invalid_input", "128 at most"),
        ("GET", f"{PUT}/versions/3", 400, "invalid_input", "such as v3"),
        ("GET", "/api/v1/deployments?limit=0", 400, "invalid_input", "greater than or equal to 1"),
        ("GET", "/api/v1/deployments?limit=1001", 400, "invalid_input", "less than or equal to 1000"),
        ("GET", "/api/v1/deployments?limit=many", 400, "invalid_input", "valid integer"),
        ("GET", "/api/v1/deployments?limit=1&limit=2", 400, "invalid_input", "given twice"),
        ("GET", "/api/v1/deployments?lable=a", 400, "invalid_input", "did you mean 'label'?"),
        ("GET", "/api/v1/deployments?cursor=nonsense", 400, "invalid_input", "give it as `next`"),
        ("GET", "/api/v1/events?after=-1", 400, "invalid_input", "greater than or equal to 0"),
        ("GET", "/api/v1/events?after=99999999999999999999", 400, "invalid_input", "less than"),
        ("GET", "/api/v1/events/stream?deployment=nope", 404, "not_found", "nope"),
        ("GET", "/api/v1/artifacts/sha256:abc", 400, "invalid_input", "64 hex digits"),
        ("HEAD", "/api/v1/artifacts/blobs/" + "0" * 64, 404, "", ""),
        ("DELETE", "/api/v1/keys/nosuch", 404, "not_found", ""),
        ("DELETE", "/api/v1/secrets/nosuch", 404, "not_found", ""),
        ("DELETE", "/api/v1/users/nosuch", 404, "not_found", ""),
    ],
)
def test_what_cannot_be_is_refused_clearly(
    web: httpx.Client, method: str, path: str, status: int, code: str, words: str
) -> None:
    answer = web.request(method, path)
    assert answer.status_code == status, answer.text
    if method != "HEAD":
        body = check_problem(answer)
        assert body["code"] == code
        assert words in body["detail"]
    if status == 405:
        assert answer.headers["allow"] == body["detail"].partition("it takes ")[2]


@pytest.mark.parametrize(
    ("content", "kind", "status", "words"),
    [
        (b"{}", "text/plain", 415, "application/json"),
        (b"{}", None, 415, "application/json"),
        (b"{}", "application/json; charset=latin-1", 415, "application/json"),
        (b"{", "application/json", 400, "not JSON"),
        (b"\xff", "application/json", 400, "not JSON"),
        (b"[]", "application/json", 400, "Expected `object`"),
        (b"[" * 200_000, "application/json", 400, ""),
        (b'{"spec": ' + b'{"a":' * 100_000, "application/json", 400, ""),
        (b'{"spec": {"name": "iris", "model": NaN}}', "application/json", 400, "not JSON"),
        (b'{"sepc": {}}', "application/json", 400, "did you mean 'spec'?"),
        (b'{"spec": {}, "artifact": "latest"}', "application/json", 400, "artifact"),
        (b'{"spec": {"name": "iris", "model": "\\ud800"}}', "application/json", 400, ""),
        (b"", "application/json", 400, "not JSON"),
    ],
)
def test_bodies_that_cannot_be_read(
    web: httpx.Client, content: bytes, kind: str | None, status: int, words: str
) -> None:
    headers = {} if kind is None else {"content-type": kind}
    answer = web.put(PUT, content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert words in check_problem(answer)["detail"]


def test_a_spec_is_refused_with_all_its_mistakes(web: httpx.Client) -> None:
    spec = {"name": "iris", "model": "m.onnx", "replica": {"min": 2}, "batching": {"max_rows": 0}}
    answer = web.put(PUT, json={"spec": spec})
    body = check_problem(answer)
    assert (answer.status_code, body["code"]) == (422, "invalid_spec")
    assert any(line.startswith("/spec/replica:") and "replicas" in line for line in body["errors"])
    assert any(line.startswith("/spec/batching/max_rows:") for line in body["errors"])


def test_name_and_path_must_agree(web: httpx.Client) -> None:
    answer = web.put("/api/v1/deployments/other", json={"spec": SPEC})
    assert answer.status_code == 422
    assert "/spec/name: is 'iris', but this is the path of 'other'" in check_problem(answer)["detail"]


def test_ten_megabytes_are_refused_before_they_are_read(stand: Stand) -> None:
    answer = stand.web.put(PUT, content=b" " * 10_000_000, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert "1048576 bytes" in check_problem(answer)["detail"]
    head = f"PUT {PUT} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {stand.owner_key}\r\n"
    with socket.create_connection(("127.0.0.1", stand.port), timeout=20) as line:
        line.sendall(f"{head}content-type: application/json\r\ncontent-length: 10000000000\r\n\r\n".encode())
        assert line.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_of_unknown_length_is_bounded_too(web: httpx.Client) -> None:
    pieces = (b" " * 100_000 for _ in range(20))
    answer = web.put(PUT, content=pieces, headers={"content-type": "application/json"})
    assert answer.status_code == 413


def test_a_body_where_none_belongs(web: httpx.Client) -> None:
    answer = web.request("DELETE", PUT, content=b"{}")
    assert (answer.status_code, "takes no body" in check_problem(answer)["detail"]) == (400, True)


def test_an_endless_head_ends_the_connection(stand: Stand) -> None:
    with socket.create_connection(("127.0.0.1", stand.port), timeout=20) as line:
        line.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n")
        got = b""
        try:
            for number in range(3000):
                line.sendall(b"x-%d: %s\r\n" % (number, b"y" * 1000))
            got = line.recv(1000)
        except OSError:
            pass
        assert b"200 OK" not in got
    assert httpx.get(f"{stand.url}/healthz").status_code == 200


def test_what_nobody_foresaw_is_told_by_a_word_that_finds_it_in_the_log(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> None:
        raise ZeroDivisionError("the inner secret")

    real = stand.controller.commands.status
    stand.controller.commands.status = broken  # type: ignore[assignment,method-assign]
    try:
        answer = stand.web.get("/api/v1/status", headers={"x-request-id": "my-own-word"})
    finally:
        stand.controller.commands.status = real  # type: ignore[method-assign]
    assert answer.status_code == 500
    assert "inner secret" not in answer.text
    assert check_problem(answer)["instance"] == "urn:slipway:request:my-own-word"
    (record,) = [one for one in caplog.records if one.exc_info]
    assert record.exc_info is not None and isinstance(record.exc_info[1], ZeroDivisionError)
    assert record.fields["correlation"] == "my-own-word"  # type: ignore[attr-defined]


def test_errors_of_the_house_keep_class_and_hint(stand: Stand) -> None:
    from slipway.errors import NotLeader, Overloaded

    async def fails(error: SlipwayError) -> None:
        raise error

    real = stand.controller.commands.routes
    for error, status in ((NotLeader("ask http://other:8082"), 503), (Overloaded("full", retry_after_s=2.2), 429)):
        stand.controller.commands.routes = lambda error=error: fails(error)  # type: ignore[assignment,method-assign,misc]
        try:
            answer = stand.web.get("/api/v1/routes")
        finally:
            stand.controller.commands.routes = real  # type: ignore[method-assign]
        assert answer.status_code == status
        assert check_problem(answer)["detail"] == error.message
        assert answer.headers.get("retry-after") == ("3" if status == 429 else None)


def test_a_request_id_that_is_no_word_is_replaced(web: httpx.Client) -> None:
    answer = web.get("/healthz", headers={"x-request-id": "a b\tc"})
    assert answer.headers["x-request-id"] not in ("", "a b\tc")


def test_an_aborted_upload_does_no_harm(stand: Stand) -> None:
    with socket.create_connection(("127.0.0.1", stand.port), timeout=20) as line:
        head = (
            f"PUT {PUT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"
        )
        line.sendall(head.encode() + b'{"spec": ')
    wait_for(lambda: httpx.get(f"{stand.url}/healthz").status_code == 200)
    assert stand.web.get("/api/v1/deployments").json()["items"] == []


def test_refusals_are_json_for_all_clients(web: httpx.Client) -> None:
    answer = web.get("/nothing", headers={"accept": "text/html"})
    assert json.loads(answer.text)["code"] == "not_found"
