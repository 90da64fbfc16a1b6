"""YAML, and JSON as its subset, as a tree whose every node knows where it stands.

Built from PyYAML's parser alone: no constructor, so that nothing is guessed of a scalar before it is known what is
wanted there (to YAML 1.1 `on` is true and `1:30` is ninety), no tag makes an object, no alias becomes a bomb, and no
nesting exhausts the stack. Values that came over the wire become the same tree, with JSON pointers as places.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from slipway.errors import InvalidSpec

MOST_BYTES = 2**20
MOST_NODES = 100_000
MOST_DEPTH = 32
LONGEST_SHOWN = 60

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_JSON_ESCAPE = re.compile(r"\\(?:u([dD][89abAB]..)\\u([dD][c-fC-F]..)|.)")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Scalar:
    """`plain`: written without quotes, so that it may be a number, a truth value or nothing as well as text."""

    place: str
    text: str
    plain: bool


@dataclass(frozen=True, slots=True)
class Items:
    place: str
    items: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Entries:
    """`entries`: key and value, in order, doubles included."""

    place: str
    entries: list[tuple[Scalar, Node]] = field(default_factory=list)


Node = Scalar | Items | Entries


def shown(text: str) -> str:
    """`text` in quotes for an error: control characters visible, and not too long."""
    return repr(text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…")


def decoded(data: bytes | str, *, file: str) -> str:
    """The text of a file. Raises InvalidSpec for more than 1 MiB, for what is not UTF-8, and for characters that no
    YAML may hold."""
    size = len(data) if isinstance(data, bytes) else len(data.encode("utf-8", "surrogatepass"))
    if size > MOST_BYTES:
        raise InvalidSpec(f"{file}: has {size} bytes; a spec has at most {MOST_BYTES} (1 MiB). Is it the model itself?")
    text = (_as_text(data, file) if isinstance(data, bytes) else data).removeprefix("\ufeff")
    wrong = _UNPRINTABLE.search(text)
    if wrong:
        raise InvalidSpec(
            f"{_place_in(text[: wrong.start()], file)}: the character {wrong[0]!a} cannot be in a spec; remove it, "
            "or write it as an escape in double quotes"
        )
    return text


def _as_text(data: bytes, file: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        place = _place_in(data[: error.start].decode(), file)
        raise InvalidSpec(
            f"{place}: byte 0x{data[error.start]:02x} is not UTF-8; save the file in UTF-8, or is it no text at all?"
        ) from None


def _place_in(before: str, file: str) -> str:
    """The place behind `before`."""
    return f"{file}:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def documents(text: str, *, file: str) -> Iterator[Node]:
    """The documents of a text that `decoded` gave, without those that hold nothing. Raises InvalidSpec for the first
    place that is no YAML, and for too many or too deep nodes."""
    text = _as_yaml(text)
    builder = _Builder(file)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            node = builder.take(event)
            if node is not None and not _is_nothing(node):
                yield node
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        raise InvalidSpec(f"{file}:{line + 1}:{column + 1}: {_said(error, text, line, column)}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise InvalidSpec(f"{file}: is not YAML: {shown(str(error))}") from None


def from_json(value: Any, *, at: str = "") -> Node:
    """The tree of a value that a JSON parser made. Places are JSON pointers below `at`. Raises InvalidSpec for what no
    JSON is, and for too many or too deep nodes."""
    left = [MOST_NODES]
    return _from_json(value, at, depth=1, left=left)


def _from_json(value: Any, at: str, *, depth: int, left: list[int]) -> Node:
    left[0] -= 1
    place = at or "/"
    if left[0] < 0:
        raise InvalidSpec(f"{place}: here are more than {MOST_NODES} values; a spec has far fewer")
    if depth > MOST_DEPTH and isinstance(value, dict | list | tuple):
        raise InvalidSpec(f"{place}: is nested more than {MOST_DEPTH} deep; a spec is far flatter")
    if isinstance(value, str):
        return Scalar(place, value, plain=False)
    if value is None or isinstance(value, bool | int | float):
        return Scalar(place, _number_text(value), plain=True)
    if isinstance(value, dict):
        entries = []
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InvalidSpec(f"{place}: the key {shown(str(key))} is not text")
            below = f"{at}/{_pointer_part(key)}"
            entries.append((Scalar(below, key, plain=False), _from_json(inner, below, depth=depth + 1, left=left)))
        return Entries(place, entries)
    if isinstance(value, list | tuple):
        items = [_from_json(inner, f"{at}/{i}", depth=depth + 1, left=left) for i, inner in enumerate(value)]
        return Items(place, items)
    raise InvalidSpec(f"{place}: is a {type(value).__name__}, which JSON does not have")


def _number_text(value: bool | int | float | None) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**30:
        return "1e30" if value > 0 else "-1e30"  # over every bound there is; and long integers do not print
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf"
    return json.dumps(value)


def _pointer_part(key: str) -> str:
    visible = repr(key)[1:-1] if not key.isprintable() else key
    return visible.replace("~", "~0").replace("/", "~1")[:LONGEST_SHOWN]


def _is_nothing(node: Node) -> bool:
    return isinstance(node, Scalar) and node.plain and node.text in ("", "~", "null")


def _as_yaml(text: str) -> str:
    """JSON is nearly YAML. Where `text` is JSON, write otherwise what PyYAML reads otherwise: tabs between tokens, and
    characters as pairs of escapes. Lines stay lines."""
    if not text.lstrip().startswith(("{", "[")) or ("\t" not in text and "\\u" not in text):
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    return _JSON_ESCAPE.sub(_joined, text.replace("\t", " "))


def _joined(escape: re.Match[str]) -> str:
    if escape[1] is None:
        return escape[0]
    return bytes.fromhex(escape[1] + escape[2]).decode("utf-16-be")


def _said(error: yaml.MarkedYAMLError, text: str, line: int, column: int) -> str:
    lines = text.splitlines()
    here = lines[line][column : column + 1] if line < len(lines) else ""
    if here == "\t":
        return "here is a tab; YAML indents with spaces"
    said = " ".join(part for part in (error.context, error.problem) if part)
    hint = "; quote text that begins with such a character" if here in tuple("@`%&*!|>") and here else ""
    return f"this is not YAML: {said}{hint}"


@dataclass(slots=True)
class _Open:
    """A collection that is not closed yet. `size`, `height`: of what is in it so far, aliases counted as often as they
    are used."""

    node: Items | Entries
    anchor: str | None
    key: Scalar | None = None
    size: int = 1
    height: int = 1


class _Builder:
    """Makes trees of the parser's events, one document at a time."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int, int]] = {}
        self._nodes = 0

    def take(self, event: yaml.Event) -> Node | None:
        """The whole document, with the event that completes it."""
        if isinstance(event, yaml.DocumentStartEvent):
            self._anchors.clear()
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                self._refuse(event, f"*{event.anchor} repeats what is nowhere before it as &{event.anchor}")
            return self._add(event, *self._anchors[str(event.anchor)])
        elif isinstance(event, yaml.ScalarEvent):
            self._check_tag(event)
            node = Scalar(self._place(event), event.value, plain=not event.style)
            return self._close(event, node, event.anchor, 1, 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._check_tag(event)
            if len(self._stack) >= MOST_DEPTH:
                self._refuse(event, f"is nested more than {MOST_DEPTH} deep; a spec is far flatter")
            kind = Entries if isinstance(event, yaml.MappingStartEvent) else Items
            self._stack.append(_Open(kind(self._place(event)), event.anchor))
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self._stack.pop()
            return self._close(event, done.node, done.anchor, done.size, done.height)
        return None

    def _close(self, event: yaml.Event, node: Node, anchor: str | None, size: int, height: int) -> Node | None:
        if anchor is not None:
            self._anchors[anchor] = (node, size, height)
        return self._add(event, node, size, height)

    def _add(self, event: yaml.Event, node: Node, size: int, height: int) -> Node | None:
        if not self._stack:
            self._nodes += size
            return node
        parent = self._stack[-1]
        parent.size += size
        parent.height = max(parent.height, height + 1)
        if self._nodes + sum(one.size for one in self._stack) > MOST_NODES:
            self._refuse(event, f"here are more than {MOST_NODES} values, aliases included; a spec has far fewer")
        if len(self._stack) + height > MOST_DEPTH + 1:
            self._refuse(event, f"is nested more than {MOST_DEPTH} deep; a spec is far flatter")
        if isinstance(parent.node, Items):
            parent.node.items.append(node)
        elif parent.key is None:
            if isinstance(node, Scalar):
                parent.key = node
            else:
                raise InvalidSpec(f"{node.place}: a list or a mapping cannot be a key; keys are words")
        else:
            parent.node.entries.append((parent.key, node))
            parent.key = None
        return None

    def _check_tag(self, event: Any) -> None:
        if event.tag is not None:
            self._refuse(event, f"the tag {shown(event.tag)} is not read; remove it, and quote what is text")

    def _place(self, event: Any) -> str:
        return f"{self._file}:{event.start_mark.line + 1}:{event.start_mark.column + 1}"

    def _refuse(self, event: yaml.Event, why: str) -> NoReturn:
        raise InvalidSpec(f"{self._place(event)}: {why}")
