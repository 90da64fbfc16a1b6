"""`slipway deploy`: make what runs be what was declared."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, NoReturn

import typer

from slipway.cli.calls import Call, calling
from slipway.cli.deployments import TimeoutS, Wait
from slipway.cli.exits import INTERRUPTED, Ended, note, status_of, warn
from slipway.cli.interrupts import heard
from slipway.cli.painting import Painter, painter
from slipway.cli.plan import name_of, split_name
from slipway.cli.spec_files import STDIN, Declared, is_here, read_files, with_changes
from slipway.cli.waiting import wait_until
from slipway.errors import InvalidSpec, NotFound, SetupError, SlipwayError, Unavailable

if TYPE_CHECKING:
    from slipway.spec.resources import Deployment

COMMAND_LINE = "the command line"
Failures = list[SlipwayError | Ended]

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
    keep_model: bool
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
    keep_model: Annotated[
        bool,
        typer.Option("--keep-model", help="Leave the deployment the model it has, wherever that file is by now."),
    ] = False,
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
    slipway deploy --name iris --set limits.requests_per_s=50   the model stays

    A MODEL alone leaves the other settings of a deployment that is there as they are; --name with --set leaves
    everything else, the model too; a spec replaces all.
    """
    how = How(hold, new_version, dry_run, upload, keep_model, expected_revision)
    planned = _planned(call, model, file or [], name, set_ or [])
    shown = painter()
    try:
        found, failed = _submit_all(call, planned, how, shown)
        began = time.monotonic()
        if wait and not dry_run:
            found, late = _settle(call, found, how, shown, deadline=began + timeout_s)
            failed += late
    finally:
        shown.close()
    for one in found:
        for warning in one.warnings:
            warn(f"{one.name}: {warning}")
    if failed:
        _end(failed, found, how, waited=wait)
    call.show(found if file else found[0], lambda: "\n".join(told(one, how, waited=wait) for one in found))
    if wait and call.for_people and not dry_run:
        _say_where(call, found)


def _planned(call: Call, model: str, files: list[str], name: str, changes: list[str]) -> list[Declared]:
    """Everything is read before anything is sent. Raises SetupError, InvalidSpec."""
    if model.endswith((".yaml", ".yml")) and Path(model).is_file():
        raise SetupError(f"{model} looks like a spec: slipway deploy -f {model}")
    if not model and not files and name and changes:
        return [_of_settings(call, name, changes)]
    if bool(model) == bool(files):
        raise SetupError(
            "say what to deploy: a MODEL, or specs with -f, and not both; or --name NAME with --set FIELD=VALUE"
        )
    if model:
        return [_of_model(call, model, name, changes)]
    found = [one._replace(keep_model=_is_only_there(call, one)) for one in read_files(files)]
    if name and len(found) > 1:
        raise SetupError(f"--name names one deployment, but {len(found)} are declared")
    if not (changes or name):
        return found
    from slipway.spec.writing import spec_to_json

    given = [f"name={name}"] if name else []
    return [one._replace(spec=with_changes(spec_to_json(one.spec), [*changes, *given])) for one in found]


def _of_settings(call: Call, name: str, changes: list[str]) -> Declared:
    """What is there, but for these fields."""
    spec = call.admin.deployment(name).spec
    changed = with_changes(spec, changes)
    return Declared(changed, Path.cwd(), COMMAND_LINE, keep_model=changed.model == spec.get("model"))


def _is_only_there(call: Call, one: Declared) -> bool:
    """A spec out of a pipe is most often what `slipway get` says, on whatever machine, and its relative paths begin
    nowhere. So a model that is not here and that the deployment has under this very name is left to it. In a file, on
    the other hand, a model that is missing is a mistake."""
    if one.file != STDIN or is_here(one):
        return False
    try:
        return call.admin.deployment(one.spec.name).spec.get("model") == one.spec.model
    except NotFound:
        return False


def _of_model(call: Call, typed: str, name: str, changes: list[str]) -> Declared:
    """A deployment of that name keeps what it is set to, but for the model."""
    own, model = split_name(typed)
    name = name or own or name_of(model.rstrip("/").rpartition("/")[2] if "://" in model else model)
    try:
        spec = dict(call.admin.deployment(name).spec)
        spec.pop("digest", None)  # of the model before
    except NotFound:
        spec = {}
    return Declared(with_changes(spec | {"name": name, "model": model}, changes), Path.cwd(), COMMAND_LINE)


def _submit_all(call: Call, planned: list[Declared], how: How, shown: Painter) -> tuple[list[Deployment], Failures]:
    """One that is refused keeps no other from going. Raises Unavailable at once: there is nobody to ask the rest."""
    found: list[Deployment] = []
    failed: Failures = []
    for one in planned:
        try:
            found.append(_submit(call, one, how, shown))
        except Unavailable:
            raise
        except InvalidSpec as error:
            told = tuple(map(one.located, error.problems or (error.message,)))
            words = told[0] if len(told) == 1 else f"{len(told)} things are wrong with {one.spec.name}, in {one.file}"
            failed.append(InvalidSpec(words, problems=told))
        except SlipwayError as error:
            if len(planned) > 1:
                error.message = f"{one.spec.name}: {error.message}"
            failed.append(error)
    return found, failed


def _end(failed: Failures, good: list[Deployment], how: How, *, waited: bool) -> NoReturn:
    if len(failed) == 1 and not good:
        raise failed[0]
    for one in good:
        note(told(one, how, waited=waited))
    statuses = {status_of(error) for error in failed}
    lines = "\n".join(line for error in failed for line in (getattr(error, "problems", ()) or (error.message,)))
    raise Ended(f"{len(failed)} of {len(failed) + len(good)} deployments failed:\n{lines}", status=min(statuses))


def _say_where(call: Call, found: list[Deployment]) -> None:
    """Of what is new, what somebody does next."""
    new = [one for one in found if one.change == "created" and one.live]
    if not new:
        return
    with contextlib.suppress(SlipwayError):  # the deployment has done well all the same
        http = call.admin.status().addresses.http
        for one in new if http else ():
            note(f"  {http}/v2/models/{one.name}")


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
                keep_model=how.keep_model or one.keep_model,
                expected_revision=None if how.revision < 0 else how.revision,
                progress=lambda step: shown.step(name, step),
            )
    except KeyboardInterrupt:
        heard()
        shown.close()
        note(f"\n{name} was not deployed. The same command goes on where the upload was.")
        raise typer.Exit(INTERRUPTED) from None


@contextlib.contextmanager
def _standing_in(folder: Path) -> Iterator[None]:
    """A relative path in a spec means the same from wherever it is deployed, and is sent as it is written: were it made
    absolute, every checkout of it would be another version."""
    with contextlib.chdir(folder):
        yield


def _settle(
    call: Call, found: list[Deployment], how: How, shown: Painter, *, deadline: float
) -> tuple[list[Deployment], Failures]:
    """All of them, one after the other in what is seen; they load side by side."""
    settled: list[Deployment] = []
    failed: Failures = []
    for one in found:
        left_s = max(0.1, round(deadline - time.monotonic(), 1))
        try:
            until = "ready" if how.hold else "live"
            now = wait_until(call, one, shown, until=until, timeout_s=left_s)
            settled.append(_remembering(now, one))
        except (SlipwayError, Ended) as error:
            failed.append(error)
    return settled, failed


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
