"""What a caller may do: scopes are compared whole, never by prefix or pattern, so that none is mistaken for another."""

from __future__ import annotations

import re

from slipway.auth.credentials import MISSING
from slipway.errors import Forbidden, InvalidSpec, Unauthenticated
from slipway.spec.access import Caller

NAMED = ("predict", "feedback", "deploy")
"""Actions on one deployment, written `predict:NAME`; `*` as NAME is every deployment."""
ADMIN = "admin"
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
MAX_SCOPE_CHARS = 256


def parse_scope(text: str) -> tuple[str, str]:
    """(action, name) of `predict:iris`, `deploy:*`, `admin` (whose name is ''). Raises InvalidSpec, which says what
    would be right."""
    if text == ADMIN:
        return ADMIN, ""
    shown = repr(text[:MAX_SCOPE_CHARS])
    action, colon, name = text.partition(":")
    if action == ADMIN:
        raise InvalidSpec(f"scope {shown}: `admin` stands alone and is for everything")
    if action not in NAMED:
        every = ", ".join(f"{known}:NAME" for known in NAMED)
        raise InvalidSpec(f"scope {shown}: no such scope; there are {every} and admin, and NAME may be * for all")
    if not colon or not name:
        raise InvalidSpec(f"scope {shown}: which deployment? {action}:NAME, or {action}:* for all")
    if name != "*" and "*" in name:
        raise InvalidSpec(f"scope {shown}: * is every deployment and stands alone, as in {action}:*")
    if name != "*" and (len(text) > MAX_SCOPE_CHARS or not _NAME.fullmatch(name)):
        raise InvalidSpec(f"scope {shown}: {name[:MAX_SCOPE_CHARS]!r} cannot be the name of a deployment")
    return action, name


def may(caller: Caller, action: str, name: str = "") -> bool:
    """`action`: predict, feedback, deploy, or admin (without a name). `admin` may do everything."""
    held = caller.scopes
    if ADMIN in held:
        return True
    return action != ADMIN and name != "" and (f"{action}:{name}" in held or f"{action}:*" in held)


def check(caller: Caller, action: str, name: str = "") -> None:
    """Raises Unauthenticated where nobody is known, Forbidden where somebody is but may not."""
    if may(caller, action, name):
        return
    if caller.kind == "anonymous":
        raise Unauthenticated(MISSING)
    needed = ADMIN if action == ADMIN or not name else f"{action}:{name}"
    raise Forbidden(f"{describe(caller)} may not do this: it needs the scope {needed}")


def check_known(caller: Caller) -> None:
    """For what anybody may see who is somebody: raises Unauthenticated for an anonymous caller of a closed server."""
    if caller.kind == "anonymous" and not caller.scopes:
        raise Unauthenticated(MISSING)


def describe(caller: Caller) -> str:
    """For errors and logs: `key 'ci'`."""
    return caller.kind if caller.kind in ("owner", "anonymous") else f"{caller.kind} {caller.name!r}"
