"""Headers as clients and attackers send them."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.auth.credentials import ApiKey, Certificate, Credentials, Password, Token, collect, read
from slipway.auth.keys import new_key, new_owner_key
from slipway.errors import Unauthenticated

KEY, _ = new_key("ci", scopes=())
OWNER = new_owner_key()


def basic(text: str | bytes) -> str:
    raw = text if isinstance(text, bytes) else text.encode()
    return "Basic " + base64.b64encode(raw).decode()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_a_scheme_has_no_case(scheme: str) -> None:
    assert read(Credentials(f"{scheme} {KEY}")) == ApiKey(KEY, KEY[3:11])
    assert read(Credentials(f"{scheme} a.b.c")) == Token("a.b.c")


def test_what_each_header_may_carry() -> None:
    assert read(Credentials()) is None
    assert read(Credentials(api_key=KEY)) == ApiKey(KEY, KEY[3:11])
    assert read(Credentials(api_key=OWNER)) == ApiKey(OWNER, "owner")
    assert read(Credentials(basic("zoë:pass:wörd"))) == Password("zoë", "pass:wörd")
    assert read(Credentials(certificate="edge-7")) == Certificate("edge-7")
    assert read(Credentials(f"Bearer {KEY}", certificate="edge-7")) == ApiKey(KEY, KEY[3:11])


def test_the_same_key_in_both_headers_is_one_credential() -> None:
    assert read(Credentials(f"Bearer {KEY}", KEY)) == ApiKey(KEY, KEY[3:11])


@pytest.mark.parametrize("authorization", [f"Bearer {OWNER}", "Bearer a.b.c", basic("alice:password")])
def test_two_different_credentials_are_refused(authorization: str) -> None:
    with pytest.raises(Unauthenticated, match="more than one"):
        read(Credentials(authorization, KEY))


@pytest.mark.parametrize(
    "authorization",
    [
        KEY,
        "Bearer",
        "Bearer ",
        f"Bearer{KEY}",
        f" Bearer {KEY}",
        f"Bearer {KEY} ",
        f"Bearer\t{KEY}",
        f"Bearer\xa0{KEY}",
        f"Bearer {KEY}\r\nX-Admin: 1",
        f"Bearer {KEY}\n",
        f"Bearer {KEY}\x00",
        f"Bearer {KEY}, Bearer {OWNER}",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY}A",
        f"Bearer {KEY.replace('sw_', 'sw_/../')}",
        f"Bearer {KEY[:-1]}\u00e9",
        f"Bearer {KEY[:-1]}\u0661",
        "\uff22earer " + KEY,
        f"Key {KEY}",
        "Negotiate YII=",
        "Digest username=alice",
        "Bearer " + "a" * 20_000,
        "Basic not-base64!",
        "Basic YWxpY2U6cGFzcw",
        basic("no colon"),
        basic(":nobody"),
        basic("alice:"),
        basic("al\nice:password"),
        basic("al\u200bice:password"),
        basic("alice:pass\x00word"),
        basic("alice:pass\x7fword"),
        basic(b"\xff\xfe:password"),
        basic("a" * 65 + ":password"),
        basic("alice:" + "p" * 1025),
    ],
)
def test_what_is_not_plainly_well_formed_is_refused(authorization: str) -> None:
    with pytest.raises(Unauthenticated, match="could not be read"):
        read(Credentials(authorization))


@pytest.mark.parametrize("text", ["a.b.c", f"Bearer {KEY}", f"{KEY},{KEY}", KEY + "\n", KEY.upper(), "x" * 10_000])
def test_the_key_header_takes_keys_alone(text: str) -> None:
    with pytest.raises(Unauthenticated):
        read(Credentials(api_key=text))


def test_nothing_shown_is_repeated_in_the_error() -> None:
    with pytest.raises(Unauthenticated) as caught:
        read(Credentials(f"Bearer {KEY}!"))
    assert KEY[12:] not in caught.value.message


def test_pairs_of_a_head_or_of_metadata() -> None:
    pairs = [(b"Host", b"x"), (b"AUTHORIZATION", f"Bearer {KEY}".encode()), ("x-API-key", KEY)]
    assert collect(pairs, certificate="cn", peer="::1") == Credentials(f"Bearer {KEY}", KEY, "cn", "::1")
    assert collect([("authorization-bin", "x"), ("xx-api-key", KEY)]) == Credentials()


@pytest.mark.parametrize("name", ["authorization", "X-Api-Key"])
def test_a_header_that_comes_twice_is_refused_even_if_it_says_the_same(name: str) -> None:
    with pytest.raises(Unauthenticated, match="more than one"):
        collect([(name, KEY), (name.upper(), KEY)])


@given(st.text(max_size=300), st.text(max_size=80), st.text(max_size=20))
def test_anything_at_all_is_read_or_refused(authorization: str, api_key: str, certificate: str) -> None:
    try:
        read(Credentials(authorization, api_key, certificate))
    except Unauthenticated:
        pass


@given(st.binary(max_size=200))
def test_any_basic_credential_is_read_or_refused(raw: bytes) -> None:
    try:
        shown = read(Credentials(basic(raw)))
    except Unauthenticated:
        return
    assert isinstance(shown, Password)
    assert f"{shown.user}:{shown.password}".encode() == raw
