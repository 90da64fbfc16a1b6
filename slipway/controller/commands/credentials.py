"""Verbs for keys, users and secrets. What they change is at every door within a second."""

from __future__ import annotations

import asyncio
import re

from slipway.auth.credentials import MAX_USER_CHARS
from slipway.auth.keys import new_key, prefix
from slipway.auth.passwords import hash_password
from slipway.auth.scopes import parse_scope
from slipway.controller.commands.office import Office, author
from slipway.controller.events import Note
from slipway.errors import InvalidSpec
from slipway.spec.access import Caller
from slipway.spec.resources import Key, Secret, User
from slipway.spec.serve import NAME
from slipway.store.records import KeyRecord, SecretRecord, UserRecord
from slipway.store.secrets import seal

MOST_SECRET_BYTES = 64 * 1024
_USER = re.compile(rf"[^\x00-\x1f\x7f:]{{1,{MAX_USER_CHARS}}}\Z")


class CredentialCommands(Office):
    async def keys(self) -> list[Key]:
        return [key_of(record) for record in await self._store.call(lambda store: store.keys())]

    async def create_key(self, name: str, *, scopes: list[str], expires_at: float | None = None, caller: Caller) -> Key:
        """`secret` of the answer is the whole key, told this once."""
        await self._may_change()
        _check_name("key", name)
        _check_scopes(scopes)
        now = self._wall()
        if expires_at is not None and expires_at <= now:
            raise InvalidSpec(
                "expires_at: it is over already; give a time to come, or none for a key that never expires"
            )
        text, record = fresh_key(name, scopes=scopes, expires_at=expires_at, now=now, actor=author(caller))
        added = await self._ledger.write(
            lambda store: store.add_key(record, now=now, actor=author(caller)),
            [Note("key.created", f"the key {name!r} ({record.prefix}…) was created", data={"scopes": list(scopes)})],
        )
        await self._keeper.refresh()
        return key_of(added, secret=text)

    async def rotate_key(
        self, key_id: str, *, overlap_s: float = 0.0, expected_revision: int | None = None, caller: Caller
    ) -> Key:
        """A new key with the name and scopes of the old, which works for `overlap_s` more seconds."""
        await self._may_change()
        if not 0 <= overlap_s <= 366 * 86_400:
            raise InvalidSpec(f"overlap_s: {overlap_s:g} is not between 0 and a year")
        now = self._wall()
        old = await self._store.call(lambda store: store.key(key_id))
        text, record = fresh_key(old.name, scopes=old.scopes, expires_at=old.expires_at, now=now, actor=author(caller))
        ends = f", and the old one works for {overlap_s:g} s more" if overlap_s else ""
        words = f"the key {old.name!r} ({old.prefix}…) is {record.prefix}… now{ends}"
        added = await self._ledger.write(
            lambda store: store.rotate_key(
                key_id,
                record=record,
                retires_at=now + overlap_s,
                expected_revision=expected_revision,
                now=now,
                actor=author(caller),
            ),
            [Note("key.rotated", words, data={"overlap_s": overlap_s})],
        )
        await self._keeper.refresh()
        return key_of(added, secret=text)

    async def revoke_key(self, key_id: str, *, expected_revision: int | None = None, caller: Caller) -> Key:
        await self._may_change()
        old = await self._store.call(lambda store: store.key(key_id))
        words = f"the key {old.name!r} ({old.prefix}…) was revoked"
        record = await self._ledger.write(
            lambda store: store.revoke_key(
                key_id, expected_revision=expected_revision, now=self._wall(), actor=author(caller)
            ),
            [Note("key.revoked", words)] if old.revoked_at is None else [],
        )
        await self._keeper.refresh()
        return key_of(record)

    async def users(self) -> list[User]:
        return [user_of(record) for record in await self._store.call(lambda store: store.users())]

    async def put_user(
        self, name: str, *, password: str, scopes: list[str], expected_revision: int | None = None, caller: Caller
    ) -> User:
        """Add one, or give another password and other scopes."""
        await self._may_change()
        if not _USER.match(name):
            raise InvalidSpec(f"a user's name has 1 to {MAX_USER_CHARS} characters, no ':' and no control characters")
        _check_scopes(scopes)
        hashed = await asyncio.to_thread(hash_password, password)
        record = await self._ledger.write(
            lambda store: store.put_user(
                name,
                hash=hashed,
                scopes=scopes,
                expected_revision=expected_revision,
                now=self._wall(),
                actor=author(caller),
            ),
            [Note("user.changed", f"the user {name!r} was set", data={"scopes": list(scopes)})],
        )
        await self._keeper.refresh()
        return user_of(record)

    async def delete_user(self, name: str, *, expected_revision: int | None = None, caller: Caller) -> None:
        await self._may_change()
        await self._ledger.write(
            lambda store: store.delete_user(
                name, expected_revision=expected_revision, now=self._wall(), actor=author(caller)
            ),
            [Note("user.deleted", f"the user {name!r} was removed")],
        )
        await self._keeper.refresh()

    async def secrets(self) -> list[Secret]:
        records, uses = await self._store.call(lambda store: (store.secrets(), store.secret_uses()))
        return [secret_of(record, uses.get(record.name, [])) for record in records]

    async def put_secret(
        self, name: str, *, value: str, expected_revision: int | None = None, caller: Caller
    ) -> Secret:
        """Replicas that run keep the old value; those that start from now on get the new one."""
        await self._may_change()
        _check_name("secret", name)
        if not value or len(value.encode()) > MOST_SECRET_BYTES or "\0" in value:
            raise InvalidSpec(
                f"value: a secret has 1 to {MOST_SECRET_BYTES} bytes without NUL, as an environment variable can hold"
            )
        sealed = seal(self._specs.sealing_key, name, value)
        record = await self._ledger.write(
            lambda store: store.put_secret(
                name, sealed=sealed, expected_revision=expected_revision, now=self._wall(), actor=author(caller)
            ),
            [Note("secret.changed", f"the secret {name!r} was set")],
        )
        await self._secrets_changed()
        uses = await self._store.call(lambda store: store.secret_uses())
        return secret_of(record, uses.get(name, []))

    async def delete_secret(self, name: str, *, expected_revision: int | None = None, caller: Caller) -> None:
        """Raises Conflict naming the deployments that use it."""
        await self._may_change()
        await self._ledger.write(
            lambda store: store.delete_secret(
                name, expected_revision=expected_revision, now=self._wall(), actor=author(caller)
            ),
            [Note("secret.deleted", f"the secret {name!r} was deleted")],
        )
        await self._secrets_changed()

    async def _secrets_changed(self) -> None:
        self._specs.take_secrets(await self._ledger.call(lambda store: store.secrets()))
        self._reconciler.wake(*self._world.deployments)


