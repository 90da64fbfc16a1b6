"""The verbs of a deployment that is there: list, get, history, rollback, promote, scale, stop, start, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from slipway.cli.calls import Call, Form, Yes, calling, make_sure, written
from slipway.cli.completion import deployment_names, version_names
from slipway.cli.exits import note
from slipway.cli.show import ago, counted, moment, shortened, table
from slipway.errors import SetupError

if TYPE_CHECKING:
    from slipway.spec.resources import Deployment, Revision

Name = Annotated[str, typer.Argument(metavar="NAME", help="The deployment.", autocompletion=deployment_names)]
Names = Annotated[
    list[str], typer.Argument(metavar="NAME...", help="The deployments.", autocompletion=deployment_names)
]
Label = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only those that have this label; repeatable.")
]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Return when it is done, or as soon as it is decided.")]
TimeoutS = Annotated[float, typer.Option(metavar="F", min=0.1, help="Wait this long at most.")]


@calling
def list_(call: Call, label: Label = None) -> None:
    """All deployments, by name.

    \b
    slipway list
    slipway list --label team=fraud
    slipway list -o json | jq -r '.[] | select(.state != "ready") | .name'
    """
    found = call.admin.deployments(labels=labels_of(label or []))
    call.show(found, lambda: listed(found))


def labels_of(typed: list[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in typed]
    for key, equals, _ in pairs:
        if not (key and equals):
            raise SetupError(f"--label {key!r} is not KEY=VALUE")
    return {key: value for key, _, value in pairs}


def listed(found: list[Deployment]) -> str:
    if not found:
        return "No deployments here that you may see: `slipway deploy MODEL` makes one."
    titles = ("name", "state", "live", "next", "replicas", "model", "updated", "by", "reason")
    return table(titles, map(_row, found))


def _row(one: Deployment) -> list[str]:
    coming = one.target if one.target != one.live else ""
    return [
        one.name,
        one.state,
        one.live or "-",
        coming,
        replicas_of(one),
        shortened(str(one.spec.get("model", "")), 40),
        ago(one.updated_at),
        one.updated_by,
        shortened(one.reason, 60),
    ]


def replicas_of(one: Deployment) -> str:
    """Ready and wanted, `2/3`, of the version that is live; of the one on its way in where none is."""
    serving = one.live or one.target
    ready = sum(
        replica.state == "ready"
        for version in one.versions
        if version.version == serving
        for replica in version.replicas
    )
    wanted = one.spec.get("replicas", {}).get("min", 1) if one.spec.get("enabled", True) else 0
    return f"{ready}/{wanted}"


@calling
def get(call: Call, name: Name) -> None:
    """One deployment: its spec, which `slipway deploy -f` takes back; with -o json or yaml everything about it.

    \b
    slipway get iris > iris.yaml
    slipway get iris -o json | jq .versions[0].digest
    """
    found = call.admin.deployment(name)
    call.show(found, lambda: spec_text(found.spec))


def spec_text(spec: dict[str, Any]) -> str:
    """As somebody would write it; as it is, where a newer server has fields that this release does not know."""
    from slipway.errors import InvalidSpec
    from slipway.spec.reading import spec_from_json
    from slipway.spec.writing import specs_to_yaml

    try:
        return specs_to_yaml([spec_from_json(spec)]).rstrip("\n")
    except InvalidSpec:
        return written(spec, Form.yaml)


@calling
def history(
    call: Call,
    name: Name,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="The newest so many.")] = 50,
) -> None:
    """What changed in a deployment, the newest first.

    \b
    slipway history iris
    slipway history iris --limit 5 -o yaml
    """
    found = call.admin.history(name, limit=limit)
    call.show(found, lambda: changes(found))


def changes(found: list[Revision]) -> str:
    titles = ("revision", "at", "by", "action", "version", "changes")
    rows = [
        [str(one.revision), moment(one.at), one.actor, one.action, one.version, "; ".join(one.changes)] for one in found
    ]
    return table(titles, rows)


@calling
def rollback(
    call: Call,
    name: Name,
    to: Annotated[
        str, typer.Option(metavar="vN", help="Which version; default: the last live one.", autocompletion=version_names)
    ] = "",
    wait: Wait = True,
    timeout_s: TimeoutS = 600.0,
) -> None:
    """Give the traffic back to an earlier version: the same artifact with the same settings.

    \b
    slipway rollback iris
    slipway rollback iris --to v3
    """
    from slipway.cli.waiting import see_through

    found = call.admin.rollback(name, to=to)
    see_through(call, found, wait=wait, timeout_s=timeout_s, done="runs {live} again", bars=True)


@calling
def promote(
    call: Call,
    name: Name,
    version: Annotated[
        str, typer.Option(metavar="vN", help="Default: the one that waits.", autocompletion=version_names)
    ] = "",
    wait: Wait = True,
    timeout_s: TimeoutS = 600.0,
) -> None:
    """Give the traffic to a version that was deployed with --hold.

    \b
    slipway deploy iris.onnx --hold
    slipway promote iris
    """
    from slipway.cli.waiting import see_through

    found = call.admin.promote(name, version=version)
    see_through(call, found, wait=wait, timeout_s=timeout_s, done="runs {live}", bars=True)


@calling
def scale(
    call: Call,
    name: Name,
    replicas: Annotated[int, typer.Argument(metavar="N", help="Replicas to run from now on.")],
    wait: Wait = True,
    timeout_s: TimeoutS = 600.0,
) -> None:
    """Run this many replicas of a deployment. No new version, no request lost.

    \b
    slipway scale iris 4
    """
    from slipway.cli.waiting import see_through

    if replicas < 1:
        raise SetupError(f"a deployment runs 1 replica at least; `slipway stop {name}` takes it out of service")
    found = call.admin.scale(name, replicas)
    see_through(call, found, wait=wait, timeout_s=timeout_s, done=f"has {counted(replicas, 'replica')}")


@calling
def stop(call: Call, name: Name, wait: Wait = True, timeout_s: TimeoutS = 600.0) -> None:
    """Take a deployment out of service: accepted requests are answered, then its processes end. It stays declared.

    \b
    slipway stop iris
    """
    from slipway.cli.waiting import see_through

    found = call.admin.stop(name)
    see_through(call, found, wait=wait, timeout_s=timeout_s, done="is stopped; `slipway start {name}` brings it back")


@calling
def start(call: Call, name: Name, wait: Wait = True, timeout_s: TimeoutS = 600.0) -> None:
    """Put a stopped deployment back into service, with the version that it had.

    \b
    slipway start iris
    """
    from slipway.cli.waiting import see_through

    found = call.admin.start(name)
    see_through(call, found, wait=wait, timeout_s=timeout_s, done="runs {live}", bars=True)


@calling
def delete(call: Call, name: Names, yes: Yes = False, wait: Wait = True, timeout_s: TimeoutS = 600.0) -> None:
    """Remove deployments with all their versions. Accepted requests are answered first. Events and the audit log stay.

    \b
    slipway delete iris
    slipway delete old-iris older-iris --yes
    """
    for one in name:
        call.admin.deployment(one)  # a misspelt last name leaves the first ones alone
    make_sure(f"Delete {', '.join(name)} with all versions?", yes=yes)
    for one in name:
        call.admin.delete(one, wait=wait, timeout_s=timeout_s)
        if call.for_people:
            note(f"{one} is {'deleted' if wait else 'being deleted'}")
    call.show([{"name": one, "deleted": wait} for one in name], lambda: "")
