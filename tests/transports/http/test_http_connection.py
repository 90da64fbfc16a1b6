"""One connection: keep-alive, pipelining, requests in pieces, and when it ends."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from http_stand import AFFINE, Client, Stand, affine, get, infer, post, result, stand

from slipway.transports.http.connection import MAX_PIPELINED

LIVE = get("/v2/health/live")


@pytest.fixture(scope="module")
def opened() -> Iterator[Stand]:
    with stand() as door:
        yield door


@pytest.fixture
def door(opened: Stand) -> Iterator[Stand]:
    yield opened
    opened.set(hold=False, delay_s=0.0)
    opened.do(opened.service.release)
    opened.do(opened.service.requests.clear)
    opened.do(opened.service.cancelled.clear)


def chunked(body: bytes, *, size: int = 7) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])


def test_one_connection_serves_many_requests(door: Stand) -> None:
    client = door.client()
    for number in range(5):
        assert result(client.ask(infer(number, 0, 0, 0))) == [2 * number + 1, 1, 1, 1]
        assert client.ask(LIVE).json == {"live": True}


# --- when it ends -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["close", "Close", "keep-alive, close", "close ,x"])
@pytest.mark.parametrize("request_of", [get, post], ids=["get", "post"])
def test_connection_close_is_heeded(door: Stand, value: str, request_of: object) -> None:
    header = f"connection: {value}"
    data = get("/v2", header) if request_of is get else post(AFFINE, affine(), header)
    client = door.client()
    for answer in (client.ask(data),):
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
    assert client.is_closed()


def test_http_1_0_ends_after_the_answer_unless_it_asks(door: Stand) -> None:
    client = door.client()
    answer = client.ask(get("/v2", version="1.0"))
    assert answer.headers["connection"] == "close"
    assert client.is_closed()
    client = door.client()
    for _ in range(3):
        answer = client.ask(get("/v2", "connection: Keep-Alive", version="1.0"))
        assert answer.headers["connection"] == "keep-alive"
    body = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}'
    head = f"POST {AFFINE} HTTP/1.0\r\nconnection: keep-alive\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    for _ in range(2):
        answer = client.ask(head + body)
        assert result(answer) == [3, 5, 7, 9]
        assert answer.headers["connection"] == "keep-alive"


def test_http_1_1_says_nothing_about_a_connection_that_stays(door: Stand) -> None:
    assert "connection" not in door.ask(LIVE).headers


def test_what_follows_the_last_request_is_not_answered(door: Stand) -> None:
    client = door.client()
    client.send(get("/v2", "connection: close") + LIVE)
    assert client.answer().json["name"] == "slipway"
    assert client.is_closed()


def test_a_client_that_closes_its_side_ends_the_connection(door: Stand) -> None:
    client = door.client()
    client.ask(LIVE)
    client.socket.shutdown(socket.SHUT_WR)
    assert client.is_closed()


def test_a_client_that_leaves_cancels_what_it_waits_for(door: Stand) -> None:
    door.set(hold=True)
    client = door.client()
    client.send(infer(id="gone") + infer(id="too"))
    door.until(lambda: len(door.service.held) == 2)
    client.close()
    door.until(lambda: [request.id for request in door.service.cancelled] == ["gone", "too"])
    assert door.do(lambda: door.service.held) == []


def test_an_answer_for_a_client_that_reset_the_connection_harms_nobody(door: Stand) -> None:
    door.set(delay_s=0.05)
    client = door.client()
    client.send(infer())
    door.until(lambda: door.service.requests)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    assert result(door.ask(infer())) == [3, 5, 7, 9]


# --- pipelines ----------------------------------------------------------------------------------------------------


def test_answers_leave_in_the_order_of_their_requests(door: Stand) -> None:
    door.set(hold=True)
    client = door.client()
    client.send(b"".join(infer(number, 0, 0, 0, id=str(number)) for number in range(4)) + LIVE)
    door.until(lambda: len(door.service.held) == 4)
    for place in (2, 0, 1, 0):  # the third, the first, the last, the second
        door.do(lambda place=place: door.service.held[place].finish())
    for number in range(4):
        answer = client.answer()
        assert (answer.json["id"], result(answer)[0]) == (str(number), 2 * number + 1)
    assert client.answer().json == {"live": True}


def test_only_the_last_answer_of_a_pipeline_says_close(door: Stand) -> None:
    door.set(hold=True)
    client = door.client()
    client.send(infer() + infer() + infer(headers=("connection: close",)) + LIVE)
    door.until(lambda: len(door.service.held) == 3)
    door.do(door.service.release)
    said = [client.answer().headers.get("connection") for _ in range(3)]
    assert said == [None, None, "close"]
    assert client.is_closed()


def test_bad_bytes_behind_good_requests_are_refused_in_their_turn(door: Stand) -> None:
    door.set(hold=True)
    client = door.client()
    client.send(infer() + infer() + b"nonsense\r\n\r\n" + LIVE)
    door.until(lambda: len(door.service.held) == 2)
    door.do(door.service.release)
    assert [client.answer().headers.get("connection") for _ in range(2)] == [None, None]
    refusal = client.answer()
    assert (refusal.status, refusal.code, refusal.headers["connection"]) == (400, "malformed_request", "close")
    assert client.is_closed()


def test_a_pipeline_deeper_than_the_limit_waits(door: Stand) -> None:
    door.set(hold=True)
    client = door.client()
    count = 3 * MAX_PIPELINED
    requests = [infer(number, 0, 0, 0) for number in range(count)]
    client.send(b"".join(requests))
    door.until(lambda: len(door.service.held) == MAX_PIPELINED)
    client.socket.settimeout(0.05)
    with pytest.raises(TimeoutError):
        client.answer()
    assert door.do(lambda: len(door.service.held)) == MAX_PIPELINED
    client.socket.settimeout(10)
    answered = 0
    while answered < count:
        door.until(lambda: door.service.held)
        ready = door.do(lambda: len(door.service.held))
        assert ready <= MAX_PIPELINED
        door.do(door.service.release)
        for _ in range(ready):
            assert result(client.answer())[0] == 2 * answered + 1
            answered += 1
    assert client.is_open()


def test_requests_that_are_answered_at_once_have_no_limit(door: Stand) -> None:
    client = door.client()
    client.send(LIVE * 500)
    assert {client.answer().status for _ in range(500)} == {200}


# --- in pieces ----------------------------------------------------------------------------------------------------

WHOLE = [
    LIVE,
    infer(5, 6, 7, 8),
    get(AFFINE, "transfer-encoding: chunked", method="POST") + chunked(infer().partition(b"\r\n\r\n")[2], size=20),
    get("/v2/nowhere"),
]


def test_a_request_may_be_cut_anywhere(door: Stand) -> None:
    """Every request, before every byte, with another one right behind it."""
    client = door.client()
    whole = [client.ask(data) for data in WHOLE]
    for data, expected in zip(WHOLE, whole, strict=True):
        for cut in range(1, len(data) + 1):
            client.send(data[:cut])
            door.do(lambda: None)  # the server has had a turn with the first piece
            client.send(data[cut:] + LIVE)
            assert without_date(client.answer()) == without_date(expected)
            assert client.answer().json == {"live": True}


def without_date(answer: object) -> object:
    status, headers, body = answer  # type: ignore[misc]
    return status, {name: value for name, value in headers.items() if name != "date"}, body


def test_a_request_may_come_byte_by_byte(door: Stand) -> None:
    client = door.client()
    for byte in infer(1, 1, 1, 1) + LIVE:
        client.send(bytes([byte]))
    assert result(client.answer()) == [3, 3, 3, 3]
    assert client.answer().json == {"live": True}


def test_empty_lines_before_a_request_are_skipped(door: Stand) -> None:
    client = door.client()
    assert client.ask(b"\r\n" + LIVE).status == 200
    assert client.ask(b"\r\n\r\n\r\n" + infer()).status == 200
    client.send(b"\r")
    door.do(lambda: None)
    client.send(b"\n" + LIVE + b"\r\n")
    assert client.answer().status == 200
    assert client.is_open()


# --- expect: 100-continue -----------------------------------------------------------------------------------------


def expecting(body: bytes, *headers: str) -> tuple[bytes, bytes]:
    head, _, _ = post(AFFINE, body, "expect: 100-continue", *headers).partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", body


BODY = infer().partition(b"\r\n\r\n")[2]


def test_a_client_that_waits_for_the_word_gets_it(door: Stand) -> None:
    head, body = expecting(BODY)
    client = door.client()
    assert client.ask(head).status == 100
    assert result(client.ask(body)) == [3, 5, 7, 9]


def test_a_client_that_does_not_wait_gets_one_answer(door: Stand) -> None:
    head, body = expecting(BODY)
    client = door.client()
    assert result(client.ask(head + body)) == [3, 5, 7, 9]
    assert client.is_open()


def test_the_word_to_go_on_keeps_its_place_in_a_pipeline(door: Stand) -> None:
    door.set(hold=True)
    head, body = expecting(BODY)
    client = door.client()
    client.send(infer(id="first") + head)
    door.until(lambda: door.service.held)
    door.do(door.service.release)
    assert client.answer().json["id"] == "first"
    assert client.answer().status == 100
    door.set(hold=False)
    assert result(client.ask(body)) == [3, 5, 7, 9]


def test_nobody_is_asked_to_send_what_is_too_large() -> None:
    with stand(max_body_bytes=100) as door:
        head, _ = expecting(b" " * 101)
        client = door.client()
        refusal = client.ask(head)
        assert (refusal.status, refusal.code) == (413, "payload_too_large")
        assert client.is_closed()


def test_http_1_0_knows_no_such_word(door: Stand) -> None:
    client = door.client()
    client.send(expecting(BODY)[0].replace(b"HTTP/1.1", b"HTTP/1.0"))
    door.do(lambda: None)
    assert result(client.ask(BODY)) == [3, 5, 7, 9]


# --- the end ------------------------------------------------------------------------------------------------------


def test_draining_answers_what_was_accepted_and_closes() -> None:
    with stand() as door:
        door.set(hold=True)
        idle, busy, writing, half = (door.client() for _ in range(4))
        assert idle.ask(LIVE).status == 200
        busy.send(infer(id="a") + infer(id="b"))
        writing.send(infer()[:-5])
        half.send(LIVE[:9])
        door.until(lambda: len(door.service.held) == 2 and len(door.door.connections) == 4)
        door.do(lambda: None)
        closing = door.begin(door.door.close(10))
        assert idle.is_closed()
        with pytest.raises(OSError):
            door.client()
        writing.send(infer()[-5:])
        door.until(lambda: len(door.service.held) == 3)
        half.send(LIVE[9:])
        door.do(door.service.release)
        assert [busy.answer().json["id"] for _ in range(2)] == ["a", "b"]
        for client in (writing, half):
            answer = client.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
        for client in (busy, writing, half):
            assert client.is_closed()
            client.close()
        closing.result(10)


def test_what_does_not_end_in_time_is_cut() -> None:
    with stand() as door:
        door.set(hold=True)
        client = door.client()
        client.send(infer())
        door.until(lambda: door.service.held)
        door.begin(door.door.close(0.05)).result(10)
        assert client.is_closed()
        door.until(lambda: door.service.cancelled)


def test_many_clients_at_once(door: Stand) -> None:
    clients: list[Client] = [door.client() for _ in range(50)]
    for number, client in enumerate(clients):
        client.send(infer(number, 0, 0, 0) * 3)
    for number, client in enumerate(clients):
        assert [result(client.answer())[0] for _ in range(3)] == [2 * number + 1] * 3
