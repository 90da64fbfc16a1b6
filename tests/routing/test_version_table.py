"""Which version a name leads to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.errors import NotFound, NotReady
from slipway.routing.table import VersionTable, version_order

TABLE = VersionTable(
    [("iris", "v2", True, "b"), ("iris", "v10", True, "c"), ("iris", "v1", True, "a"), ("wine", "v1", True, "w")],
    absent={"pear": "it is stopped"},
)


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
    with pytest.raises(NotFound, match="served are iris, pear, wine"):
        TABLE.find("zzzzzzzz")


def test_an_unknown_version_is_told_which_there_are() -> None:
    with pytest.raises(NotFound, match="it has v1, v2, v10"):
        TABLE.find("iris", "v3")


def test_the_live_version_is_the_one_that_is_marked() -> None:
    table = VersionTable([("iris", "v1", True, "a"), ("iris", "v2", False, "b")])
    assert (table.find("iris"), table.find("iris", "v2")) == ("a", "b")


def test_a_model_without_a_live_version_is_not_ready_but_its_versions_can_be_had() -> None:
    table = VersionTable([("iris", "v1", False, "a")])
    with pytest.raises(NotReady, match="no live version yet; on its way: v1"):
        table.find("iris")
    assert table.find("iris", "v1") == "a"
    assert list(table.versions("iris")) == ["v1"]


def test_a_model_that_is_declared_and_does_not_run_says_why() -> None:
    with pytest.raises(NotReady, match="'pear' does not serve: it is stopped"):
        TABLE.find("pear")
    with pytest.raises(NotReady, match="it is stopped"):
        TABLE.find("pear", "v1")
    with pytest.raises(NotFound, match="did you mean 'pear'"):
        TABLE.find("paer")


def test_an_empty_table_says_so() -> None:
    with pytest.raises(NotFound, match="none yet"):
        VersionTable[str]().find("iris")


@given(st.lists(st.integers(0, 10**6), min_size=1, unique=True))
def test_numbers_count_as_numbers(numbers: list[int]) -> None:
    versions = sorted((f"v{number}" for number in numbers), key=version_order)
    assert versions == [f"v{number}" for number in sorted(numbers)]


@given(st.dictionaries(st.text(max_size=5), st.sets(st.text(min_size=1, max_size=4), min_size=1, max_size=4)))
def test_everything_that_was_put_in_is_found(held: dict[str, set[str]]) -> None:
    entries = [(model, version, True, (model, version)) for model, versions in held.items() for version in versions]
    table = VersionTable(entries)
    assert sorted(table.all()) == sorted(target for *_, target in entries)
    for model, version, _, target in entries:
        assert table.find(model, version) == target
