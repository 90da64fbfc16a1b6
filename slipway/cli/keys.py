"""`slipway keys`: API keys, created, listed, rotated and revoked."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.calls import Call, Yes, calling, make_sure
from slipway.cli.completion import key_ids
from slipway.cli.exits import note, warn
from slipway.cli.show import ago, moment, table
from slipway.errors import SetupError, SlipwayError

if TYPE_CHECKING:
    from slipway.spec.resources import Key

DURATION = re.compile(r"(?P<count>\d+(?:\.\d+)?)(?P<unit>[smhdwy])\Z")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}

Scopes = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        metavar="SCOPE",
        help="predict:NAME, feedback:NAME, deploy:NAME (NAME may be *), or admin; repeatable.",
    ),
]
KeyId = Annotated[
    str, typer.Argument(metavar="ID", help="The id, or the name where one key has it.", autocompletion=key_ids)
]


def seconds_of(text: str, *, option: str) -> float:
    """`90s`, `15m`, `12h`, `30d`, `6w`, `1y`. Raises SetupError."""
    found = DURATION.match(text.strip())
    if not found or not float(found["count"]):
        raise SetupError(f"{option} {text!r} is no duration: write a number and one of s, m, h, d, w, y, such as 30d")
    return float(found["count"]) * SECONDS[found["unit"]]


@calling
def create(
    call: Call,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What or whom it is for.")],
    scope: Scopes = None,
    expires: Annotated[str, typer.Option(metavar="DURATION", help="Such as 30d; default: never.")] = "",
) -> None:
    """Create an API key. It is shown now and never again: the server keeps only a hash of it.

    \b
    slipway keys create shop --scope predict:iris --expires 90d
    slipway keys create ci --scope 'deploy:*'
    export SLIPWAY_KEY=$(slipway keys create me --scope admin)
    """
    if not scope:
        raise SetupError("say what the key may do: --scope predict:NAME, feedback:NAME, deploy:NAME or admin")
    lasts_s = seconds_of(expires, option="--expires") if expires else None
    with closing_doors(call):
        made = call.admin.create_key(name, scopes=scope, expires_in_s=lasts_s)
    _tell(call, made)


@contextlib.contextmanager
def closing_doors(call: Call) -> Iterator[None]:
    """A server that was open closes with its first key or user, which nobody should learn from a client that fails."""
    was_open = call.for_people and _is_open(call)
    yield
    if was_open:
        warn(
            "this server was open; from now on it wants a credential at every door but its health, of those too who "
            "only predict (`auth: {public: true}` in a spec leaves one deployment open). Its owner gets in by the file "
            "admin.key in its data directory"
        )


def _is_open(call: Call) -> bool:
    try:
        return call.admin.status().auth == "open"
    except SlipwayError:
        return False  # what is wrong shows in a moment, at what was asked for


def _tell(call: Call, made: Key) -> None:
    """The key alone on standard output, for `$(…)`; the rest to the person."""
    if call.for_people:
        until = f"until {moment(made.expires_at)}" if made.expires_at else "for ever"
        note(f"Key {made.id} of {made.name!r} with {', '.join(made.scopes)}, {until}. It is shown this once:")
    call.show(made, lambda: made.secret)


@calling
def list_(
    call: Call, every: Annotated[bool, typer.Option("--all", help="Revoked and expired ones too.")] = False
) -> None:
    """All API keys: what each may do, until when, and when it was last used. Secrets are not known to anybody.

    \b
    slipway keys list
    slipway keys list --all -o json
    """
    now = time.time()
    found = [key for key in call.admin.keys() if every or state_of(key, now=now) in ("active", "retiring")]  # noqa: SIM118
    call.show(found, lambda: listed(found, now=now))


def state_of(key: Key, *, now: float) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is not None and key.expires_at <= now:
        return "expired"
    if key.retires_at is not None:
        return "retiring" if key.retires_at > now else "retired"
    return "active"


def listed(found: list[Key], *, now: float) -> str:
    if not found:
        return "No keys: `slipway keys create NAME --scope SCOPE` makes one."
    titles = ("id", "name", "begins with", "state", "scopes", "expires", "last used", "created", "by")
    rows = [
        [
            key.id,
            key.name,
            key.prefix,
            state_of(key, now=now),
            ",".join(key.scopes),
            moment(key.retires_at or key.expires_at),
            ago(key.last_used_at, now=now),
            ago(key.created_at, now=now),
            key.created_by,
        ]
        for key in found
    ]
    return table(titles, rows)


@calling
def rotate(
    call: Call,
    which: KeyId,
    overlap: Annotated[
        str, typer.Option(metavar="DURATION", help="The old key works for this long; 0 ends it now.")
    ] = "24h",
) -> None:
    """Replace a key by a new one of the same name and scopes. Both work until the overlap is over.

    \b
    slipway keys rotate x4k9q2mm
    slipway keys rotate shop --overlap 7d
    """
    overlap_s = 0.0 if overlap.strip().rstrip("smhdwy") == "0" else seconds_of(overlap, option="--overlap")
    found = find(call, which)
    _tell(call, call.admin.rotate_key(found.id, overlap_s=overlap_s))


@calling
def revoke(call: Call, which: KeyId, yes: Yes = False) -> None:
    """Make a key worthless, on every gateway within a second.

    \b
    slipway keys revoke x4k9q2mm
    slipway keys revoke shop --yes
    """
    found = find(call, which)
    make_sure(f"Revoke key {found.id} of {found.name!r}?", yes=yes)
    gone = call.admin.revoke_key(found.id)
    call.show(gone, lambda: f"key {gone.id} of {gone.name!r} is revoked")


def find(call: Call, typed: str) -> Key:
    """By id, or by a name that only one key has which still works. Raises NotFound, Conflict."""
    from slipway.errors import Conflict, NotFound

    known, now = call.admin.keys(), time.time()
    for key in known:
        if key.id == typed:
            return key
    named = [key for key in known if key.name == typed and state_of(key, now=now) in ("active", "retiring")]
    if len(named) == 1:
        return named[0]
    if named:
        raise Conflict(f"{len(named)} keys are called {typed!r}: say which by its id, {', '.join(k.id for k in named)}")
    raise NotFound(f"there is no key {typed!r}; `slipway keys list --all` shows their ids")
