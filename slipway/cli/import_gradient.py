"""`slipway import gradient`: specs and command lines of Gradient Deployments as specs of Slipway."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.calls import Form, written
from slipway.cli.exits import Ended, note
from slipway.cli.spec_files import spec_bytes
from slipway.errors import Conflict, InvalidSpec

if TYPE_CHECKING:
    from slipway.spec.gradient import Conversion

NOTHING_MADE = 3


def gradient(
    file: Annotated[list[str], typer.Argument(metavar="FILE", help="Specs or scripts of Gradient, or -.")],
    output_dir: Annotated[
        str, typer.Option("--output-dir", metavar="DIR", help="Write NAME.yaml for each there, not to standard output.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
    output: Annotated[
        Form, typer.Option("--output", "-o", metavar="FORM", help="table, json or yaml: specs, mapped and gaps.")
    ] = Form.table,
) -> None:
    """Convert deployments of all three generations of Gradient: command lines or options of `gradient deployments
    create`, spec files, and paperspace.yaml, .json, .jsonc or .toml.

    Says of each field what became of it: mapped, or left out with the reason and what to do. The exit status is 0 also
    with gaps, and 3 when no deployment could be made of a file.

    \b
    slipway import gradient deployment-spec.yaml > iris.yaml
    slipway import gradient paperspace.toml deploy.sh --output-dir specs/
    """
    found = _converted(file)
    from slipway.spec.writing import spec_to_json, specs_to_yaml

    if output_dir:
        _write(found, Path(output_dir), force=force)
    if output is not Form.table:
        answer = {"specs": [spec_to_json(one) for one in found.specs], "mapped": found.mapped, "gaps": found.gaps}
        print(written(answer, output))
        return
    _tell(found)
    if not output_dir:
        print(specs_to_yaml(found.specs), end="")


def _converted(files: list[str]) -> Conversion:
    """All of them together. Raises Ended for a file of which nothing could be made."""
    from slipway.spec.gradient import Conversion, convert

    whole = Conversion()
    for path in files:
        name = "standard input" if path == "-" else path
        folder = Path() if path == "-" else Path(path).parent
        try:
            one = convert(spec_bytes(path), file=name, beside=partial(_beside, folder))
        except InvalidSpec as error:
            raise Ended("\n".join(error.problems), status=NOTHING_MADE) from None
        for spec in one.specs:
            if spec.name in [other.name for other in whole.specs]:
                raise Conflict(
                    f"{name}: {spec.name!r} is the name of a deployment in another of these files; convert it alone"
                )
        whole.specs.extend(one.specs)
        whole.mapped.extend(one.mapped)
        whole.gaps.extend(one.gaps)
    return whole


def _beside(folder: Path, other: str) -> bytes:
    return spec_bytes(str(folder / other))


def _write(found: Conversion, folder: Path, *, force: bool) -> None:
    """All or, where one is there already, none."""
    from slipway.cli.init import write_new
    from slipway.spec.writing import specs_to_yaml

    there = [str(folder / f"{spec.name}.yaml") for spec in found.specs if (folder / f"{spec.name}.yaml").exists()]
    if there and not force:
        raise Conflict(f"{', '.join(there)} would be written over; say --force, or another --output-dir")
    folder.mkdir(parents=True, exist_ok=True)
    for spec in found.specs:
        path = str(folder / f"{spec.name}.yaml")
        write_new(path, specs_to_yaml([spec]), force=force)
        note(f"wrote {path}")


def _tell(found: Conversion) -> None:
    """To the person: the specs alone go to standard output."""
    print("mapped", *found.mapped, sep="\n  ", file=sys.stderr)
    if found.gaps:
        print("left out", *found.gaps, sep="\n  ", file=sys.stderr)
    count = len(found.gaps)
    note(f"{len(found.specs)} deployment{'s' * (len(found.specs) != 1)}, {count} gap{'s' * (count != 1)}")
