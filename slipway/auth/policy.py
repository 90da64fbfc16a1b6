"""Who may predict with one deployment: what its `auth` declares, applied to a caller who was verified."""

from __future__ import annotations

from slipway.auth.credentials import MISSING
from slipway.auth.scopes import ADMIN, check, describe
from slipway.errors import Forbidden, Unauthenticated
from slipway.spec.access import Caller, DeploymentAccess
from slipway.spec.deployment import AllowRule, JwtRule


def predict_allowed(access: DeploymentAccess, caller: Caller) -> None:
    """Returns where the caller may: the deployment is public, he is an administrator, a rule of `auth.allow` fits, or,
    where there are no rules, he holds the scope. Raises Unauthenticated for nobody, Forbidden for somebody who may not.
    """
    auth = access.auth
    if auth.public or ADMIN in caller.scopes:
        return
    if not auth.allow:
        check(caller, "predict", access.name)
        return
    if any(_fits(rule, caller) for rule in auth.allow):
        return
    if caller.kind == "anonymous":
        raise Unauthenticated(MISSING)
    raise Forbidden(f"{describe(caller)} is not among those that {access.name!r} allows (its auth.allow)")


def _fits(rule: AllowRule, caller: Caller) -> bool:
    """Exactly one field of a rule is given; an empty rule fits nobody."""
    if caller.kind == "key":
        return rule.key is not None and matches(rule.key, caller.name)
    if caller.kind == "user":
        return rule.user is not None and matches(rule.user, caller.name)
    if caller.kind == "certificate":
        return rule.certificate is not None and matches(rule.certificate, caller.name)
    return caller.kind == "jwt" and rule.jwt is not None and _token_fits(rule.jwt, caller)


def _token_fits(rule: JwtRule, caller: Caller) -> bool:
    if rule.scope and rule.scope not in caller.scopes:
        return False
    if rule.issuer and rule.issuer != caller.issuer:
        return False
    if rule.subject and rule.subject != caller.claims.get("sub"):
        return False
    return all(_holds(_claim(caller.claims, name), wanted) for name, wanted in rule.claims.items())


def _claim(claims: dict[str, object], name: str) -> object:
    """The claim of that name, or else the one that its dots lead to: `realm_access.roles`."""
    if name in claims:
        return claims[name]
    found: object = claims
    for part in name.split("."):
        if not isinstance(found, dict) or part not in found:
            return None
        found = found[part]
    return found


def _holds(value: object, wanted: str) -> bool:
    if isinstance(value, list):
        return any(not isinstance(item, list) and _holds(item, wanted) for item in value)
    if isinstance(value, bool):
        return wanted == ("true" if value else "false")
    if isinstance(value, int):
        return wanted == str(value)
    return isinstance(value, str) and wanted == value


def matches(pattern: str, name: str) -> bool:
    """`*` is any run of characters, `?` any one, everything else itself, upper and lower case apart.

    Steps back to the last `*` only, so a pattern of many stars costs len(pattern) * len(name) at most.
    """
    at = there = 0
    star = resume = -1
    while there < len(name):
        if at < len(pattern) and pattern[at] == "*":
            star, resume = at, there
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", name[there]):
            at += 1
            there += 1
        elif star >= 0:
            resume += 1
            at, there = star + 1, resume
        else:
            return False
    return pattern[at:].strip("*") == ""
