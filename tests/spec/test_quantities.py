from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.spec.quantities import MOST_BYTES, PATTERN, format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512Mi", 512 * 2**20),
        ("2G", 2 * 10**9),
        ("1.5Gi", 3 * 2**29),
        ("1k", 1000),
        ("1Ki", 1024),
        ("0.001k", 1),
        ("1024Ti", MOST_BYTES),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("512", "did you mean 512Mi?"),
        ("512MB", "did you mean 512M?"),
        ("512 Mi", "did you mean 512Mi?"),
        ("2gb", "did you mean 2G?"),
        ("2048b", "did you mean 2Ki?"),
        ("lots", "such as 512Mi"),
        ("", "such as 512Mi"),
        ("-1Mi", "such as 512Mi"),
        ("1e3Mi", "such as 512Mi"),
        ("٣Mi", "such as 512Mi"),
        ("0Mi", "no room"),
        ("0.0001k", "no room"),
        ("1025Ti", "more than 1024Ti"),
        ("512Mi\n", "did you mean 512Mi?"),
    ],
)
def test_what_is_no_size_is_told_what_would_be(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_bytes(text)


@given(st.integers(1, MOST_BYTES))
def test_every_size_can_be_written_and_read_back(size: int) -> None:
    assert parse_bytes(format_bytes(size)) == size
    assert re.search(PATTERN, format_bytes(size))


@given(st.text(max_size=12))
def test_only_value_errors(text: str) -> None:
    try:
        assert 1 <= parse_bytes(text) <= MOST_BYTES
    except ValueError as error:
        assert "size" in str(error)


def test_nothing_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="0 bytes"):
        format_bytes(0)
