"""Answers as they leave: heads, encodings, CORS, and errors that are always JSON with the right status."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator

import pytest
import zstandard
from http_stand import AFFINE, ECHO, Answer, Stand, affine, get, infer, post, result, stand, tensor
from hypothesis import given
from hypothesis import strategies as st

from slipway import errors
from slipway.errors import SlipwayError, every_error
from slipway.transports.codes import HTTP_STATUS
from slipway.transports.http.encodings import choose_encoding
from slipway.transports.http.exchange import Exchange

LIVE = get("/v2/health/live")


@pytest.fixture(scope="module")
def opened() -> Iterator[Stand]:
    with stand() as door:
        yield door


@pytest.fixture
def door(opened: Stand) -> Iterator[Stand]:
    yield opened
    opened.set(fail=None, refuse=None)


# --- heads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v2", "/v2/health/live", "/v2/models/affine", "/v2/nowhere", "/v2/models/stats"])
def test_head_gets_the_head_of_the_answer(door: Stand, path: str) -> None:
    client = door.client()
    full, head = client.ask(get(path)), client.ask(get(path, method="HEAD"))
    assert (head.status, head.body) == (full.status, b"")
    assert head.headers["content-length"] == str(len(full.body))
    assert head.headers.keys() == full.headers.keys()
    assert client.is_open()


def test_a_request_id_comes_back(door: Stand) -> None:
    for data in (
        get("/v2", "x-request-id: a b;c"),
        infer(headers=("X-Request-ID: a b;c",)),
        get("/x", "x-request-id: a b;c"),
    ):
        assert door.ask(data).headers["x-request-id"] == "a b;c"
    assert door.ask(infer(headers=("x-request-id: seven",))).json["id"] == "seven"
    assert door.ask(infer(id="own", headers=("x-request-id: seven",))).json["id"] == "own"


NASTY = st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=30)


@given(NASTY, NASTY)
def test_no_value_that_is_echoed_becomes_a_header(opened_cors: Stand, value: str, other: str) -> None:
    """Whatever is sent, the answer has only the headers that answers have (the client here reads strictly)."""
    known = {"date", "content-type", "content-length", "x-request-id", "vary", "connection", "allow", "retry-after"}
    for data in (
        get("/v2", f"x-request-id: {value}", f"origin: {other}"),
        get("/v2", f"origin: {value}", f"access-control-request-headers: {other}", method="OPTIONS"),
    ):
        client = opened_cors.client()
        answer = client.ask(data)
        assert {name for name in answer.headers if not name.startswith("access-control-")} <= known
        assert "\n" not in "".join(answer.headers.values())
        client.close()


@pytest.fixture(scope="module")
def opened_cors() -> Iterator[Stand]:
    with stand(cors_origins=("https://a.example", "https://b.example")) as door:
        yield door


# --- encodings ----------------------------------------------------------------------------------------------------

DECODERS = {"gzip": gzip.decompress, "deflate": zlib.decompress, "zstd": zstandard.ZstdDecompressor().decompress}


def large(count: int = 1000) -> bytes:
    return post(ECHO, {"inputs": [tensor("INT64", [count], list(range(count)))]})


def with_header(data: bytes, header: str) -> bytes:
    return data.replace(b"\r\nhost: h", b"\r\nhost: h\r\n" + header.encode(), 1)


@pytest.mark.parametrize("encoding", DECODERS)
def test_large_answers_are_encoded_as_the_client_likes(door: Stand, encoding: str) -> None:
    plain = door.ask(large())
    assert "content-encoding" not in plain.headers
    answer = door.ask(with_header(large(), f"accept-encoding: {encoding}"))
    assert answer.headers["content-encoding"] == encoding
    assert "accept-encoding" in answer.headers["vary"]
    assert len(answer.body) < len(plain.body) / 2
    unpacked = zstandard.ZstdDecompressor().decompressobj().decompress if encoding == "zstd" else DECODERS[encoding]
    assert json.loads(unpacked(answer.body)) == plain.json


def test_small_answers_are_not_encoded(door: Stand) -> None:
    answer = door.ask(with_header(infer(), "accept-encoding: gzip"))
    assert "content-encoding" not in answer.headers
    assert result(answer) == [3, 5, 7, 9]


def test_binary_answers_are_encoded_too(door: Stand) -> None:
    data = bytes(4000)
    text = json.dumps(
        {"inputs": [{"name": "x", "datatype": "UINT8", "shape": [4000], "parameters": {"binary_data_size": 4000}}],
         "parameters": {"binary_data_output": True}}
    ).encode()  # fmt: skip
    headers = (f"inference-header-content-length: {len(text)}", "accept-encoding: gzip")
    answer = door.ask(post(ECHO, text + data, *headers))
    body = gzip.decompress(answer.body)
    start = int(answer.headers["inference-header-content-length"])  # of the body before it was encoded
    assert body[start:] == data
    assert json.loads(body[:start])["outputs"][0]["parameters"] == {"binary_data_size": 4000}
    head = door.ask(with_header(get("/v2/models/affine"), "accept-encoding: gzip"))
    assert head.status == 200


@pytest.mark.parametrize(
    ("accepts", "chosen"),
    [
        ("", ""), ("identity", ""), ("br", ""), ("gzip", "gzip"), ("GZIP", "gzip"), ("deflate", "deflate"),
        ("deflate, gzip", "gzip"), ("gzip, zstd", "zstd"), ("gzip;q=1, zstd;q=0.5", "gzip"), ("gzip;q=0", ""),
        ("*", "zstd"), ("*;q=0", ""), ("*;q=0, gzip", "gzip"), ("gzip;q=0, *", "zstd"), ("gzip;q=x", ""),
        ("gzip;q=nan", ""), ("gzip ; q=0.3 , br", "gzip"), (",,;q=,", ""), ("deflate;q=0.9, gzip;q=0.1", "deflate"),
    ],
)  # fmt: skip
def test_how_the_encoding_is_chosen(accepts: str, chosen: str) -> None:
    assert choose_encoding(accepts) == chosen


# --- CORS ---------------------------------------------------------------------------------------------------------


def test_no_other_origin_is_let_in_unless_the_spec_says_so(door: Stand) -> None:
    for data in (get("/v2", "origin: https://a.example"), get("/v2", "origin: https://a.example", method="OPTIONS")):
        assert not [name for name in door.ask(data).headers if name.startswith("access-control")]


def test_origins_that_are_named_are_let_in(opened_cors: Stand) -> None:
    for origin in ("https://a.example", "https://b.example"):
        for data in (
            get("/v2", f"origin: {origin}"),
            with_header(infer(), f"origin: {origin}"),
            get("/x", f"origin: {origin}"),
        ):
            answer = opened_cors.ask(data)
            assert answer.headers["access-control-allow-origin"] == origin
            assert "origin" in answer.headers["vary"]
            assert "inference-header-content-length" in answer.headers["access-control-expose-headers"]
    for data in (get("/v2", "origin: https://evil.example"), get("/v2", "origin: null"), get("/v2")):
        assert "access-control-allow-origin" not in opened_cors.ask(data).headers


def test_a_preflight_is_answered(opened_cors: Stand) -> None:
    headers = (
        "origin: https://a.example",
        "access-control-request-method: POST",
        "access-control-request-headers: content-type, x-a",
    )
    answer = opened_cors.ask(get(AFFINE, *headers, method="OPTIONS"))
    assert (answer.status, answer.body) == (204, b"")
    assert "content-length" not in answer.headers
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "content-type, x-a"


def test_every_origin_may_be_let_in() -> None:
    with stand(cors_origins=("*",)) as door:
        assert door.ask(get("/v2", "origin: https://any.example")).headers["access-control-allow-origin"] == "*"


# --- errors -------------------------------------------------------------------------------------------------------


def of_kind(kind: type[SlipwayError]) -> SlipwayError:
    if kind is errors.MethodNotAllowed:
        return errors.MethodNotAllowed("words", allow="GET")
    error = kind("words")
    error.retry_after_s, error.correlation = 2.4, "c-1"
    return error


@pytest.mark.parametrize("how", ["at once", "later"])
@pytest.mark.parametrize("kind", [kind for kind in every_error() if kind.__module__ == errors.__name__])
def test_every_error_of_a_model_keeps_its_status_and_words(door: Stand, kind: type[SlipwayError], how: str) -> None:
    door.set(**{"refuse" if how == "at once" else "fail": of_kind(kind)})
    client = door.client()
    answer = client.ask(infer())
    assert (answer.status, answer.code) == (HTTP_STATUS[kind], kind.code)
    assert answer.json["error"] == "words"
    if kind is errors.MethodNotAllowed:
        assert answer.headers["allow"] == "GET"
    else:
        assert (answer.headers["retry-after"], answer.json["correlation"]) == ("3", "c-1")
    assert client.is_open()


def test_a_bug_is_answered_without_its_traceback(door: Stand) -> None:
    door.set(refuse=ZeroDivisionError("secret"))
    client = door.client()
    answer = client.ask(infer())
    assert (answer.status, answer.code) == (500, "error")
    assert b"secret" not in answer.body
    assert client.is_open()


def test_words_that_are_no_unicode_are_answered(door: Stand) -> None:
    door.set(fail=errors.ModelFailure("half a pair: \ud800 and the rest"))
    answer = door.ask(infer())
    assert (answer.status, answer.code) == (500, "model_failure")
    assert answer.json["error"].endswith("and the rest")


def test_an_answer_that_cannot_be_written_is_an_error(door: Stand) -> None:
    stub = door.service.models["affine"]
    before = stub.compute

    def nonsense(inputs: object) -> list[object]:
        del inputs
        return [object()]

    door.do(lambda: setattr(stub, "compute", nonsense))
    try:
        answer = door.ask(infer())
        assert (answer.status, answer.code) == (500, "error")
    finally:
        door.do(lambda: setattr(stub, "compute", before))
    assert door.ask(infer()).status == 200


def test_an_echo_of_what_came_is_not_an_explanation(door: Stand) -> None:
    for wrong in ("n" * 200_000, "a" * 10_000):
        for body in (
            {"inputs": [tensor(wrong, [1], [1])]},
            {"inputs": [tensor("FP32", [1, 4], [1, 2, 3, 4], name=wrong)]},
            {"inputs": [], wrong: 1},
            affine() | {"outputs": [{"name": wrong}]},
        ):
            answer = door.ask(post(AFFINE, body))
            assert (answer.status, len(answer.body) < 10_000) == (400, True)


def test_other_applications_may_use_the_door() -> None:
    def app(exchange: Exchange) -> None:
        if exchange.path == "/empty":
            exchange.respond(200, content_type="text/plain")
        elif exchange.path == "/none":
            exchange.respond(204)
        elif exchange.path == "/odd":
            exchange.respond(299, b"odd", "text/plain", (("x-split", "a\r\nx-evil: b"), ("x-wide", "\u20ac")))
        else:
            exchange.respond_json(exchange.query.encode() + exchange.body)

    with stand(app) as door:
        client = door.client()
        answers: list[Answer] = [client.ask(get(path)) for path in ("/empty", "/none", "/odd", "/a?b=c")]
        assert [answer.status for answer in answers] == [200, 204, 299, 200]
        assert answers[0].headers["content-length"] == "0"
        assert answers[2].headers["x-split"] == "a  x-evil: b"
        assert answers[2].headers["x-wide"] == "?"
        assert answers[3].body == b"b=c"


# --- the short way of an answer -----------------------------------------------------------------------------------


SAID = ["connection: close", "connection: keep-alive", "accept-encoding: gzip", "x-request-id: 1", "origin: http://h"]


@given(
    st.lists(st.sampled_from(SAID), max_size=3, unique=True), st.sampled_from(["1.0", "1.1"]), st.sampled_from([1, 400])
)
def test_the_short_way_says_what_the_long_way_would(
    opened: Stand, headers: list[str], version: str, count: int
) -> None:
    body = json.dumps({"inputs": [tensor("INT64", [count], list(range(count)))]}).encode()
    data = get(ECHO, *headers, f"content-length: {len(body)}", method="POST", version=version) + body
    client = opened.client()
    answer = client.ask(data)
    keeps = "connection: close" not in headers and (version == "1.1" or "connection: keep-alive" in headers)
    said = answer.headers.get("connection")
    assert said == (("keep-alive" if version == "1.0" else None) if keeps else "close")
    assert answer.headers.get("x-request-id") == ("1" if "x-request-id: 1" in headers else None)
    packed = "accept-encoding: gzip" in headers and count == 400
    assert answer.headers.get("content-encoding") == ("gzip" if packed else None)
    content = json.loads(gzip.decompress(answer.body) if packed else answer.body)
    assert content["outputs"][0]["data"] == list(range(count))
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["date"].endswith("GMT")
    if keeps:
        assert client.is_open()
    else:
        assert client.is_closed()
    client.close()
