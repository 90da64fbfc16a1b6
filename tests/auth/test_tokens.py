"""JWTs under attack: each of these tokens is one change away from a good one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.auth.jwks import ALGORITHMS
from slipway.auth.tokens import TokenIssuers, TokenRefused, Verified
from slipway.spec import fields
from slipway.spec.access import Issuer

NOW = 1_800_000_000.0
Trust = Callable[..., Issuer]


def b64(raw: bytes | dict[str, Any]) -> str:
    data = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def verify(issuer: Issuer, text: str, *, now: float = NOW) -> Verified:
    return TokenIssuers((issuer,)).verify(text, now=now)


def refusal(issuer: Issuer, text: str, *, now: float = NOW) -> str:
    with pytest.raises(TokenRefused) as caught:
        verify(issuer, text, now=now)
    return caught.value.kind


FAMILIES = [
    ("rsa", "RS256"),
    ("rsa", "RS384"),
    ("rsa", "RS512"),
    ("rsa", "PS256"),
    ("rsa", "PS384"),
    ("rsa", "PS512"),
    ("p256", "ES256"),
    ("p384", "ES384"),
    ("p521", "ES512"),
    ("ed", "EdDSA"),
    ("oct", "HS256"),
    ("oct", "HS384"),
    ("oct", "HS512"),
]


@pytest.mark.parametrize(("name", "algorithm"), FAMILIES)
def test_every_algorithm_verifies_what_it_signed_and_nothing_else(
    signers: Any, trust: Trust, name: str, algorithm: str
) -> None:
    issuer = trust(name, algorithms=(algorithm,))
    text = signers[name].sign(algorithm)
    caller = verify(issuer, text).caller
    assert (caller.kind, caller.name, caller.issuer) == ("jwt", "robot", "https://idp.example")
    assert caller.expires_at == NOW + 300
    head, body, signature = text.split(".")
    flipped = ("B" if signature[5] == "A" else "A").join((signature[:5], signature[6:]))
    assert refusal(issuer, f"{head}.{body}.{flipped}") == "bad_signature"
    forged = b64({**jwt.decode(text, options={"verify_signature": False}), "sub": "root"})
    assert refusal(issuer, f"{head}.{forged}.{signature}") == "bad_signature"


def test_an_algorithm_that_the_issuer_does_not_list_is_refused(signers: Any, trust: Trust) -> None:
    issuer = trust("rsa", "p256", "oct", algorithms=("RS256",))
    for name, algorithm in FAMILIES[1:]:
        if name in ("rsa", "p256", "oct"):
            assert refusal(issuer, signers[name].sign(algorithm)) == "refused_algorithm"


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, 0, ["RS256"], "HS256 ", "rs256"])
@pytest.mark.parametrize("algorithms", [("RS256",), ("none", "RS256"), ("none", "None", "", "rs256")])
def test_unsigned_tokens_are_refused_even_where_the_configuration_would_have_them(
    signers: Any, trust: Trust, alg: object, algorithms: tuple[str, ...]
) -> None:
    _, body, signature = signers["rsa"].sign("RS256").split(".")
    head = b64({"alg": alg, "typ": "JWT", "kid": "rsa"})
    issuer = trust("rsa", algorithms=algorithms)
    assert refusal(issuer, f"{head}.{body}.{signature}") == "refused_algorithm"
    assert refusal(issuer, f"{head}.{body}.") == "malformed_token"
    assert refusal(issuer, f"{head}.{body}") == "malformed_token"


@pytest.mark.parametrize("algorithms", [("RS256",), ("RS256", "HS256")])
def test_a_public_key_is_never_a_secret(signers: Any, trust: Trust, algorithms: tuple[str, ...]) -> None:
    """The classic: sign with HMAC and the issuer's public key, in any of its forms."""
    rsa = signers["rsa"]
    public = rsa.private.public_key()
    forms = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        base64.urlsafe_b64decode(rsa.jwk["n"] + "=="),
        json.dumps(rsa.jwk).encode(),
        b"",
    ]
    issuer = trust("rsa", algorithms=algorithms)
    for secret in forms:
        for kid in ("rsa", None):
            header = {"alg": "HS256", "typ": "JWT", **({"kid": kid} if kid else {})}
            claims = {"iss": "https://idp.example", "aud": "slipway", "exp": NOW + 60, "sub": "root"}
            signed = f"{b64(header)}.{b64(claims)}"
            text = f"{signed}.{b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"
            assert refusal(issuer, text) in ("refused_algorithm", "unknown_kid")


