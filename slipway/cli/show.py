"""Plain tables and the words of times and sizes, for output that is the same in a terminal, a pipe and a paste."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence

COLOURS = {
    "ready": "32",
    "live": "32",
    "degraded": "33",
    "deploying": "33",
    "starting": "33",
    "draining": "33",
    "backing_off": "33",
    "failed": "31",
    "deleting": "31",
    "stopped": "2",
}
_UNITS = ((86400 * 365, "y"), (86400, "d"), (3600, "h"), (60, "m"))


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Left-aligned columns with two spaces between them; a column that is empty in every row is left out.

    Words of COLOURS are coloured on a terminal. Control characters, which a name or an error of a model could bring,
    are shown and not obeyed.
    """
    lines = [[tame(cell) for cell in row] for row in rows]
    kept = [place for place in range(len(titles)) if not lines or any(row[place] for row in lines)]
    grid = [[titles[place].upper() for place in kept], *([row[place] for place in kept] for row in lines)]
    widths = [max(len(row[place]) for row in grid) for place in range(len(kept))]
    return "\n".join(
        "  ".join(coloured(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in grid
    )


def tame(text: object) -> str:
    return "".join(sign if sign.isprintable() else " " if sign in "\n\t" else repr(sign)[1:-1] for sign in str(text))


def coloured(cell: str, width: int = 0) -> str:
    padded = cell.ljust(width)
    colour = COLOURS.get(cell)
    if not colour or not in_colour():
        return padded
    return f"\x1b[{colour}m{cell}\x1b[0m{padded[len(cell) :]}"


def in_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def ago(at: float | None, *, now: float | None = None) -> str:
    """Such as `3m`, `5h`, `12d`; `-` for never."""
    if not at:
        return "-"
    return lasting((time.time() if now is None else now) - at)


def lasting(seconds: float) -> str:
    for size, unit in _UNITS:
        if abs(seconds) >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def moment(at: float | None) -> str:
    """UTC to the second, as RFC 3339 writes it; `-` for never."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)) if at else "-"


def sized(count: float) -> str:
    """Bytes in a unit that fits: `512B`, `4.2K`, `118M`."""
    size = float(count)
    for unit in ("B", "K", "M", "G"):
        if abs(size) < 1000:
            return f"{size:.0f}{unit}" if size >= 10 or unit == "B" else f"{size:.1f}{unit}"
        size /= 1024
    return f"{size:.1f}T"


def shortened(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"


def counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
