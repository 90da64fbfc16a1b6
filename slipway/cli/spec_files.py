"""From `-f` and `--set` to specs: which files, what is in them, and what is changed in passing."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from slipway.errors import InvalidSpec, SetupError

if TYPE_CHECKING:
    from slipway.spec.deployment import DeploymentSpec
    from slipway.spec.reading import Placed

STDIN = "standard input"
SERVER_PLACE = re.compile(r"/spec(?P<pointer>(?:/[^/:]*)*): (?P<words>.*)", re.S)
SUFFIXES = (".yaml", ".yml", ".json")
FREE_KEYS = ("labels", "options", "files", "env")
"""Fields of a spec whose keys are the user's own and may hold dots; their values are text."""


class Declared(NamedTuple):
    """`folder`: where relative paths of the spec begin. `file`: for messages. `placed`: what is where in it; None for
    what was not read from a file. `keep_model`: whatever is here, the deployment keeps the model that it has."""

    spec: DeploymentSpec
    folder: Path
    file: str
    placed: Placed | None = None
    keep_model: bool = False

    def located(self, problem: str) -> str:
        """What a server says of `/spec/env/TOKEN`, at its line and column here."""
        found = SERVER_PLACE.match(problem)
        if found is None:
            return problem
        keys = [key.replace("~1", "/").replace("~0", "~") for key in found["pointer"].split("/")[1:]]
        place = "" if self.placed is None else f"{self.placed.place('.'.join(keys))}: "
        return f"{place}{'.'.join(keys)}{': ' if keys else ''}{found['words']}"


def read_files(typed: Iterable[str]) -> list[Declared]:
    """All deployments of these files; a folder stands for the specs in it, `-` for standard input. Raises SetupError,
    and InvalidSpec with every problem, also for one name in two places."""
    from slipway.spec.reading import read_placed_specs

    found: list[Declared] = []
    for path in [path for one in typed for path in spec_paths(one)]:
        folder = Path.cwd() if path == "-" else Path(path).absolute().parent
        file = STDIN if path == "-" else path
        found += [Declared(one.spec, folder, file, one) for one in read_placed_specs(spec_bytes(path), file=file)]
    homes: dict[str, str] = {}
    for one in found:
        if one.spec.name in homes:
            raise InvalidSpec(f"deployment {one.spec.name!r} is in {homes[one.spec.name]} and in {one.file}; keep one")
        homes[one.spec.name] = one.file
    return found


def is_here(one: Declared) -> bool:
    """Whether its model, where that is a path, is on this machine."""
    from slipway.spec.model_source import read_source

    source = read_source(one.spec.model)
    return source.kind != "path" or (one.folder / Path(source.location).expanduser()).exists()


def spec_paths(typed: str) -> list[str]:
    """The files that `typed` stands for. Raises SetupError."""
    path = Path(typed)
    if typed == "-" or path.is_file():
        return [typed]
    if path.is_dir():
        inside = sorted(str(one) for one in path.iterdir() if one.suffix in SUFFIXES and one.is_file())
        if not inside:
            raise SetupError(f"{typed}: there is no {', '.join(SUFFIXES)} file in this folder")
        return inside
    near = (
        get_close_matches(path.name, [one.name for one in path.parent.iterdir()], n=1) if path.parent.is_dir() else []
    )
    hint = f"; did you mean {path.parent / near[0]}?" if near else ""
    raise SetupError(f"{typed}: there is no such file{hint}")


def spec_bytes(path: str) -> bytes:
    """Of a file, or of standard input for `-`. Raises SetupError."""
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror or error}") from None


def with_changes(spec: dict[str, Any], changes: Iterable[str]) -> DeploymentSpec:
    """A spec as plain JSON with `replicas.min=2` and the like set in it. Raises InvalidSpec, SetupError."""
    from slipway.spec.reading import spec_from_json

    changed = dict(spec)
    for change in changes:
        path, equals, text = change.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise SetupError(f"--set {change!r} is not FIELD=VALUE, such as --set replicas.min=2")
        if keys[0] in FREE_KEYS and len(keys) > 1:
            _place(changed, _free_path(keys), _free_value(text, change, keys), change)
        else:
            _place(changed, keys, _value(text, change), change)
    try:
        return spec_from_json(changed)
    except InvalidSpec as error:
        told = tuple(
            problem.removeprefix("/").replace("/", ".", problem.split(":")[0].count("/")) for problem in error.problems
        )
        raise InvalidSpec(f"with these options the spec is wrong: {told[0]}", problems=told) from None


def _free_path(keys: list[str]) -> list[str]:
    if keys[0] == "env" and len(keys) == 3 and keys[2] == "secret":
        return keys
    return [keys[0], ".".join(keys[1:])]


def _free_value(text: str, change: str, keys: list[str]) -> Any:
    """As it stands, whatever YAML would make of it."""
    return _value(text, change) if keys[0] == "env" and text.lstrip().startswith("{") else text


def _value(text: str, change: str) -> Any:
    """As in a spec: numbers, true and false, lists and mappings in brackets, everything else is text."""
    from slipway.spec.places import Scalar, documents
    from slipway.spec.scalars import plain_value

    text = text.strip()
    if not text.startswith(("[", "{", '"', "'")):
        return plain_value(Scalar("--set", text, plain=bool(text)))
    try:
        (found,) = documents(text, file="--set")
    except (InvalidSpec, ValueError) as error:
        raise SetupError(f"--set {change!r} is no value: {getattr(error, 'message', 'one is wanted')}") from None
    return plain_value(found)


def _place(spec: dict[str, Any], keys: list[str], value: Any, change: str) -> None:
    """Copies what it goes through: the spec that was given stays as it is."""
    for key in keys[:-1]:
        inner = spec.get(key, {})
        if not isinstance(inner, dict):
            raise SetupError(f"--set {change!r}: {key} is a value and has no fields")
        spec[key] = dict(inner)
        spec = spec[key]
    spec[keys[-1]] = value
