"""`slipway validate`: everything that can be known of specs without a server."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.calls import Form, written
from slipway.cli.diff import local_artifact
from slipway.cli.exits import BAD_INPUT
from slipway.cli.spec_files import spec_bytes, spec_paths
from slipway.errors import InvalidSpec, SlipwayError

if TYPE_CHECKING:
    from slipway.spec.deployment import DeploymentSpec
    from slipway.spec.reading import Placed


@dataclass
class Sound:
    """A deployment whose spec can be read. `runtime`: as far as it can be told. `unchecked`: what a server will see.
    `warnings`: what is right, and perhaps not meant."""

    name: str
    model: str
    runtime: str
    unchecked: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass
class Report:
    """Of one file. Each problem is `file:line:column: what, and what would be right`."""

    file: str
    deployments: list[Sound] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def validate(
    file: Annotated[list[str], typer.Argument(metavar="SPEC", help="Specs, folders of specs, or -.")],
    output: Annotated[Form, typer.Option("--output", "-o", metavar="FORM", help="table, json or yaml.")] = Form.table,
) -> None:
    """Check specs as a deploy would, without a server: their fields, that the model is there, that a runtime takes it,
    and that its digest is the one that is declared. Says all problems at once; the exit status is 2 if there is any.

    \b
    slipway validate iris.yaml
    slipway validate specs/ -o json
    """
    reports = [report_on(path) for typed in file for path in spec_paths(typed)]
    _find_doubles(reports)
    if output is Form.table:
        _print(reports)
    else:
        print(written(reports, output))
    if any(report.problems for report in reports):
        raise typer.Exit(BAD_INPUT)


def report_on(path: str) -> Report:
    """Raises SetupError for a file that cannot be read."""
    from slipway.spec.checks import warnings_of
    from slipway.spec.reading import read_placed_specs

    report = Report("standard input" if path == "-" else path)
    folder = Path.cwd() if path == "-" else Path(path).absolute().parent
    try:
        found = read_placed_specs(spec_bytes(path), file=report.file)
    except InvalidSpec as error:
        report.problems += error.problems
        return report
    for one in found:
        sound = Sound(one.spec.name, one.spec.model, one.spec.runtime, warnings=warnings_of(one.spec))
        report.problems += _problems_of(one, sound, folder)
        report.deployments.append(sound)
    return report


def _problems_of(one: Placed, sound: Sound, folder: Path) -> Iterator[str]:
    """Fills `sound` on the way."""
    from slipway.runtimes.table import RUNTIMES
    from slipway.spec.model_source import read_source
    from slipway.spec.reading import below

    spec = one.spec
    if spec.runtime not in ("auto", *RUNTIMES):
        near = get_close_matches(spec.runtime, RUNTIMES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(RUNTIMES)}"
        yield f"{one.place('runtime')}: runtime {spec.runtime!r} is not known; {hint}"
    for name, named in spec.files.items():
        if read_source(named).kind == "path" and not (folder / Path(named).expanduser()).exists():
            place = one.place(below("files", name))
            yield f"{place}: there is no {named!r}, which is to be {name!r} beside the model"
    source = read_source(spec.model)
    if source.kind == "url":
        sound.unchecked.append("the model, which is fetched when it is deployed")
    elif source.kind == "module":
        sound.unchecked.append("the model, which is imported when it is deployed")
    else:
        yield from _problems_of_path(one, sound, folder)
    secrets = sorted({value.secret for value in spec.env.values() if not isinstance(value, str)})
    if secrets:
        sound.unchecked.append(f"that the server has the secret{'s' * (len(secrets) > 1)} {', '.join(secrets)}")


def _problems_of_path(one: Placed, sound: Sound, folder: Path) -> Iterator[str]:
    from slipway.runtimes.recognise import find_model, find_model_for
    from slipway.runtimes.table import RUNTIMES

    model = str(folder / Path(one.spec.model).expanduser())
    try:
        if one.spec.runtime in RUNTIMES:
            find_model_for(one.spec.runtime, model)
        else:
            sound.runtime = find_model(model).runtime
    except SlipwayError as error:
        yield f"{one.place('model')}: {error.message}"
        return
    if one.spec.digest:
        try:
            yield from _digest_problem(one.spec, one.place("digest"), folder)
        except SlipwayError as error:
            yield f"{one.place('model')}: {error.message}"


def _digest_problem(spec: DeploymentSpec, place: str, folder: Path) -> Iterator[str]:
    from slipway.spec.manifest import is_pinned_by, manifest_digest

    files = local_artifact(spec.model, folder)
    if not is_pinned_by(files, spec.digest):
        yield f"{place}: the digest of {spec.model} is {manifest_digest(files)}, not {spec.digest}; was it changed?"


def _find_doubles(reports: Iterable[Report]) -> None:
    homes: dict[str, str] = {}
    for report in reports:
        for sound in report.deployments:
            first = homes.setdefault(sound.name, report.file)
            if first != report.file:
                report.problems.append(f"{report.file}: deployment {sound.name!r} is in {first} too; keep one")


def _print(reports: list[Report]) -> None:
    for report in reports:
        for problem in report.problems:
            print(problem)
        if not report.problems:
            for sound in report.deployments:
                print(f"{report.file}: {sound.name} is right ({sound.model}, runtime {sound.runtime})")
                for what in sound.unchecked:
                    print(f"  not checked: {what}")
                for warning in sound.warnings:
                    print(f"  warning: {warning}")
    count = sum(len(report.problems) for report in reports)
    if count > 1:
        print(f"{count} problems", file=sys.stderr)
