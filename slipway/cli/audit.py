"""`slipway audit`: who changed what, and the proof that nothing of it was changed since."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.calls import Call, calling
from slipway.cli.exits import Ended
from slipway.cli.show import moment, shortened, table

if TYPE_CHECKING:
    from slipway.spec.resources import AuditEntry


@calling
def audit(
    call: Call,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compute the chain of hashes anew; 1 if it is broken.")
    ] = False,
    after: Annotated[int, typer.Option(metavar="SEQ", min=0, help="Only entries behind this one.")] = 0,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="The last so many.")] = 50,
) -> None:
    """Who changed what, the oldest first: deployments, keys, users, secrets, and logins that failed.

    \b
    slipway audit
    slipway audit --after 1200 --limit 1000 -o json
    slipway audit --verify
    """
    if verify:
        found = call.admin.verify_audit()
        call.show(
            found, lambda: "" if found.broken_at else "the audit log is whole: every entry follows from the one before"
        )
        if found.broken_at is not None:
            raise Ended(
                f"the audit log is broken at entry {found.broken_at}: it, or one before it, is not what was written"
            )
        return
    entries = call.admin.audit(after=after, limit=limit)
    call.show(entries, lambda: listed(entries))


def listed(found: list[AuditEntry]) -> str:
    if not found:
        return "Nothing was changed yet."
    rows = [[str(one.seq), moment(one.at), one.actor, one.action, one.target, _details(one)] for one in found]
    return table(("seq", "at", "by", "action", "on", "details"), rows)


def _details(entry: AuditEntry) -> str:
    said = [
        f"{key}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for key, value in entry.details.items()
    ]
    return shortened(" ".join(said), 100)
