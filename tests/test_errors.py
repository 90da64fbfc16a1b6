"""The tree of errors: drawn as it is, with a code for each."""

from __future__ import annotations

import re

import slipway.errors
from slipway.errors import MethodNotAllowed, Overloaded, SlipwayError, every_error


def test_the_drawing_is_the_tree() -> None:
    drawn: list[tuple[str, str]] = []
    parents: list[str] = []
    for line in (slipway.errors.__doc__ or "").splitlines():
        found = re.match(r"((?:[│├└─ ]{4})*)([A-Z]\w+)(?: |$)", line)
        if found is None or " " in line.strip().split("  ")[0].lstrip("│├└─ "):
            continue
        depth = len(found[1]) // 4
        parents[depth:] = [found[2]]
        drawn.append((found[2], parents[depth - 1] if depth else "Exception"))
    real = [(kind.__name__, kind.__bases__[0].__name__) for kind in every_error()]
    assert sorted(drawn) == sorted(real)


def test_each_has_a_code_of_its_own_that_is_its_name() -> None:
    for kind in every_error():
        if kind is not SlipwayError:
            assert kind.code == re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
    assert len({kind.code for kind in every_error()}) == len(every_error())


def test_what_an_error_carries() -> None:
    error = Overloaded("the queue is full", retry_after_s=1.5, correlation="abc")
    assert (str(error), error.message, error.retry_after_s, error.correlation) == (
        "the queue is full", "the queue is full", 1.5, "abc",
    )  # fmt: skip
    assert MethodNotAllowed("no", allow="GET").allow == "GET"
