"""The audit log's chain: each entry holds the hash of the one before it, so none can be changed, removed, put in or
moved without all later hashes being wrong. Pure: rows in, verdict out.

The idea is that of Haber and Stornetta, "How to time-stamp a digital document" (1991).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, replace

from slipway.spec.resources import AuditEntry

START = "0" * 64  # what the first entry has for `previous`


def entry_hash(entry: AuditEntry) -> str:
    """SHA-256, hex, of the entry but its own hash, as JSON with sorted keys, no spaces, ASCII only."""
    fields = asdict(entry)
    del fields["hash"]
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def sealed(entry: AuditEntry) -> AuditEntry:
    return replace(entry, hash=entry_hash(entry))


def first_broken(entries: Iterable[AuditEntry], *, last_seq: int, last_hash: str) -> int | None:
    """The number of the first entry that is not what was written, or is missing; None if all are right.

    `entries`: in the order of their numbers. `last_seq`, `last_hash`: where the chain is known to end, so that an end
    that was cut off shows too."""
    seq, previous = 0, START
    for entry in entries:
        seq += 1
        if entry.seq != seq or entry.previous != previous or entry.hash != entry_hash(entry) or seq > last_seq:
            return seq
        previous = entry.hash
    if seq < last_seq:
        return seq + 1
    return max(seq, 1) if previous != last_hash else None
