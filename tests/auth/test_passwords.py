"""Keys and passwords: made, remembered as hashes, and compared with the same work whoever is asked for."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest
from argon2 import extract_parameters

from slipway.auth import keys, passwords
from slipway.auth.keys import hash_key, new_key, new_owner_key, prefix, same_key
from slipway.auth.passwords import check_password, hash_password
from slipway.errors import InvalidSpec


def test_keys_look_as_they_are_told_to_and_never_repeat() -> None:
    made = [new_key("ci", scopes=("predict:iris",), expires_at=7.0) for _ in range(200)]
    assert all(re.fullmatch(r"sw_[a-z0-9]{8}_[A-Za-z0-9_-]{43}", text) for text, _ in made)
    assert len({text for text, _ in made}) == len({key.id for _, key in made}) == 200
    text, key = made[0]
    assert (key.name, key.scopes, key.expires_at) == ("ci", ("predict:iris",), 7.0)
    assert text.startswith(prefix(key.id) + "_")
    assert key.hash == hashlib.sha256(text.encode()).hexdigest()
    assert text[12:] not in repr(key)
    assert re.fullmatch(r"sw_owner_[A-Za-z0-9_-]{43}", new_owner_key())


def test_a_key_is_compared_in_constant_time_also_with_none(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []
    real = keys.hmac.compare_digest

    def compare(one: str, other: str) -> bool:
        compared.append((len(one), len(other)))
        return real(one, other)

    monkeypatch.setattr(keys.hmac, "compare_digest", compare)
    text, key = new_key("ci", scopes=())
    assert same_key(text, key.hash)
    assert not same_key(text, hash_key("another"))
    assert not same_key(text, "")
    assert compared == [(64, 64)] * 3


def test_the_hash_that_stands_for_no_key_opens_nothing() -> None:
    assert not same_key("x", "0" * 64)


def test_passwords() -> None:
    known = hash_password("correct horse")
    assert known.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert known != hash_password("correct horse")
    assert check_password("correct horse", known)
    assert not check_password("correct horsf", known)
    assert not check_password("", known)
    assert not check_password("correct horse", "")
    assert not check_password("correct horse", "not a hash")
    assert not check_password("correct horse", known[:-5])


@pytest.mark.parametrize("password", ["short", "x" * 1025, "with\nnewline", "with\x00zero", "é" * 600])
def test_passwords_that_cannot_be(password: str) -> None:
    with pytest.raises(InvalidSpec, match="a password") as caught:
        hash_password(password)
    assert password not in caught.value.message


def test_a_user_who_does_not_exist_costs_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same function over a hash with the same parameters, salt and tag as long: there is nothing to measure."""
    worked: list[Any] = []
    real = passwords._HASHER

    class Recorder:
        def verify(self, known: str, password: str) -> bool:
            worked.append((extract_parameters(known), len(known), len(password)))
            return real.verify(known, password)

    known = hash_password("correct horse")
    monkeypatch.setattr(passwords, "_HASHER", Recorder())
    assert not check_password("wrong horse..", known)
    assert not check_password("wrong horse..", "")
    assert worked[0] == worked[1]
