"""From the text of a file to trees with places: YAML, JSON, JSON with comments, TOML, or command lines."""

from __future__ import annotations

import contextlib
import re
import shlex
import tomllib
from pathlib import PurePath
from typing import NamedTuple

from slipway.errors import InvalidSpec
from slipway.spec import places
from slipway.spec.gradient.conversion import moved
from slipway.spec.places import Entries, Items, Node, Scalar, shown

_COMMAND = re.compile(r"^[ \t]*(?:\$[ \t]+)?(?P<tool>gradient|pspace|paperspace)[ \t]+", re.MULTILINE)
_COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)


class Command(NamedTuple):
    """`verbs`: such as ("deployments", "create"). `options`: without their dashes; one that is repeated is a list."""

    tool: str
    verbs: tuple[str, ...]
    options: Entries


def commands_in(text: str, *, file: str) -> list[Command]:
    """The command lines of a shell script; [] where there is none. Raises InvalidSpec for quotes that do not end."""
    if not _COMMAND.search(text):
        return []
    found = []
    lines = text.split("\n")
    number = 0
    while number < len(lines):
        start, line = number, lines[number]
        while line.endswith("\\") and number + 1 < len(lines):
            number += 1
            line = f"{line[:-1]} {lines[number]}"
        number += 1
        command = _COMMAND.match(line)
        if command:
            found.append(_command(command["tool"], line[command.end() :], f"{file}:{start + 1}"))
    return found


def _command(tool: str, rest: str, place: str) -> Command:
    try:
        words = shlex.split(rest, comments=True)
    except ValueError as error:
        raise InvalidSpec(f"{place}: this command line cannot be read: {error}") from None
    verbs = []
    while words and not words[0].startswith("-"):
        verbs.append(words.pop(0))
    options: dict[str, list[Node]] = {}
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            raise InvalidSpec(f"{place}: {shown(word)} belongs to no option; are its quotes right?")
        key, equals, value = word.lstrip("-").partition("=")
        if equals:
            options.setdefault(key, []).append(Scalar(place, value, plain=False))
        elif words and not words[0].startswith("--"):
            options.setdefault(key, []).append(Scalar(place, words.pop(0), plain=False))
        else:
            options.setdefault(key, []).append(Scalar(place, "true", plain=True))
    entries = [
        (Scalar(place, key, plain=False), values[0] if len(values) == 1 else Items(place, values))
        for key, values in options.items()
    ]
    return Command(tool, tuple(verbs), Entries(place, entries))


def trees_in(text: str, *, file: str) -> list[Node]:
    """The documents of a spec file. Its name tells TOML, its looks tell comments in JSON. Raises InvalidSpec."""
    if PurePath(file).suffix == ".toml":
        return [_toml(text, file)]
    if text.lstrip().startswith(("{", "//", "/*")):
        text = _COMMENT.sub(_blanked, text)
    try:
        found = list(places.documents(text, file=file))
    except InvalidSpec:
        with contextlib.suppress(InvalidSpec):
            return [_toml(text, file)]
        raise
    if any(isinstance(node, Scalar) for node in found):  # to YAML, most TOML is one long word
        with contextlib.suppress(InvalidSpec):
            return [_toml(text, file)]
    return found


def _toml(text: str, file: str) -> Node:
    try:
        value = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidSpec(f"{file}: is not TOML: {shown(str(error))}") from None
    return moved(places.from_json(value), file)  # TOML's reader tells no lines


def _blanked(found: re.Match[str]) -> str:
    """Comments become spaces, so that places stay; strings stay."""
    return found[0] if found[0].startswith('"') else re.sub(r"[^\n]", " ", found[0])
