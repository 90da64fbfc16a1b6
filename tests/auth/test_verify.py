"""The Verifier as a door uses it: who gets in, who stops to, and what attackers can make of it."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import msgspec
import pytest

from slipway.auth import passwords, verify
from slipway.auth.certificates import common_name
from slipway.auth.credentials import Credentials
from slipway.auth.keys import hash_key, new_key, new_owner_key
from slipway.auth.passwords import hash_password
from slipway.auth.verify import OPEN, OWNER, PASSWORDS_AT_ONCE, PASSWORDS_WAITING, Verifier
from slipway.errors import Overloaded, RateLimited, Unauthenticated
from slipway.spec.access import ANONYMOUS, Access, Caller, CertificateRule, DeploymentAccess, Issuer, UserHash

NOW = 1_800_000_000.0
KEY, KEY_HASH = new_key("ci", scopes=("predict:iris",))
OWNER_KEY = new_owner_key()
ALICE = UserHash("alice", hash_password("correct horse"), ("deploy:iris",))
CLOSED = Access(
    epoch=1,
    required=True,
    keys=(KEY_HASH,),
    users=(ALICE,),
    certificates=(CertificateRule("edge-*", ("predict:iris",)), CertificateRule("*", ("feedback:iris",))),
    owner_hash=hash_key(OWNER_KEY),
)
Trust = Callable[..., Issuer]


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def bearer(text: str, peer: str = "192.0.2.1") -> Credentials:
    return Credentials(f"Bearer {text}", peer=peer)


def changed(access: Access, **fields: Any) -> Access:
    return msgspec.structs.replace(access, epoch=access.epoch + 1, **fields)


def refused(verifier: Verifier, credentials: Credentials, *, now: float = NOW) -> str:
    with pytest.raises(Unauthenticated) as caught:
        verifier.verify(credentials, now=now)
    return caught.value.message


# --- who gets in -------------------------------------------------------------------------------------------------


def test_each_kind_of_caller(signers: Any, trust: Trust) -> None:
    verifier = Verifier(changed(CLOSED, issuers=(trust("rsa"),)))
    key = verifier.verify(bearer(KEY), now=NOW)
    assert key == Caller("key", "ci", f"key:{KEY_HASH.id}", ("predict:iris",))
    assert verifier.verify(Credentials(api_key=KEY), now=NOW) == key
    assert verifier.verify(Credentials(basic("alice", "correct horse")), now=NOW).id == "user:alice"
    assert verifier.verify(bearer(OWNER_KEY), now=NOW) == OWNER
    assert verifier.verify(bearer(signers["rsa"].sign("RS256")), now=NOW).name == "robot"
    edge = verifier.verify(Credentials(certificate="edge-7"), now=NOW)
    assert edge == Caller("certificate", "edge-7", "certificate:edge-7", ("predict:iris", "feedback:iris"))
    assert verifier.verify(Credentials(), now=NOW) == ANONYMOUS


def test_a_header_counts_before_a_certificate_also_when_it_is_bad() -> None:
    verifier = Verifier(CLOSED)
    assert verifier.verify(Credentials(f"Bearer {KEY}", certificate="edge-7"), now=NOW).kind == "key"
    wrong = KEY[:-1] + ("B" if KEY.endswith("A") else "A")
    refused(verifier, Credentials(f"Bearer {wrong}", certificate="edge-7"))


def test_an_open_server_believes_nobody_and_refuses_nobody() -> None:
    verifier = Verifier(changed(CLOSED, required=False))
    assert not verifier.required
    for credentials in (
        Credentials(),
        bearer(KEY),
        Credentials("nonsense"),
        Credentials(basic("alice", "wrong")),
        Credentials(certificate="edge-7"),
        bearer(f"sw_owner_{'A' * 43}"),
    ):
        assert verifier.verify(credentials, now=NOW) == OPEN
        assert not verifier.needs_time(credentials, now=NOW)
    assert verifier.verify(bearer(OWNER_KEY), now=NOW) == OWNER


def test_without_an_owner_or_issuers_nothing_stands_for_them(signers: Any) -> None:
    verifier = Verifier(Access(required=True))
    for text in (OWNER_KEY, KEY, signers["rsa"].sign("RS256")):
        refused(verifier, bearer(text))


# --- what does not hold ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        KEY[:-1] + ("A" if KEY[-1] != "A" else "B"),
        f"sw_{KEY_HASH.id}_{'A' * 43}",
        f"sw_zzzzzzzz_{KEY[12:]}",
        f"sw_owner_{KEY[12:]}",
        f"sw_{KEY_HASH.id}_{OWNER_KEY[9:]}",
        new_key("other", scopes=("admin",))[0],
        hash_key(KEY),
        KEY_HASH.hash,
        "a.b.c",
    ],
)
def test_wrong_credentials_all_hear_the_same(text: str) -> None:
    assert refused(Verifier(CLOSED), bearer(text)) == (
        "the credential was not accepted: it is wrong, expired, revoked, or not known here"
    )


def test_unknown_users_and_wrong_passwords_hear_the_same() -> None:
    verifier = Verifier(CLOSED)
    heard = {
        refused(verifier, Credentials(basic(user, password), peer="192.0.2.1"))
        for user, password in (("alice", "wrong horse"), ("bob", "correct horse"), ("Alice", "correct horse"))
    }
    assert len(heard) == 1


def test_unknown_and_wrong_keys_are_compared_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bool] = []
    real = verify.same_key

    def same(text: str, known: str) -> bool:
        compared.append(bool(known))
        return real(text, known)

    monkeypatch.setattr(verify, "same_key", same)
    verifier = Verifier(CLOSED)
    refused(verifier, bearer(f"sw_zzzzzzzz_{'A' * 43}"))
    refused(verifier, bearer(f"sw_{KEY_HASH.id}_{'A' * 43}"))
    assert compared == [False, True]


def test_an_expired_key_is_out_at_the_second_also_from_the_cache() -> None:
    text, key = new_key("short", scopes=("admin",), expires_at=NOW + 10)
    verifier = Verifier(changed(CLOSED, keys=(key,)))
    assert verifier.verify(bearer(text), now=NOW).expires_at == NOW + 10
    assert verifier.cached(f"Bearer {text}", now=NOW + 9.9) is not None
    assert verifier.cached(f"Bearer {text}", now=NOW + 10) is None
    refused(verifier, bearer(text), now=NOW + 10)


def test_rotation_overlaps_and_ends() -> None:
    """The old key carries the end of its overlap as its expiry; the new one stands beside it."""
    fresh, fresh_hash = new_key("ci", scopes=("predict:iris",))
    verifier = Verifier(CLOSED)
    verifier.verify(bearer(KEY), now=NOW)
    retiring = msgspec.structs.replace(KEY_HASH, expires_at=NOW + 60)
    verifier.update(changed(CLOSED, keys=(retiring, fresh_hash)))
    assert verifier.verify(bearer(KEY), now=NOW + 59).name == "ci"
    assert verifier.verify(bearer(fresh), now=NOW + 59).name == "ci"
    refused(verifier, bearer(KEY), now=NOW + 60)
    assert verifier.verify(bearer(fresh), now=NOW + 60).name == "ci"


def test_an_expired_token_is_out_also_from_the_cache(signers: Any, trust: Trust) -> None:
    verifier = Verifier(changed(CLOSED, issuers=(trust("rsa", leeway_s=5),)))
    text = signers["rsa"].sign("RS256", {"exp": NOW + 10})
    verifier.verify(bearer(text), now=NOW)
    assert verifier.cached(f"Bearer {text}", now=NOW + 14.9) is not None
    assert verifier.cached(f"Bearer {text}", now=NOW + 15) is None
    refused(verifier, bearer(text), now=NOW + 15)


# --- revocation and the cache ------------------------------------------------------------------------------------


def test_what_was_revoked_is_out_at_the_next_request_and_the_rest_stays_cached(signers: Any, trust: Trust) -> None:
    other, other_hash = new_key("other", scopes=())
    issuer = trust("rsa")
    access = changed(CLOSED, keys=(KEY_HASH, other_hash), issuers=(issuer,))
    verifier = Verifier(access)
    token = signers["rsa"].sign("RS256")
    shown = {
        "key": f"Bearer {KEY}",
        "other": f"Bearer {other}",
        "user": basic("alice", "correct horse"),
        "token": f"Bearer {token}",
        "owner": f"Bearer {OWNER_KEY}",
    }
    for authorization in shown.values():
        verifier.verify(Credentials(authorization), now=NOW)

    def cached() -> set[str]:
        return {name for name, text in shown.items() if verifier.cached(text, now=NOW) is not None}

    assert cached() == set(shown)
    verifier.update(access := changed(access, deployments=(DeploymentAccess("iris"),)))
    assert cached() == set(shown)
    verifier.update(access := changed(access, keys=(other_hash,)))
    assert cached() == set(shown) - {"key"}
    refused(verifier, Credentials(shown["key"]))
    verifier.update(access := changed(access, users=(msgspec.structs.replace(ALICE, scopes=("admin",)),)))
    assert cached() == {"other", "token", "owner"}
    assert verifier.verify(Credentials(shown["user"]), now=NOW).scopes == ("admin",)
    verifier.update(access := changed(access, users=()))
    refused(verifier, Credentials(shown["user"]))
    verifier.update(access := changed(access, issuers=(trust("p256"),)))
    refused(verifier, Credentials(shown["token"]))
    verifier.update(changed(access, owner_hash=hash_key(new_owner_key())))
    refused(verifier, Credentials(shown["owner"]))
    assert cached() == {"other"}


def test_opening_and_closing_a_server_leaves_nothing_behind() -> None:
    verifier = Verifier(changed(CLOSED, required=False))
    credentials = Credentials(certificate="edge-7")
    assert verifier.verify(credentials, now=NOW) == OPEN
    assert verifier.cached("", now=NOW) == OPEN
    verifier.update(CLOSED)
    assert verifier.cached("", now=NOW) == ANONYMOUS
    assert verifier.verify(credentials, now=NOW).kind == "certificate"
    verifier.update(changed(CLOSED, certificates=()))
    assert verifier.verify(credentials, now=NOW).scopes == ()


def test_a_check_that_a_revocation_overtakes_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = Verifier(CLOSED)
    begun, go_on = threading.Event(), threading.Event()
    real = passwords.check_password

    def slow(password: str, known: str) -> bool:
        begun.set()
        assert go_on.wait(10)
        return real(password, known)

    monkeypatch.setattr(passwords, "check_password", slow)
    shown = Credentials(basic("alice", "correct horse"))
    future = verifier.submit(shown, now=NOW)
    assert begun.wait(10)
    verifier.update(changed(CLOSED, users=()))
    go_on.set()
    assert future.result(10).name == "alice"
    assert verifier.cached(shown.authorization, now=NOW) is None
    refused(verifier, shown)


def test_verdicts_are_bounded_and_hold_no_credential(
    signers: Any, trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "MAX_VERDICTS", 20)
    verifier = Verifier(changed(CLOSED, issuers=(trust("ed", algorithms=("EdDSA",)),)))
    verifier.verify(bearer(KEY), now=NOW)
    tokens = [signers["ed"].sign("EdDSA", {"sub": str(number)}) for number in range(60)]
    for text in tokens:
        verifier.verify(bearer(text), now=NOW)
    assert sum(verifier.cached(f"Bearer {text}", now=NOW) is not None for text in tokens) == 20
    assert verifier.cached(f"Bearer {KEY}", now=NOW) is not None, "tokens never push out a key or a password"
    remembered = [*verifier._known.lasting, *verifier._known.passing]
    assert all(len(digest) == 16 for digest in remembered)
    assert len(verifier._used) <= 40


def test_very_many_bad_credentials_leave_nothing_in_memory() -> None:
    verifier = Verifier(CLOSED)
    for number in range(20_000):
        text = f"sw_{number:08d}_{'A' * 43}"
        with pytest.raises((Unauthenticated, RateLimited)):
            verifier.verify(bearer(text, peer=f"2001:db8:{number:x}::1"), now=NOW)
    known = verifier._known
    assert len(known.lasting) + len(known.passing) + len(known.certificates) == 0
    assert len(verifier.guesses._pairs) <= 4096
    used, refusals = verifier.drain()
    assert used == {}
    assert len(refusals) <= 513
    assert sum(row[3] for row in refusals) == 20_000


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((f"Bearer {KEY}", ""), (f"Bearer {KEY}\n", "")),
        (("", KEY), (KEY, "")),
        ((f"Bearer {KEY}", ""), ("Bearer ", KEY)),
    ],
)
def test_what_looks_like_a_cached_credential_is_not_it(one: tuple[str, str], other: tuple[str, str]) -> None:
    verifier = Verifier(CLOSED)
    verifier.verify(Credentials(*one), now=NOW)
    assert verifier.cached(*one, now=NOW) is not None
    assert verifier.cached(*other, now=NOW) is None
    refused(verifier, Credentials(*other))


def test_text_that_no_encoding_has_is_refused_and_not_a_crash() -> None:
    verifier = Verifier(CLOSED)
    for text in ("\ud800", "Bearer \udfff", "\x00", "\N{FULLWIDTH LATIN CAPITAL LETTER B}earer x"):
        assert verifier.cached(text, now=NOW) is None
        refused(verifier, Credentials(text))
        refused(verifier, Credentials(api_key=text, peer="192.0.2.7"))


# --- throttling --------------------------------------------------------------------------------------------------


def test_wrong_keys_are_told_to_wait_and_a_good_one_gets_in_all_the_same() -> None:
    verifier = Verifier(CLOSED)
    bad = bearer(f"sw_{KEY_HASH.id}_{'A' * 43}")
    for _ in range(5):
        refused(verifier, bad)
    with pytest.raises(RateLimited) as caught:
        verifier.verify(bad, now=NOW)
    assert caught.value.retry_after_s == 1.0
    assert verifier.verify(bearer(KEY), now=NOW).name == "ci"
    assert verifier.verify(bearer(KEY, peer="198.51.100.1"), now=NOW).name == "ci"
    refused(verifier, bearer(f"sw_{KEY_HASH.id}_{'A' * 43}", peer="198.51.100.1"))


def test_guessed_passwords_are_not_even_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def never(password: str, _: str) -> bool:
        looked.append(password)
        return False

    monkeypatch.setattr(passwords, "check_password", never)
    verifier = Verifier(CLOSED)
    limited = 0
    for number in range(100):
        try:
            verifier.verify(Credentials(basic("alice", f"guess {number}"), peer="192.0.2.1"), now=NOW + number / 100)
        except RateLimited as error:
            limited += 1
            assert error.retry_after_s is not None
            assert 0 < error.retry_after_s <= 60
        except Unauthenticated:
            pass
    assert len(looked) == 6
    assert limited == 95
    _, refusals = verifier.drain()
    assert refusals == [("wrong_password", "alice", "192.0.2.1", 6)]


def test_a_verified_password_passes_while_others_guess_from_the_same_address() -> None:
    verifier = Verifier(CLOSED)
    good = Credentials(basic("alice", "correct horse"), peer="192.0.2.1")
    verifier.verify(good, now=NOW)
    for number in range(8):
        with pytest.raises((Unauthenticated, RateLimited)):
            verifier.verify(Credentials(basic("alice", f"guess {number}"), peer="192.0.2.1"), now=NOW)
    assert verifier.verify(good, now=NOW).name == "alice"
    assert not verifier.needs_time(good, now=NOW)


# --- passwords in threads ----------------------------------------------------------------------------------------


def test_passwords_are_checked_a_few_at_once_and_once_for_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    lock, go_on = threading.Lock(), threading.Event()
    at_once, most, calls = 0, 0, 0

    def slow(password: str, _: str) -> bool:
        nonlocal at_once, most, calls
        with lock:
            at_once += 1
            calls += 1
            most = max(most, at_once)
        assert go_on.wait(10)
        with lock:
            at_once -= 1
        return password == "correct horse"

    monkeypatch.setattr(passwords, "check_password", slow)
    verifier = Verifier(CLOSED)
    good = Credentials(basic("alice", "correct horse"), peer="192.0.2.1")
    assert verifier.needs_time(good, now=NOW)
    futures = [verifier.submit(good, now=NOW) for _ in range(50)]
    assert len(set(map(id, futures))) == 1
    others: list[Future[Caller]] = []
    for number in range(PASSWORDS_WAITING - 1):
        others.append(verifier.submit(Credentials(basic(f"u{number}", "guess"), peer=f"10.0.0.{number}"), now=NOW))
    with pytest.raises(Overloaded):
        verifier.submit(Credentials(basic("late", "guess"), peer="10.0.1.1"), now=NOW)
    go_on.set()
    assert futures[0].result(10).name == "alice"
    for future in others:
        assert isinstance(future.exception(10), Unauthenticated)
    assert most == PASSWORDS_AT_ONCE
    assert calls == PASSWORDS_WAITING
    assert not verifier.needs_time(good, now=NOW)
    deadline = time.monotonic() + 10
    while verifier._pending and time.monotonic() < deadline:
        time.sleep(0.001)
    assert verifier.submit(good, now=NOW).result(10).name == "alice"
    verifier.close()


def test_one_who_gives_up_does_not_take_the_answer_from_the_others() -> None:
    verifier = Verifier(CLOSED)
    good = Credentials(basic("alice", "correct horse"))

    async def both() -> str:
        one, other = (asyncio.wrap_future(verifier.submit(good, now=NOW)) for _ in range(2))
        one.cancel()
        return (await other).name

    assert asyncio.run(both()) == "alice"
    verifier.close()


# --- for the audit log -------------------------------------------------------------------------------------------


def test_use_and_refusals_are_collected_without_secrets(signers: Any, trust: Trust) -> None:
    verifier = Verifier(changed(CLOSED, issuers=(trust("rsa"),)))
    verifier.verify(bearer(KEY), now=NOW)
    verifier.cached(f"Bearer {KEY}", now=NOW + 5)
    verifier.verify(Credentials(certificate="edge-7"), now=NOW + 6)
    bad = [
        Credentials("nonsense"),
        bearer(f"sw_{KEY_HASH.id}_{'A' * 43}"),
        bearer(f"sw_zzzzzzzz_{'A' * 43}"),
        bearer(f"sw_owner_{'A' * 43}"),
        Credentials(basic("alice", "my secret"), peer="192.0.2.1"),
        Credentials(basic("my secret", "alice"), peer="192.0.2.1"),
        bearer(signers["rsa"].sign("RS256", kid="new")),
        bearer(signers["other"].sign("RS256")),
    ]
    for number, credentials in enumerate(bad):
        refused(verifier, from_peer(credentials, f"192.0.2.{number}"))
    used, refusals = verifier.drain()
    assert used == {f"key:{KEY_HASH.id}": NOW + 5, "certificate:edge-7": NOW + 6}
    assert refusals == [
        ("malformed", "", "192.0.2.0", 1),
        ("wrong_key", f"sw_{KEY_HASH.id}", "192.0.2.1", 1),
        ("unknown_key", "sw_zzzzzzzz", "192.0.2.2", 1),
        ("wrong_key", "sw_owner", "192.0.2.3", 1),
        ("wrong_password", "alice", "192.0.2.4", 1),
        ("unknown_user", "", "192.0.2.5", 1),
        ("unknown_kid", "https://idp.example", "192.0.2.6", 1),
        ("bad_signature", "https://idp.example", "192.0.2.7", 1),
    ]
    assert "secret" not in repr(refusals)
    assert verifier.drain() == ({}, [])


def from_peer(credentials: Credentials, peer: str) -> Credentials:
    return Credentials(credentials.authorization, credentials.api_key, credentials.certificate, peer)


# --- certificates ------------------------------------------------------------------------------------------------


def test_the_common_name_of_a_certificate() -> None:
    subject = ((("organizationName", "x"),), (("commonName", "edge-7"),))
    assert common_name({"subject": subject}) == "edge-7"
    assert common_name(None) == common_name({}) == ""
    assert common_name({"subject": (*subject, (("commonName", "admin"),))}) == ""
    assert common_name({"subject": ((("commonName", "edge-7\x00.evil"),),)}) == ""
    assert common_name({"subject": ((("commonName", "e" * 300),),)}) == ""


@pytest.mark.parametrize("subject", ["edge\n7", "e" * 300, "edge\u202e7"])
def test_a_subject_that_cannot_be_shown_is_refused(subject: str) -> None:
    refused(Verifier(CLOSED), Credentials(certificate=subject))
