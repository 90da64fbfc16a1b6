"""Key sets, and where they come from."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from slipway.auth.jwks import MAX_KEYS, MAX_SET_BYTES, parse_key_set
from slipway.auth.jwks_source import JwksSource, Schedule, fetch_url, fresh_for_s
from slipway.errors import InvalidSpec, Unavailable
from slipway.spec.access import Issuer


def as_set(*keys: object) -> str:
    return json.dumps({"keys": list(keys)})


def test_a_keys_type_decides_what_it_verifies(signers: Any) -> None:
    found = parse_key_set(as_set(*(signer.jwk for signer in signers.values())), secrets=True)
    algorithms = {key.kid: key.algorithms for key in found.keys}
    assert algorithms["rsa"] == ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
    assert algorithms["p256"] == ("ES256",)
    assert algorithms["p384"] == ("ES384",)
    assert algorithms["p521"] == ("ES512",)
    assert algorithms["ed"] == ("EdDSA",)
    assert algorithms["oct"] == ("HS256", "HS384", "HS512")
    assert [key.kid for key in found.fitting("RS256", None)] == ["rsa", "rsa"]
    assert found.fitting("RS256", "p256") == []


def test_a_secret_must_be_as_long_as_the_hash() -> None:
    def algorithms(size: int) -> tuple[str, ...]:
        k = base64.urlsafe_b64encode(os.urandom(size)).decode().rstrip("=")
        return parse_key_set(as_set({"kty": "oct", "k": k}), secrets=True).keys[0].algorithms

    assert algorithms(32) == ("HS256",)
    assert algorithms(48) == ("HS256", "HS384")
    with pytest.raises(InvalidSpec, match="at least 32 bytes, this one 31"):
        algorithms(31)


def test_what_cannot_be_used_is_left_out_and_said(signers: Any) -> None:
    good = signers["rsa"].jwk
    weak = json.loads(RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key()))
    private = json.loads(RSAAlgorithm.to_jwk(signers["rsa"].private))
    koblitz = json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256K1()).public_key()))
    exchange = json.loads(OKPAlgorithm.to_jwk(signers["ed"].private.public_key()))
    raw = x25519.X25519PrivateKey.generate().public_key().public_bytes_raw()
    exchange |= {"crv": "X25519", "x": base64.urlsafe_b64encode(raw).decode().rstrip("=")}
    bad = [
        (weak, "2048 to 8192 bits"),
        (private, "private key"),
        (koblitz, "P-256, P-384, P-521"),
        (exchange, "could not be read"),
        ({**good, "use": "enc"}, "not for verifying"),
        ({**good, "key_ops": ["encrypt"]}, "not for verifying"),
        ({**good, "key_ops": "verify"}, "not for verifying"),
        ({**good, "alg": "HS256"}, "does not fit"),
        ({**good, "alg": ["RS256"]}, "does not fit"),
        ({**good, "kid": 7}, "kid"),
        ({**good, "kid": "k" * 300}, "kid"),
        ({**good, "n": "!!"}, "could not be read"),
        ({**good, "n": 7}, "could not be read"),
        ({"kty": "RSA"}, "could not be read"),
        ({"kty": "GOST"}, "none of RSA, EC, OKP, oct"),
        ({"kty": ["RSA"]}, "none of RSA, EC, OKP, oct"),
        ({}, "none of RSA, EC, OKP, oct"),
        ("text", "not an object"),
        (signers["oct"].jwk, "no place at a URL"),
    ]
    found = parse_key_set(as_set(good, *(key for key, _ in bad)), secrets=False)
    assert [key.kid for key in found.keys] == ["rsa"]
    assert len(found.left_out) == len(bad)
    for line, (_, why) in zip(found.left_out, bad, strict=True):
        assert why in line
    assert found.left_out[0].startswith("keys[1]: ")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is JSON such as"),
        ("[]", "object with a list"),
        ("{}", "object with a list"),
        ('{"keys": {}}', "object with a list"),
        ('{"keys": []}', "it is empty"),
        ('{"keys": [1]}', "keys\\[0\\]: not an object"),
        ("[" * 100_000, "is JSON such as"),
        ('{"keys": [' + "1," * MAX_KEYS + "1]}", "at most 100 keys"),
        ('{"keys": "' + "x" * MAX_SET_BYTES + '"}', "at most 256 KiB"),
        ("\ud800", "is JSON such as"),
    ],
)
def test_what_is_no_key_set(text: str, why: str) -> None:
    with pytest.raises(InvalidSpec, match=why):
        parse_key_set(text, secrets=True)


@given(
    st.dictionaries(
        st.sampled_from(["kty", "n", "e", "k", "crv", "x", "y", "kid", "alg", "use", "key_ops"]),
        st.sampled_from(["RSA", "EC", "OKP", "oct", "P-256", "Ed25519", "AQAB", "AA", ""]) | st.integers() | st.none(),
    )
)
def test_any_key_is_read_or_left_out(entry: dict[str, Any]) -> None:
    try:
        parse_key_set(as_set(entry), secrets=True)
    except InvalidSpec as error:
        assert "keys[0]" in error.message


# --- when to look ------------------------------------------------------------------------------------------------


def test_an_answer_holds_as_long_as_it_says_between_a_minute_and_a_day() -> None:
    schedule = Schedule()
    assert schedule.due(0.0)
    for told, until in ((None, 3600), (0.0, 60), (600.0, 600), (1e9, 86400)):
        schedule.succeeded(now=1000.0, fresh_s=told)
        assert not schedule.due(1000.0 + until - 1)
        assert schedule.due(1000.0 + until)


def test_a_source_that_is_down_is_tried_again_soon_and_then_less_often() -> None:
    schedule = Schedule()
    waits = []
    for _ in range(9):
        schedule.failed(now=1000.0)
        waits.append(schedule.next_at - 1000.0)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    schedule.succeeded(now=1000.0, fresh_s=60)
    schedule.failed(now=1000.0)
    assert schedule.next_at == 1005.0


def test_unknown_keys_make_it_look_once_in_half_a_minute_however_many_come() -> None:
    schedule = Schedule()
    schedule.succeeded(now=1000.0, fresh_s=3600)
    looks = 0
    for tenth in range(0, 3000):
        now = 1000.0 + tenth / 10
        schedule.asked(now=now)
        if schedule.due(now):
            schedule.succeeded(now=now, fresh_s=3600)
            looks += 1
    assert looks == 9  # at 1030, 1060, … 1270; the one at 1300 is just outside


@pytest.mark.parametrize(
    ("told", "age", "fresh_s"),
    [
        ("", "", None),
        ("public, max-age=600", "", 600),
        ("Max-Age=600", "100", 500),
        ("max-age=600", "700", 0),
        ('max-age="5"', "x", 5),
        ("no-store", "", 0),
        ("max-age=600, no-cache", "", 0),
        ("max-age=-1", "", None),
        ("max-age=" + "9" * 400, "", 999_999_999),
    ],
)
def test_what_cache_control_says(told: str, age: str, fresh_s: float | None) -> None:
    assert fresh_for_s(told, age) == fresh_s


# --- sources -----------------------------------------------------------------------------------------------------


class Idp:
    """A real HTTP server that answers as it is told."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b"{}"
        self.headers: dict[str, str] = {}
        self.asked: list[dict[str, str]] = []
        self.drip = False
        self.stopped = threading.Event()
        idp = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                idp.asked.append({name.lower(): value for name, value in self.headers.items()})
                status = idp.status
                if idp.headers.get("ETag") and self.headers.get("If-None-Match") == idp.headers["ETag"]:
                    status = 304
                self.send_response(status)
                for name, value in idp.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if status != 304:
                    step = 1 if idp.drip else len(idp.body)
                    for at in range(0, len(idp.body), step or 1):
                        self.wfile.write(idp.body[at : at + step])
                        if idp.drip and idp.stopped.wait(0.1):
                            return

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def idp() -> Iterator[Idp]:
    server = Idp()
    yield server
    server.close()


