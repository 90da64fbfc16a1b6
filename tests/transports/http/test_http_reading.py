"""Heads and bodies as they come: what is read, what is refused, and nothing that reads in two ways."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

import pytest
import zstandard
from http_stand import AFFINE, Stand, affine, get, infer, post, result, stand
from hypothesis import given
from hypothesis import strategies as st

from slipway.errors import SlipwayError
from slipway.transports.http.chunked import ChunkedBody
from slipway.transports.http.head import HeadMemory, parse_head

LIVE = get("/v2/health/live")
BODY = infer().partition(b"\r\n\r\n")[2]


@pytest.fixture(scope="module")
def door() -> Iterator[Stand]:
    with stand(max_body_bytes=100_000, max_head_bytes=20_000) as opened:
        yield opened


# --- targets ------------------------------------------------------------------------------------------------------


def test_absolute_urls_are_read(door: Stand) -> None:
    for url in (
        "http://h/v2/health/live",
        "http://other:99/v2/health/live?a=b",
        "/v2/health/live/",
        "/v2/health/live#x",
    ):
        assert door.ask(get(url)).json == {"live": True}
    assert door.ask(get("*", method="OPTIONS")).status == 204


def test_a_percent_encoded_slash_cuts_nothing(door: Stand) -> None:
    answer = door.ask(get("/v2/models/a%2fb"))
    assert (answer.status, answer.code) == (404, "not_found")
    assert "'a/b'" in answer.json["error"]
    assert door.ask(get("/v2/models/af%66ine")).json["name"] == "affine"
    assert door.ask(get("/v2/models/%ff%00")).status == 404
    assert door.ask(get("/v2/models/affine%2finfer")).status == 404


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/v2/health/liev", "/v2/health/live"),
        ("/v2/models/affine/inferr", "/v2/models/affine/infer"),
        ("/v2/models/afine", "'affine'"),
        ("/v2/models/affine/versions/v2/ready", "'v1'"),
        ("/somewhere/else", "/v2"),
        ("/", "/v2"),
        ("//v2", "/v2"),
    ],
)
def test_what_is_not_there_is_told_with_what_is_near(door: Stand, path: str, near: str) -> None:
    answer = door.ask(get(path))
    assert (answer.status, answer.code) == (404, "not_found")
    assert near in answer.json["error"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", AFFINE, "POST, OPTIONS"),
        ("HEAD", AFFINE, "POST, OPTIONS"),
        ("DELETE", "/v2", "GET, HEAD, OPTIONS"),
        ("PUT", "/v2/models/affine", "GET, HEAD, OPTIONS"),
        ("POST", "/v2/health/live", "GET, HEAD, OPTIONS"),
        ("GET", "/v2/repository/index", "POST, OPTIONS"),
        ("GET", "/v2/repository/models/affine/load", "POST, OPTIONS"),
    ],
)
def test_a_wrong_verb_is_told_the_right_one(door: Stand, method: str, path: str, allow: str) -> None:
    answer = door.ask(get(path, "content-length: 0", method=method))
    assert (answer.status, answer.headers["allow"]) == (405, allow)
    assert method == "HEAD" or answer.code == "method_not_allowed"


def test_an_infer_without_a_length_is_told_to_give_one(door: Stand) -> None:
    answer = door.ask(get(AFFINE, method="POST"))
    assert (answer.status, answer.code, answer.headers["connection"]) == (411, "length_required", "close")
    assert door.ask(post(AFFINE, b"")).code == "malformed_request"
    assert door.ask(get("/v2/repository/index", method="POST")).status == 200  # nothing needs no length


# --- sizes --------------------------------------------------------------------------------------------------------


def test_a_long_url_is_refused_as_such(door: Stand) -> None:
    assert door.ask(get("/v2/models/" + "m" * 8000)).status == 404
    for size in (9000, 19_000, 30_000, 100_000):
        answer = door.ask(get("/v2/models/" + "m" * size))
        assert (size, answer.status, answer.code) == (size, 414, "url_too_long")


def test_a_url_that_never_ends_is_refused_before_it_does(door: Stand) -> None:
    assert door.ask(b"GET /" + b"a" * 21_000).code == "url_too_long"


@pytest.mark.parametrize("whole", [True, False])
def test_a_head_that_is_too_large_is_refused(door: Stand, whole: bool) -> None:
    assert door.ask(get("/v2", *[f"x-{number}: {'v' * 100}" for number in range(150)])).status == 200
    large = get("/v2", *[f"x-{number}: {'v' * 100}" for number in range(250)])
    client = door.client()
    answer = client.ask(large if whole else large[:-2])
    assert (answer.status, answer.code, answer.headers["connection"]) == (431, "headers_too_large", "close")
    assert client.is_closed()


def test_too_many_headers_are_refused(door: Stand) -> None:
    assert door.ask(get("/v2", *["a: b"] * 250)).status == 200
    assert door.ask(get("/v2", *["a: b"] * 260)).code == "headers_too_large"


def test_a_body_of_just_the_limit_is_read_and_one_more_byte_is_not(door: Stand) -> None:
    full = BODY.ljust(100_000)
    assert door.ask(post(AFFINE, full)).status == 200
    client = door.client()
    client.send(get(AFFINE, "content-length: 100001", method="POST"))
    answer = client.answer()
    assert (answer.status, answer.code) == (413, "payload_too_large")
    assert client.is_closed()


def test_a_refusal_reaches_a_client_that_is_still_sending(door: Stand) -> None:
    client = door.client()
    client.send(get(AFFINE, "content-length: 9000000", method="POST"))
    for _ in range(90):
        client.send(b" " * 100_000)
    assert client.answer().code == "payload_too_large"


# --- smuggling: what a proxy in front might read otherwise --------------------------------------------------------

TWO_WAYS = {
    "two lengths": ["content-length: 5", "content-length: 6"],
    "the same length twice": ["content-length: 5", "content-length: 5"],
    "lengths in a list": ["content-length: 5, 5"],
    "signed": ["content-length: +5"],
    "negative": ["content-length: -5"],
    "hexadecimal": ["content-length: 0x5"],
    "underscored": ["content-length: 1_0"],
    "empty length": ["content-length:"],
    "other digits": ["content-length: \xb2"],
    "endless length": ["content-length: " + "9" * 5000],
    "length and chunks": ["content-length: 5", "transfer-encoding: chunked"],
    "chunks and length": ["transfer-encoding: chunked", "content-length: 5"],
    "twice chunked": ["transfer-encoding: chunked", "transfer-encoding: chunked"],
    "chunked in a list": ["transfer-encoding: chunked, chunked"],
    "not the last coding": ["transfer-encoding: chunked, identity"],
    "unknown coding": ["transfer-encoding: gzip, chunked"],
    "nearly chunked": ["transfer-encoding: xchunked"],
    "vertical tab": ["transfer-encoding: \x0bchunked"],
    "space before the colon": ["transfer-encoding : chunked"],
    "space before the name": [" transfer-encoding: chunked"],
    "folded": ["transfer-encoding:\r\n chunked"],
    "folded value": ["x-a: b\r\n c"],
    "no name": [": v"],
    "zero byte": ["x-a: \x00"],
    "control character": ["x-a: \x01"],
    "lonely return": ["x-a: b\rc: d"],
    "lonely line feed": ["x-a: b\nc: d"],
    "two hosts": ["host: other"],
}


@pytest.mark.parametrize("headers", TWO_WAYS.values(), ids=TWO_WAYS.keys())
def test_a_head_that_can_be_read_in_two_ways_is_refused(door: Stand, headers: list[str]) -> None:
    client = door.client()
    client.send(get(AFFINE, *headers, method="POST") + b"0\r\n\r\n" + LIVE)
    answer = client.answer()
    assert (answer.status, answer.code, answer.headers["connection"]) == (400, "malformed_request", "close")
    assert client.is_closed()


@pytest.mark.parametrize(
    "data",
    [
        b"GET /v2 HTTP/1.1\nhost: h\n\n",
        b"GET /v2 HTTP/1.1\r\nhost: h\n\r\n",
        b"GET /v2 HTTP/1.1\r\nhost: h\r\n\n",
        b"GET /v2\r\n\r\n",
        b"GET /v2 HTTP/0.9\r\n\r\n",
        b"GET /v2 HTTP/1.2\r\nhost: h\r\n\r\n",
        b"GET /v2 HTTP/2.0\r\nhost: h\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /v2 RTSP/1.0\r\nhost: h\r\n\r\n",
        b"SOURCE /v2 ICE/1.0\r\nhost: h\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\n\r\n",
        b"get /v2 HTTP/1.1\r\nhost: h\r\n\r\n",
        b"BREW /v2 HTTP/1.1\r\nhost: h\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nhost: h\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nhost: h\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"POST /v2 HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # somebody speaks TLS
        b"\x00" * 100 + b"\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(door: Stand, data: bytes) -> None:
    client = door.client()
    answer = client.ask(data)
    assert (answer.status, answer.code, answer.headers["connection"]) == (400, "malformed_request", "close")
    assert client.is_closed()


def test_an_upgrade_is_not_taken_up(door: Stand) -> None:
    client = door.client()
    assert client.ask(get("/v2/health/live", "connection: Upgrade", "upgrade: h2c")).json == {"live": True}
    assert client.is_open()


# --- chunks -------------------------------------------------------------------------------------------------------


def chunked(pieces: list[bytes], *, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    lines = [b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces if piece]
    return b"".join(lines) + b"0\r\n" + trailers + b"\r\n"


@given(
    st.lists(st.binary(max_size=40), max_size=6),
    st.lists(st.integers(0, 300), max_size=8),
    st.sampled_from([b"", b";a", b" ;a=b;c", b'\t; a="b c"']),
    st.sampled_from([b"", b"x: y\r\n", b"x: y\r\nz: w\r\n"]),
    st.binary(max_size=10),
)
def test_chunks_mean_the_same_wherever_they_are_cut(
    pieces: list[bytes], cuts: list[int], extension: bytes, trailers: bytes, behind: bytes
) -> None:
    data = chunked(pieces, extension=extension, trailers=trailers) + behind
    reader, fed = ChunkedBody(max_bytes=10_000), 0
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
        if not reader.done:
            part = data[start:stop]
            fed += reader.feed(part)
    assert reader.done
    assert reader.body == b"".join(pieces)
    assert data[fed:] == behind


@pytest.mark.parametrize(
    "wrong",
    [b"x\r\n", b"-1\r\na\r\n", b"+1\r\na\r\n", b"0x1\r\na\r\n", b"1 1\r\na\r\n", b"\r\n", b" 1\r\na\r\n",
     b"1 \r\na\r\n0\r\n\r\n", b"1\na\r\n", b"1\r\na\n", b"1\r\nab\r\n", b"11111111111111111\r\n", b"0\r\n\n",
     b"1;" + b"x" * 5000 + b"\r\n",
     b"0\r\n" + b"x: y\r\n" * 5000 + b"\r\n"],
)  # fmt: skip
def test_wrong_chunks_are_refused(door: Stand, wrong: bytes) -> None:
    client = door.client()
    client.send(get(AFFINE, "transfer-encoding: chunked", method="POST") + wrong + LIVE)
    answer = client.answer()
    assert (answer.status, answer.code, answer.headers["connection"]) == (400, "malformed_request", "close")
    assert client.is_closed()


def test_chunks_over_the_limit_are_refused_when_they_are_announced(door: Stand) -> None:
    client = door.client()
    head = get(AFFINE, "transfer-encoding: chunked", method="POST")
    for sizes in (b"ffffffffffffffff\r\n", b"1\r\na\r\n186a0\r\n"):
        assert door.ask(head + sizes).code == "payload_too_large"
    answer = client.ask(head + chunked([b" " * 50_000, BODY.ljust(50_000)]))
    assert result(answer) == [3, 5, 7, 9]
    assert client.is_open()


def test_chunked_is_read_whatever_its_case(door: Stand) -> None:
    client = door.client()
    data = get(AFFINE, "Transfer-Encoding: Chunked", method="POST") + chunked([BODY[:9], BODY[9:]])
    assert result(client.ask(data + LIVE)) == [3, 5, 7, 9]
    assert client.answer().json == {"live": True}


# --- encodings ----------------------------------------------------------------------------------------------------

ENCODERS = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstandard.ZstdCompressor().compress}


@pytest.mark.parametrize("encoding", ENCODERS)
def test_encoded_bodies_are_read(door: Stand, encoding: str) -> None:
    data = ENCODERS[encoding](BODY)
    assert result(door.ask(post(AFFINE, data, f"content-encoding: {encoding}"))) == [3, 5, 7, 9]
    assert result(door.ask(post(AFFINE, data, f"content-encoding: {encoding.upper()}"))) == [3, 5, 7, 9]
    head = get(AFFINE, f"content-encoding: {encoding}", "transfer-encoding: chunked", method="POST")
    assert result(door.ask(head + chunked([data[:10], data[10:]]))) == [3, 5, 7, 9]


def test_a_body_encoded_as_identity_is_read(door: Stand) -> None:
    assert result(door.ask(post(AFFINE, BODY, "content-encoding: identity"))) == [3, 5, 7, 9]


@pytest.mark.parametrize("encoding", ENCODERS)
def test_a_bomb_is_refused_and_the_connection_lives(door: Stand, encoding: str) -> None:
    client = door.client()
    for size in (100_001, 50_000_000):
        answer = client.ask(post(AFFINE, ENCODERS[encoding](b" " * size), f"content-encoding: {encoding}"))
        assert (answer.status, answer.code) == (413, "payload_too_large")
    assert client.is_open()


@pytest.mark.parametrize("encoding", ENCODERS)
def test_damaged_bodies_are_refused(door: Stand, encoding: str) -> None:
    data = ENCODERS[encoding](BODY * 3)
    client = door.client()
    for wrong in (data[:-1], data[: len(data) // 2], data + b"x", b"", b"plain", b"x" + data):
        answer = client.ask(post(AFFINE, wrong, f"content-encoding: {encoding}"))
        assert (answer.status, answer.code) == (400, "malformed_request")
    assert client.is_open()


def test_a_body_may_be_several_frames_of_zstd_but_not_any_number(door: Stand) -> None:
    frame = ENCODERS["zstd"]
    head = "content-encoding: zstd"
    assert result(door.ask(post(AFFINE, frame(BODY[:30]) + frame(b"") + frame(BODY[30:]), head))) == [3, 5, 7, 9]
    answer = door.ask(post(AFFINE, frame(BODY) + frame(b"") * 2000, head))
    assert (answer.status, answer.code) == (400, "malformed_request")


@pytest.mark.parametrize("encoding", ["br", "compress", "gzip, gzip", "gzip, zstd", "x"])
def test_an_encoding_that_is_not_spoken_is_refused_with_those_that_are(door: Stand, encoding: str) -> None:
    answer = door.ask(post(AFFINE, BODY, f"content-encoding: {encoding}"))
    assert (answer.status, answer.code) == (415, "unsupported_media")
    assert "gzip, deflate, zstd" in answer.json["error"]


# --- content types ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "media",
    ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/octet-stream",
     "application/x-www-form-urlencoded", "application/cloudevents+json", ""],
)  # fmt: skip
def test_usual_content_types_are_read(door: Stand, media: str) -> None:
    assert result(door.ask(post(AFFINE, BODY, f"content-type: {media}"))) == [3, 5, 7, 9]


@pytest.mark.parametrize(
    "media",
    ["text/plain", "text/html; charset=utf-8", "multipart/form-data; boundary=x", "application/grpc", "image/png"],
)
def test_other_content_types_are_refused(door: Stand, media: str) -> None:
    answer = door.ask(post(AFFINE, BODY, f"content-type: {media}"))
    assert (answer.status, answer.code) == (415, "unsupported_media")
    assert "application/json" in answer.json["error"]


# --- heads are remembered, and mean the same ----------------------------------------------------------------------

LINES = st.sampled_from(
    ["host: h", "content-length: 3", "content-length: 0", "transfer-encoding: chunked", "connection: close",
     "connection: keep-alive", "expect: 100-continue", "x-request-id: 7", "accept-encoding: gzip",
     "content-encoding: gzip"]
)  # fmt: skip
TOKENS = LINES | st.sampled_from(
    ["GET", "POST", "HEAD", "/", "/v2", "/v2/models/a%2fb?x=1", "HTTP/1.1", "HTTP/1.0", " ", "\r\n", "\n", "x", ":"]
)


def heads() -> st.SearchStrategy[bytes]:
    loose = st.lists(TOKENS, max_size=12).map("".join)
    first = st.sampled_from(["GET / HTTP/1.1", "GET /v2?q HTTP/1.0", "POST / HTTP/1.1", "HEAD /v2 HTTP/1.1"])
    lines = st.lists(LINES, max_size=4, unique=True)
    proper = st.tuples(first, lines).map(lambda parts: "".join(line + "\r\n" for line in (parts[0], *parts[1])))
    return st.one_of(loose, proper).map(lambda text: text.encode("latin-1") + b"\r\n")


def meaning(read: object, data: bytes) -> object:
    try:
        head = read(data)  # type: ignore[operator]
    except SlipwayError as error:
        return type(error), error.message
    return {name: getattr(head, name) for name in head.__slots__ if name != "route"}


@given(st.lists(heads(), min_size=1, max_size=5))
def test_a_remembered_head_means_what_it_meant(data: list[bytes]) -> None:
    memory = HeadMemory(max_head_bytes=10_000)
    for one in data * 2:
        assert meaning(memory.get, one) == meaning(parse_head, one)


def test_the_memory_of_heads_is_bounded() -> None:
    memory = HeadMemory(max_head_bytes=20_000)
    for number in range(5000):
        memory.get(get("/v2", f"x-number: {number}"))
    assert 0 < len(memory.known) <= 2048
    memory.known.clear()
    memory.get(get("/v2", "x-large: " + "v" * 5000))
    assert memory.known == {}


def test_the_same_head_before_different_bodies(door: Stand) -> None:
    client = door.client()
    for number in range(3):
        for body in (affine(number, 1, 2, 3), affine(9, number, 2, 3)):
            assert result(client.ask(post(AFFINE, body)))[0] == 2 * body["inputs"][0]["data"][0] + 1
