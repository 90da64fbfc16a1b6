"""Sealed secrets: what opens them, what does not, and what it says then."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.errors import SetupError
from slipway.store.secrets import key_id, seal, sealed_by, secret_key, unseal

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))


@given(st.text(max_size=50).filter(lambda text: text.isprintable()), st.text(st.characters(exclude_categories=["Cs"])))
def test_what_was_sealed_comes_back(name: str, value: str) -> None:
    sealed = seal(KEY, name, value)
    assert unseal(KEY, name, sealed) == value
    assert len(sealed) == 37 + len(value.encode())
    assert len(value) < 4 or value.encode() not in sealed
    assert seal(KEY, name, value) != sealed


def test_the_wrong_key_is_named() -> None:
    sealed = seal(KEY, "token", "value")
    with pytest.raises(
        SetupError, match=rf"'token' was sealed with the key {key_id(KEY)}.*has {key_id(OTHER)}.*secret.key"
    ):
        unseal(OTHER, "token", sealed)
    with pytest.raises(SetupError, match="has none"):
        unseal([], "token", sealed)


def test_keys_can_be_replaced() -> None:
    sealed = seal(KEY, "token", "value")
    assert sealed_by(sealed) == key_id(KEY)
    assert unseal([OTHER, KEY], "token", sealed) == "value"
    again = seal(OTHER, "token", unseal([OTHER, KEY], "token", sealed))
    assert sealed_by(again) == key_id(OTHER) and unseal(OTHER, "token", again) == "value"


@given(st.integers(0, 41), st.integers(1, 255))
def test_a_changed_byte_shows(position: int, flip: int) -> None:
    sealed = bytearray(seal(KEY, "token", "value"))
    sealed[position] ^= flip
    with pytest.raises(SetupError, match="'token'"):
        unseal(KEY, "token", bytes(sealed))


@pytest.mark.parametrize("cut", [0, 1, 8, 9, 20, 36, 41])
def test_what_was_cut_or_moved_shows(cut: int) -> None:
    sealed = seal(KEY, "token", "value")
    with pytest.raises(SetupError, match="'token'"):
        unseal(KEY, "token", sealed[:cut])
    with pytest.raises(SetupError, match="moved there from another name"):
        unseal(KEY, "other", sealed)


def test_no_key_but_one_of_the_right_size() -> None:
    for wrong in (b"", b"short", KEY + b"x"):
        with pytest.raises(SetupError, match="32 bytes"):
            seal(wrong, "token", "value")


def test_the_key_file_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: secret_key(path), range(8)))
    assert len(keys) == 1 and len(keys.pop()) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["secret.key"]
    assert secret_key(path) == path.read_bytes()


def test_a_key_file_that_will_not_do(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    secret_key(path)
    path.chmod(0o640)
    with pytest.raises(SetupError, match=f"chmod 600 {path}"):
        secret_key(path)
    path.chmod(0o600)
    path.write_bytes(b"x" * 31)
    with pytest.raises(SetupError, match="has 31 bytes"):
        secret_key(path)
    with pytest.raises(SetupError, match=r"cannot be made: No such file"):
        secret_key(tmp_path / "none" / "secret.key")
    (tmp_path / "folder").mkdir(mode=0o700)
    with pytest.raises(SetupError, match="cannot be read"):
        secret_key(tmp_path / "folder")
