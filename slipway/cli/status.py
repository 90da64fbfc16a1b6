"""`slipway status`: what a running server says of itself, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from slipway.errors import SetupError

if TYPE_CHECKING:
    from slipway.supervisor.status import ServerStatus

DEFAULT = "http://127.0.0.1:8082"


def status(
    url: Annotated[str, typer.Argument(help="The server's admin door.", envvar="SLIPWAY_ADMIN")] = DEFAULT,
    json: Annotated[bool, typer.Option("--json", help="As the server said it.")] = False,
    timeout_s: Annotated[float, typer.Option(help="Wait this long for the answer.", min=0.1)] = 5.0,
) -> None:
    """Show the models, replicas and gateways of a running server."""
    import msgspec

    from slipway.supervisor.status import ServerStatus

    said = fetch(f"{url.rstrip('/')}/api/v1/status", timeout_s=timeout_s)
    if json:
        print(said.decode())
        return
    try:
        found = msgspec.json.decode(said, type=ServerStatus)
    except msgspec.MsgspecError as error:
        raise SetupError(f"{url} does not answer as an admin door of Slipway: {error}") from error
    show(found)


def fetch(url: str, *, timeout_s: float) -> bytes:
    """The body of an answer. Raises SetupError."""
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        with urlopen(url if "://" in url else f"http://{url}", timeout=timeout_s) as answer:
            body: bytes = answer.read()
            return body
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise SetupError(f"no answer from {url}: {reason}. Is the server up, and is this its --admin-port?") from error


def show(found: ServerStatus) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"[bold]{found.state}[/] for {found.uptime_s:.0f} s, process {found.pid}", highlight=False)
    for label, address in (("HTTP", found.addresses.http), ("gRPC", found.addresses.grpc)):
        if address:
            console.print(f"  {label}  {address}", highlight=False)
    table = Table("process", "pid", "state", "restarts", "memory", "cpu", "note", box=None, pad_edge=False)
    for row in rows(found):
        table.add_row(*row)
    console.print(table)


def rows(found: ServerStatus) -> list[list[str]]:
    table: list[list[str]] = []
    for gateway in found.gateways:
        table.append([f"gateway #{gateway.number}", *_process(gateway), gateway.trouble])
    for version in found.versions:
        name = f"{version.model} {version.version}"
        sandbox = next((replica.sandbox for replica in version.replicas if replica.sandbox), "")
        note = version.reason if not version.replicas else f"{version.platform}; sandbox: {sandbox or 'none'}"
        table.append([name, "", version.state, "", "", "", note if version.platform else version.reason])
        for replica in version.replicas:
            note = replica.trouble or (replica.last_end and f"last ended: {replica.last_end}")
            table.append([f"  #{replica.index}", *_process(replica), note])
    return table


def _process(process: Any) -> list[str]:
    stage = getattr(process, "stage", "")
    return [
        str(process.pid or ""),
        f"{process.state} ({stage})" if stage else process.state,
        str(process.restarts),
        f"{process.rss_bytes / 2**20:.0f} MB",
        f"{process.cpu_s:.1f} s",
    ]
