"""`auth` of a deployment's spec: public, allow rules, and scopes where there are none."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.auth.policy import matches, predict_allowed
from slipway.auth.verify import OPEN, OWNER
from slipway.errors import Forbidden, Unauthenticated
from slipway.spec.access import ANONYMOUS, Caller, DeploymentAccess
from slipway.spec.deployment import AllowRule, Auth, JwtRule


def iris(*allow: AllowRule, public: bool = False) -> DeploymentAccess:
    return DeploymentAccess("iris", Auth(public=public, allow=allow))


def key(name: str, *scopes: str) -> Caller:
    return Caller("key", name, "key:abcdefgh", scopes)


def token(*scopes: str, **claims: object) -> Caller:
    return Caller("jwt", "robot", "jwt:i robot", scopes, "https://idp.example", {"sub": "robot", **claims})


def allowed(access: DeploymentAccess, caller: Caller) -> bool:
    try:
        predict_allowed(access, caller)
    except Forbidden:
        return False
    return True


def test_without_rules_the_scope_decides() -> None:
    assert allowed(iris(), key("ci", "predict:iris"))
    assert allowed(iris(), key("ci", "predict:*"))
    assert not allowed(iris(), key("ci", "predict:iris2"))
    assert not allowed(iris(), key("ci", "deploy:iris"))
    with pytest.raises(Unauthenticated):
        predict_allowed(iris(), ANONYMOUS)


def test_a_public_deployment_asks_nobody() -> None:
    assert allowed(iris(public=True), ANONYMOUS)
    assert allowed(iris(public=True), key("ci"))


def test_owner_administrators_and_open_servers_pass_every_rule() -> None:
    for caller in (OWNER, OPEN, key("root", "admin")):
        assert allowed(iris(AllowRule(key="other")), caller)


def test_rules_name_who_may_and_leave_out_everybody_else() -> None:
    access = iris(AllowRule(key="web-*"), AllowRule(user="alice"), AllowRule(certificate="edge-?"))
    assert allowed(access, key("web-1"))
    assert not allowed(access, key("batch", "predict:iris"))
    assert allowed(access, Caller("user", "alice", "user:alice"))
    assert not allowed(access, Caller("user", "Alice", "user:Alice"))
    assert allowed(access, Caller("certificate", "edge-7", "certificate:edge-7"))
    assert not allowed(access, Caller("certificate", "edge-70", "certificate:edge-70"))
    with pytest.raises(Unauthenticated):
        predict_allowed(access, ANONYMOUS)


def test_a_name_of_one_kind_is_not_that_of_another() -> None:
    access = iris(AllowRule(user="alice"))
    for kind in ("key", "certificate", "jwt", "anonymous"):
        if kind == "anonymous":
            with pytest.raises(Unauthenticated):
                predict_allowed(access, Caller(kind, "alice", "x"))
        else:
            assert not allowed(access, Caller(kind, "alice", f"{kind}:alice"))
    assert not allowed(iris(AllowRule(key="*")), token("predict:iris"))


def test_an_empty_rule_fits_nobody() -> None:
    assert not allowed(iris(AllowRule()), key("ci", "predict:iris"))
    assert not allowed(iris(AllowRule(key="")), key("ci"))


@pytest.mark.parametrize(
    ("rule", "caller", "passes"),
    [
        (JwtRule(), token(), True),
        (JwtRule(scope="predict:iris"), token("predict:iris"), True),
        (JwtRule(scope="predict:iris"), token("predict:*"), False),
        (JwtRule(scope="predict:iris"), token("predict:iris2", "xpredict:iris"), False),
        (JwtRule(issuer="https://idp.example"), token(), True),
        (JwtRule(issuer="https://idp.example/"), token(), False),
        (JwtRule(subject="robot"), token(), True),
        (JwtRule(subject="rob*"), token(), False),
        (JwtRule(claims={"team": "ml"}), token(team="ml"), True),
        (JwtRule(claims={"team": "ml"}), token(team=["web", "ml"]), True),
        (JwtRule(claims={"team": "ml"}), token(team="mlx"), False),
        (JwtRule(claims={"team": "ml"}), token(team={"ml": True}), False),
        (JwtRule(claims={"team": "ml"}), token(), False),
        (JwtRule(claims={"team": ""}), token(), False),
        (JwtRule(claims={"verified": "true"}), token(verified=True), True),
        (JwtRule(claims={"verified": "1"}), token(verified=True), False),
        (JwtRule(claims={"level": "3"}), token(level=3), True),
        (JwtRule(claims={"realm_access.roles": "ml"}), token(realm_access={"roles": ["ml"]}), True),
        (JwtRule(claims={"realm_access.roles": "ml"}), token(**{"realm_access.roles": "no"}), False),
        (JwtRule(scope="a", claims={"team": "ml"}), token("a"), False),
    ],
)
def test_rules_on_tokens_want_all_that_they_give(rule: JwtRule, caller: Caller, passes: bool) -> None:
    assert allowed(iris(AllowRule(jwt=rule)), caller) is passes


@given(st.text(alphabet="ab*?", max_size=8), st.text(alphabet="ab", max_size=10))
def test_patterns_are_those_of_the_shell_without_classes(pattern: str, name: str) -> None:
    assert matches(pattern, name) is fnmatch.fnmatchcase(name, pattern)


@pytest.mark.parametrize(("pattern", "name"), [("[ab]", "a"), ("a.c", "abc"), ("a", "a\n"), ("", "a"), ("A", "a")])
def test_everything_else_in_a_pattern_is_itself(pattern: str, name: str) -> None:
    assert not matches(pattern, name)
    assert matches(pattern, pattern)


def test_a_pattern_of_many_stars_is_soon_done() -> None:
    assert not matches("*a" * 100 + "b", "a" * 255)