def fresh_key(
    name: str, *, scopes: list[str], expires_at: float | None, now: float, actor: str
) -> tuple[str, KeyRecord]:
    """(the key's text, what to remember)."""
    text, made = new_key(name, scopes=tuple(scopes), expires_at=expires_at or 0.0)
    record = KeyRecord(
        id=made.id,
        name=name,
        prefix=prefix(made.id),
        hash=made.hash,
        scopes=list(scopes),
        created_at=now,
        created_by=actor,
        expires_at=expires_at,
        last_used_at=None,
        revoked_at=None,
        retires_at=None,
    )
    return text, record


def key_of(record: KeyRecord, *, secret: str = "") -> Key:
    return Key(
        id=record.id,
        name=record.name,
        prefix=record.prefix,
        scopes=list(record.scopes),
        created_at=record.created_at,
        created_by=record.created_by,
        expires_at=record.expires_at,
        last_used_at=record.last_used_at,
        revoked_at=record.revoked_at,
        retires_at=record.retires_at,
        revision=record.revision,
        secret=secret,
    )


def user_of(record: UserRecord) -> User:
    return User(
        name=record.name,
        scopes=list(record.scopes),
        created_at=record.created_at,
        created_by=record.created_by,
        last_used_at=record.last_used_at,
        revision=record.revision,
    )


def secret_of(record: SecretRecord, used_by: list[str]) -> Secret:
    return Secret(
        name=record.name,
        created_at=record.created_at,
        updated_at=record.updated_at,
        updated_by=record.updated_by,
        used_by=used_by,
        revision=record.revision,
    )


def _check_name(kind: str, name: str) -> None:
    if not NAME.match(name):
        raise InvalidSpec(
            f"{name[:130]!r} cannot name a {kind}: letters, digits, '.', '_' and '-' only, 128 at most, starting with "
            "a letter or digit"
        )


def _check_scopes(scopes: list[str]) -> None:
    if not scopes:
        raise InvalidSpec("scopes: there are none; without one it may do nothing: predict:NAME, deploy:NAME, admin …")
    for scope in scopes:
        parse_scope(scope)
