"""`slipway down`: end a server of this machine, gently."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from slipway.cli.calls import DataDir
from slipway.cli.exits import TIMED_OUT, Ended, note
from slipway.cli.place import is_running
from slipway.errors import Forbidden, NotFound, SetupError, SlipwayError
from slipway.spec.data_folder import ServerFile, read_server_file

if TYPE_CHECKING:
    from slipway.spec.resources import ServerStatus

POLL_S = 0.05
LOOK_S = 1.0
EXIT_S = 2.0


def down(
    data_dir: DataDir = "",
    now: Annotated[bool, typer.Option("--now", help="Do not wait for accepted requests.")] = False,
    timeout_s: Annotated[float, typer.Option(metavar="F", min=0.1, help="Give up waiting after this.")] = 120.0,
) -> None:
    """Drain the server and end it: accepted requests are answered, new ones refused, then every process ends. What is
    deployed stays in the data directory, and comes back with the next `slipway up`.

    \b
    slipway down
    slipway down --data-dir /srv/slipway --timeout-s 300
    slipway down --now                                     answer nothing more
    """
    from slipway.client.login import data_folder

    folder = data_folder(data_dir)
    if not folder.is_dir():
        raise NotFound(f"there is no data directory {folder}; --data-dir names another")
    if not is_running(folder):
        print(f"No server runs on {folder}.")
        return
    deadline = time.monotonic() + timeout_s
    card = _card(folder, deadline)
    drains = _state(folder) == "draining"
    if now or not drains:  # to be told twice means at once, which only --now may mean
        _signal(card, signal.SIGTERM)
    if now and not drains:
        _signal(card, signal.SIGTERM)
    began = time.monotonic()
    _await_end(folder, card, deadline=deadline)
    _await_exit(card.pid)
    print(f"The server on {folder} ended after {time.monotonic() - began:.1f} s.")


def _card(folder: Path, deadline: float) -> ServerFile:
    """It may have been started a moment ago."""
    while True:
        card = read_server_file(folder)
        if card is not None:
            return card
        if time.monotonic() > deadline or not is_running(folder):
            raise SetupError(
                f"a server holds {folder / 'lock'}, but there is no server.json that says which process it is"
            )
        time.sleep(POLL_S)


def _signal(card: ServerFile, number: int) -> None:
    try:
        os.kill(card.pid, number)
    except ProcessLookupError:
        pass  # it ended meanwhile
    except PermissionError:
        raise Forbidden(f"process {card.pid} belongs to another user, who alone can end it") from None


def _await_end(folder: Path, card: ServerFile, *, deadline: float) -> None:
    looked, told = 0.0, ""
    while is_running(folder):
        moment = time.monotonic()
        if moment > deadline:
            raise Ended(
                f"process {card.pid} still drains ({told or 'it does not say what it waits for'}); "
                "`slipway down --now` ends it at once",
                status=TIMED_OUT,
            )
        if moment - looked > LOOK_S:
            looked = moment
            left = _left(folder)
            if left is not None and left.words != told:
                told = left.words
                note(f"draining: {told}") if not sys.stderr.isatty() else _draw(f"draining: {told}")
        time.sleep(POLL_S)
    if told and sys.stderr.isatty():
        _draw("")


def _await_exit(pid: int) -> None:
    """The lock goes some milliseconds before its process. Not for long: the number may be somebody else's by now."""
    until = time.monotonic() + EXIT_S
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < until:
            os.kill(pid, 0)
            time.sleep(0.01)


class Left(NamedTuple):
    gateways: int
    replicas: int

    @property
    def words(self) -> str:
        if not (self.gateways or self.replicas):
            return "everything is answered; the last process ends"
        return f"{self.gateways} gateway(s) answer what they accepted, {self.replicas} replica(s) still run"


def _status(folder: Path) -> ServerStatus | None:
    """None where the server does not say it (any more)."""
    from slipway.client.admin import Admin
    from slipway.client.retry import Retry

    try:
        with Admin(data_dir=str(folder), timeout_s=LOOK_S, retry=Retry(attempts=1)) as admin:
            return admin.status()
    except SlipwayError:
        return None


def _state(folder: Path) -> str:
    found = _status(folder)
    return found.state if found else ""


def _left(folder: Path) -> Left | None:
    """What still runs."""
    found = _status(folder)
    if found is None:
        return None
    replicas = [replica for one in found.deployments for version in one.versions for replica in version.replicas]
    return Left(
        sum(gateway.state != "stopped" for gateway in found.gateways),
        sum(replica.state != "stopped" for replica in replicas),
    )


def _draw(text: str) -> None:
    sys.stderr.write(f"\r\x1b[K{text}")
    sys.stderr.flush()
