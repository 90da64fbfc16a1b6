"""Limits of a connection: those who do not read, do not send, or are too many. The door is told that time passes."""

from __future__ import annotations

import pytest
from http_stand import AFFINE, ECHO, Stand, get, infer, post, result, stand, tensor

LIVE = get("/v2/health/live")
BODY = infer().partition(b"\r\n\r\n")[2]


# --- those who do not read ----------------------------------------------------------------------------------------


def buffered(door: Stand) -> int:
    """Bytes of answers that wait in the server."""

    def count() -> int:
        return sum(kept._transport.get_write_buffer_size() for kept in door.door.connections)  # type: ignore[attr-defined]

    return door.do(count)


def test_a_client_that_does_not_read_its_answers_is_read_no_further() -> None:
    with stand() as door:
        reader = door.client(receive_bytes=4096)
        large = post(ECHO, {"inputs": [tensor("BYTES", [1], ["x" * 100_000])]})
        reader.socket.settimeout(0.3)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 1000:
                reader.send(large)
                sent += 1
        assert buffered(door) < 2_000_000
        assert result(door.ask(infer())) == [3, 5, 7, 9]
        reader.socket.settimeout(10)
        for _ in range(sent):
            assert reader.answer().status == 200


def test_a_flood_of_small_requests_with_large_answers_is_bounded() -> None:
    with stand() as door:
        client = door.client(receive_bytes=4096)
        client.socket.settimeout(0.3)
        long_path = get("/v2/" + "n" * 2000)
        with pytest.raises(TimeoutError):
            for _ in range(10_000):
                client.send(long_path * 20)
        assert buffered(door) < 2_000_000


def test_one_who_never_reads_is_cut_off_and_one_who_reads_slowly_is_not() -> None:
    with stand(idle_timeout_s=10) as door:
        ask = post(ECHO, {"inputs": [tensor("BYTES", [1], ["x" * 20_000_000])]}, "connection: close")
        never, slowly = door.client(receive_bytes=4096), door.client(receive_bytes=2**17)
        never.send(ask)
        door.until(lambda: len(door.service.requests) == 1)
        slowly.send(ask)
        door.until(lambda: len(door.service.requests) == 2)
        for step in range(1, 7):
            while len(slowly._rest) < step * 2_500_000:  # fewer would not be noticed: the kernel keeps some millions
                slowly._rest += slowly.socket.recv(2**20)
            door.pass_seconds(5)
        door.until(lambda: len(door.door.connections) == 1)
        assert len(slowly.answer().body) > 20_000_000


# --- times and numbers --------------------------------------------------------------------------------------------


def test_an_idle_connection_is_closed_in_time() -> None:
    with stand(idle_timeout_s=10) as door:
        client = door.client()
        client.ask(LIVE)
        door.pass_seconds(8)
        assert client.is_open()
        door.pass_seconds(12)
        assert client.is_closed()


def test_a_connection_with_an_answer_due_is_not_idle() -> None:
    with stand(idle_timeout_s=5) as door:
        door.set(hold=True)
        client = door.client()
        client.send(infer())
        door.until(lambda: door.service.held)
        door.pass_seconds(60)
        door.do(door.service.release)
        assert client.answer().status == 200


@pytest.mark.parametrize("cut", [1, 10, -1])
def test_half_a_request_is_refused_in_time(cut: int) -> None:
    with stand(head_timeout_s=5, idle_timeout_s=1000) as door:
        client = door.client()
        client.send(infer()[:cut])
        door.until(lambda: door.door.connections)
        door.do(lambda: None)
        door.pass_seconds(8)
        refusal = client.answer()
        assert (refusal.status, refusal.code, refusal.headers["connection"]) == (408, "request_timeout", "close")
        assert client.is_closed()


@pytest.mark.parametrize("what", ["head", "body", "chunks"])
def test_a_byte_now_and_then_does_not_keep_a_connection(what: str) -> None:
    with stand(head_timeout_s=10) as door:
        client = door.client()
        if what == "body":
            client.send(get(AFFINE, "content-length: 1000000", method="POST"))
        elif what == "chunks":
            client.send(get(AFFINE, "transfer-encoding: chunked", method="POST"))
        for byte in b"1\r\na\r\n1\r\na\r\n" if what == "chunks" else b"GET /v2/healt":
            client.send(bytes([byte]))
            door.do(lambda: None)
            door.pass_seconds(1)
        assert client.answer().code == "request_timeout"


def test_a_large_body_on_a_slow_line_is_waited_for() -> None:
    with stand(head_timeout_s=2) as door:
        client = door.client()
        body = BODY + b" " * 100_000
        data = post(AFFINE, body)
        for at in range(0, len(data), 2000):
            client.send(data[at : at + 2000])
            door.do(lambda: None)
            door.pass_seconds(1)
        assert result(client.answer()) == [3, 5, 7, 9]


def test_a_client_in_the_midst_of_pipelining_is_not_slow() -> None:
    """There is always the beginning of a next request, but never the same one."""
    with stand(head_timeout_s=3) as door:
        client = door.client()
        client.send(LIVE[:10])
        for _ in range(10):
            client.send(LIVE[10:] + LIVE[:10])
            assert client.answer().status == 200
            door.pass_seconds(1)


def test_more_connections_than_allowed_are_told_so() -> None:
    with stand(max_connections=3) as door:
        kept = [door.client() for _ in range(3)]
        assert all(client.is_open() for client in kept)
        late = door.client()
        refusal = late.answer()
        assert (refusal.status, refusal.code, refusal.headers["connection"]) == (503, "unavailable", "close")
        assert int(refusal.headers["retry-after"]) >= 1
        assert late.is_closed()
        assert all(client.is_open() for client in kept)
        kept.pop().close()
        door.until(lambda: len(door.door.connections) <= 3)
        assert door.client().is_open()


def test_of_very_many_some_are_not_even_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.transports.http.connection.MAX_LEAVING", 2)
    with stand(max_connections=1) as door:
        assert door.client().is_open()
        told = [door.client() for _ in range(2)]
        assert [client.answer().status for client in told] == [503, 503]
        assert door.client().is_closed()
        door.pass_seconds(10)  # those who were told have had their time
        door.until(lambda: not door.door.leaving)
        assert door.client().answer().status == 503


def test_those_who_were_told_so_do_not_take_the_room_of_others() -> None:
    with stand(max_connections=2) as door:
        kept = [door.client() for _ in range(2)]
        assert all(client.is_open() for client in kept)
        lingering = [door.client() for _ in range(20)]
        assert {client.answer().status for client in lingering} == {503}
        kept.pop().close()
        door.until(lambda: len(door.door.connections) == 1)
        assert door.client().is_open()  # though none of the twenty has gone
