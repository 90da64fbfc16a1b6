"""Reads infer requests whose JSON has been seen before without parsing all of it again.

A client that calls one model in a loop sends the same text each time, but for the numbers. Once such a body has been
parsed strictly, the next is recognised by what stands before and after its last array, and only that array is parsed.

Why this is exact: JSON is context-free, so where an array of numbers stands, another array of numbers may stand, and
everything around it means what it meant. That the last array is the data of the only input, and nothing else, is shown
once, when a form is learnt: with `[]` in its place only the data may change.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

import orjson

from slipway.infer.tensor import Tensor

MAX_FORMS = 1024
MAX_AROUND_BYTES = 1024
MAX_BODY_BYTES = 32_768


class Form(NamedTuple):
    """The only input of a body of this form; `pack` makes raw bytes of as many numbers as the shape calls for."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    pack: Callable[..., bytes]


class BodyForms:
    """What was learnt, by the text around the numbers. When it is full it starts anew."""

    def __init__(self) -> None:
        self._forms: dict[tuple[bytes, bytes], Form] = {}

    def read(self, body: bytes) -> Tensor | None:
        """The only input of a body without id, outputs or parameters; None where the form is not known."""
        if len(body) > MAX_BODY_BYTES:
            return None
        at = body.rfind(b"[")
        end = body.find(b"]", at) + 1
        form = self._forms.get((body[:at], body[end:]))
        if form is None:
            return None
        name, datatype, shape, pack = form
        array = body[at:end]
        if b"true" in array or b"false" in array:
            return None  # struct would take them for 1 and 0
        try:
            return Tensor(name, datatype, shape, pack(*orjson.loads(array)))
        except (orjson.JSONDecodeError, struct.error, TypeError, OverflowError):
            return None  # the strict parser says what is wrong

    def learn(self, body: bytes, form: Form, *, is_same_without_data: Callable[[bytes], bool]) -> None:
        """`body` was read as `form`. `is_same_without_data`: does a body mean the same, but for data that are []?"""
        at = body.rfind(b"[")
        end = body.find(b"]", at) + 1
        around = body[:at], body[end:]
        if len(body) > MAX_BODY_BYTES or len(around[0]) + len(around[1]) > MAX_AROUND_BYTES:
            return
        if is_same_without_data(b"%b[]%b" % around):
            if len(self._forms) >= MAX_FORMS:
                self._forms.clear()
            self._forms[around] = form