def source(where: str, folder: Path = Path("/nowhere")) -> JwksSource:
    return JwksSource(Issuer("https://idp.example", jwks_source=where), folder=folder, timeout_s=5.0)


def test_a_url_is_fetched_kept_and_rotated(idp: Idp, signers: Any) -> None:
    idp.body = as_set(signers["rsa"].jwk).encode()
    idp.headers = {"ETag": '"one"', "Cache-Control": "max-age=600"}
    keys = source(idp.url)
    assert keys.due(now=0.0)
    assert keys.refresh(now=0.0)
    assert json.loads(keys.text)["keys"][0]["kid"] == "rsa"
    assert not keys.due(now=599.0)
    assert keys.due(now=600.0)

    assert not keys.refresh(now=600.0)
    assert idp.asked[-1]["if-none-match"] == '"one"'
    assert keys.problem == ""

    idp.body, idp.headers = as_set(signers["p256"].jwk).encode(), {"ETag": '"two"'}
    keys.asked(now=700.0)
    assert keys.due(now=700.0)
    assert keys.refresh(now=700.0)
    assert json.loads(keys.text)["keys"][0]["kid"] == "p256"
    keys.asked(now=701.0)
    assert not keys.due(now=729.0)


def test_a_source_that_fails_leaves_the_last_good_set(idp: Idp, signers: Any) -> None:
    idp.body = good = as_set(signers["rsa"].jwk).encode()
    keys = source(idp.url)
    keys.refresh(now=0.0)
    for status, body, headers, why in (
        (500, b"", {}, "answered 500"),
        (302, b"", {"Location": "http://127.0.0.1:1/"}, "redirects are not followed"),
        (200, b"<html>", {}, "did not answer JSON"),
        (200, b'{"keys": []}', {}, "it is empty"),
        (200, b'{"keys": "' + b"x" * MAX_SET_BYTES + b'"}', {}, "more than 256 KiB"),
        (200, as_set(signers["oct"].jwk).encode(), {}, "no place at a URL"),
    ):
        idp.status, idp.body, idp.headers = status, body, headers
        assert not keys.refresh(now=100.0)
        assert why in keys.problem
        assert "https://idp.example" in keys.problem
        assert keys.text == good.decode()
    idp.status, idp.body, idp.headers = 200, good, {}
    assert not keys.refresh(now=200.0)
    assert keys.problem == ""


