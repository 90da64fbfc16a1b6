"""`slipway top`: a live table of what every deployment does, as `top` is one of processes."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slipway.cli.calls import Call, calling
from slipway.cli.show import COLOURS, lasting, sized, tame
from slipway.cli.top_frame import SORTS, Look, Row, read_numbers, rows_of
from slipway.errors import SetupError, Unavailable

if TYPE_CHECKING:
    from rich.table import Table

TITLES = (
    "deployment",
    "version",
    "state",
    "replicas",
    "req/s",
    "err/s",
    "p50",
    "p99",
    "rows/s",
    "queue",
    "cpu",
    "memory",
)
KEYS = {key: name for name, (key, _) in SORTS.items()}


@calling
def top(
    call: Call,
    sort: Annotated[str, typer.Option(metavar="COLUMN", help=f"{', '.join(SORTS)}.")] = "requests",
    interval_s: Annotated[float, typer.Option(metavar="F", min=0.2, help="Look again after this long.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one table and leave.")] = False,
) -> None:
    """Requests, errors, latency, queues, CPU and memory of every deployment, as they change. Rates and quantiles hold
    for the time since the last look. Letters change the order, q leaves.

    \b
    slipway top
    slipway top --sort memory --interval-s 5
    slipway top --once -o json
    """
    if sort not in SORTS:
        raise SetupError(f"--sort {sort!r} is no column; it is one of {', '.join(SORTS)}")
    first = look(call)
    if once or not call.for_people or not (sys.stdin.isatty() and sys.stdout.isatty()):
        time.sleep(interval_s)
        now = look(call)
        rows = rows_of(first, now, sort=sort)
        call.show(rows, lambda: "\n".join([heading(now), _plain(rows)]))
        return
    with contextlib.suppress(KeyboardInterrupt), _keys() as pressed:
        _watch(call, first, sort, interval_s, pressed)


def look(call: Call) -> Look:
    page = call.admin.metrics()
    return Look(time.monotonic(), call.admin.status(), read_numbers(page))


def heading(now: Look) -> str:
    status = now.status
    serving = sum(one.state == "ready" for one in status.deployments)
    memory = sum(gateway.memory_bytes for gateway in status.gateways)
    return (
        f"{status.state} for {lasting(status.uptime_s)}, {serving} of {len(status.deployments)} deployments ready, "
        f"{len(status.gateways)} gateway(s) with {sized(memory)}"
    )


def cells(row: Row) -> tuple[str, ...]:
    return (
        tame(row.deployment),
        row.version,
        row.state,
        f"{row.ready}/{row.replicas}",
        _number(row.requests_per_s),
        _number(row.errors_per_s),
        _time(row.p50_s),
        _time(row.p99_s),
        _number(row.rows_per_s),
        f"{row.queue_rows:.0f}",
        "-" if row.cpu is None else f"{row.cpu:.0%}",
        sized(row.memory_bytes),
    )


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 or value == 0 else f"{value:.1f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.1f}ms" if seconds < 1 else f"{seconds:.2f}s"


def _plain(rows: list[Row]) -> str:
    from slipway.cli.show import table

    return table(TITLES, map(cells, rows))


def _watch(call: Call, before: Look, sort: str, interval_s: float, pressed: Any) -> None:
    """Until q. A server that restarts in the meantime is waited for: that is when somebody watches."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    now, trouble = before, ""
    with Live(Text("…"), console=Console(), screen=True, auto_refresh=False) as live:
        while True:
            rows = rows_of(before, now, sort=sort)
            live.update(_screen(rows, now, sort, trouble, height=live.console.height), refresh=True)
            key = pressed(interval_s)
            if key == "q":
                return
            if key in KEYS:
                sort = KEYS[key]
                continue  # the same numbers in another order
            try:
                seen, trouble = look(call), ""
            except Unavailable as error:
                trouble = error.message
            else:
                before, now = now, seen


def _screen(rows: list[Row], now: Look, sort: str, trouble: str, *, height: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid()
    grid.add_row(Text(heading(now), no_wrap=True, overflow="ellipsis"))
    keys = "  ".join(f"{key} {name}{' ▾' if name == sort else ''}" for name, (key, _) in SORTS.items())
    grid.add_row(Text(f"{keys}  q leave", style="dim", no_wrap=True, overflow="ellipsis"))
    if trouble:
        grid.add_row(Text(trouble, style="red", no_wrap=True, overflow="ellipsis"))
    body = Table(box=None, pad_edge=False, header_style="bold")
    for place, title in enumerate(TITLES):
        body.add_column(title.upper(), justify="left" if place < 3 else "right", no_wrap=True)
    room = max(1, height - 5)
    for row in rows[:room]:
        body.add_row(*(_styled(cell) for cell in cells(row)))
    grid.add_row(body)
    if len(rows) > room:
        grid.add_row(Text(f"and {len(rows) - room} more", style="dim"))
    return grid


def _styled(cell: str) -> Any:
    from rich.text import Text

    colours = {"32": "green", "33": "yellow", "31": "red", "2": "dim"}
    return Text(cell, style=colours.get(COLOURS.get(cell, ""), ""))


@contextlib.contextmanager
def _keys() -> Iterator[Any]:
    """A function that waits for a key, '' when none comes in time. The terminal is as it was afterwards."""
    import termios
    import tty

    terminal = sys.stdin.fileno()
    as_it_was = termios.tcgetattr(terminal)

    def pressed(within_s: float) -> str:
        ready, _, _ = select.select([terminal], [], [], within_s)
        if not ready:
            return ""
        typed = os.read(terminal, 32).decode(errors="replace")
        return typed[:1].lower() if typed else "q"  # the terminal is gone

    try:
        tty.setcbreak(terminal)
        yield pressed
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, as_it_was)
