"""What models write, on somebody's terminal."""

from __future__ import annotations

import pytest

from slipway.cli.follow import _printable


def test_colours_pass() -> None:
    assert _printable("a \x1b[1;31mred\x1b[0m word") == "a \x1b[1;31mred\x1b[0m word"


TRICKS = ["\x1b[2J", "\x1b[1A\x1b[2K", "\x1b[6n", "\x1b]0;title\x07", "\x1bP+q\x1b\\", "\x9b2J", "\r", "\x1b[31\x1b[2J"]


@pytest.mark.parametrize("trick", TRICKS, ids=repr)
def test_nothing_else_moves_a_cursor_or_makes_a_terminal_answer(trick: str) -> None:
    shown = _printable(f"before {trick} after")
    assert shown.isprintable() and "before" in shown and "after" in shown