def test_a_key_that_says_its_algorithm_serves_for_no_other(signers: Any, trust: Trust) -> None:
    rsa = signers["rsa"]
    keys = json.dumps({"keys": [{**rsa.jwk, "alg": "RS256"}]})
    issuer = trust("rsa", algorithms=("RS256", "PS256"), jwks=keys)
    verify(issuer, rsa.sign("RS256"))
    assert refusal(issuer, rsa.sign("PS256")) == "unknown_kid"


def test_the_key_of_somebody_else_does_not_verify(signers: Any, trust: Trust) -> None:
    assert refusal(trust("rsa"), signers["other"].sign("RS256")) == "bad_signature"


def test_keys_and_places_that_a_token_brings_along_are_not_read(signers: Any, trust: Trust) -> None:
    other = signers["other"]
    injected = {
        "jwk": other.jwk,
        "jku": "http://127.0.0.1:1/keys",
        "x5u": "http://127.0.0.1:1/cert",
        "x5c": ["MIIB"],
        "x5t": "abc",
    }
    assert refusal(trust("rsa"), other.sign("RS256", **injected)) == "bad_signature"
    verify(trust("rsa"), signers["rsa"].sign("RS256", **injected))


@pytest.mark.parametrize(
    "kid", ["unknown", "../../../dev/null", "' OR 1=1 --", "rsa\x00", " rsa", "RSA", "", "http://x/", "\u200brsa"]
)
def test_a_kid_is_a_name_and_nothing_else(signers: Any, trust: Trust, kid: str) -> None:
    assert refusal(trust("rsa", "p256"), signers["rsa"].sign("RS256", kid=kid)) == "unknown_kid"


@pytest.mark.parametrize("kid", [7, ["rsa"], {"rsa": 1}, True, "k" * 257])
def test_a_kid_that_is_no_short_text_is_malformed(signers: Any, trust: Trust, kid: object) -> None:
    _, body, signature = signers["rsa"].sign("RS256").split(".")
    head = b64({"alg": "RS256", "kid": kid})
    assert refusal(trust("rsa"), f"{head}.{body}.{signature}") == "malformed_token"


def test_a_token_without_a_kid_is_tried_with_the_keys_that_fit_and_few_of_them(signers: Any, trust: Trust) -> None:
    rsa = signers["rsa"]
    text = jwt.encode({"iss": "https://idp.example", "aud": "slipway", "exp": NOW + 60}, rsa.private, algorithm="RS256")
    assert verify(trust("p256", "oct", "other", "rsa"), text).caller.name == "https://idp.example"
    many = json.dumps({"keys": [{**rsa.jwk, "kid": str(number)} for number in range(5)]})
    assert refusal(trust("rsa", jwks=many), text) == "unknown_kid"


@pytest.mark.parametrize(
    ("claims", "kind"),
    [
        ({"exp": NOW - 31}, "expired_token"),
        ({"exp": NOW - 30}, "expired_token"),
        ({"exp": 0}, "expired_token"),
        ({"exp": None}, "missing_claim"),
        ({"exp": "never"}, "malformed_token"),
        ({"exp": True}, "malformed_token"),
        ({"exp": [NOW + 60]}, "malformed_token"),
        ({"exp": -1}, "malformed_token"),
        ({"exp": 1e300}, "malformed_token"),
        ({"nbf": NOW + 31}, "early_token"),
        ({"nbf": "soon"}, "malformed_token"),
        ({"iat": NOW + 31}, "early_token"),
        ({"aud": "another"}, "wrong_audience"),
        ({"aud": None}, "wrong_audience"),
        ({"aud": []}, "wrong_audience"),
        ({"aud": ["a", "b"]}, "wrong_audience"),
        ({"aud": {"slipway": 1}}, "wrong_audience"),
        ({"aud": "slipway2"}, "wrong_audience"),
        ({"aud": "slip"}, "wrong_audience"),
        ({"iss": "https://idp.example/"}, "unknown_issuer"),
        ({"iss": "HTTPS://idp.example"}, "unknown_issuer"),
        ({"iss": "https://idp.example.evil"}, "unknown_issuer"),
        ({"iss": None}, "unknown_issuer"),
        ({"iss": ""}, "unknown_issuer"),
        ({"sub": "ro\nbot"}, "malformed_token"),
        ({"sub": "ro\u202ebot"}, "malformed_token"),
        ({"sub": "r" * 256}, "malformed_token"),
        ({"scope": " ".join(f"s{number}" for number in range(300))}, "malformed_token"),
    ],
)
def test_claims_that_do_not_hold(signers: Any, trust: Trust, claims: dict[str, Any], kind: str) -> None:
    assert refusal(trust("rsa"), signers["rsa"].sign("RS256", claims)) == kind


