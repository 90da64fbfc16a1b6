"""A network and servers that are not as they should be: cut connections, other people's servers, nonsense."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from slipway.client import Retry
from slipway.errors import DeadlineExceeded, InvalidOutput, NotFound, Overloaded, SlipwayError, Unavailable

METADATA = (
    b'{"name":"m","versions":["1"],"platform":"other","inputs":[{"name":"x","datatype":"FP32","shape":[-1,2]}],'
    b'"outputs":[{"name":"y","datatype":"FP32","shape":[-1]}]}'
)


def reply(body: bytes, status: str = "200 OK", head: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{head}\r\n".encode() + body


@contextmanager
def scripted(*replies: bytes | None) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives one reply a request, in order; None hangs up instead. Yields its URL and what came."""
    listener = socket.create_server(("127.0.0.1", 0))
    came: list[bytes] = []
    left = list(replies)

    def serve() -> None:
        while left:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                while left:
                    request = _read(peer)
                    if not request:
                        break
                    came.append(request)
                    answer = left.pop(0)
                    if answer is None:
                        break
                    peer.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", came
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def _read(peer: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        more = peer.recv(65536)
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    size = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < size:
        body += peer.recv(65536)
    return head + b"\r\n\r\n" + body


ANSWER = b'{"model_name":"m","outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[7]}]}'


def test_a_connection_cut_before_the_answer_is_opened_again(kind: Any) -> None:
    with scripted(reply(METADATA), None, reply(ANSWER)) as (url, came), kind(url) as client:
        assert client.predict("m", [[1, 2]])["y"].tolist() == [7]
    assert len(came) == 3


def test_but_not_where_the_model_must_not_compute_twice(kind: Any) -> None:
    with scripted(reply(METADATA), None, reply(ANSWER)) as (url, came):
        with kind(url, retry=Retry(resend=False)) as client, pytest.raises(Unavailable, match="lost the connection"):
            client.predict("m", [[1, 2]])
        assert len(came) == 2


def test_small_requests_are_json_that_every_server_reads(kind: Any) -> None:
    with scripted(reply(METADATA), reply(ANSWER)) as (url, came), kind(url, tensors="json") as client:
        client.predict("m", [[1, 2]])
    _, body = came[1].split(b"\r\n\r\n", 1)
    assert body == b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1.0,2.0]}]}'


@pytest.mark.parametrize("row", [[1.0, np.nan], [0.5] * 2], ids=["not exact in JSON", "large"])
def test_what_json_cannot_carry_well_goes_binary(kind: Any, row: list[float]) -> None:
    rows = [row] if np.isnan(row[1]) else [row] * 1000
    with scripted(reply(METADATA), reply(ANSWER)) as (url, came), kind(url) as client:
        client.predict("m", rows)
    head, body = came[1].split(b"\r\n\r\n", 1)
    assert b"inference-header-content-length: " in head.lower()
    assert body.endswith(np.array(rows, "<f4").tobytes())


def test_headers_and_a_path_before_the_protocols(kind: Any) -> None:
    with scripted(reply(METADATA)) as (url, came):
        with kind(url + "/models/", headers={"authorization": "Bearer t"}) as client:
            client.metadata("a/b", version="2")
        assert came[0].startswith(b"GET /models/v2/models/a%2Fb/versions/2 ")
        assert b"authorization: bearer t" in came[0].lower()


def test_nested_data_of_other_servers_is_read(kind: Any) -> None:
    answer = (
        b'{"model_name":"m","model_version":null,"outputs":['
        b'{"name":"y","datatype":"FP32","shape":[2,2],"data":[[1,2],[3,null]]},'
        b'{"name":"s","datatype":"BYTES","shape":[1],"data":["a"]},'
        b'{"name":"h","datatype":"BF16","shape":[1],"data":[1.5]}]}'
    )
    with scripted(reply(METADATA), reply(answer)) as (url, _), kind(url) as client:
        got = client.predict("m", [[1, 2]])
    np.testing.assert_array_equal(got["y"], [[1, 2], [3, np.nan]])
    assert got["s"].tolist() == [b"a"]
    assert got["h"].tolist() == [1.5]
    with pytest.raises(KeyError, match="no output 'z'; m gave y, s, h"):
        got["z"]


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (reply(b'{"error":"unknown model"}', "404 Not Found"), NotFound, "unknown model"),
        (reply(b'{"detail":"unknown model"}', "404 Not Found"), NotFound, "unknown model"),
        (reply(b"<html>", "404 Not Found"), NotFound, "status 404"),
        (reply(b"[]", "429 Too Many Requests"), Overloaded, "status 429"),
        (reply(b'{"error":"x","code":"of the future"}', "418 Teapot"), SlipwayError, "x"),
    ],
)
def test_errors_of_servers_without_our_codes(kind: Any, answer: bytes, error: type[SlipwayError], words: str) -> None:
    with (
        scripted(answer) as (url, _),
        kind(url, retry=Retry(attempts=1)) as client,
        pytest.raises(error, match=words) as caught,
    ):
        client.metadata("m")
    assert type(caught.value) is error


@pytest.mark.parametrize(
    "answer",
    [
        reply(b"not JSON"),
        reply(b'{"outputs":[{"name":"y"}]}'),
        reply(b'{"outputs":[{"name":"y","datatype":"FP32","shape":[2],"data":[1]}]}'),
        reply(b'{"outputs":[{"name":"y","datatype":"FP99","shape":[1],"data":[1]}]}'),
        reply(b'{"outputs":[{"name":"y","datatype":"INT8","shape":[1],"data":["a"]}]}'),
        reply(ANSWER, head="inference-header-content-length: ten\r\n"),
        reply(
            b'{"outputs":[{"name":"y","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}}]}1234',
            head="inference-header-content-length: 88\r\n",
        ),
    ],
)
def test_an_answer_that_is_none(kind: Any, answer: bytes) -> None:
    with (
        scripted(reply(METADATA), answer) as (url, _),
        kind(url) as client,
        pytest.raises(InvalidOutput, match="not one of the Open Inference Protocol"),
    ):
        client.predict("m", [[1, 2]])


def test_a_model_that_changed_is_looked_at_again(kind: Any) -> None:
    refused = reply(b'{"error":"input x has shape [1, 2], expected [-1, 3]","code":"invalid_input"}', "400 Bad Request")
    newer = METADATA.replace(b'"x"', b'"z"')
    with scripted(reply(METADATA), refused, reply(newer), reply(ANSWER)) as (url, came), kind(url) as client:
        with pytest.raises(SlipwayError, match="expected"):
            client.predict("m", [[1, 2]])
        client.predict("m", [[1, 2, 3]])
    assert b'"name":"z"' in came[3]


def test_waiting_for_a_server_that_says_nothing_ends_in_time_and_says_for_what(kind: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with kind(url) as client, pytest.raises(DeadlineExceeded, match=r"the server at .* is not ready after 0\.2 s"):
            client.wait_ready(timeout_s=0.2)
