"""From the text of a spec to what it declares, or to everything that is wrong with it.

One reader for all kinds, which follows their types (`spec.shapes`) and rules (`spec.fields`). It goes on after a
problem, since who has made three mistakes wants to hear of three.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, NamedTuple

import msgspec
from msgspec.inspect import (
    BoolType,
    DictType,
    FloatType,
    IntType,
    LiteralType,
    StructType,
    Type,
    UnionType,
    VarTupleType,
)

from slipway.errors import InvalidSpec
from slipway.spec import places
from slipway.spec.checks import CHECKS
from slipway.spec.deployment import API_VERSION, DeploymentSpec
from slipway.spec.fields import Field
from slipway.spec.forms import FORMS
from slipway.spec.places import Entries, Items, Node, Scalar, shown
from slipway.spec.scalars import as_integer, as_number, as_text, as_truth, described, plain_value
from slipway.spec.server import ServerConfig
from slipway.spec.shapes import Shape, shapes_of

MOST_PROBLEMS = 50
_WRONG: Any = object()


def read_spec(text: str | bytes, *, file: str = "spec") -> DeploymentSpec:
    """The one deployment of a YAML or JSON text. Raises InvalidSpec with every problem, each as `file:line:column`."""
    found = read_specs(text, file=file)
    if len(found) > 1:
        names = ", ".join(spec.name for spec in found)
        raise InvalidSpec(f"{file}: holds {len(found)} deployments ({names}); here is room for one")
    return found[0]


def read_specs(text: str | bytes, *, file: str = "spec") -> list[DeploymentSpec]:
    """The deployments of a text, which `---` divides. Raises InvalidSpec for all problems of all, also for a name that
    is there twice."""
    return [one.spec for one in read_placed_specs(text, file=file)]


class Placed(NamedTuple):
    """`places`: `file:line:column` by the path of a field, such as `replicas.min`; '' is the spec itself."""

    spec: DeploymentSpec
    places: dict[str, str]

    def place(self, field: str) -> str:
        return self.places.get(field, self.places[""])


def read_placed_specs(text: str | bytes, *, file: str = "spec") -> list[Placed]:
    """As `read_specs`, for who has more to say about a field."""
    reader = _Reader()
    found: dict[str, Placed] = {}
    documents = 0
    for node in places.documents(places.decoded(text, file=file), file=file):
        documents += 1
        spec = reader.deployment(_declared(node))
        if spec is _WRONG:
            continue
        if spec.name in found:
            first = found[spec.name].place("")
            reader.say(node.place, f"there is a deployment {spec.name!r} already at {first}; names must differ")
        found.setdefault(spec.name, Placed(spec, reader.places))
    if not documents:
        raise InvalidSpec(f"{file}: is empty; write at least `name: NAME` and `model: PATH`")
    reader.finish(file)
    return list(found.values())


def _declared(node: Node) -> Node:
    """What `slipway get NAME -o yaml` answers is all that is known of a deployment, and its spec is a part of that."""
    if isinstance(node, Entries):
        given = {key.text: value for key, value in node.entries}
        if "model" not in given and given.keys() >= {"spec", "revision", "target"}:
            return given["spec"]
    return node


def spec_from_json(value: Any, *, at: str = "") -> DeploymentSpec:
    """The deployment of a parsed JSON value. `at`: the JSON pointer to it, which begins the places of the problems.
    Raises InvalidSpec."""
    reader = _Reader()
    spec = reader.deployment(places.from_json(value, at=at))
    reader.finish(at or "the spec")
    return spec  # type: ignore[no-any-return]


def read_server_config(text: str | bytes, *, file: str = "server.yaml") -> ServerConfig:
    """What `slipway up --config` declares; an empty text is all defaults. Raises InvalidSpec with every problem."""
    reader = _Reader()
    found = list(places.documents(places.decoded(text, file=file), file=file))
    if len(found) > 1:
        raise InvalidSpec(f"{found[1].place}: is a second document; a server has one configuration")
    config = reader.struct(found[0], ServerConfig, "") if found else ServerConfig()
    reader.finish(file)
    return config


class _Reader:
    def __init__(self) -> None:
        self.problems: list[str] = []
        self.places: dict[str, str] = {}
        self._unsaid = 0

    def say(self, place: str, problem: str) -> Any:
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(f"{place}: {problem}")
        else:
            self._unsaid += 1
        return _WRONG

    def finish(self, file: str) -> None:
        """Raise InvalidSpec if anything was said."""
        if not self.problems:
            return
        count = len(self.problems) + self._unsaid
        if self._unsaid:
            self.problems.append(f"{file}: and {self._unsaid} more")
        message = self.problems[0] if count == 1 else f"{count} things are wrong in {file}"
        raise InvalidSpec(message, problems=tuple(self.problems))

    def deployment(self, node: Node) -> Any:
        """A DeploymentSpec, or _WRONG. What was written for something else is one problem, not twenty."""
        self.places = {"": node.place}
        if isinstance(node, Entries):
            given = {key.text: value for key, value in node.entries}
            version = given.get("apiVersion")
            if "model" not in given and given.keys() & {"image", "resources", "integrations"}:
                return self.say(
                    node.place,
                    "this looks like a deployment spec of Gradient; `slipway import gradient FILE` converts it",
                )
            if isinstance(version, Scalar) and version.text and version.text != API_VERSION:
                return self.say(version.place, f"apiVersion is {shown(version.text)}; this release reads {API_VERSION}")
        return self.struct(node, DeploymentSpec, "")

    def struct(self, node: Node, kind: type, path: str) -> Any:
        shapes = shapes_of(kind)
        if not isinstance(node, Entries):
            return self.say(
                node.place, f"{path or 'this'} is {described(node)}; write a mapping of {', '.join(shapes)}"
            )
        said = self._said
        given: dict[str, Any] = {}
        where: dict[str, Node] = {}
        for key, value in self._unique(node, path):
            shape = shapes.get(key.text)
            if shape is None:
                self.say(key.place, self._unknown(key.text, shapes, kind, path))
            else:
                where[key.text] = value
                self.places[below(path, key.text)] = value.place
                given[key.text] = self.value(value, shape.type, shape.rule, below(path, key.text), shape.name)
        for shape in shapes.values():
            if shape.required and shape.name not in where:
                self.say(node.place, f"{path or 'this'} has no {shape.name}; {_needed(shape)}")
        if self._said != said:
            return _WRONG
        made = kind(**_finished(given))
        for field, problem in CHECKS.get(kind, _no_check)(made):
            self.say(where.get(field, node).place, f"{below(path, field) or 'this'} {problem}")
        return made if self._said == said else _WRONG

    def value(self, node: Node, kind: Type, rule: Field, path: str, name: str) -> Any:
        """`name`: of the field, which tells the unit."""
        try:
            if rule.jwks:
                return _key_set(node, rule)
            if isinstance(kind, StructType):
                return self.struct(node, kind.cls, path)
            if isinstance(kind, DictType):
                return self._mapping(node, kind.value_type, rule, path)
            if isinstance(kind, VarTupleType):
                return self._list(node, kind.item_type, rule, path)
            if isinstance(kind, UnionType):
                inner = next(one for one in kind.types if isinstance(one, StructType) == isinstance(node, Entries))
                return self.value(node, inner, rule, path, name)
            if isinstance(kind, BoolType):
                return as_truth(node)
            if isinstance(kind, IntType):
                return as_integer(node, rule, name=name)
            if isinstance(kind, FloatType):
                return as_number(node, rule, name=name)
            if isinstance(kind, LiteralType) and rule.form != "api version":
                rule = rule._replace(choices=tuple(str(one) for one in kind.values))
            return as_text(node, rule)
        except ValueError as error:
            return self.say(node.place, f"{path} {error}")

    def _mapping(self, node: Node, kind: Type, rule: Field, path: str) -> Any:
        if not isinstance(node, Entries):
            return self.say(node.place, f"{path} is {described(node)}; write a mapping, such as {{NAME: VALUE}}")
        form = FORMS[rule.keys]
        found = {}
        for key, value in self._unique(node, path):
            if key.text == "<<" and key.plain:
                self.say(key.place, f"{path} has a merge key, which YAML 1.2 does not have; write the entries out")
            elif not form.fits(key.text):
                self.say(key.place, f"{path} has the key {shown(key.text)}; keys are {form.right}")
            else:
                self.places[below(path, key.text)] = value.place
                found[key.text] = self.value(value, kind, rule, below(path, key.text), "")
        return found

    def _list(self, node: Node, kind: Type, rule: Field, path: str) -> Any:
        if rule.one and isinstance(node, Scalar):
            return (self.value(node, kind, rule, path, ""),)
        if not isinstance(node, Items):
            return self.say(node.place, f"{path} is {described(node)}; write a list, such as [A, B]")
        return tuple(self.value(item, kind, rule, f"{path}[{i}]", "") for i, item in enumerate(node.items))

    @property
    def _said(self) -> int:
        return len(self.problems) + self._unsaid

    def _unique(self, node: Entries, path: str) -> Iterable[tuple[Scalar, Node]]:
        seen: dict[str, Scalar] = {}
        for key, value in node.entries:
            first = seen.setdefault(key.text, key)
            if first is key:
                yield key, value
            else:
                self.say(key.place, f"{below(path, key.text)} is there twice, first at {first.place}; keep one")

    def _unknown(self, key: str, shapes: dict[str, Shape], kind: type, path: str) -> str:
        if len(self.problems) >= MOST_PROBLEMS:
            return ""
        near = get_close_matches(key[:64], shapes, n=1, cutoff=0.6)
        elsewhere = _homes(key) if kind in _homes_of_all() else []
        if near:
            hint = f"did you mean {near[0]!r}?"
        elif elsewhere:
            hint = f"it belongs to {' or '.join(elsewhere)}"
        else:
            hint = f"here are {', '.join(shapes)}"
        return f"{path or _a(kind)} has no {shown(key)}; {hint}"


def below(path: str, key: str) -> str:
    """The path of a field for a person: `replicas.min`, `env['a b']`."""
    if not key:
        return path
    if not FORMS["label"].fits(key) or "." in key:
        return f"{path}[{shown(key)}]"
    return f"{path}.{key}" if path else key


def _a(kind: type) -> str:
    return "a server" if kind is ServerConfig else "a deployment"


def _no_check(_: Any) -> Iterable[tuple[str, str]]:
    return ()


def _needed(shape: Shape) -> str:
    example = f", such as {shape.rule.examples[0]}" if shape.rule.examples else ""
    return f"it has to be given{example}"


def _homes_of_all() -> dict[type, str]:
    return {DeploymentSpec: ""} | {
        shape.type.cls: name for name, shape in shapes_of(DeploymentSpec).items() if isinstance(shape.type, StructType)
    }


def _homes(key: str) -> list[str]:
    """Where else in a deployment a field of this name is, or of nearly this name."""
    fields = {field for kind in _homes_of_all() for field in shapes_of(kind)}
    meant = [key] if key in fields else get_close_matches(key[:64], fields, n=1, cutoff=0.75)
    return [
        f"{name}.{field}" if name else field
        for field in meant
        for kind, name in _homes_of_all().items()
        if field in shapes_of(kind)
    ]


def _key_set(node: Node, rule: Field) -> Any:
    """A URL or path as it is; a key set as JSON."""
    if isinstance(node, Scalar):
        return as_text(node, rule._replace(secret=False))
    value = plain_value(node)
    keys = value if isinstance(value, list) else value.get("keys", [value])
    if not isinstance(keys, list) or not keys or not all(isinstance(key, dict) and "kty" in key for key in keys):
        raise ValueError("is no key set; write a URL, a file, or {keys: [{kty: …}]} (RFC 7517)")
    return msgspec.Raw(json.dumps({"keys": keys}).encode())


def _finished(given: dict[str, Any]) -> dict[str, Any]:
    """An issuer's keys, where they are there at once and where they have to be fetched."""
    keys = given.get("jwks")
    if keys is None:
        return given
    if isinstance(keys, msgspec.Raw):
        text = bytes(keys).decode()
        return given | {"jwks": text, "jwks_source": text}
    return given | {"jwks": "", "jwks_source": keys}
