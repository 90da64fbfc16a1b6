"""How the command ends: a status that scripts can branch on, and words for the person."""

from __future__ import annotations

import os
import sys

from slipway import errors
from slipway.errors import SlipwayError

OK = 0
FAILED = 1
BAD_INPUT = 2
NOT_FOUND = 3
NOT_ALLOWED = 4
CONFLICT = 5
UNAVAILABLE = 6
TIMED_OUT = 7
INTERRUPTED = 130

_OWN_FAULT = (errors.BadRequest, errors.Unauthenticated, errors.Forbidden, errors.NotFound, errors.Conflict)
"""What the person can mend: the server's log knows no more of it than the message says."""

# The first that fits: a kind stands before the kinds that it belongs to.
_STATUS: tuple[tuple[type[SlipwayError], int], ...] = (
    (errors.RequestTimeout, TIMED_OUT),
    (errors.DeadlineExceeded, TIMED_OUT),
    (errors.SetupError, BAD_INPUT),
    (errors.BadRequest, BAD_INPUT),
    (errors.Unsupported, BAD_INPUT),
    (errors.NotFound, NOT_FOUND),
    (errors.Unauthenticated, NOT_ALLOWED),
    (errors.Forbidden, NOT_ALLOWED),
    (errors.Conflict, CONFLICT),
    (errors.Unavailable, UNAVAILABLE),
)


class Ended(Exception):
    """The verb ends here, with a message and a status that no class of `slipway.errors` stands for."""

    def __init__(self, message: str, *, status: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


def status_of(error: SlipwayError | Ended) -> int:
    if isinstance(error, Ended):
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), FAILED)


def complain(error: SlipwayError | Ended) -> None:
    """On standard error: the message, and below it every place where a spec is wrong."""
    say("error", error.message, colour="1;31")
    for problem in getattr(error, "problems", ()):
        if problem not in error.message:
            print(f"  {problem}", file=sys.stderr)
    if isinstance(error, SlipwayError) and error.correlation and not isinstance(error, _OWN_FAULT):
        print(f"  the server's log has more at {error.correlation}", file=sys.stderr)


def warn(message: str) -> None:
    say("warning", message, colour="33")


def note(message: str) -> None:
    """To the person, and not to the pipe behind standard output."""
    print(message, file=sys.stderr, flush=True)


def say(word: str, message: str, *, colour: str) -> None:
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        word = f"\x1b[{colour}m{word}\x1b[0m"
    print(f"{word}: {message}", file=sys.stderr, flush=True)
