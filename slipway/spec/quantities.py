"""Sizes as people write them, `512Mi`, and as machines count them. The suffixes are those of Kubernetes, so that nobody
learns another set: Ki, Mi, Gi, Ti are powers of 1024; k, M, G, T are powers of 1000.

A bare number is refused on purpose: whether `memory: 512` means bytes or megabytes is what people get wrong.
"""

from __future__ import annotations

import re
from fractions import Fraction

SUFFIXES = {
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
}
MOST_BYTES = 2**50
PATTERN = r"^[0-9]{1,15}(\.[0-9]{1,9})?(Ki|Mi|Gi|Ti|k|M|G|T)$"
"""A regular expression of JSON Schema for the same."""

_WRITTEN = re.compile(r"(?P<number>[0-9]{1,15}(?:\.[0-9]{1,9})?)(?P<suffix>Ki|Mi|Gi|Ti|k|M|G|T)")
_NEARLY = re.compile(r"(?P<number>[0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(?P<suffix>[A-Za-z]{0,16})")
_SPOKEN = {
    "": "Mi",
    "b": "",
    "m": "Mi",
    "mb": "M",
    "mib": "Mi",
    "g": "Gi",
    "gb": "G",
    "gib": "Gi",
    "kib": "Ki",
    "ki": "Ki",
}
_SPOKEN |= {"kb": "k", "mi": "Mi", "gi": "Gi", "ti": "Ti", "tb": "T", "tib": "Ti", "k": "k", "t": "T"}


def parse_bytes(text: str) -> int:
    """`1.5Gi` as 1610612736. Raises ValueError that says what would be right, also for nothing and for over 1024 Ti."""
    written = _WRITTEN.fullmatch(text)
    if written is None:
        raise ValueError(f"{text!r} is not a size; {_advice(text)}")
    size = int(Fraction(written["number"]) * SUFFIXES[written["suffix"]])
    if size < 1:
        raise ValueError(f"{text!r} is no room at all; write a size such as 512Mi")
    if size > MOST_BYTES:
        raise ValueError(f"{text!r} is more than 1024Ti; write a size such as 512Mi")
    return size


def bytes_of(quantity: str) -> int:
    """The same, and 0 for ''. Raises ValueError."""
    return parse_bytes(quantity) if quantity else 0


def format_bytes(size: int) -> str:
    """The shortest way to write exactly `size` bytes; `parse_bytes` reads it back. Raises ValueError below 1."""
    if size < 1:
        raise ValueError(f"{size} bytes cannot be written as a size")
    for suffix in ("Ti", "Gi", "Mi", "Ki"):
        if size % SUFFIXES[suffix] == 0:
            return f"{size // SUFFIXES[suffix]}{suffix}"
    for suffix in ("T", "G", "M", "k"):
        if size % SUFFIXES[suffix] == 0:
            return f"{size // SUFFIXES[suffix]}{suffix}"
    return f"{size // 1000}.{size % 1000:03}k"


def _advice(text: str) -> str:
    nearly = _NEARLY.fullmatch(text.strip())
    if nearly:
        suffix = _SPOKEN.get(nearly["suffix"].lower())
        if suffix:
            return f"did you mean {nearly['number']}{suffix}? Known are {', '.join(SUFFIXES)}"
        if suffix == "":
            return f"did you mean {format_bytes(max(1, int(Fraction(nearly['number']))))}?"
    return f"write a number and one of {', '.join(SUFFIXES)}, such as 512Mi or 1.5Gi"
