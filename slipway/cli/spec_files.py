"""From `-f` and `--set` to specs: which files, what is in them, and what is changed in passing."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from slipway.errors import InvalidSpec, SetupError

if TYPE_CHECKING:
    from slipway.spec.deployment import DeploymentSpec

SUFFIXES = (".yaml", ".yml", ".json")
FREE_KEYS = ("labels", "options", "files", "env")
"""Fields of a spec whose keys are the user's own and may hold dots; their values are text."""


class Declared(NamedTuple):
    """`folder`: where relative paths of the spec begin. `file`: for messages."""

    spec: DeploymentSpec
    folder: Path
    file: str


def read_files(typed: Iterable[str]) -> list[Declared]:
    """All deployments of these files; a folder stands for the specs in it, `-` for standard input. Raises SetupError,
    and InvalidSpec with every problem, also for one name in two places."""
    from slipway.spec.reading import read_specs

    found: list[Declared] = []
    for path in [path for one in typed for path in spec_paths(one)]:
        folder = Path.cwd() if path == "-" else Path(path).absolute().parent
        file = "standard input" if path == "-" else path
        found += [Declared(spec, folder, file) for spec in read_specs(spec_bytes(path), file=file)]
    homes: dict[str, str] = {}
    for one in found:
        if one.spec.name in homes:
            raise InvalidSpec(f"deployment {one.spec.name!r} is in {homes[one.spec.name]} and in {one.file}; keep one")
        homes[one.spec.name] = one.file
    return found


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
