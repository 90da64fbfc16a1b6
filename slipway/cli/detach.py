"""`slipway up --detach`: a server that outlives its terminal, and a parent that waits until it is ready."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import typer

from slipway.cli.exits import FAILED, INTERRUPTED, TIMED_OUT, Ended, note
from slipway.cli.interrupts import heard
from slipway.cli.place import is_running, tail_of
from slipway.cli.up_options import UpOptions, arguments_of
from slipway.errors import SetupError, SlipwayError
from slipway.spec.data_folder import ServerFile, read_server_file

POLL_S = 0.05
TAIL_LINES = 20
KILL_AFTER_S = 10.0
UP = ("ready", "degraded")
FIRST_KEY = re.compile(rb"^ +sw_[a-z0-9]{8}_(?P<secret>[A-Za-z0-9_-]{43})$", re.M)
"""As the controller shows it, on a line of its own."""


def start_detached(given: UpOptions, *, folder: Path, drain_s: float) -> None:
    """Returns when the server is ready. Raises Ended with the end of its log where it does not get there."""
    if is_running(folder):
        card = read_server_file(folder)
        who = f"process {card.pid}" if card else "a server"
        raise SetupError(f"--data-dir {folder}: {who} runs on it already; `slipway down` ends it")
    log = _log_file(folder)
    begins = log.stat().st_size
    process = _launch(given, log)
    try:
        card, state, loading = _wait(process, folder, deadline=time.monotonic() + given.timeout_s)
    except KeyboardInterrupt:
        heard()
        note("stopping what was started")
        _stop(process, within_s=drain_s + KILL_AFTER_S)
        raise typer.Exit(INTERRUPTED) from None
    except Ended as error:
        _stop(process, within_s=drain_s + KILL_AFTER_S)
        said = "\n".join(f"  {line}" for line in tail_of(log, lines=TAIL_LINES, since=begins))
        raise Ended(f"{error.message}; {log} ends with\n{said}", status=error.status) from None
    for name, address in (("HTTP", card.http), ("gRPC", card.grpc), ("Management", card.admin)):
        if address:
            print(f"  {name:<10}  {address}")
    key = take_key(log, since=begins)
    if key:
        note("It can be reached from other machines, so it wants a credential. The first key, shown this once:")
        print(key)
    if loading:
        note(f"still loading: {', '.join(loading)}; see `slipway status`")
    print(f"Slipway is {state}: process {card.pid}, log {log}. `slipway down` ends it.")


def _log_file(folder: Path) -> Path:
    """Only for its owner: logs tell what is served, and to whom."""
    log = folder / "logs" / "server.log"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        log.parent.mkdir(mode=0o700, exist_ok=True)
        os.close(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError as error:
        raise SetupError(f"--data-dir {folder} cannot be used: {error.strerror or error}") from None
    return log


def _launch(given: UpOptions, log: Path) -> subprocess.Popen[bytes]:
    """In a session of its own, so that neither the terminal's end nor its Ctrl-C reaches it. It stays in this folder,
    for the sake of models that are imported from here."""
    around = {name: value for name, value in os.environ.items() if name not in ("SLIPWAY_DETACH", "SLIPWAY_DRY_RUN")}
    if given.database:  # it may hold a password, which is not for the process list
        around["SLIPWAY_DATABASE"] = given.database
    arguments = [one for one in arguments_of(given) if not one.startswith("--database=")]
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "slipway", "up", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=around,
        )


def _wait(process: subprocess.Popen[bytes], folder: Path, *, deadline: float) -> tuple[ServerFile, str, list[str]]:
    """(card, state, what still loads), when it says that it is up and what was live before is loaded. `degraded` is up
    too: a deployment that cannot load is not a server that cannot; nor is one that takes longer than the deadline."""
    state, card = "", None
    loading: list[str] = []
    while time.monotonic() < deadline:
        if process.poll() is not None:
            status = process.returncode if process.returncode > 0 else FAILED
            raise Ended(f"the server ended with status {process.returncode} before it was ready", status=status)
        card = read_server_file(folder)
        if card is not None and card.pid == process.pid:
            state, loading = _state(card, folder)
            if state in UP and not loading:
                return card, state, []
        time.sleep(POLL_S)
    if card is not None and state in UP:
        return card, state, loading
    raise Ended(f"the server is {state or 'not there'} and not ready in time; it was stopped", status=TIMED_OUT)


def _state(card: ServerFile, folder: Path) -> tuple[str, list[str]]:
    """(what it says of itself, '' where it says nothing yet; which deployments that were live are not loaded yet).
    Without a management door, or one that wants a certificate which nobody has given here, to have started is all."""
    if not card.admin or card.client_certificate:
        return "ready", []
    from slipway.client.admin import Admin
    from slipway.client.retry import Retry

    try:
        with Admin(data_dir=str(folder), timeout_s=5.0, retry=Retry(attempts=1)) as admin:
            found = admin.status()
            return found.state, [one.name for one in found.deployments if one.live and one.state == "deploying"]
    except SlipwayError:
        return "", []


def take_key(log: Path, *, since: int) -> str:
    """The key that the server has shown to whoever started it, '' where there was none. It leaves the log: who reads
    logs is not who administers."""
    with log.open("r+b") as file:
        file.seek(since)
        found = FIRST_KEY.search(file.read())
        if found is None:
            return ""
        file.seek(since + found.start("secret"))
        file.write(b"*" * len(found["secret"]))
        return found[0].decode().strip()


def _stop(process: subprocess.Popen[bytes], *, within_s: float) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
