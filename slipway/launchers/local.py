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

BACKLOG = 64
PR_SET_PDEATHSIG = 1
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEEP_BYTES = 64 * 2**20


class LocalChild:
    """A process group of its own with a control line: what the child itself starts (a model may) ends with it."""

    def __init__(self, process: subprocess.Popen[bytes], line: socket.socket, listen: str) -> None:
        self._process = process
        self._listen = listen
        self.pid = process.pid
        self.line = line

    def poll(self) -> int | None:
        if self._process.returncode is None and self._has_ended():
            self._end_group()  # before it is reaped: until then its number cannot become somebody else's
        return self._process.poll()

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        if self._process.returncode is None:
            self._end_group()

    def close(self) -> None:
        self.line.close()
        if self._listen:
            Path(self._listen).unlink(missing_ok=True)

    def _has_ended(self) -> bool:
        """Without reaping it."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def _end_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


class LocalLauncher:
    """Starts children with this interpreter. They share standard output and error with their parent.

    Launch from a thread that lives as long as the children should: the kernel ends them with the thread that
    started them. Imports are resolved as in the parent, but never from the working directory by accident: a
    `json.py` that happens to lie there is not the library's.
    """

    def launch(self, plan: ChildPlan) -> LocalChild:
        ours, theirs = socket.socketpair()
        inherited = [theirs]
        environment = os.environ | plan.environment
        try:
            if plan.listen:
                listener = socket.socket(socket.AF_UNIX)
                inherited.append(listener)
                listener.bind(plan.listen)
                listener.listen(BACKLOG)
                environment[LISTEN_FD] = str(listener.fileno())
            environment |= {CONTROL_FD: str(theirs.fileno()), TITLE: plan.title, PARENT_PID: str(os.getpid())}
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", plan.module],
                stdin=subprocess.DEVNULL,
                pass_fds=[end.fileno() for end in inherited],
                env=environment,
                process_group=0,
            )
        except OSError as error:
            ours.close()
            if len(inherited) > 1:
                Path(plan.listen).unlink(missing_ok=True)
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
    _keep_freed_memory(libc)
    with contextlib.suppress(ImportError):
        from setproctitle import setproctitle

        setproctitle(os.environ.pop(TITLE, "slipway"))
    line = _inherited(os.environ.pop(CONTROL_FD))
    listen_fd = os.environ.pop(LISTEN_FD, "")
    return line, _inherited(listen_fd) if listen_fd else None


def _keep_freed_memory(libc: ctypes.CDLL) -> None:
    """Let glibc's malloc keep freed memory for the next large request instead of returning it to the kernel.

    A request of some hundred kilobytes otherwise pays page faults for each of its copies, a quarter of what it costs a
    gateway. Another C library has no mallopt, and other ways.
    """
    with contextlib.suppress(AttributeError):
        libc.mallopt(M_MMAP_THRESHOLD, 32 * 2**20)  # the most that glibc takes
        libc.mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
        libc.mallopt(M_TOP_PAD, 16 * 2**20)


def _inherited(fd: str) -> socket.socket:
    """Ours alone: whoever this child starts does not get it."""
    end = socket.socket(fileno=int(fd))
    end.set_inheritable(False)
    return end
