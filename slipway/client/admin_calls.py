"""Every call of the management API, described once, as a conversation without I/O: the two clients run these."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from slipway.client.admin_protocol import API, AdminProtocol, AdminTalk, Query, part, read_json, read_nothing, read_text
from slipway.client.exchange import Exchange
from slipway.client.retry import Circumstances, converse
from slipway.errors import InvalidInput
from slipway.spec.resources import (
    Artifact,
    AuditCheck,
    AuditEntry,
    Deployment,
    Event,
    Identity,
    Key,
    Page,
    Replica,
    Revision,
    Route,
    Secret,
    ServerStatus,
    User,
    Version,
)

T = TypeVar("T")

PAGE_ITEMS = 500
DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


class AdminCalls:
    """The calls as of one moment: made anew for each. `new_key`: a random word for an Idempotency-Key."""

    def __init__(
        self, protocol: AdminProtocol, at: Circumstances, *, timeout_s: float, new_key: Callable[[], str]
    ) -> None:
        self.protocol = protocol
        self.at = at
        self._timeout_s = timeout_s
        self._new_key = new_key

    # --- the server ------------------------------------------------------------------------------------------------

    def status(self) -> AdminTalk[ServerStatus]:
        """Of the server with its gateways, and of every deployment that the caller may see."""
        return self.get("/status", ServerStatus)

    def whoami(self) -> AdminTalk[Identity]:
        """As whom the server knows the caller."""
        return self.get("/whoami", Identity)

    def schema(self) -> AdminTalk[dict[str, Any]]:
        """The JSON Schema of a deployment's spec."""
        return self.get("/schema", dict[str, Any])

    def routes(self) -> AdminTalk[list[Route]]:
        """The live routing table: which versions answer, and which of them takes requests that name none."""
        return self.pages("/routes", Route)

    def replicas(self, deployment: str = "") -> AdminTalk[list[Replica]]:
        """Of one deployment, or all."""
        return self.pages("/replicas", Replica, query={"deployment": deployment})

    def metrics(self) -> AdminTalk[str]:
        """The page that Prometheus reads."""
        return self.ask(Exchange(self.protocol.outgoing("GET", "/metrics"), read_text))

    # --- deployments -----------------------------------------------------------------------------------------------

    def deployments(self, *, labels: Mapping[str, str] | None = None) -> AdminTalk[list[Deployment]]:
        """By name. `labels`: those that have all of these."""
        wanted = [f"{key}={value}" for key, value in (labels or {}).items()]
        return self.pages("/deployments", Deployment, query={"label": wanted})

    def deployment(self, name: str) -> AdminTalk[Deployment]:
        """Raises NotFound, which names the nearest."""
        return self.get(_deployment(name), Deployment)

    def versions(self, name: str) -> AdminTalk[list[Version]]:
        """The newest first."""
        return self.pages(_deployment(name, "/versions"), Version)

    def version(self, name: str, version: str) -> AdminTalk[Version]:
        """One, such as `v3`."""
        return self.get(_deployment(name, f"/versions/{part('version', version)}"), Version)

    def history(self, name: str, *, limit: int = 100) -> AdminTalk[list[Revision]]:
        """Who changed what, the newest first."""
        return self.pages(_deployment(name, "/history"), Revision, most=limit)

    def rollback(self, name: str, *, to: str = "", expected_revision: int | None = None) -> AdminTalk[Deployment]:
        """Back to the version `to`, such as `v2`; '' is the one that was live before. Returns when it is decided, not
        when it is done: see `wait`."""
        return self._act(name, "rollback", {"to": to}, expected_revision)

    def promote(self, name: str, *, version: str = "", expected_revision: int | None = None) -> AdminTalk[Deployment]:
        """Give the traffic to a version that was held; '' is the one that waits."""
        return self._act(name, "promote", {"version": version}, expected_revision)

    def scale(self, name: str, replicas: int, *, expected_revision: int | None = None) -> AdminTalk[Deployment]:
        """Run so many replicas from now on, without a new version."""
        return self._act(name, "scale", {"replicas": replicas}, expected_revision)

    def stop(self, name: str, *, expected_revision: int | None = None) -> AdminTalk[Deployment]:
        """Finish what was accepted, and run nothing of it until `start`."""
        return self._act(name, "stop", None, expected_revision)

    def start(self, name: str, *, expected_revision: int | None = None) -> AdminTalk[Deployment]:
        """Run it again, as it was."""
        return self._act(name, "start", None, expected_revision)

    def logs(self, name: str, *, version: str = "", tail: int = 100) -> AdminTalk[str]:
        """The last `tail` lines that the deployment's replicas wrote; `version` '': of all its versions."""
        outgoing = self.protocol.outgoing(
            "GET", API + _deployment(name, "/logs"), query={"version": version, "tail": tail}
        )
        return self.ask(Exchange(outgoing, read_text))

    def events(self, deployment: str = "", *, after: int = 0, limit: int = 100) -> AdminTalk[list[Event]]:
        """The first `limit` events after the one with the id `after`; with `after` 0 the last `limit`. Oldest first."""
        query: Query = {"deployment": deployment, "after": after or None}
        return self.pages("/events", Event, query=query, most=limit, backward=not after)

    # --- artifacts -------------------------------------------------------------------------------------------------

    def artifacts(self) -> AdminTalk[list[Artifact]]:
        """All that are kept."""
        return self.pages("/artifacts", Artifact)

    def artifact(self, digest: str) -> AdminTalk[Artifact]:
        """`digest`: `sha256:` and 64 hex digits."""
        return self.get(f"/artifacts/{_digest(digest)}", Artifact)

    # --- who may do what -------------------------------------------------------------------------------------------

    def keys(self) -> AdminTalk[list[Key]]:
        """All, without what makes them keys; those that are revoked or expired too."""
        return self.pages("/keys", Key)

    def create_key(self, name: str, *, scopes: Sequence[str], expires_in_s: float | None = None) -> AdminTalk[Key]:
        """A new API key; its `secret` is in this answer and never again. `expires_in_s` None: it never expires."""
        return self.send("POST", "/keys", Key, {"name": name, "scopes": list(scopes), "expires_in_s": expires_in_s})

    def rotate_key(
        self, key_id: str, *, overlap_s: float = 86_400.0, expected_revision: int | None = None
    ) -> AdminTalk[Key]:
        """A new key with the name and scopes of this one, which works for `overlap_s` seconds more."""
        path = f"/keys/{part('key', key_id)}/rotate"
        return self.send("POST", path, Key, {"overlap_s": overlap_s}, expected_revision=expected_revision)

    def revoke_key(self, key_id: str, *, expected_revision: int | None = None) -> AdminTalk[Key]:
        """It opens nothing any more, at once."""
        return self.send("DELETE", f"/keys/{part('key', key_id)}", Key, expected_revision=expected_revision)

    def users(self) -> AdminTalk[list[User]]:
        """Of basic auth."""
        return self.pages("/users", User)

    def put_user(
        self, name: str, *, password: str, scopes: Sequence[str], expected_revision: int | None = None
    ) -> AdminTalk[User]:
        """Make or change a user of basic auth."""
        body = {"password": password, "scopes": list(scopes)}
        return self.send("PUT", f"/users/{part('user', name)}", User, body, expected_revision=expected_revision)

    def delete_user(self, name: str, *, expected_revision: int | None = None) -> AdminTalk[None]:
        """Nobody comes in by this name any more, at once."""
        return self._remove(f"/users/{part('user', name)}", expected_revision)

    def secrets(self) -> AdminTalk[list[Secret]]:
        """Their names and who uses them; values are never told."""
        return self.pages("/secrets", Secret)

    def put_secret(self, name: str, value: str, *, expected_revision: int | None = None) -> AdminTalk[Secret]:
        """Deployments read it when their next replica starts."""
        path = f"/secrets/{part('secret', name)}"
        return self.send("PUT", path, Secret, {"value": value}, expected_revision=expected_revision)

    def delete_secret(self, name: str, *, expected_revision: int | None = None) -> AdminTalk[None]:
        """Raises Conflict, which names them, while deployments use it."""
        return self._remove(f"/secrets/{part('secret', name)}", expected_revision)

    def audit(self, *, after: int = 0, limit: int = 100) -> AdminTalk[list[AuditEntry]]:
        """The first `limit` entries after number `after`; with `after` 0 the last `limit`. Oldest first."""
        return self.pages("/audit", AuditEntry, query={"after": after or None}, most=limit, backward=not after)

    def verify_audit(self) -> AdminTalk[AuditCheck]:
        """Whether the chain of hashes over the whole audit log holds."""
        return self.get("/audit/verify", AuditCheck)

    # --- shared by them --------------------------------------------------------------------------------------------

    def ask(self, exchange: Exchange[T]) -> AdminTalk[T]:
        """Each exchange has `timeout_s` to itself, however many a call takes."""
        self.at.deadline = self.at.now + self._timeout_s
        return converse(exchange, self.protocol, self.at)

    def get(self, path: str, kind: type[T], *, query: Query | None = None) -> AdminTalk[T]:
        return self.ask(Exchange(self.protocol.outgoing("GET", API + path, query=query), read_json(kind)))

    def pages(
        self, path: str, kind: type[T], *, query: Query | None = None, most: int | None = None, backward: bool = False
    ) -> AdminTalk[list[T]]:
        """`most` items of a list, None for all, however many pages they take. `backward`: each page comes before the
        one that was told before it."""
        found: list[T] = []
        left = math.inf if most is None else most
        cursor = ""
        while left > 0:
            asked = dict(query or {}) | {"limit": int(min(left, PAGE_ITEMS)), "cursor": cursor}
            page = yield from self.get(path, Page[kind], query=asked)  # type: ignore[valid-type]
            found = page.items + found if backward else found + page.items
            left -= len(page.items)
            cursor = page.next
            if not cursor:
                break
        return found

    def send(
        self,
        method: str,
        path: str,
        kind: type[T],
        body: object = None,
        *,
        query: Query | None = None,
        expected_revision: int | None = None,
    ) -> AdminTalk[T]:
        """A change. All its tries carry one Idempotency-Key, so that it is made once however often it is sent."""
        read = read_nothing if kind is type(None) else read_json(kind)
        return self.ask(Exchange(self._change(method, path, body, query, expected_revision), read))  # type: ignore[arg-type]

    def _change(self, method: str, path: str, body: object, query: Query | None, expected_revision: int | None) -> Any:
        headers = {"idempotency-key": self._new_key()}
        if expected_revision == 0:
            headers["if-none-match"] = "*"
        elif expected_revision is not None:
            headers["if-match"] = f'"{expected_revision}"'
        return self.protocol.outgoing(method, API + path, query=query, body=body, headers=headers)

    def _act(self, name: str, action: str, body: object, expected_revision: int | None) -> AdminTalk[Deployment]:
        path = _deployment(name, f"/{action}")
        return self.send("POST", path, Deployment, {} if body is None else body, expected_revision=expected_revision)

    def _remove(self, path: str, expected_revision: int | None) -> AdminTalk[None]:
        return self.send("DELETE", path, type(None), expected_revision=expected_revision)


def _deployment(name: str, rest: str = "") -> str:
    return f"/deployments/{part('deployment', name)}{rest}"


def _digest(digest: str) -> str:
    if not DIGEST.match(digest):
        raise InvalidInput(f"{digest!r} is no digest of an artifact: sha256: and 64 hex digits in lower case")
    return digest
