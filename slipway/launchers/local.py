"""Children as processes of this machine, and what a child does first to be a good one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from slipway.errors import SetupError
from slipway.launchers.launcher import ChildPlan

CONTROL_FD = "SLIPWAY_CONTROL_FD"
LISTEN_FD = "SLIPWAY_LISTEN_FD"
TITLE = "SLIPWAY_TITLE"
PARENT_PID = "SLIPWAY_PARENT_PID"

PR_SET_PDEATHSIG = 1


class LocalChild:
    """A `subprocess.Popen` with a control line."""

    def __init__(self, process: subprocess.Popen[bytes], line: socket.socket, listen: str) -> None:
        self._process = process
        self._listen = listen
        self.pid = process.pid
        self.line = line

    def poll(self) -> int | None:
        return self._process.poll()

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self.line.close()
        if self._listen:
            Path(self._listen).unlink(missing_ok=True)


class LocalLauncher:
    """Starts children with this interpreter. They share standard output and error with their parent."""

    def launch(self, plan: ChildPlan) -> LocalChild:
        ours, theirs = socket.socketpair()
        inherited = [theirs]
        environment = os.environ | plan.environment
        try:
            if plan.listen:
                listener = socket.socket(socket.AF_UNIX)
                inherited.append(listener)
                listener.bind(plan.listen)
                listener.listen(64)
                environment[LISTEN_FD] = str(listener.fileno())
            environment |= {CONTROL_FD: str(theirs.fileno()), TITLE: plan.title, PARENT_PID: str(os.getpid())}
            process = subprocess.Popen(
                [sys.executable, "-m", plan.module],
                stdin=subprocess.DEVNULL,
                pass_fds=[end.fileno() for end in inherited],
                env=environment,
            )
        except OSError as error:
            ours.close()
            raise SetupError(f"cannot start {plan.title!r}: {error}") from error
        finally:
            for end in inherited:
                end.close()
        return LocalChild(process, ours, plan.listen)


def begin_child(*, death_signal: int = signal.SIGKILL) -> tuple[socket.socket, socket.socket | None]:
    """First thing in a child's `main`: its title, its fate and its ends of the control line and listening socket.

    The child gets `death_signal` when its parent dies, and leaves Ctrl-C to the parent, which drains. Raises
    SetupError when it was not started by a launcher.
    """
    if CONTROL_FD not in os.environ:
        raise SetupError("this module is a child of `slipway serve`; it is not run by hand")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != int(os.environ.pop(PARENT_PID)):  # it died before the line above
        os.kill(os.getpid(), death_signal)
    with contextlib.suppress(ImportError):
        from setproctitle import setproctitle

        setproctitle(os.environ.get(TITLE, "slipway"))
    line = socket.socket(fileno=int(os.environ.pop(CONTROL_FD)))
    line.set_inheritable(False)
    listen_fd = os.environ.pop(LISTEN_FD, "")
    listener = socket.socket(fileno=int(listen_fd)) if listen_fd else None
    if listener is not None:
        listener.set_inheritable(False)
    return line, listener
