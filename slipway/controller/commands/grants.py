"""What of a spec only an administrator may declare: what reaches beyond the deployment itself.

Whoever holds `deploy:NAME` decides which code runs under that name. Out of its sandbox this code could read the owner's
credential, and with any secret that it names it would hold what other deployments live from. So both are granted by
somebody who holds `admin`, by deploying a spec that has them, and stay granted as long as the deployment's spec has
them.
"""

from __future__ import annotations

from slipway.auth.scopes import ADMIN, describe
from slipway.errors import Forbidden
from slipway.spec.access import Caller
from slipway.spec.deployment import DeploymentSpec, SecretRef
from slipway.spec.hosts import is_loopback


def check_grants(spec: DeploymentSpec, before: DeploymentSpec | None, caller: Caller, *, host: str) -> None:
    """`before`: the deployment's spec as it stands, None for a new one. `host`: what the doors are bound to; where
    nobody is asked who he is, and others than this machine's can come, nobody is an administrator. Raises Forbidden for
    what this caller may not add to it."""
    if ADMIN in caller.scopes and (caller.kind != "anonymous" or is_loopback(host)):
        return
    beyond = _beyond(spec, before)
    if not beyond:
        return
    raise Forbidden(
        f"{'; '.join(beyond[:10])}. {describe(caller)} may not grant this: whoever holds the scope admin has to deploy "
        f"such a spec once; from then on deploy:{spec.name} is enough"
    )


def _beyond(spec: DeploymentSpec, before: DeploymentSpec | None) -> list[str]:
    """What `spec` reaches that `before` does not."""
    ours, theirs = spec.sandbox, None if before is None else before.sandbox
    found = []
    free = theirs is not None and not theirs.enabled  # then there is nothing left to open
    if not ours.enabled and not free:
        found.append("/spec/sandbox/enabled: is false, so that the model's code may do all that the server may")
    for field, verb in (("allow_read", "reads"), ("allow_write", "writes")):
        granted = getattr(theirs, field) if theirs is not None else ()
        more = [path for path in getattr(ours, field) if path not in granted and not free]
        if more:
            found.append(f"/spec/sandbox/{field}: {verb} {more[0]!r} on the server's machine")
    known = _secrets(before) if before is not None else frozenset()
    for variable, value in spec.env.items():
        if isinstance(value, SecretRef) and value.secret not in known:
            found.append(f"/spec/env/{variable}: reads the secret {value.secret!r}")
    return found


def _secrets(spec: DeploymentSpec) -> frozenset[str]:
    return frozenset(value.secret for value in spec.env.values() if isinstance(value, SecretRef))
