"""Who may do what, put together and told at once when it changes: keys, users and deployments from the store, issuers
and certificates from the configuration."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from slipway.auth.jwks_source import JwksSource
from slipway.clock import Clock
from slipway.controller.store_thread import StoreThread
from slipway.errors import NotLeader, SlipwayError, StoreUnavailable
from slipway.spec.access import Access, DeploymentAccess, Issuer, KeyHash, UserHash
from slipway.spec.deployment import Auth, RequestLimits
from slipway.spec.hosts import is_loopback
from slipway.spec.server import ServerConfig
from slipway.store.records import DeploymentRecord, KeyRecord, UserRecord
from slipway.store.store import Store
from slipway.wire.messages import AccessSeen, ControlMessage

FLUSH_S = 5.0
"""How often uses and refusals go to the store."""
MOST_REFUSALS = 50
"""Audit entries at one flush; who floods us with guesses does not fill the disk."""
MOST_KINDS = 5_000

logger = logging.getLogger(__name__)


def access_of(
    *,
    config: ServerConfig,
    owner_hash: str,
    keys: Sequence[KeyRecord],
    users: Sequence[UserRecord],
    issuers: Sequence[Issuer],
    deployments: Iterable[DeploymentRecord],
) -> Access:
    """Without its epoch. A key that was revoked still counts as one that exists: to revoke the last key must not open
    the doors."""
    auth = config.auth
    required = auth.required
    if required is None:
        required = bool(keys or users or auth.jwt or auth.certificates) or not is_loopback(config.host)
    return Access(
        required=required,
        keys=tuple(key_hash(key) for key in keys if key.revoked_at is None),
        users=tuple(UserHash(user.name, user.hash, tuple(user.scopes)) for user in users),
        issuers=tuple(issuers),
        certificates=auth.certificates,
        deployments=tuple(deployment_access(deployment) for deployment in deployments),
        owner_hash=owner_hash,
    )


def key_hash(key: KeyRecord) -> KeyHash:
    ends = [at for at in (key.expires_at, key.retires_at) if at is not None]
    return KeyHash(key.id, key.name, key.hash, tuple(key.scopes), min(ends, default=0.0))


def deployment_access(deployment: DeploymentRecord) -> DeploymentAccess:
    spec = deployment.spec
    return DeploymentAccess(
        deployment.name,
        msgspec.convert(spec.get("auth") or {}, Auth),
        msgspec.convert(spec.get("limits") or {}, RequestLimits),
    )


class AccessKeeper:
    """`access` None until the store was read once. `tell` sends it where it differs from what was sent."""

    def __init__(
        self,
        *,
        config: ServerConfig,
        owner_hash: str,
        folder: Path,
        store: StoreThread,
        deployments: Callable[[], Mapping[str, DeploymentRecord]],
        say: Callable[[ControlMessage], None],
        clock: Clock,
        wall: Callable[[], float],
    ) -> None:
        self.access: Access | None = None
        self.keys: list[KeyRecord] = []
        self.users: list[UserRecord] = []
        self._config = config
        self._owner_hash = owner_hash
        self._store = store
        self._deployments = deployments
        self._say = say
        self._clock = clock
        self._wall = wall
        self._sources = [JwksSource(issuer, folder=folder) for issuer in config.auth.jwt]
        self._used: dict[str, float] = {}
        self._refused: dict[tuple[str, str, str], int] = {}
        self._known = False
        self.stale = False
        """It changed in the store, and could not be read since."""

    async def refresh(self) -> None:
        """Read keys and users, and tell what changed. Raises StoreUnavailable."""
        self.stale = True
        self.keys, self.users = await self._store.call(lambda store: (store.keys(), store.users()))
        self._known, self.stale = True, False
        self.tell()

    def tell(self) -> None:
        if not self._known:
            return
        new = access_of(
            config=self._config,
            owner_hash=self._owner_hash,
            keys=self.keys,
            users=self.users,
            issuers=[
                msgspec.structs.replace(issuer, jwks=source.text or issuer.jwks)
                for issuer, source in zip(self._config.auth.jwt, self._sources, strict=True)
            ],
            deployments=(found for _, found in sorted(self._deployments().items())),
        )
        old = self.access
        if old is not None and msgspec.structs.replace(new, epoch=old.epoch) == old:
            return
        # As a plan's number: of a clock that goes on when this process is replaced.
        epoch = max(old.epoch + 1 if old else 1, int(self._clock.now() * 1000))
        self.access = msgspec.structs.replace(new, epoch=epoch)
        self._say(self.access)

    # --- key sets ---------------------------------------------------------------------------------------------------

    async def watch_issuers(self) -> None:
        """Look at each issuer's key set when it is due, for ever."""
        while True:
            for source in self._sources:
                if source.due(now=self._clock.now()):
                    before = source.problem
                    changed = await asyncio.to_thread(source.refresh, now=self._clock.now())
                    if source.problem and source.problem != before:
                        logger.warning("%s; the last good set stays", source.problem)
                    if changed:
                        self.tell()
            await asyncio.sleep(0.5)

    # --- what the doors saw -----------------------------------------------------------------------------------------

    def seen(self, seen: AccessSeen) -> None:
        for who, at in seen.used.items():
            self._used[who] = max(at, self._used.get(who, 0.0))
        for kind, credential, peer, count in seen.refused:
            if kind == "unknown_kid":
                for source in self._sources:
                    if source.issuer == credential:
                        source.asked(now=self._clock.now())
            key = (kind, credential, peer)
            if key not in self._refused and len(self._refused) >= MOST_KINDS:
                key = (kind, "", "")
            self._refused[key] = self._refused.get(key, 0) + count

    async def write_seen(self, *, leading: Callable[[], bool]) -> None:
        """Write down who came and who was refused, every few seconds, for ever."""
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                await self.flush(leading=leading())
            except (StoreUnavailable, NotLeader) as error:
                logger.debug("what the doors saw is written later: %s", error.message)
            except SlipwayError as error:
                logger.warning("what the doors saw could not be written: %s", error.message)

    async def flush(self, *, leading: bool) -> None:
        """On a controller that stands by the refusals wait: only one at a time writes the audit log."""
        if not leading or not (self._used or self._refused):
            return
        used, refused = dict(self._used), dict(self._refused)
        await self._store.call(lambda store: self._write(store, used, refused))
        self._used = {who: at for who, at in self._used.items() if at > used.get(who, 0.0)}
        for key, count in refused.items():
            self._refused[key] -= count
            if not self._refused[key]:
                del self._refused[key]

    def _write(self, store: Store, used: dict[str, float], refused: dict[tuple[str, str, str], int]) -> None:
        by_kind: dict[str, dict[str, float]] = {"key": {}, "user": {}}
        for who, at in used.items():
            kind, _, name = who.partition(":")
            if kind in by_kind:
                by_kind[kind][name] = at
        store.touch_keys(by_kind["key"])
        store.touch_users(by_kind["user"])
        now = self._wall()
        worst = sorted(refused.items(), key=lambda item: -item[1])
        for (kind, credential, peer), count in worst[:MOST_REFUSALS]:
            details = {"why": kind, "peer": peer, "count": count}
            store.note(actor=f"peer:{peer}", action="auth.refused", target=credential, details=details, now=now)
        rest = worst[MOST_REFUSALS:]
        if rest:
            details = {"why": "many", "kinds": len(rest), "count": sum(count for _, count in rest)}
            store.note(actor="peer:*", action="auth.refused", target="", details=details, now=now)