@pytest.mark.parametrize("raw", [b'{"sub":7}', b'{"iss":["https://idp.example"]}', b"[]", b'"x"', b"7", b"null"])
def test_claims_of_the_wrong_shape(signers: Any, trust: Trust, raw: bytes) -> None:
    text = jwt.PyJWS().encode(raw, signers["rsa"].private, algorithm="RS256", headers={"kid": "rsa"})
    assert refusal(trust("rsa"), text) in ("malformed_token", "unknown_issuer")


@pytest.mark.parametrize("claims", [{"exp": NOW - 29}, {"nbf": NOW + 30}, {"iat": NOW + 29}, {"aud": ["x", "slipway"]}])
def test_claims_within_the_leeway_hold(signers: Any, trust: Trust, claims: dict[str, Any]) -> None:
    verify(trust("rsa"), signers["rsa"].sign("RS256", claims))


def test_the_leeway_is_that_of_the_issuer(signers: Any, trust: Trust) -> None:
    text = signers["rsa"].sign("RS256", {"exp": NOW - 1})
    assert refusal(trust("rsa", leeway_s=0), text) == "expired_token"
    assert verify(trust("rsa", leeway_s=5), text).until == NOW + 4


def test_a_token_for_somebody_is_not_for_us_where_we_have_no_audience(signers: Any, trust: Trust) -> None:
    issuer = trust("rsa", audience=())
    assert refusal(issuer, signers["rsa"].sign("RS256")) == "wrong_audience"
    verify(issuer, signers["rsa"].sign("RS256", {"aud": None}))


def test_required_claims(signers: Any, trust: Trust) -> None:
    issuer = trust("rsa", required=("exp", "tenant"))
    assert refusal(issuer, signers["rsa"].sign("RS256")) == "missing_claim"
    verify(issuer, signers["rsa"].sign("RS256", {"tenant": "a"}))


def test_a_token_without_an_end_passes_where_none_is_required(signers: Any, trust: Trust) -> None:
    found = verify(trust("rsa", required=()), signers["rsa"].sign("RS256", {"exp": None}))
    assert found.caller.expires_at == 0
    assert math.isinf(found.until)


def test_scopes_come_from_the_token_and_the_issuer(signers: Any, trust: Trust) -> None:
    issuer = trust("rsa", scopes=("predict:iris",))
    sign = signers["rsa"].sign
    assert verify(issuer, sign("RS256")).caller.scopes == ("predict:iris",)
    claims = {"scope": "openid deploy:a  predict:iris", "scp": ["feedback:a", 7, ""]}
    scopes = verify(issuer, sign("RS256", claims)).caller.scopes
    assert scopes == ("predict:iris", "openid", "deploy:a", "feedback:a")
    assert verify(trust("rsa"), sign("RS256", {"scope": {"admin": 1}})).caller.scopes == ()
    assert verify(trust("rsa"), sign("RS256", {"scope": ["admin predict:x"]})).caller.scopes == ("admin predict:x",)


def test_callers_of_two_issuers_never_share_an_id(signers: Any, trust: Trust) -> None:
    one, other = trust("rsa", issuer="https://a x"), trust("rsa", issuer="https://a")
    ids = {
        verify(one, signers["rsa"].sign("RS256", {"iss": "https://a x", "sub": "y"})).caller.id,
        verify(other, signers["rsa"].sign("RS256", {"iss": "https://a", "sub": "x y"})).caller.id,
    }
    assert len(ids) == 2


def test_two_entries_of_one_issuer_each_get_their_chance(signers: Any, trust: Trust) -> None:
    issuers = TokenIssuers((trust("rsa", audience=("first",)), trust("rsa", audience=("slipway",), scopes=("admin",))))
    assert issuers.verify(signers["rsa"].sign("RS256"), now=NOW).caller.scopes == ("admin",)


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"]},
        {"crit": []},
        {"b64": False, "crit": ["b64"]},
        {"b64": True},
        {"zip": "DEF"},
        {"enc": "A256GCM"},
        {"typ": "dpop+jwt"},
        {"typ": "logout+jwt"},
        {"typ": 7},
    ],
)
def test_headers_that_would_change_what_is_signed_or_meant(
    signers: Any, trust: Trust, header: dict[str, object]
) -> None:
    _, body, signature = signers["rsa"].sign("RS256").split(".")
    head = b64({"alg": "RS256", "kid": "rsa", **header})
    assert refusal(trust("rsa"), f"{head}.{body}.{signature}") == "malformed_token"


def test_access_tokens_by_their_own_type_are_taken(signers: Any, trust: Trust) -> None:
    verify(trust("rsa"), signers["rsa"].sign("RS256", typ="at+jwt"))
    verify(trust("rsa"), signers["rsa"].sign("RS256", typ="JWT"))


