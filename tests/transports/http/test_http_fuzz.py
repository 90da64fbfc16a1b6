"""Whatever bytes come, the door answers in proper HTTP or hangs up, and goes on to answer others."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from http_stand import AFFINE, ECHO, Answer, Stand, affine, get, infer, post, result, stand, tensor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

KNOWN = {200, 204, 400, 404, 405, 408, 411, 413, 414, 415, 429, 431, 501, 503}
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def door() -> Iterator[Stand]:
    with stand(max_body_bytes=100_000, max_head_bytes=4096) as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_bugs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """An exception that nobody foresaw ends in the log; there must be none."""
    with caplog.at_level(logging.ERROR):
        yield
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def chunked(body: bytes) -> bytes:
    half = len(body) // 2
    pieces = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:half], body[half:]) if piece)
    return get(AFFINE, "transfer-encoding: chunked", method="POST") + pieces + b"0\r\n\r\n"


def mixed_binary() -> bytes:
    raw = b"\1\0\2\0"
    head = json.dumps(
        {
            "inputs": [
                {"name": "a", "datatype": "INT16", "shape": [2], "parameters": {"binary_data_size": 4}},
                tensor("BYTES", [2], ["x", "y"], name="b"),
            ],
            "outputs": [{"name": "a", "parameters": {"binary_data": True}}],
        }
    ).encode()
    return post(ECHO, head + raw, f"inference-header-content-length: {len(head)}")


GOOD: list[tuple[bytes, int]] = [
    (get("/v2/health/live"), 200),
    (get("/v2/models/affine"), 200),
    (get("/v2", "accept-encoding: gzip, zstd"), 200),
    (get("/v2/models/affine/stats"), 200),
    (get("/nowhere"), 404),
    (infer(), 200),
    (infer(1, 2, 3, 4, 5, 6, 7, 8, id="x"), 200),
    (infer(headers=("x-request-id: r-1",)), 200),
    (infer(headers=("slipway-timeout-ms: 5000",)), 200),
    (post(AFFINE, affine(1, 2)), 400),
    (post(ECHO, {"inputs": [tensor("UINT64", [2], [1, 2**64 - 1])]}), 200),
    (post(ECHO, {"inputs": [tensor("BOOL", [1, 2], [[True, False]])]}), 200),
    (post("/v2/repository/index", {"ready": True}), 200),
    (chunked(json.dumps(affine()).encode()), 200),
    (mixed_binary(), 200),
]


def talk(door: Stand, pieces: list[bytes]) -> list[Answer]:
    """Send, say that nothing more comes, and read all that comes back as strictly as a client does."""
    client = door.client()
    try:
        for piece in pieces:
            client.send(piece)
        client.socket.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # hung up on before the end: what was answered can still be read
    answers = []
    try:
        while True:
            answers.append(client.answer())
    except (EOFError, ConnectionError):
        assert client._rest == b"", "half an answer"
    client.close()
    return answers


def check(answer: Answer) -> None:
    if answer.status == 100:
        return
    assert answer.status in KNOWN
    if answer.status >= 400:
        assert answer.code


def still_serves(door: Stand) -> None:
    assert result(door.ask(infer(1, 2, 3, 4))) == [3, 5, 7, 9]


def cut(data: bytes, places: list[float]) -> list[bytes]:
    edges = sorted({0, len(data), *[int(place * len(data)) for place in places]})
    return [data[start:stop] for start, stop in pairwise(edges)]


places = st.lists(st.floats(0, 1), max_size=4)


def test_the_good_ones_are_good(door: Stand) -> None:
    for data, status in GOOD:
        assert door.ask(data).status == status, data


@FUZZ
@given(st.lists(st.sampled_from(GOOD), min_size=1, max_size=12), places)
def test_any_pipeline_cut_anywhere_is_answered_in_order(
    door: Stand, requests: list[tuple[bytes, int]], places: list[float]
) -> None:
    answers = talk(door, cut(b"".join(data for data, _ in requests), places))
    assert [answer.status for answer in answers] == [status for _, status in requests]


@FUZZ
@given(st.lists(st.sampled_from(GOOD), max_size=3), st.binary(max_size=300), places)
def test_random_bytes(door: Stand, before: list[tuple[bytes, int]], noise: bytes, places: list[float]) -> None:
    answers = talk(door, cut(b"".join(data for data, _ in before) + noise, places))
    assert [answer.status for answer in answers[: len(before)]] == [status for _, status in before]
    for answer in answers:
        check(answer)
    still_serves(door)


WORDS = [
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\0", b"\xff", b"%", b"%2f", b"/", b"//", b"?", b"#", b"\r\n\r\n"),
    *(b"HTTP/1.0", b"HTTP/2.0", b"GET", b"HEAD", b"POST", b"OPTIONS", b"CONNECT", b"chunked", b"gzip", b"close"),
    *(b"content-length: 5\r\n", b"content-length: -1\r\n", b"transfer-encoding: chunked\r\n", b"9" * 30, b"0"),
    *(b"expect: 100-continue\r\n", b"connection: close\r\n", b"content-encoding: zstd\r\n", b"x" * 5000),
    *(b"content-type: text/plain\r\n", b"inference-header-content-length: 3\r\n", b"accept-encoding: gzip\r\n"),
    *(b"upgrade: h2c\r\n", b"[", b"]", b"{", b"}", b'"', b"null", b"true", b"NaN", b"1e999", b"-", b"\\ud800"),
    *(b"[[[[", b'"data":[]', b'"shape":[1099511627776,0]'),
]


@FUZZ
@given(st.data())
def test_damaged_requests(door: Stand, data: Any) -> None:
    body = bytearray(b"".join(good for good, _ in data.draw(st.lists(st.sampled_from(GOOD), min_size=1, max_size=2))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=4) | st.sampled_from(WORDS))
    for answer in talk(door, cut(bytes(body), data.draw(places))):
        check(answer)
    still_serves(door)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["inputs", "outputs", "parameters", "id", "name", "shape", "datatype", "data", "model_name"]


@FUZZ
@given(st.data())
def test_any_json_for_an_infer_request(door: Stand, data: Any) -> None:
    """A right request with some of its values replaced by something else, at any depth."""
    document: Any = affine(1, 2, 3, 4, id="a", outputs=[{"name": "y"}], parameters={"timeout": 10**7, "priority": 1})
    for _ in range(data.draw(st.integers(1, 3))):
        spot: Any = document
        while isinstance(spot, dict | list) and spot and data.draw(st.integers(0, 3)):
            key = data.draw(st.sampled_from(list(spot) if isinstance(spot, dict) else list(range(len(spot)))))
            if not isinstance(spot[key], dict | list) or data.draw(st.booleans()):
                spot[key] = data.draw(json_values)
                break
            spot = spot[key]
        else:
            if isinstance(spot, dict):
                spot[data.draw(st.sampled_from(FIELDS) | st.text(max_size=5))] = data.draw(json_values)
    answer = door.ask(post(AFFINE, document))
    check(answer)
    assert answer.status in (200, 400)
    still_serves(door)


@FUZZ
@given(st.data())
def test_any_tail_and_length_of_a_binary_request(door: Stand, data: Any) -> None:
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "datatype": data.draw(st.sampled_from(["FP32", "BYTES", "BOOL", "FP16"])),
                    "shape": data.draw(st.lists(st.integers(0, 3) | st.just(2**40), max_size=3)),
                    "parameters": {"binary_data_size": data.draw(st.integers(0, 12) | st.just(2**62))},
                }
            ],
            "parameters": {"binary_data_output": data.draw(st.booleans())},
        }
    ).encode()
    tail = data.draw(st.binary(max_size=12))
    length = len(head) + data.draw(st.sampled_from([0, 0, 0, -1, 1, 100]))
    answer = door.ask(post(ECHO, head + tail, f"inference-header-content-length: {length}"))
    check(answer)
    assert answer.status in (200, 400)
    still_serves(door)
