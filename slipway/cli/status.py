"""`slipway status`: what is true now, of the server or of one deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.calls import Call, calling
from slipway.cli.completion import deployment_names
from slipway.cli.deployments import replicas_of
from slipway.cli.exits import Ended
from slipway.cli.show import ago, coloured, counted, lasting, shortened, sized, table, tame
from slipway.errors import SetupError

if TYPE_CHECKING:
    from slipway.spec.resources import Deployment, Gateway, Replica, ServerStatus, Version

NOTE_WIDTH = 100

Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="One deployment, in detail; default: all.", autocompletion=deployment_names),
]


@calling
def status(
    call: Call,
    name: Name = "",
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 unless everything asked for is ready.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Versions too that do not run any more.")] = False,
) -> None:
    """The server, its gateways, and each deployment with its versions and replicas; or one deployment with why it is as
    it is.

    \b
    slipway status
    slipway status iris
    slipway status iris --check && echo serving
    slipway status -o json | jq '.deployments[] | {name, state, live}'
    """
    if "://" in name:
        raise SetupError(f"{name!r} is a URL; a server is named by --server: slipway status --server {name}")
    if name:
        found = call.admin.deployment(name)
        call.show(found, lambda: detailed(found, every=every))
        state, what, why = found.state, f"deployment {name!r}", found.reason
    else:
        server = call.admin.status()
        call.show(server, lambda: overview(server))
        state, what, why = server.state, "the server", ""
    if check and state not in ("ready", "stopped"):
        raise Ended(f"{what} is {state}{f': {why}' if why else ''}")


def overview(server: ServerStatus) -> str:
    parts = [heading(server)]
    parts.append(
        table(("gateway", "pid", "state", "restarts", "memory", "cpu", "note"), map(_gateway, server.gateways))
    )
    if server.deployments:
        titles = ("deployment", "state", "version", "", "replicas", "pid", "device", "memory", "load", "note")
        parts.append(table(titles, [row for one in server.deployments for row in rows(one)]))
    else:
        parts.append("Nothing is deployed here that you may see: `slipway deploy MODEL`")
    return "\n\n".join(parts)


def heading(server: ServerStatus) -> str:
    lines = [
        f"{coloured(server.state)} for {lasting(server.uptime_s)}: Slipway {server.version}, process {server.pid}, "
        f"{'leads' if server.leader else 'does not lead'}"
    ]
    for label, said in (
        ("HTTP", server.addresses.http),
        ("gRPC", server.addresses.grpc),
        ("admin", server.addresses.admin),
        ("access", server.auth),
        ("store", server.database),
        ("trouble", server.trouble),
    ):
        if said:
            lines.append(f"  {label:<7} {tame(said)}")
    states = [one.state for one in server.deployments]
    if states:
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states)))
        lines.append(f"  {counted(len(states), 'deployment')}: {counts}")
    return "\n".join(lines)


def _gateway(one: Gateway) -> list[str]:
    return [
        f"#{one.number}",
        str(one.pid or ""),
        one.state,
        str(one.restarts),
        sized(one.memory_bytes),
        f"{one.cpu_s:.1f}s",
        shortened(one.trouble, NOTE_WIDTH),
    ]


def rows(one: Deployment) -> list[list[str]]:
    """A deployment and its running versions; one line where one version with one replica is all there is."""
    running = [version for version in one.versions if version.replicas or is_on_its_way(version, one)]
    if not running:
        return [
            [one.name, one.state, one.live, "", replicas_of(one), "", "", "", "", shortened(one.reason, NOTE_WIDTH)]
        ]
    if len(running) == 1 and len(running[0].replicas) <= 1:
        return [_single(one, running[0])]
    lines = [[one.name, one.state, "", "", replicas_of(one), "", "", "", "", shortened(one.reason, NOTE_WIDTH)]]
    for version in running:
        role = "live" if version.version == one.live else version.state
        trouble = version.error if version.version != one.live else ""
        lines.append(["", "", version.version, role, "", "", "", "", "", shortened(trouble, NOTE_WIDTH)])
        for replica in version.replicas:
            lines.append(["", "", "", f"#{replica.index} {_stage(replica)}", *_numbers(replica), _trouble(replica)])
    return lines


def is_on_its_way(version: Version, one: Deployment) -> bool:
    return version.version == one.target and version.version != one.live


def _single(one: Deployment, version: Version) -> list[str]:
    role = "live" if version.version == one.live else version.state
    if not version.replicas:
        note = version.error or one.reason
        return [
            one.name,
            one.state,
            version.version,
            role,
            replicas_of(one),
            "",
            "",
            "",
            "",
            shortened(note, NOTE_WIDTH),
        ]
    (replica,) = version.replicas
    numbers = _numbers(replica)
    numbers[0] = replicas_of(one)
    note = _trouble(replica) or shortened(one.reason, NOTE_WIDTH)
    return [one.name, one.state, version.version, role, *numbers, note]


def _stage(replica: Replica) -> str:
    return f"{replica.state} ({replica.stage})" if replica.stage else replica.state


def _numbers(replica: Replica) -> list[str]:
    """Under the titles from replicas to load."""
    memory = sized(replica.memory_bytes) if replica.memory_bytes else ""
    load = f"{replica.load:.0%}" if replica.state == "ready" else ""
    return ["", str(replica.pid or ""), replica.device, memory, load]


def _trouble(replica: Replica) -> str:
    said = replica.trouble or (f"last ended: {replica.last_end}" if replica.last_end else "")
    return shortened(said, NOTE_WIDTH)


def detailed(one: Deployment, *, every: bool) -> str:
    lines = [f"{one.name}: {coloured(one.state)}{f', {tame(one.reason)}' if one.reason else ''}"]
    lines.append(f"  model    {tame(one.spec.get('model', ''))}")
    coming = f", {_coming(one)}" if one.target and one.target != one.live else ""
    lines.append(f"  live     {one.live or 'no version yet'}{coming}")
    lines.append(f"  replicas {replicas_of(one)} ready")
    lines.append(f"  changed  {ago(one.updated_at)} ago by {tame(one.updated_by)}, revision {one.revision}")
    for key, value in one.spec.get("labels", {}).items():
        lines.append(f"  label    {tame(key)}={tame(value)}")
    shown = [
        version for version in one.versions if every or version.replicas or version.version in (one.live, one.target)
    ]
    if not shown:  # the last one failed, and why is what somebody looks for here
        shown = sorted(one.versions, key=lambda version: version.number)[-1:]
    hidden = len(one.versions) - len(shown)
    newest_first = sorted(shown, key=lambda version: -version.number)
    parts = ["\n".join(lines), *(_version(version, one) for version in newest_first)]
    if hidden:
        parts.append(f"{counted(hidden, 'earlier version')} not shown: --all, or `slipway history {one.name}`")
    return "\n\n".join(parts)


def _coming(one: Deployment) -> str:
    is_held = one.state == "ready" or any(v.version == one.target and v.state == "ready" for v in one.versions)
    return f"{one.target} {f'waits for `slipway promote {one.name}`' if is_held else 'is on its way'}"


def _version(version: Version, one: Deployment) -> str:
    role = "live" if version.version == one.live else version.state
    progress = f" {version.progress:.0%}" if 0 < version.progress < 1 else ""
    lines = [
        f"{version.version}  {coloured(role)}{progress}  made {ago(version.created_at)} ago by "
        f"{tame(version.created_by)}"
    ]
    for label, said in (
        ("error", version.error),
        ("source", version.source),
        ("digest", version.digest),
        ("size", sized(version.size_bytes) if version.size_bytes else ""),
        ("runs on", version.platform),
        ("sandbox", ", or ".join({one.sandbox or "none": 1 for one in version.replicas if one.state == "ready"})),
    ):
        if said:
            lines.append(f"  {label:<8} {tame(said)}")
    if version.replicas:
        titles = (
            "replica",
            "state",
            "pid",
            "device",
            "threads",
            "memory",
            "cpu",
            "load",
            "batches",
            "restarts",
        )
        lines.append(table(titles, map(_replica, version.replicas)))
        lines += [f"  #{one.index}: {tame(said)}" for one in version.replicas if (said := _words(one))]
    return "\n".join(lines)


def _replica(one: Replica) -> list[str]:
    return [
        f"  #{one.index}",
        _stage(one),
        str(one.pid or ""),
        one.device,
        str(one.threads or ""),
        sized(one.memory_bytes),
        f"{one.cpu_s:.1f}s",
        f"{one.load:.0%}",
        str(one.batches),
        str(one.restarts),
    ]


def _words(replica: Replica) -> str:
    """Whole, since this is where somebody looks for the reason."""
    ended = f"the one before ended: {replica.last_end}" if replica.last_end else ""
    return "; ".join(filter(None, (replica.trouble, ended)))
