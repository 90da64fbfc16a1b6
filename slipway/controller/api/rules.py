"""Which scope each operation needs. Every operation names one of these rules; there is no operation without."""

from __future__ import annotations

from enum import Enum

from slipway.auth.scopes import ADMIN, check, describe, may
from slipway.errors import Forbidden
from slipway.spec.access import Caller


class Rule(Enum):
    """OPEN: whoever knocks. ANYBODY: any identity; what the answer holds is cut to what it may see. DEPLOYMENT: that
    of the path (or the query), by `deploy:NAME`. DEPLOYER: whoever may deploy anything. ADMINISTRATOR: `admin`."""

    OPEN = "open"
    ANYBODY = "anybody"
    DEPLOYMENT = "deployment"
    DEPLOYER = "deployer"
    ADMINISTRATOR = "administrator"


def enforce(rule: Rule, caller: Caller, name: str) -> None:
    """`name`: of the deployment that is meant, '' for all of them. Raises Forbidden, which names the scope."""
    if rule is Rule.DEPLOYMENT and name:
        check(caller, "deploy", name)
    elif rule in (Rule.DEPLOYMENT, Rule.ADMINISTRATOR):
        check(caller, ADMIN)
    elif rule is Rule.DEPLOYER and not _deploys(caller):
        raise Forbidden(f"{describe(caller)} may not do this: it needs the scope admin, or deploy:NAME")


def sees(caller: Caller, deployment: str) -> bool:
    return may(caller, "deploy", deployment)


def _deploys(caller: Caller) -> bool:
    return ADMIN in caller.scopes or any(scope.startswith("deploy:") for scope in caller.scopes)