def test_a_token_has_one_spelling(signers: Any, trust: Trust) -> None:
    head, body, signature = signers["rsa"].sign("RS256").split(".")
    issuer = trust("rsa")
    for text in (
        f"{head}.{body}.{signature}=",
        f"{head}=.{body}.{signature}",
        f" {head}.{body}.{signature}",
        f"{head}.{body}.{signature}\n",
        f"{head}.{body}.{signature}.",
        f"{head}..{body}.{signature}",
        f"{head}.{body}.{signature[:-1]}",
        f"{head}.{body}.{signature}AAAA.x",
        "..",
        "",
    ):
        assert refusal(issuer, text) in ("malformed_token", "bad_signature")
    stray = chr(ord(signature[-1]) + 1)  # 256 bytes leave two bits over in the last letter
    if stray.isalnum():
        assert refusal(issuer, f"{head}.{body}.{signature[:-1]}{stray}") == "malformed_token"


def test_a_name_that_comes_twice_is_refused(signers: Any, trust: Trust) -> None:
    claims = f'{{"iss":"https://idp.example","aud":"slipway","exp":{NOW + 60},"sub":"robot","sub":"root"}}'
    text = jwt.PyJWS().encode(claims.encode(), signers["rsa"].private, algorithm="RS256", headers={"kid": "rsa"})
    assert refusal(trust("rsa"), text) == "malformed_token"


@pytest.mark.parametrize("raw", [b"[" * 5000, b'{"a":' * 900, b'{"exp": NaN}', b'{"exp": Infinity}', b"\xff", b"{"])
def test_json_that_would_hurt(trust: Trust, raw: bytes) -> None:
    assert refusal(trust("rsa"), f"{b64(raw)}.{b64({})}.{b64(b'x')}") == "malformed_token"
    assert refusal(trust("rsa"), f"{b64({'alg': 'RS256'})}.{b64(raw)}.{b64(b'x')}") == "malformed_token"


def test_a_token_over_8_kib_is_not_even_decoded(signers: Any, trust: Trust) -> None:
    assert refusal(trust("rsa"), signers["rsa"].sign("RS256", {"pad": "x" * 8000})) == "oversized_token"


def test_without_keys_every_token_is_refused_and_the_operator_can_see_why(signers: Any, trust: Trust) -> None:
    assert refusal(trust("rsa", jwks=""), signers["rsa"].sign("RS256")) == "unknown_kid"
    broken = TokenIssuers((trust("rsa", jwks="{"),))
    assert "idp.example" in broken.problems[0]
    with pytest.raises(TokenRefused):
        broken.verify(signers["rsa"].sign("RS256"), now=NOW)


def test_secrets_from_a_url_verify_nothing(signers: Any, trust: Trust) -> None:
    issuer = trust("oct", algorithms=("HS256",), jwks_source="HTTPS://idp.example/keys")
    assert refusal(issuer, signers["oct"].sign("HS256")) == "unknown_kid"


def test_what_the_configuration_may_name_is_what_there_is() -> None:
    assert set(fields.ALGORITHMS) == ALGORITHMS


@settings(max_examples=200)
@given(st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_-]{0,60}\.[A-Za-z0-9_-]{0,60}\.[A-Za-z0-9_-]{0,60}"))
def test_any_text_is_refused_in_order(text: str) -> None:
    with pytest.raises(TokenRefused):
        TokenIssuers(()).verify(text, now=NOW)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "sub", "scope", "scp", "x"]), json_values),
    st.dictionaries(st.sampled_from(["kid", "typ", "alg", "crit", "jwk"]), json_values),
)
def test_whatever_a_signed_token_says_is_judged_in_order(
    signers: Any, claims: dict[str, Any], header: dict[str, Any]
) -> None:
    """Signed by hand, since no library would put these into a token."""
    oct_ = signers["oct"]
    issuer = Issuer(
        "https://idp.example",
        audience=("slipway",),
        algorithms=("HS256",),
        jwks=json.dumps({"keys": [oct_.jwk]}),
        jwks_source="keys.json",
    )
    whole = {"iss": "https://idp.example", "aud": "slipway", "exp": NOW + 9, **claims}
    signed = f"{b64({'alg': 'HS256', 'kid': 'oct', **header})}.{b64(whole)}"
    text = f"{signed}.{b64(hmac.new(oct_.private, signed.encode(), hashlib.sha256).digest())}"
    try:
        found = verify(issuer, text)
    except TokenRefused:
        return
    assert whole["iss"] == "https://idp.example"
    assert "slipway" in whole["aud"]
    assert whole["exp"] > NOW - 30
    assert all(isinstance(scope, str) and scope for scope in found.caller.scopes)
