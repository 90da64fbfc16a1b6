"""What came of a conversion, and a deployment while it is being made of somebody else's fields."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from slipway.errors import InvalidSpec
from slipway.spec.deployment import DeploymentSpec
from slipway.spec.places import LONGEST_SHOWN, Entries, Items, Node, Scalar, shown
from slipway.spec.reading import spec_from_json

_SECRET = re.compile(r"secret:(?P<name>.+)")
_ODD = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """`mapped`: a line for each field that found a home; `gaps`: a line for each that did not, why, and what to do.
    Both begin with the place in the file."""

    specs: list[DeploymentSpec] = field(default_factory=list)
    mapped: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)


class Draft:
    """One deployment in the making. What the reader of specs would refuse becomes a gap, in the reader's words."""

    def __init__(self, root: Node, *, name: str) -> None:
        """`name`: for a deployment that has none of its own."""
        self.root = root
        self.fields: dict[str, Any] = {"name": fitting_name(name), "model": ""}
        self.mapped: list[str] = []
        self.gaps: list[str] = []

    def put(self, node: Node, path: str, home: str, value: Any, *, note: str = "") -> bool:
        """`path`, which stands at `node`, goes to the field `home`, such as `replicas.min`; whether it could. `note`:
        what somebody has to know of it."""
        *above, last = home.split(".", 1)
        changed = deepcopy(self.fields)
        inner = changed
        for key in above:
            inner = inner.setdefault(key, {})
        inner[last] = value
        try:
            spec_from_json(changed | {"model": changed["model"] or "model"})
        except InvalidSpec as error:
            self.gap(node, path, error.problems[0].partition(": ")[2])
            return False
        self.fields = changed
        seen = "" if home.startswith("env.") else f" = {_brief(value)}"
        self.mapped.append(f"{node.place}: {path} → {home}{seen}{f' ({note})' if note else ''}")
        return True

    def say(self, node: Node, path: str, how: str) -> None:
        """`path` is so here anyway, without a field."""
        self.mapped.append(f"{node.place}: {path}: {how}")

    def gap(self, node: Node, path: str, why: str) -> None:
        self.gaps.append(f"{node.place}: {path} is left out: {why}")

    def finish(self) -> DeploymentSpec:
        """A deployment whose model nobody named gets a path to put it at."""
        if not self.fields["model"]:
            self.fields["model"] = f"./{self.fields['name']}"
            self.gaps.append(
                f"{self.root.place}: no model is named that can be fetched: put the model, or a Python file with a "
                f"slipway.Model class, at {self.fields['model']}, or change `model` in the spec"
            )
        return spec_from_json(self.fields)


def _brief(value: Any) -> str:
    value = value[-1] if isinstance(value, list) else value
    text = value if isinstance(value, str) and value.isprintable() and value else json.dumps(value)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"


def fitting_name(text: str) -> str:
    """The nearest name that a deployment may have."""
    return _ODD.sub("-", text).strip("._-")[:128] or "deployment"


def put_name(draft: Draft, node: Node, path: str) -> None:
    given = text_of(node)
    name = fitting_name(given)
    draft.put(node, path, "name", name, note="" if name == given else f"{shown(given)} became {name!r}")


def put_variable(draft: Draft, node: Node, path: str, name: str) -> None:
    """One of the environment; its value is not repeated."""
    if not isinstance(node, Scalar):
        draft.gap(node, path, "its value is no text")
        return
    named = _SECRET.fullmatch(node.text)
    if named is None:
        draft.put(node, path, f"env.{name}", node.text)
    else:
        note = f"write it with `slipway secrets set {named['name']}`"
        draft.put(node, path, f"env.{name}", {"secret": named["name"]}, note=note)


def text_of(node: Node) -> str:
    """As it was written; '' for what is no scalar, or nothing."""
    if not isinstance(node, Scalar) or (node.plain and node.text in ("null", "~")):
        return ""
    return node.text


def number_of(node: Node) -> float | None:
    """Also of a number in quotes."""
    text = text_of(node)
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text):
        return None
    number = float(text)
    return int(number) if number.is_integer() else number


def truth_of(node: Node) -> bool | None:
    return {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}.get(text_of(node).lower())


def entries_of(node: Node) -> list[tuple[str, Node]]:
    """None for what is no mapping; of a key that is there twice, the last, as most readers have it."""
    if not isinstance(node, Entries):
        return []
    return list({key.text: value for key, value in node.entries}.items())


def items_of(node: Node) -> list[Node]:
    """Of a list; something alone is a list of one."""
    if isinstance(node, Items):
        return node.items
    return [] if isinstance(node, Scalar) and not text_of(node) else [node]


def moved(node: Node, place: str) -> Node:
    """The same tree, as if all of it stood at `place`."""
    if isinstance(node, Items):
        return Items(place, [moved(item, place) for item in node.items])
    if isinstance(node, Entries):
        return Entries(
            place, [(Scalar(place, key.text, key.plain), moved(value, place)) for key, value in node.entries]
        )
    return Scalar(place, node.text, node.plain)
