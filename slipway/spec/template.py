"""A spec to begin with: what is known of a model is set, everything else is there as a comment with what it means.

A comment that begins with `# ` and a word is for reading; every other comment is a field, switched on by removing its
`#`. It is written from the table of fields, so it cannot forget one.
"""

from __future__ import annotations

from textwrap import wrap

from msgspec.inspect import StructType

from slipway.spec.deployment import API_VERSION, DeploymentSpec
from slipway.spec.shapes import Shape, shapes_of
from slipway.spec.writing import as_yaml_line

WIDTH = 100

SHOWN: dict[str, str] = {
    "labels": "{team: fruit}",
    "options": "{}",
    "files": "{labels.txt: ./labels.txt}",
    "env": "{MODE: fast, TOKEN: {secret: my-token}}",
    "autoscaling": "[{metric: cpu, target: 50}]",
    "auth.allow": "[{key: '*'}, {jwt: {scope: 'predict:iris'}}]",
    "sandbox.allow_read": "[/usr/share/dict]",
    "sandbox.allow_write": "[/var/tmp/features]",
    "replicas.memory": "512Mi",
    "cache.memory": "64Mi",
    "description": "what it is for",
    "digest": "sha256:" + "0" * 64,
}
"""What stands in a comment where a default would show nothing."""


def template(*, name: str, model: str, runtime: str = "auto", about: str = "") -> str:
    """The text of a spec. `about`: what was found out about the model, for the reader. Raises nothing: what is given is
    quoted as YAML needs it."""
    given = {"apiVersion": API_VERSION, "name": name, "model": model, "runtime": runtime}
    order = {field: place for place, field in enumerate(given)}
    lines = [
        "# A deployment of Slipway. Fields behind # show what they would be without it, or an example;",
        "# remove the # to set one. `slipway validate` checks this file, `slipway deploy -f` makes it so.",
        "",
    ]
    for shape in sorted(shapes_of(DeploymentSpec).values(), key=lambda shape: order.get(shape.name, len(order))):
        comment = shape.rule.about
        if shape.name == "runtime" and about:
            comment = f"{about}. {comment}"
        lines += [f"# {line}" for line in wrap(comment, WIDTH - 2)]
        if shape.name in given:
            lines.append(as_yaml_line(shape.name, given[shape.name]))
        else:
            lines += [f"#{line}" for line in _field(shape)]
        lines.append("")
    return "\n".join(lines)


def _field(shape: Shape) -> list[str]:
    if not isinstance(shape.type, StructType):
        return [f"{shape.name}: {_shown(shape, shape.name)}"]
    inner = [
        (f"  {one.name}: {_shown(one, f'{shape.name}.{one.name}')}", one.rule.about)
        for one in shapes_of(shape.type.cls).values()
    ]
    width = max(len(line) for line, _ in inner)
    if any(width + len(about) > WIDTH - 6 for _, about in inner):
        return [f"{shape.name}:", *(text for line, about in inner for text in (*_above(about), line))]
    return [f"{shape.name}:", *(f"{line.ljust(width)}  # {about}" for line, about in inner)]


def _above(about: str) -> list[str]:
    return [f"  # {line}" for line in wrap(about, WIDTH - 6)]


def _shown(shape: Shape, path: str) -> str:
    if path in SHOWN:
        return SHOWN[path]
    return as_yaml_line(shape.name, shape.default).partition(": ")[2]
