"""`slipway deploy`: make what runs be what was declared."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from slipway.cli.calls import Call, calling
from slipway.cli.deployments import TimeoutS, Wait
from slipway.cli.exits import INTERRUPTED, Ended, note, status_of, warn
from slipway.cli.painting import Painter, painter
from slipway.cli.plan import name_of, split_name
from slipway.cli.spec_files import Declared, read_files, with_changes
from slipway.cli.waiting import wait_until
from slipway.errors import NotFound, SetupError, SlipwayError

if TYPE_CHECKING:
    from slipway.spec.resources import Deployment

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A file or folder, module:Class, or a URL; NAME=MODEL names it too.")
]
Files = Annotated[
    list[str] | None,
    typer.Option(
        "--file", "-f", metavar="SPEC", help="A spec, a folder of specs, or - for standard input; repeatable."
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Set a field of the spec, such as replicas.min=2; repeatable."),
]


class How(NamedTuple):
    """What holds for all deployments of one command. `revision` -1: whatever it is."""

    hold: bool
    new_version: bool
    dry_run: bool
    upload: bool
    revision: int


@calling
def deploy(
    call: Call,
    model: Model = "",
    file: Files = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="Default: from the model's file, or the spec's.")] = "",
    set_: Changes = None,
    wait: Wait = True,
    timeout_s: TimeoutS = 600.0,
    hold: Annotated[
        bool, typer.Option("--hold", help="Load the new version; `slipway promote` gives it traffic.")
    ] = False,
    new_version: Annotated[bool, typer.Option("--new-version", help="Make one though nothing changed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    upload: Annotated[
        bool,
        typer.Option("--upload/--no-upload", help="Send local files, or let the server find them at the same path."),
    ] = True,
    expected_revision: Annotated[
        int,
        typer.Option(metavar="N", min=-1, help="Refuse if it changed since; 0: it must be new.", show_default=False),
    ] = -1,
) -> None:
    """Deploy a model, or what specs declare. Nothing changed means no new version; a change that needs one is swapped
    in without a failed request, and the old version goes on if the new one cannot be loaded.

    \b
    slipway deploy iris.onnx                                  as `iris`
    slipway deploy iris.onnx --name flowers --set replicas.min=2
    slipway deploy my_models:Ranker --set env.MODE=fast
    slipway deploy s3://models/iris.onnx --hold               then: slipway promote iris
    slipway deploy -f iris.yaml -f more/ --dry-run

    A MODEL alone leaves the other settings of a deployment that is there as they are; a spec replaces them all.
    """
    how = How(hold, new_version, dry_run, upload, expected_revision)
    planned = _planned(call, model, file or [], name, set_ or [])
    shown = painter()
    try:
        found = [_submit(call, one, how, shown) for one in planned]
        began = time.monotonic()
        if wait and not dry_run:
            found = _settle(call, found, how, shown, deadline=began + timeout_s)
    finally:
        shown.close()
    for one in found:
        for warning in one.warnings:
            warn(f"{one.name}: {warning}")
    call.show(found if file else found[0], lambda: "\n".join(told(one, how, waited=wait) for one in found))


def _planned(call: Call, model: str, files: list[str], name: str, changes: list[str]) -> list[Declared]:
    """Everything is read before anything is sent. Raises SetupError, InvalidSpec."""
    if model.endswith((".yaml", ".yml")) and Path(model).is_file():
        raise SetupError(f"{model} looks like a spec: slipway deploy -f {model}")
    if bool(model) == bool(files):
        raise SetupError("say what to deploy: a MODEL, or specs with -f, and not both")
    if model:
        return [_of_model(call, model, name, changes)]
    found = read_files(files)
    if name and len(found) > 1:
        raise SetupError(f"--name names one deployment, but {len(found)} are declared")
    if not (changes or name):
        return found
    from slipway.spec.writing import spec_to_json

    given = [f"name={name}"] if name else []
    return [one._replace(spec=with_changes(spec_to_json(one.spec), [*changes, *given])) for one in found]


def _of_model(call: Call, typed: str, name: str, changes: list[str]) -> Declared:
    """A deployment of that name keeps what it is set to, but for the model."""
    own, model = split_name(typed)
    name = name or own or name_of(model.rstrip("/").rpartition("/")[2] if "://" in model else model)
    try:
        spec = dict(call.admin.deployment(name).spec)
        spec.pop("digest", None)  # of the model before
    except NotFound:
        spec = {}
    return Declared(with_changes(spec | {"name": name, "model": model}, changes), Path.cwd(), "the command line")


def _submit(call: Call, one: Declared, how: How, shown: Painter) -> Deployment:
    name = one.spec.name
    try:
        with _standing_in(one.folder):
            return call.admin.deploy(
                one.spec,
                hold=how.hold,
                dry_run=how.dry_run,
                new_version=how.new_version,
                upload=how.upload,
                expected_revision=None if how.revision < 0 else how.revision,
                progress=lambda step: shown.step(name, step),
            )
    except KeyboardInterrupt:
        shown.close()
        note(f"\n{name} was not deployed. The same command goes on where the upload was.")
        raise typer.Exit(INTERRUPTED) from None


@contextlib.contextmanager
def _standing_in(folder: Path) -> Iterator[None]:
    """A relative path in a spec means the same from wherever it is deployed, and is sent as it is written: were it made
    absolute, every checkout of it would be another version."""
    with contextlib.chdir(folder):
        yield


def _settle(call: Call, found: list[Deployment], how: How, shown: Painter, *, deadline: float) -> list[Deployment]:
    """All of them, one after the other in what is seen; they load side by side. Raises Ended when any failed."""
    settled: list[Deployment] = []
    failed: list[SlipwayError | Ended] = []
    for one in found:
        left_s = max(0.1, round(deadline - time.monotonic(), 1))
        try:
            until = "ready" if how.hold else "live"
            now = wait_until(call, one, shown, until=until, timeout_s=left_s)
            settled.append(_remembering(now, one))
        except (SlipwayError, Ended) as error:
            failed.append(error)
    if not failed:
        return settled
    if len(found) == 1:
        raise failed[0]
    for one in settled:
        note(told(one, how, waited=True))
    statuses = {status_of(error) for error in failed}
    lines = "\n".join(error.message for error in failed)
    raise Ended(f"{len(failed)} of {len(found)} deployments failed:\n{lines}", status=min(statuses))


def _remembering(now: Deployment, first: Deployment) -> Deployment:
    """As it is, with what the request that began it did."""
    from dataclasses import replace

    return replace(now, change=first.change, warnings=first.warnings)


def told(one: Deployment, how: How, *, waited: bool) -> str:
    """In a line what became of it."""
    if how.dry_run:
        return f"{one.name}: {would(one)}"
    if one.state == "stopped":
        return f"{one.name} {one.target} is {done(one.change)}, and stopped: `slipway start {one.name}`"
    if how.hold and one.target != one.live:
        where = f"/v2/models/{one.name}/versions/{one.target}"
        is_now = "is ready" if waited else "is on its way"
        return f"{one.name} {one.target} {is_now} at {where}; `slipway promote {one.name}` gives it the traffic"
    if not waited and one.live != one.target:
        return f"{one.name} {one.target} is on its way: `slipway status {one.name}`"
    return f"{one.name} {one.live} is live ({done(one.change)})"


def would(one: Deployment) -> str:
    version = f" as {one.target}" if one.target else ""
    return {
        "created": f"would be created{version}",
        "new_version": f"would get a new version{version}",
        "updated": "would be updated, without a new version",
        "unchanged": "would stay as it is",
    }.get(one.change, f"would be {done(one.change)}")


def done(change: str) -> str:
    return change.replace("_", " ") or "as it was"
