"""Deployments, their versions and their history: what was declared, and how far it has got."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from slipway.errors import Conflict, InvalidSpec, NotFound
from slipway.store.part import LARGEST, Part, check_revision, no_such, page, read, read_one
from slipway.store.records import DeploymentRecord, RevisionRecord, VersionRecord, VersionSettings
from slipway.store.tables import DEPLOYMENTS, REVISIONS, SECRETS, VERSIONS


class Deployments(Part):
    def deployments(self) -> list[DeploymentRecord]:
        """By name."""
        with self._database.reading() as connection:
            return read(DeploymentRecord, connection, select(DEPLOYMENTS).order_by(DEPLOYMENTS.c.name))

    def deployment(self, name: str) -> DeploymentRecord:
        """Raises NotFound with the nearest name."""
        with self._database.reading() as connection:
            return _deployment(connection, name)

    def declare(
        self,
        *,
        name: str,
        spec: dict[str, Any],
        action: str,
        changes: Sequence[str],
        version: VersionSettings | None,
        target: int | None,
        hold: bool,
        expected_revision: int | None,
        now: float,
        actor: str,
    ) -> DeploymentRecord:
        """Create a deployment, or change what is declared of it: the next revision, its history and its audit entry,
        all or nothing. `version` becomes the next version and the target; `target` makes an earlier one the
        target; with neither it stays. `expected_revision` 0: it must not exist.

        Raises PreconditionFailed, NotFound for a target that is no version, Conflict while it is being deleted, and
        InvalidSpec for an environment that names a secret which does not exist.
        """
        if version is not None and target is not None:
            raise ValueError("declare() takes a new version or an earlier one as the target, not both")
        with self._database.writing() as change:
            connection = change.connection
            old = _find(connection, name)
            check_revision("deployment", name, found=old.revision if old else 0, expected=expected_revision)
            if old is not None and old.deleting:
                raise Conflict(f"The deployment {name!r} is being deleted; declare it again when it is gone.")
            _check_secrets(connection, name, spec)
            if old is None:
                old = DeploymentRecord(
                    name=name, spec=spec, revision=0, live=0, target=0, hold=hold, deleting=False,
                    created_at=now, updated_at=now, updated_by=actor,
                )  # fmt: skip
                connection.execute(DEPLOYMENTS.insert().values(**vars(old)))
            aim = old.target
            if version is not None:
                aim = _add_version(connection, name, version, now=now, actor=actor)
            elif target is not None:
                aim = target and _version(connection, name, target).number
            _update(connection, name, spec=spec, revision=old.revision + 1, target=aim, hold=hold, updated_at=now,
                    updated_by=actor)  # fmt: skip
            revision = RevisionRecord(
                deployment=name, revision=old.revision + 1, at=now, actor=actor, action=action, version=aim, spec=spec,
                changes=list(changes),
            )  # fmt: skip
            connection.execute(REVISIONS.insert().values(**vars(revision)))
            details = {"revision": revision.revision, "version": aim, "changes": revision.changes}
            change.audit(actor=actor, action=f"deployment.{action}", target=name, details=details, now=now)
            return _deployment(connection, name)

    def set_live(self, name: str, *, live: int, target: int | None = None, now: float, actor: str) -> DeploymentRecord:
        """What takes the requests now, which is seen and not declared, so the revision stays. 0: none does."""
        return self._point(name, {"live": live, "target": target}, now=now, actor=actor)

    def set_target(self, name: str, *, target: int, now: float, actor: str) -> DeploymentRecord:
        """What is on its way in, such as back to the live one after a failure; the revision stays."""
        return self._point(name, {"target": target}, now=now, actor=actor)

    def _point(self, name: str, to: dict[str, int | None], *, now: float, actor: str) -> DeploymentRecord:
        with self._database.writing() as change:
            old = _deployment(change.connection, name)
            moved = {key: number for key, number in to.items() if number is not None and number != getattr(old, key)}
            if not moved:
                return old
            for number in moved.values():
                if number:
                    _version(change.connection, name, number)
            _update(change.connection, name, **moved)
            action = "deployment.live" if "live" in moved else "deployment.target"
            before = {f"{key}_before": getattr(old, key) for key in moved}
            change.audit(actor=actor, action=action, target=name, details={**moved, **before}, now=now)
            return _deployment(change.connection, name)

    def mark_deleting(
        self, name: str, *, expected_revision: int | None = None, now: float, actor: str
    ) -> DeploymentRecord:
        """The first half of deleting: no more changes, and nothing of it shall run. Twice is once."""
        with self._database.writing() as change:
            old = _deployment(change.connection, name)
            check_revision("deployment", name, found=old.revision, expected=expected_revision)
            if old.deleting:
                return old
            revision = RevisionRecord(
                deployment=name, revision=old.revision + 1, at=now, actor=actor, action="delete", version=old.target,
                spec=old.spec,
            )  # fmt: skip
            connection = change.connection
            _update(connection, name, revision=revision.revision, deleting=True, updated_at=now, updated_by=actor)
            connection.execute(REVISIONS.insert().values(**vars(revision)))
            details = {"revision": revision.revision}
            change.audit(actor=actor, action="deployment.delete", target=name, details=details, now=now)
            return _deployment(connection, name)

    def forget(self, name: str, *, now: float, actor: str) -> None:
        """The second half, once nothing of it runs: with its versions and revisions. Events and audit log stay."""
        with self._database.writing() as change:
            old = _deployment(change.connection, name)
            change.connection.execute(DEPLOYMENTS.delete().where(DEPLOYMENTS.c.name == name))
            details = {"revision": old.revision}
            change.audit(actor=actor, action="deployment.forget", target=name, details=details, now=now)

    def revisions(self, name: str, *, limit: int = 100, before: int = 0) -> list[RevisionRecord]:
        """The newest first; with `before`, those before that revision."""
        query = select(REVISIONS).where(REVISIONS.c.deployment == name).order_by(REVISIONS.c.revision.desc())
        if before:
            query = query.where(REVISIONS.c.revision < max(0, min(before, LARGEST)))
        with self._database.reading() as connection:
            found = read(RevisionRecord, connection, query.limit(page(limit)))
            if not found:
                _deployment(connection, name)
            return found

    def versions(self, name: str) -> list[VersionRecord]:
        """The oldest first."""
        query = select(VERSIONS).where(VERSIONS.c.deployment == name).order_by(VERSIONS.c.number)
        with self._database.reading() as connection:
            found = read(VersionRecord, connection, query)
            if not found:
                _deployment(connection, name)
            return found

    def all_versions(self) -> list[VersionRecord]:
        """Of all deployments, by name and number."""
        with self._database.reading() as connection:
            return read(VersionRecord, connection, select(VERSIONS).order_by(VERSIONS.c.deployment, VERSIONS.c.number))

    def version(self, name: str, number: int) -> VersionRecord:
        """Raises NotFound that says which there are."""
        with self._database.reading() as connection:
            return _version(connection, name, number)

    def set_version(
        self,
        name: str,
        number: int,
        *,
        state: str | None = None,
        error: str | None = None,
        progress: float | None = None,
        digest: str | None = None,
        size_bytes: int | None = None,
        platform: str | None = None,
        now: float,  # noqa: ARG002 - every writer takes it
    ) -> VersionRecord:
        """What was found out about a version; None leaves as it is. Raises NotFound for one that is gone, and Conflict
        for another digest than it has: its artifact never changes."""
        given = {"state": state, "error": error, "progress": progress, "digest": digest, "size_bytes": size_bytes,
                 "platform": platform}  # fmt: skip
        with self._database.writing() as change:
            old = _version(change.connection, name, number)
            if digest is not None and old.digest not in ("", digest):
                raise Conflict(f"Version v{number} of {name!r} is {old.digest} and cannot become {digest}: a version "
                               "never changes. Deploy the other artifact as a new version.")  # fmt: skip
            moved = {key: value for key, value in given.items() if value is not None and value != getattr(old, key)}
            if moved:
                this = (VERSIONS.c.deployment == name) & (VERSIONS.c.number == number)
                change.connection.execute(VERSIONS.update().where(this).values(**moved))
            return _version(change.connection, name, number)

    def prune_history(self, *, revisions: int, versions: int) -> int:
        """Of each deployment keep the newest `revisions` of its history, and of the versions that are over (failed,
        retired) the newest `versions`; how many entries went."""
        gone = 0
        with self._database.writing() as change:
            connection, name, number = change.connection, REVISIONS.c.deployment, REVISIONS.c.revision
            for of, newest in connection.execute(select(name, func.max(number)).group_by(name)).all():
                gone += connection.execute(REVISIONS.delete().where(name == of, number <= newest - revisions)).rowcount
            name, number = VERSIONS.c.deployment, VERSIONS.c.number
            over = VERSIONS.c.state.in_(("failed", "retired"))
            many = select(name).where(over).group_by(name).having(func.count() > versions)
            for of in connection.scalars(many).all():
                # Those that the deployment points at stay, whatever they are; and so does the newest number, with which
                # the next one is counted.
                points = select(DEPLOYMENTS.c.live, DEPLOYMENTS.c.target).where(DEPLOYMENTS.c.name == of)
                live, target = connection.execute(points).one()
                numbers = connection.scalars(select(number).where(name == of, over).order_by(number.desc())).all()
                old = [one for one in numbers[max(1, versions) :] if one not in (live, target)]
                gone += connection.execute(VERSIONS.delete().where(name == of, number.in_(old))).rowcount
        return gone


def secrets_of(settings: dict[str, Any]) -> set[str]:
    """The names of the secrets that a spec's, or a version's, environment takes values from."""
    values = (settings.get("env") or {}).values()
    return {value["secret"] for value in values if isinstance(value, dict) and "secret" in value}


def secret_uses(connection: Connection) -> dict[str, list[str]]:
    """Secret name to the deployments that name it: in what they declare, or in a version that is live or coming."""
    uses: dict[str, set[str]] = {}
    for name, spec in connection.execute(select(DEPLOYMENTS.c.name, DEPLOYMENTS.c.spec)):
        for secret in secrets_of(spec):
            uses.setdefault(secret, set()).add(name)
    at = VERSIONS.c.number.in_((DEPLOYMENTS.c.live, DEPLOYMENTS.c.target))
    running = select(VERSIONS.c.deployment, VERSIONS.c.settings).join(DEPLOYMENTS).where(at)
    for name, settings in connection.execute(running):
        for secret in secrets_of(settings):
            uses.setdefault(secret, set()).add(name)
    return {secret: sorted(names) for secret, names in sorted(uses.items())}


def _check_secrets(connection: Connection, name: str, spec: dict[str, Any]) -> None:
    wanted = secrets_of(spec)
    known = set(connection.scalars(select(SECRETS.c.name).where(SECRETS.c.name.in_(wanted)))) if wanted else set()
    missing = sorted(wanted - known)
    if missing:
        problems = tuple(
            f"env: there is no secret {secret!r}; make it: slipway secrets set {secret}" for secret in missing
        )
        raise InvalidSpec(f"The deployment {name!r} names secrets that do not exist: {', '.join(missing)}. Make each: "
                          "slipway secrets set NAME.", problems=problems)  # fmt: skip


def _find(connection: Connection, name: str) -> DeploymentRecord | None:
    return read_one(DeploymentRecord, connection, select(DEPLOYMENTS).where(DEPLOYMENTS.c.name == name))


def _deployment(connection: Connection, name: str) -> DeploymentRecord:
    found = _find(connection, name)
    if found is None:
        raise no_such("deployment", name, connection.scalars(select(DEPLOYMENTS.c.name)))
    return found


def _version(connection: Connection, name: str, number: int) -> VersionRecord:
    this = (VERSIONS.c.deployment == name) & (VERSIONS.c.number == number)
    found = read_one(VersionRecord, connection, select(VERSIONS).where(this)) if 0 < number <= LARGEST else None
    if found is not None:
        return found
    _deployment(connection, name)
    query = select(VERSIONS.c.number).where(VERSIONS.c.deployment == name).order_by(VERSIONS.c.number.desc())
    known = ", ".join(f"v{known}" for known in connection.scalars(query.limit(5)))
    raise NotFound(f"The deployment {name!r} has no version v{number}; it has {known or 'none yet'}.")


def _add_version(connection: Connection, name: str, new: VersionSettings, *, now: float, actor: str) -> int:
    mine = VERSIONS.c.deployment == name
    largest = connection.scalar(select(func.max(VERSIONS.c.number)).where(mine))
    if connection.scalar(select(VERSIONS.c.number).where(mine & (VERSIONS.c.number == new.number))):
        raise Conflict(f"The deployment {name!r} has a version v{new.number} already, and a version never changes.")
    values = {**vars(new), "number": new.number or (largest or 0) + 1}
    record = VersionRecord(deployment=name, progress=0.0, error="", created_at=now, created_by=actor, **values)
    connection.execute(VERSIONS.insert().values(**vars(record)))
    return record.number


def _update(connection: Connection, name: str, **values: Any) -> None:
    connection.execute(DEPLOYMENTS.update().where(DEPLOYMENTS.c.name == name).values(**values))
