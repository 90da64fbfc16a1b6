"""Seeing a change through: from the server's yes until it is so. Ctrl-C ends the waiting and not the change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from slipway.cli.exits import INTERRUPTED, Ended, note, warn
from slipway.cli.interrupts import heard
from slipway.cli.painting import Painter, painter
from slipway.errors import DeadlineExceeded, LoadFailure

if TYPE_CHECKING:
    from slipway.cli.calls import Call
    from slipway.spec.resources import Deployment


def see_through(call: Call, found: Deployment, *, wait: bool, timeout_s: float, done: str, bars: bool = False) -> None:
    """The rest of a verb that changed one deployment. `done`: what to say of it, with {live} and {name}.
    `bars`: a version is on its way in."""
    for warning in found.warnings:
        warn(warning)
    if wait:
        shown = painter(bars=bars)
        try:
            found = wait_until(call, found, shown, until="live", timeout_s=timeout_s)
        finally:
            shown.close()
    words = done.format(live=found.live, name=found.name)
    call.show(
        found, lambda: f"{found.name} {words}" if wait else f"{found.name} is {found.state}: it goes on by itself"
    )


def wait_until(call: Call, found: Deployment, shown: Painter, *, until: str, timeout_s: float) -> Deployment:
    """Until its target is `live`, or only `ready`. Raises Ended with the model's own words, DeadlineExceeded, NotFound;
    and after Ctrl-C typer.Exit, having said how to go on."""
    try:
        return call.admin.wait(
            found.name,
            version=found.target,
            until=until,
            timeout_s=timeout_s,
            progress=lambda step: shown.step(found.name, step),
        )
    except LoadFailure as error:
        shown.close()
        raise Ended(f"{error.message}\n{_afterwards(found)}") from None
    except DeadlineExceeded as error:
        shown.close()
        raise DeadlineExceeded(f"{error.message.rstrip('.')}; take it back with `{way_back(found)}`") from None
    except KeyboardInterrupt:
        heard()
        shown.close()
        note(
            f"\n{found.name} {found.target} goes on without you. Watch it: `slipway status {found.name}`. "
            f"Take it back: `{way_back(found)}`"
        )
        raise typer.Exit(INTERRUPTED) from None


def _afterwards(found: Deployment) -> str:
    logs = f"slipway logs {found.name} --version {found.target}"
    if found.live and found.live != found.target:
        return f"  {found.live} goes on serving. More: `{logs}`"
    return f"  Nothing of {found.name} serves. More: `{logs}`"


def way_back(found: Deployment) -> str:
    earlier = found.live and found.live != found.target
    return f"slipway rollback {found.name} --to {found.live}" if earlier else f"slipway delete {found.name}"
