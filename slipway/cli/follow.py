"""`slipway logs` and `slipway events`: what happened, and what happens now."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.calls import Call, calling
from slipway.cli.completion import deployment_names, version_names
from slipway.cli.deployments import Name
from slipway.cli.show import moment, table, tame

if TYPE_CHECKING:
    from slipway.spec.resources import Event

_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,40}m")

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")]
MaybeName = Annotated[
    str, typer.Argument(metavar="NAME", help="Of this deployment; default: all.", autocompletion=deployment_names)
]


@calling
def logs(
    call: Call,
    name: Name,
    follow: Follow = False,
    version: Annotated[
        str, typer.Option(metavar="vN", help="Only of this version.", autocompletion=version_names)
    ] = "",
    tail: Annotated[int, typer.Option(metavar="N", min=0, help="Begin with the last N lines.")] = 100,
) -> None:
    """What the replicas of a deployment wrote to standard output and standard error, and what Slipway says of them.

    \b
    slipway logs iris
    slipway logs iris -f --version v3 --tail 0
    """
    if follow:
        for line in call.admin.follow_logs(name, version=version, tail=tail):
            _print_log(call, line)
    else:
        for line in call.admin.logs(name, version=version, tail=tail).splitlines():
            _print_log(call, line)


def _print_log(call: Call, line: str) -> None:
    call.show_one_of_many({"line": line.rstrip("\n")}, lambda: _printable(line.rstrip("\n")))


def _printable(line: str) -> str:
    """Colours may pass; what else could move somebody's cursor, or have his terminal answer, may not."""
    kept = _COLOUR.findall(line)
    plain = [tame(part) for part in _COLOUR.split(line)]
    return plain[0] + "".join(colour + part for colour, part in zip(kept, plain[1:], strict=True))


@calling
def events(
    call: Call,
    name: MaybeName = "",
    follow: Follow = False,
    after: Annotated[int, typer.Option(metavar="ID", min=0, help="Only those behind the event of this id.")] = 0,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="The last so many.")] = 50,
) -> None:
    """What happened, the oldest first: each step of each deployment, failures, restarts, with the numbers behind them.

    \b
    slipway events
    slipway events iris -f
    slipway events -f -o json | jq 'select(.kind == "version.failed")'
    """
    if name:
        call.admin.deployment(name)  # a misspelt name is told, instead of an empty list
    found = call.admin.events(name, after=after, limit=limit)
    if not follow:
        call.show(found, lambda: happened(found) if found else "Nothing happened yet.")
        return
    for event in found:
        call.show_one_of_many(event, lambda event=event: _line(event))  # type: ignore[misc]
    last = found[-1].id if found else after
    for event in call.admin.follow_events(name, after=last):
        call.show_one_of_many(event, lambda event=event: _line(event))  # type: ignore[misc]


def happened(found: list[Event]) -> str:
    titles = ("at", "what", "deployment", "version", "")
    return table(titles, [[moment(one.at), one.kind, one.deployment, one.version, one.message] for one in found])


def _line(event: Event) -> str:
    who = " ".join(filter(None, (event.deployment, event.version)))
    return f"{moment(event.at)}  {event.kind:<20}  {tame(who):<24}  {tame(event.message)}".rstrip()
