"""`slipway diff`: what a deploy of specs would change, before it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slipway.cli.calls import Call, calling
from slipway.cli.show import in_colour, tame
from slipway.cli.spec_files import STDIN, Declared, is_here, read_files
from slipway.errors import NotFound

if TYPE_CHECKING:
    from slipway.spec.deployment import DeploymentSpec
    from slipway.spec.diff import Change
    from slipway.spec.resources import Deployment, UploadFile

RED, GREEN, BOLD = "31", "32", "1"
DIFFERENT = 1


@calling
def diff(
    call: Call,
    file: Annotated[list[str], typer.Argument(metavar="SPEC", help="Specs, folders of specs, or -.")],
) -> None:
    """Compare specs with what the server has, field by field, and local models by their content. The exit status is 0
    when nothing differs, and 1 when something does.

    \b
    slipway diff iris.yaml
    slipway diff specs/ -o json
    """
    found = [_compare(call, one) for one in read_files(file)]
    call.show(found, lambda: "\n".join(line for one in found for line in _told(one)))
    if any(one["state"] != "same" for one in found):
        raise typer.Exit(DIFFERENT)


def _compare(call: Call, declared: Declared) -> dict[str, Any]:
    """`state`: new, changed or same. `new_version`: whether a deploy would make one."""
    from slipway.spec.diff import changes_between
    from slipway.spec.reading import spec_from_json
    from slipway.spec.settings import same_settings, version_settings

    name, wanted = declared.spec.name, _with_digests(declared)
    try:
        there = call.admin.deployment(name)
    except NotFound:
        return {"name": name, "file": declared.file, "state": "new", "new_version": True, "changes": []}
    old = spec_from_json(there.spec)
    changes = changes_between(old, wanted)
    content = _content_change(declared, there)
    new_version = bool(content) or not same_settings(version_settings(old), version_settings(wanted))
    return {
        "name": name,
        "file": declared.file,
        "state": "changed" if changes or content else "same",
        "new_version": new_version,
        "changes": [{"field": one.path, "old": one.old, "new": one.new} for one in (*changes, *content)],
    }


def _with_digests(declared: Declared) -> DeploymentSpec:
    """Its local `files` are named by what is in them, as a deploy sends them and the server has them."""
    import msgspec

    from slipway.spec.manifest import manifest_digest
    from slipway.spec.model_source import read_source

    files = {
        name: manifest_digest(local_artifact(source, declared.folder))
        if not source.startswith("sha256:") and read_source(source).kind != "url"
        else source
        for name, source in declared.spec.files.items()
    }
    return msgspec.structs.replace(declared.spec, files=files)


def _content_change(declared: Declared, there: Deployment) -> list[Change]:
    """Of a model that lies on this machine, whose path says nothing of what is in it."""
    from slipway.spec.diff import Change
    from slipway.spec.manifest import is_pinned_by, manifest_digest
    from slipway.spec.model_source import read_source

    aim = there.target or there.live
    digest = next((version.digest for version in there.versions if version.version == aim), "")
    if read_source(declared.spec.model).kind != "path" or not digest:
        return []
    if declared.file == STDIN and not is_here(declared) and there.spec.get("model") == declared.spec.model:
        return []  # as `slipway deploy -f -` leaves it
    files = local_artifact(declared.spec.model, declared.folder)
    return [] if is_pinned_by(files, digest) else [Change("content of model", digest, manifest_digest(files))]


def local_artifact(model: str, folder: Path) -> list[UploadFile]:
    """The files of a model on this machine with their hashes. Raises NotFound and what else reading them may."""
    from slipway.spec.local_files import find_files, hash_files
    from slipway.spec.model_source import read_source

    place = folder / Path(read_source(model).location).expanduser()
    return hash_files(find_files(place), progress=lambda *_: None, cancelled=lambda: False)


def _told(one: dict[str, Any]) -> list[str]:
    from slipway.spec.diff import Change

    name = _painted(one["name"], BOLD)
    if one["state"] == "new":
        return [f"{name}: is not on the server; a deploy would create it"]
    if one["state"] == "same":
        return [f"{name}: nothing differs"]
    outcome = "a new version" if one["new_version"] else "no new version, it would apply at once"
    lines = [f"{name}: {outcome}"]
    for change in (Change(each["field"], each["old"], each["new"]) for each in one["changes"]):
        lines.append(f"  {rendered(change)}")
    return lines


def rendered(change: Change) -> str:
    """As `str(change)`, in colour on a terminal."""
    old, new = tame(change.old), tame(change.new)
    return str(change._replace(old=old and _painted(old, RED), new=new and _painted(new, GREEN)))


def _painted(text: str, colour: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if in_colour() else text
