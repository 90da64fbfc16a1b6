"""`slipway init`: a commented spec for a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from slipway.cli.exits import note
from slipway.errors import Conflict, SetupError

STANDARD_OUTPUT = "-"


def init(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A file or folder, module:Class, or a URL.")],
    output: Annotated[
        str, typer.Option("--output", metavar="FILE", help="Where to write it; - is standard output.")
    ] = "slipway.yaml",
    name: Annotated[str, typer.Option(metavar="NAME", help="Of the deployment; default: from the model's.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a spec for a model: what can be found out of it is set, everything else is there as a comment.

    \b
    slipway init iris.onnx
    slipway init iris.onnx --name flowers --output flowers.yaml
    slipway init s3://models/iris.onnx --output - | less
    """
    from slipway.cli.plan import name_of
    from slipway.spec.forms import FORMS
    from slipway.spec.model_source import read_source
    from slipway.spec.template import template

    source = read_source(model)
    runtime, about = "auto", ""
    if source.kind == "path":
        runtime, about = _recognised(model)
        model = _seen_from(model, output)
    elif source.kind == "module":
        runtime, about = "python", "A class that is imported"
    tail = source.location.rstrip("/").rpartition("/")[2]
    name = name or name_of(f"{tail}:{source.attribute}" if source.attribute else tail)
    if not FORMS["name"].fits(name):
        raise SetupError(f"--name {name!r} cannot name a deployment; write {FORMS['name'].right}")
    text = template(name=name, model=model, runtime=runtime, about=about)
    if output == STANDARD_OUTPUT:
        print(text, end="")
        return
    write_new(output, text, force=force)
    note(f"wrote {output}: edit it, then `slipway validate {output}` and `slipway deploy -f {output}`")


def write_new(path: str, text: str, *, force: bool) -> None:
    """Whole or not at all. Raises Conflict for a file that is there, unless `force`, and SetupError."""
    place = Path(path)
    if place.exists() and not force:
        raise Conflict(f"{path} is there already; --force writes over it, --output writes elsewhere")
    beside = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(place)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise SetupError(f"{path} cannot be written: {error.strerror or error}") from None


def _recognised(model: str) -> tuple[str, str]:
    """The runtime, and what was seen. Raises what `find_model` raises."""
    from slipway.runtimes.recognise import find_model

    found = find_model(model)
    return found.runtime, f"The model is {found.format}, recognised from {Path(found.path).name}"


def _seen_from(model: str, output: str) -> str:
    """A path of a spec begins at the spec's own folder."""
    if Path(model).is_absolute():
        return model
    folder = Path.cwd() if output == STANDARD_OUTPUT else Path(output).absolute().parent
    way = os.path.relpath(model, folder)
    return way if way.startswith("..") else f"./{way}"