def test_a_source_that_is_not_there() -> None:
    keys = source("http://127.0.0.1:1/keys")
    assert not keys.refresh(now=0.0)
    assert "could not be fetched" in keys.problem
    assert keys.text == ""
    assert keys.due(now=5.0)


def test_a_source_that_drips_is_given_up(idp: Idp) -> None:
    """Each piece comes in time; all of them together would take a minute."""
    idp.drip = True
    idp.body = b" " * 600
    with pytest.raises(Unavailable, match="too slow"):
        fetch_url(idp.url, etag="", timeout_s=0.3)


def test_a_file_is_read_again_when_it_changes(tmp_path: Path, signers: Any) -> None:
    file = tmp_path / "keys.json"
    keys = source("keys.json", tmp_path)
    assert not keys.refresh(now=0.0)
    assert "keys.json: No such file" in keys.problem
    assert keys.due(now=2.0)
    file.write_text(as_set(signers["rsa"].jwk))
    assert keys.refresh(now=2.0)
    assert keys.problem == ""
    assert not keys.refresh(now=4.0)
    file.write_text("{")
    assert not keys.refresh(now=6.0)
    assert not keys.refresh(now=8.0)
    assert "is JSON such as" in keys.problem
    assert json.loads(keys.text)["keys"][0]["kid"] == "rsa"
    file.write_text(as_set(signers["oct"].jwk))
    assert keys.refresh(now=10.0)
    assert json.loads(keys.text)["keys"][0]["kid"] == "oct"
    file.write_bytes(b"\xff")
    assert not keys.refresh(now=12.0)
    assert "UTF-8" in keys.problem


def test_keys_in_the_configuration_itself(signers: Any) -> None:
    keys = source("  " + as_set(signers["oct"].jwk))
    assert keys.refresh(now=0.0)
    assert not keys.due(now=3600.0)
    assert not keys.refresh(now=90_000.0)


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://x/keys", "gopher://x"])
def test_other_schemes_are_not_fetched(where: str) -> None:
    with pytest.raises(InvalidSpec, match="use https://, a path, or the keys"):
        source(where)


def test_the_fetcher_can_be_another() -> None:
    fetched: list[str] = []

    def fetch(url: str, *, etag: str, timeout_s: float) -> Any:
        fetched.append(f"{url} {etag} {timeout_s:g}")
        raise Unavailable("no network here")

    issuer = Issuer("https://idp.example", jwks_source="https://idp.example/keys")
    keys = JwksSource(issuer, folder=Path("/"), timeout_s=3.0, fetch=fetch)
    assert not keys.refresh(now=0.0)
    assert fetched == ["https://idp.example/keys  3"]
