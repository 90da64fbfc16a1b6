"""How a child is born and dies. A local process today, a Ray actor later: both behind this page."""

from __future__ import annotations

import socket
from typing import Protocol

import msgspec

EXIT_SETUP_FAILED = 3
"""A child could not begin and has said why (SetupFailed)."""
EXIT_OUT_OF_MEMORY = 4
"""A worker met its memory limit and ended without answering: what it held is safe to run elsewhere."""
EXIT_ORPHANED = 5
"""A child lost its supervisor."""


class ChildPlan(msgspec.Struct, frozen=True):
    """`module` runs as `python -m`; `title` is what `ps` shows, such as `slipway: worker iris v1 #2`.

    `listen`: path of a Unix socket that is bound and listening before the child starts and handed to it, '' for none.
    So nobody who connects comes too early, and a sandboxed child needs no right to create it. `listeners`: sockets that
    listen already and outlive the child. `reserved`: of the parent's environment it inherits only what tells of machine
    and language, and no credentials that are there for something else. `output`: the file that standard output and
    error are appended to, '' for those of the parent.
    """

    module: str
    title: str
    listen: str = ""
    listeners: tuple[socket.socket, ...] = ()
    environment: dict[str, str] = {}
    reserved: bool = False
    output: str = ""


class Child(Protocol):
    """A running child. `line` is the parent's end of its control line (blocking; set it as you need)."""

    pid: int
    line: socket.socket

    def poll(self) -> int | None:
        """Its exit status (negative: the signal that ended it), or None while it runs. Reaps it."""
        ...

    def terminate(self) -> None:
        """Ask it to end (SIGTERM). No error when it is already gone."""
        ...

    def kill(self) -> None:
        """End it at once, also when it is stopped or hung. No error when it is already gone."""
        ...

    def close(self) -> None:
        """Forget it: closes the control line and removes its listening socket's file."""
        ...


class Launcher(Protocol):
    def launch(self, plan: ChildPlan) -> Child:
        """Start a child and return at once. Raises SetupError where no process can be made."""
        ...
