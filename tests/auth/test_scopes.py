"""Scopes: what they open, and what looks like them but does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.auth.scopes import check, check_known, may, parse_scope
from slipway.auth.verify import OPEN
from slipway.errors import Forbidden, InvalidSpec, Unauthenticated
from slipway.spec.access import ANONYMOUS, Caller


def holding(*scopes: str) -> Caller:
    return Caller("key", "ci", "key:abcdefgh", scopes)


@pytest.mark.parametrize(
    ("scope", "parsed"),
    [
        ("admin", ("admin", "")),
        ("predict:iris", ("predict", "iris")),
        ("feedback:*", ("feedback", "*")),
        ("deploy:a.b-c_1", ("deploy", "a.b-c_1")),
    ],
)
def test_scopes_that_are_some(scope: str, parsed: tuple[str, str]) -> None:
    assert parse_scope(scope) == parsed


@pytest.mark.parametrize(
    ("scope", "hint"),
    [
        ("", "no such scope"),
        ("predict", "predict:NAME, or predict:\\* for all"),
        ("predict:", "which deployment"),
        ("Predict:iris", "no such scope"),
        ("admin:iris", "stands alone"),
        ("*", "no such scope"),
        ("*:iris", "no such scope"),
        ("predict:*x", "stands alone"),
        ("predict:iris*", "stands alone"),
        ("predict:iris predict:other", "cannot be the name"),
        ("predict:iris\n", "cannot be the name"),
        ("predict:../iris", "cannot be the name"),
        ("predict:" + "i" * 300, "cannot be the name"),
        (" admin", "no such scope"),
        ("root", "predict:NAME, feedback:NAME, deploy:NAME and admin"),
    ],
)
def test_scopes_that_are_none_say_what_would_be_right(scope: str, hint: str) -> None:
    with pytest.raises(InvalidSpec, match=hint):
        parse_scope(scope)


@pytest.mark.parametrize(
    ("held", "action", "name", "allowed"),
    [
        ("predict:iris", "predict", "iris", True),
        ("predict:iris", "predict", "iris2", False),
        ("predict:iris", "predict", "iri", False),
        ("predict:iris", "predict", "IRIS", False),
        ("predict:iris", "predict", "*", False),
        ("predict:iris", "predict", "", False),
        ("predict:*", "predict", "anything", True),
        ("predict:*", "predict", "", False),
        ("predict:*x", "predict", "abcx", False),
        ("predict:*", "deploy", "iris", False),
        ("predict:*", "feedback", "iris", False),
        ("deploy:iris", "predict", "iris", False),
        ("deploy:*", "admin", "", False),
        ("admin", "deploy", "iris", True),
        ("admin", "admin", "", True),
        ("*", "admin", "", False),
        ("predict:admin", "admin", "", False),
        ("admin:", "admin", "", False),
    ],
)
def test_a_scope_opens_what_it_names_and_nothing_beside_it(held: str, action: str, name: str, allowed: bool) -> None:
    assert may(holding(held), action, name) is allowed
    if allowed:
        check(holding(held), action, name)
    else:
        with pytest.raises(Forbidden):
            check(holding(held), action, name)


def test_nobody_is_asked_who_he_is_and_somebody_what_he_lacks() -> None:
    with pytest.raises(Unauthenticated, match="credential is needed"):
        check(ANONYMOUS, "predict", "iris")
    with pytest.raises(Forbidden, match="key 'ci' may not do this: it needs the scope deploy:iris"):
        check(holding("predict:iris"), "deploy", "iris")
    with pytest.raises(Unauthenticated):
        check_known(ANONYMOUS)
    check_known(holding())


def test_an_open_server_lets_everybody_do_everything() -> None:
    check(OPEN, "admin")
    check(OPEN, "deploy", "iris")
    check_known(OPEN)


@given(st.text(max_size=40), st.text(max_size=20))
def test_a_scope_that_names_one_deployment_opens_no_other(scope: str, name: str) -> None:
    try:
        action, named = parse_scope(scope)
    except InvalidSpec:
        return
    if action != "admin" and named != "*":
        assert may(holding(scope), action, name) is (name == named)


@given(st.sampled_from(["predict", "feedback", "deploy"]), st.from_regex(r"[a-z0-9]{1,12}", fullmatch=True), st.text())
def test_one_name_is_one_scope(action: str, named: str, other: str) -> None:
    caller = holding(f"{action}:{named}")
    assert may(caller, action, named)
    assert may(caller, action, other) is (other == named)
