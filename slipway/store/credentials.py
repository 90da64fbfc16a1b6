"""Keys, users and secrets as the store keeps them: hashes and sealed values, nothing that opens a door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Select, Table, or_, select

from slipway.errors import Conflict, NotFound
from slipway.store.deployments import secret_uses
from slipway.store.part import Part, check_revision, no_such, read, read_one
from slipway.store.records import KeyRecord, SecretRecord, UserRecord
from slipway.store.tables import KEYS, SECRETS, USERS


class Credentials(Part):
    """What a person changes takes `expected_revision`: None for whatever there is, 0 for "must not exist"; it raises
    PreconditionFailed."""

    def keys(self) -> list[KeyRecord]:
        """All, also those that are revoked or expired; the oldest first."""
        with self._database.reading() as connection:
            return read(KeyRecord, connection, select(KEYS).order_by(KEYS.c.created_at, KEYS.c.id))

    def key(self, id: str) -> KeyRecord:
        with self._database.reading() as connection:
            return _key(connection, id)

    def add_key(self, record: KeyRecord, *, now: float, actor: str) -> KeyRecord:
        """Raises Conflict for an id that is taken."""
        with self._database.writing() as change:
            added = _insert_key(change.connection, record)
            details = {"name": added.name, "scopes": added.scopes, "expires_at": added.expires_at}
            change.audit(actor=actor, action="key.create", target=added.id, details=details, now=now)
            return added

    def rotate_key(
        self, id: str, *, record: KeyRecord, retires_at: float, expected_revision: int | None = None, now: float,
        actor: str,
    ) -> KeyRecord:  # fmt: skip
        """`record` takes the place of key `id`, which works until `retires_at`; both or neither. Raises Conflict for a
        key that was revoked or rotated before."""
        with self._database.writing() as change:
            old = _key(change.connection, id)
            check_revision("key", id, found=old.revision, expected=expected_revision)
            if old.revoked_at is not None or old.retires_at is not None:
                how = "revoked" if old.revoked_at is not None else "rotated already"
                raise Conflict(f"The key {id!r} ({old.name}) was {how}; create a new one.")
            added = _insert_key(change.connection, record)
            _change_key(change.connection, old, retires_at=retires_at)
            details = {"name": old.name, "replaced_by": added.id, "retires_at": retires_at}
            change.audit(actor=actor, action="key.rotate", target=id, details=details, now=now)
            return added

    def revoke_key(self, id: str, *, expected_revision: int | None = None, now: float, actor: str) -> KeyRecord:
        """From now on it opens nothing. Twice is once."""
        with self._database.writing() as change:
            old = _key(change.connection, id)
            check_revision("key", id, found=old.revision, expected=expected_revision)
            if old.revoked_at is not None:
                return old
            changed = _change_key(change.connection, old, revoked_at=now)
            change.audit(actor=actor, action="key.revoke", target=id, details={"name": old.name}, now=now)
            return changed

    def retire_key(
        self, id: str, at: float, *, expected_revision: int | None = None, now: float, actor: str
    ) -> KeyRecord:
        """It works until `at`, seconds since 1970."""
        with self._database.writing() as change:
            old = _key(change.connection, id)
            check_revision("key", id, found=old.revision, expected=expected_revision)
            changed = _change_key(change.connection, old, retires_at=at)
            details = {"name": old.name, "retires_at": at}
            change.audit(actor=actor, action="key.retire", target=id, details=details, now=now)
            return changed

    def touch_keys(self, used: Mapping[str, float]) -> None:
        """Id to when it was last used. No change of the key, and none of the audit log; unknown ids pass."""
        self._touch(KEYS, KEYS.c.id, used)

    def users(self) -> list[UserRecord]:
        """By name."""
        with self._database.reading() as connection:
            return read(UserRecord, connection, select(USERS).order_by(USERS.c.name))

    def put_user(
        self, name: str, *, hash: str, scopes: Sequence[str], expected_revision: int | None = None, now: float,
        actor: str,
    ) -> UserRecord:  # fmt: skip
        """Add a user, or give another password and other scopes. `hash`: argon2id in its PHC string form."""
        with self._database.writing() as change:
            old = read_one(UserRecord, change.connection, _named(USERS, name))
            found = old.revision if old else 0
            check_revision("user", name, found=found, expected=expected_revision)
            values = {"hash": hash, "scopes": list(scopes), "revision": found + 1}
            if old is None:
                values |= {"name": name, "created_at": now, "created_by": actor, "last_used_at": None}
                change.connection.execute(USERS.insert().values(**values))
            else:
                change.connection.execute(USERS.update().where(USERS.c.name == name).values(**values))
            action = "user.update" if old else "user.create"
            change.audit(actor=actor, action=action, target=name, details={"scopes": list(scopes)}, now=now)
            return read(UserRecord, change.connection, _named(USERS, name))[0]

    def delete_user(self, name: str, *, expected_revision: int | None = None, now: float, actor: str) -> None:
        with self._database.writing() as change:
            old = read_one(UserRecord, change.connection, _named(USERS, name))
            if old is None:
                raise no_such("user", name, change.connection.scalars(select(USERS.c.name)))
            check_revision("user", name, found=old.revision, expected=expected_revision)
            change.connection.execute(USERS.delete().where(USERS.c.name == name))
            change.audit(actor=actor, action="user.delete", target=name, details={}, now=now)

    def touch_users(self, used: Mapping[str, float]) -> None:
        """Name to when they last logged in; as `touch_keys`."""
        self._touch(USERS, USERS.c.name, used)

    def secrets(self) -> list[SecretRecord]:
        """By name."""
        with self._database.reading() as connection:
            return read(SecretRecord, connection, select(SECRETS).order_by(SECRETS.c.name))

    def secret_uses(self) -> dict[str, list[str]]:
        """Secret name to the deployments that name it; secrets that none names are left out."""
        with self._database.reading() as connection:
            return secret_uses(connection)

    def put_secret(
        self, name: str, *, sealed: bytes, expected_revision: int | None = None, now: float, actor: str
    ) -> SecretRecord:
        """`sealed` by `slipway.store.secrets`; neither it nor its length gets into the audit log."""
        with self._database.writing() as change:
            old = read_one(SecretRecord, change.connection, _named(SECRETS, name))
            found = old.revision if old else 0
            check_revision("secret", name, found=found, expected=expected_revision)
            values = {"sealed": sealed, "updated_at": now, "updated_by": actor, "revision": found + 1}
            if old is None:
                change.connection.execute(SECRETS.insert().values(name=name, created_at=now, **values))
            else:
                change.connection.execute(SECRETS.update().where(SECRETS.c.name == name).values(**values))
            action = "secret.update" if old else "secret.create"
            change.audit(actor=actor, action=action, target=name, details={}, now=now)
            return read(SecretRecord, change.connection, _named(SECRETS, name))[0]

    def delete_secret(self, name: str, *, expected_revision: int | None = None, now: float, actor: str) -> None:
        """Raises Conflict that names the deployments which use it."""
        with self._database.writing() as change:
            old = read_one(SecretRecord, change.connection, _named(SECRETS, name))
            if old is None:
                raise no_such("secret", name, change.connection.scalars(select(SECRETS.c.name)))
            check_revision("secret", name, found=old.revision, expected=expected_revision)
            users = secret_uses(change.connection).get(name)
            if users:
                raise Conflict(f"The secret {name!r} is used by {', '.join(users)}; take it out of their env first, or "
                               "set another value.")  # fmt: skip
            change.connection.execute(SECRETS.delete().where(SECRETS.c.name == name))
            change.audit(actor=actor, action="secret.delete", target=name, details={}, now=now)

    def _touch(self, table: Table, by: Column[Any], used: Mapping[str, float]) -> None:
        if not used:
            return
        with self._database.writing() as change:
            for who, at in used.items():
                # Never back: reports of several gateways come in any order.
                older = or_(table.c.last_used_at.is_(None), table.c.last_used_at < at)
                change.connection.execute(table.update().where(by == who, older).values(last_used_at=at))


def _named(table: Table, name: str) -> Select[Any]:
    return select(table).where(table.c.name == name)


def _key(connection: Connection, id: str) -> KeyRecord:
    found = read_one(KeyRecord, connection, select(KEYS).where(KEYS.c.id == id))
    if found is None:
        raise NotFound(f"There is no key with the id {id!r}; `slipway keys list` shows the ids.")
    return found


def _insert_key(connection: Connection, record: KeyRecord) -> KeyRecord:
    if connection.scalar(select(KEYS.c.id).where(KEYS.c.id == record.id)) is not None:
        raise Conflict(f"There is a key with the id {record.id!r} already; ids are random, so make another.")
    connection.execute(KEYS.insert().values(**vars(record)))
    return _key(connection, record.id)


def _change_key(connection: Connection, old: KeyRecord, **values: float) -> KeyRecord:
    connection.execute(KEYS.update().where(KEYS.c.id == old.id).values(**values, revision=old.revision + 1))
    return _key(connection, old.id)
