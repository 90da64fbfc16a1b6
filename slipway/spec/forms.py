"""What a text may look like, by name: for the reader, which refuses in words, and for the JSON Schema, which has only
the pattern. Patterns mean the same in Python and in JavaScript."""

from __future__ import annotations

import re
from functools import cached_property
from typing import NamedTuple

from slipway.spec import quantities


class _Form(NamedTuple):
    pattern: str
    right: str
    most: int


class Form(_Form):
    """`pattern`: the whole text fits it. `right`: in words, with an example. `most`: characters."""

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern.removeprefix("^").removesuffix("$"))

    def fits(self, text: str) -> bool:
        return len(text) <= self.most and self._compiled.fullmatch(text) is not None


_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_NO_CONTROLS = r"[^\x00-\x1f\x7f-\x9f]"

FORMS = {
    "line": Form(rf"^{_NO_CONTROLS}+$", "a line of text, 4096 characters at most", 4096),
    "line or nothing": Form(rf"^{_NO_CONTROLS}*$", "a line of text, 4096 characters at most", 4096),
    "text": Form(r"^[^\x00]*$", "text of 65536 characters at most, without the character NUL", 65536),
    "api version": Form(r"^slipway\.dev/v1$", "slipway.dev/v1", 32),
    "name": Form(
        rf"^{_NAME}$",
        "letters, digits, '.', '_' and '-', 128 at most, beginning with a letter or digit, such as iris-2",
        128,
    ),
    "digest": Form(r"^(sha256:[0-9a-f]{64})?$", "sha256: and 64 hexadecimal digits in lower case", 71),
    "runtime": Form(r"^[a-z][a-z0-9_]*$", "auto, or the name of a runtime such as onnx", 64),
    "device": Form(r"^(cpu|cuda(:[0-9]{1,3})?)$", "cpu, or cuda:N for the GPU number N, such as cuda:0", 16),
    "size": Form(quantities.PATTERN, "a size such as 512Mi", 32),
    "size or nothing": Form(rf"^({quantities.PATTERN[1:-1]})?$", "a size such as 512Mi", 32),
    "variable": Form(
        r"^(?!SLIPWAY_FILES$)[A-Za-z_][A-Za-z0-9_]*$",
        "letters, digits and '_', not beginning with a digit; SLIPWAY_FILES is Slipway's own",
        256,
    ),
    "label": Form(
        r"^[A-Za-z0-9][A-Za-z0-9._/-]*$",
        "letters, digits, '.', '_', '-' and '/', such as team or example.org/team",
        128,
    ),
    "file name": Form(
        r"^(?!\.{1,2}(/|$))[A-Za-z0-9._ +@-]+(/(?!\.{1,2}(/|$))[A-Za-z0-9._ +@-]+)*$",
        "a relative path of letters, digits and ._ +@- without '..', such as labels.txt",
        255,
    ),
    "scope": Form(
        r"^(admin|(predict|feedback|deploy):[A-Za-z0-9*][A-Za-z0-9._*-]*)$",
        "admin, predict:NAME, feedback:NAME or deploy:NAME, where * stands for any name",
        256,
    ),
    "url": Form(r"^[A-Za-z][A-Za-z0-9+.-]*://[^\x00-\x20\x7f-\x9f]+$", "a URL such as https://example.org", 4096),
    "url or nothing": Form(
        r"^([A-Za-z][A-Za-z0-9+.-]*://[^\x00-\x20\x7f-\x9f]+)?$", "a URL such as https://example.org", 4096
    ),
    "origin": Form(r"^(\*|https?://[^\x00-\x20\x7f-\x9f/]+)$", "* or an origin such as https://example.org", 512),
}
