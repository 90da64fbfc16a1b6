"""What happened: events, which are pruned; the audit log, which is not; answers to requests that may be repeated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import select

from slipway.errors import Conflict
from slipway.spec.resources import AuditEntry
from slipway.store.chain import first_broken
from slipway.store.part import Part, bounded, page, read, read_one
from slipway.store.records import EventRecord, IdempotentAnswer
from slipway.store.tables import ANSWERS, AUDIT, EVENTS, HEAD, clean, from_json, to_json

BATCH = 1000  # entries of the audit log in memory while it is verified


class Journal(Part):
    def add_event(
        self, *, kind: str, deployment: str, version: int, message: str, data: dict[str, Any], now: float
    ) -> EventRecord:
        """Its id is larger than that of every event that anybody can have seen before."""
        event = EventRecord(
            id=0,
            at=float(now),
            kind=kind,
            deployment=deployment,
            version=version,
            message=clean(message),
            data=from_json(to_json(data)),  # as it will be read
        )
        values = {name: value for name, value in vars(event).items() if name != "id"}
        with self._database.writing() as change:
            number = change.connection.execute(EVENTS.insert().values(**values).returning(EVENTS.c.id)).scalar_one()
            return replace(event, id=number)

    def events(self, *, deployment: str = "", after: int = 0, before: int = 0, limit: int = 100) -> list[EventRecord]:
        """The oldest first, at most `limit`. `after`: the first that follow that id. Without `after`: the newest, or
        with `before` the newest of those before that id. `deployment` '': of all, and of the server itself."""
        forward = after != 0
        query = select(EVENTS).order_by(EVENTS.c.id if forward else EVENTS.c.id.desc()).limit(page(limit))
        if deployment:
            query = query.where(EVENTS.c.deployment == deployment)
        if after:
            query = query.where(EVENTS.c.id > bounded(after))
        if before:
            query = query.where(EVENTS.c.id < bounded(before))
        with self._database.reading() as connection:
            found = read(EventRecord, connection, query)
        return found if forward else found[::-1]

    def prune_events(self, keep: int) -> int:
        """All but the newest `keep`; how many that were."""
        last = select(EVENTS.c.id).order_by(EVENTS.c.id.desc()).offset(max(0, keep)).limit(1).scalar_subquery()
        with self._database.writing() as change:
            return change.connection.execute(EVENTS.delete().where(EVENTS.c.id <= last)).rowcount

    def note(self, *, actor: str, action: str, target: str, details: dict[str, Any], now: float) -> AuditEntry:
        """Append to the audit log what changes nothing in the store, such as a failed login."""
        with self._database.writing() as change:
            return change.audit(actor=actor, action=action, target=target, details=details, now=now)

    def audit(self, *, after: int = 0, before: int = 0, limit: int = 100) -> list[AuditEntry]:
        """The oldest first, from the one after number `after`; with `before` the newest of those before that number."""
        query = select(AUDIT).where(AUDIT.c.seq > bounded(after)).limit(page(limit))
        if before:
            query = query.where(AUDIT.c.seq < bounded(before))
        with self._database.reading() as connection:
            found = read(AuditEntry, connection, query.order_by(AUDIT.c.seq.desc() if before else AUDIT.c.seq))
        return found[::-1] if before else found

    def verify_audit(self) -> int | None:
        """The number of the first entry that was changed, removed, moved or put in by another hand; None if all is as
        it was written. Entries cut off at the end show too, unless the head was set back with them: keep the last hash
        elsewhere if whoever might do that can write to the database."""
        with self._database.reading() as connection:
            head = connection.execute(select(HEAD.c.audit_seq, HEAD.c.audit_hash)).one()
            rows = connection.execution_options(yield_per=BATCH).execute(select(AUDIT).order_by(AUDIT.c.seq))
            entries = (AuditEntry(**row._asdict()) for row in rows)
            return first_broken(entries, last_seq=head.audit_seq, last_hash=head.audit_hash)

    def answer(self, key: str) -> IdempotentAnswer | None:
        with self._database.reading() as connection:
            return read_one(IdempotentAnswer, connection, select(ANSWERS).where(ANSWERS.c.key == key))

    def remember_answer(self, answer: IdempotentAnswer) -> IdempotentAnswer:
        """The first answer to a key stays, and comes back. Raises Conflict if it was given to another request."""
        with self._database.writing() as change:
            query = select(ANSWERS).where(ANSWERS.c.key == answer.key)
            first = read_one(IdempotentAnswer, change.connection, query)
            if first is None:
                change.connection.execute(ANSWERS.insert().values(**vars(answer)))
                return answer
            if first.fingerprint != answer.fingerprint:
                raise Conflict(f"The idempotency key {answer.key!r} was used for another request; take a new one.")
            return first

    def forget_answers(self, before: float) -> int:
        """Those older than `before`, seconds since 1970; how many that were."""
        with self._database.writing() as change:
            return change.connection.execute(ANSWERS.delete().where(ANSWERS.c.at < before)).rowcount
