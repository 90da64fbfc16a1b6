"""Which version a name leads to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.errors import NotFound
from slipway.routing.table import VersionTable, version_order

TABLE = VersionTable([("iris", "v2", "b"), ("iris", "v10", "c"), ("iris", "v1", "a"), ("wine", "v1", "w")])


def test_without_a_version_the_highest_number_is_live() -> None:
    assert TABLE.find("iris") == "c"
    assert list(TABLE.versions("iris")) == ["v1", "v2", "v10"]


@pytest.mark.parametrize(("version", "target"), [("v1", "a"), ("1", "a"), ("10", "c"), ("v10", "c")])
def test_a_version_is_found_with_and_without_its_v(version: str, target: str) -> None:
    assert TABLE.find("iris", version) == target


def test_an_unknown_model_is_told_the_nearest_name() -> None:
    with pytest.raises(NotFound, match="did you mean 'iris'"):
        TABLE.find("irsi")


def test_a_name_like_no_other_is_told_what_is_served() -> None:
    with pytest.raises(NotFound, match="served are iris, wine"):
        TABLE.find("zzzzzzzz")


def test_an_unknown_version_is_told_which_there_are() -> None:
    with pytest.raises(NotFound, match="it has v1, v2, v10"):
        TABLE.find("iris", "v3")


def test_an_empty_table_says_so() -> None:
    with pytest.raises(NotFound, match="none yet"):
        VersionTable[str]().find("iris")


@given(st.lists(st.integers(0, 10**6), min_size=1, unique=True))
def test_numbers_count_as_numbers(numbers: list[int]) -> None:
    versions = sorted((f"v{number}" for number in numbers), key=version_order)
    assert versions == [f"v{number}" for number in sorted(numbers)]


@given(st.dictionaries(st.text(max_size=5), st.sets(st.text(min_size=1, max_size=4), min_size=1, max_size=4)))
def test_everything_that_was_put_in_is_found(held: dict[str, set[str]]) -> None:
    entries = [(model, version, (model, version)) for model, versions in held.items() for version in versions]
    table = VersionTable(entries)
    assert sorted(table.all()) == sorted(target for _, _, target in entries)
    for model, version, target in entries:
        assert table.find(model, version) == target
