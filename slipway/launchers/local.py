"""Children as processes of this machine, and what a child does first to be a good one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from slipway.errors import SetupError
from slipway.launchers.courtesy import OWN_SLICE, set_slice
from slipway.launchers.launcher import ChildPlan

CONTROL_FD = "SLIPWAY_CONTROL_FD"
LISTEN_FDS = "SLIPWAY_LISTEN_FDS"
TITLE = "SLIPWAY_TITLE"
PARENT_PID = "SLIPWAY_PARENT_PID"
OWN_VARIABLES = "SLIPWAY_"

PASSED_ON = re.compile(
    "(PATH|HOME|USER|LOGNAME|SHELL|TERM|LANG|LANGUAGE|LC_.*|TZ|TMPDIR|TEMP|TMP|XDG_.*|HOSTNAME|LD_.*|MALLOC_.*|GLIBC_.*"
    "|PYTHON.*|VIRTUAL_ENV|CONDA_.*|SSL_CERT_.*|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|(HTTP|HTTPS|NO|ALL)_PROXY"
    "|(http|https|no|all)_proxy|OMP_.*|GOMP_.*|KMP_.*|MKL_.*|OPENBLAS_.*|BLIS_.*|NUMEXPR_.*|NUMBA_.*|VECLIB_.*|RAYON_.*"
    "|POLARS_.*|ORT_.*|TF_.*|XLA_.*|TORCH.*|PYTORCH_.*|CUDA_.*|NVIDIA_.*|NCCL_.*|ROCR_.*|HIP_.*|GPU_.*)\\Z"
)
"""Of machine, language and numeric libraries; nothing that is called a key, a token or a password."""
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
    started them. They have the cores that this process had when the launcher was made, wherever it stands itself by
    then. Imports are resolved as in the parent, but never from the working directory by accident: a
    `json.py` that happens to lie there is not the library's.
    """

    def __init__(self) -> None:
        self._cores = os.sched_getaffinity(0)

    def launch(self, plan: ChildPlan) -> LocalChild:
        ours, theirs = socket.socketpair()
        environment = inherited_from(os.environ, reserved=plan.reserved) | plan.environment
        with contextlib.ExitStack() as ends:
            ends.enter_context(theirs)
            try:
                listeners = [*plan.listeners, *([ends.enter_context(_listen(plan.listen))] if plan.listen else [])]
                fds = [end.fileno() for end in (theirs, *listeners)]
                environment |= {
                    CONTROL_FD: str(fds[0]),
                    LISTEN_FDS: ",".join(map(str, fds[1:])),
                    TITLE: plan.title,
                    PARENT_PID: str(os.getpid()),
                }
                output = ends.enter_context(Path(plan.output).open("ab", buffering=0)) if plan.output else None
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", plan.module],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=fds,
                    env=environment,
                    process_group=0,
                )
            except OSError as error:
                ours.close()
                if plan.listen:
                    Path(plan.listen).unlink(missing_ok=True)
                raise SetupError(f"cannot start {plan.title!r}: {error}") from error
        with contextlib.suppress(OSError):  # it is gone already, or this system lets nobody choose
            os.sched_setaffinity(process.pid, self._cores)
            set_slice(OWN_SLICE, process.pid)
        return LocalChild(process, ours, plan.listen)


def inherited_from(environment: Mapping[str, str], *, reserved: bool) -> dict[str, str]:
    """What a child gets of its parent's. What is set for our own command line (SLIPWAY_KEY, SLIPWAY_DATABASE) is not
    for the code that a model brings; neither are, with `reserved`, a server's own credentials for clouds and
    databases."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(OWN_VARIABLES) and (not reserved or PASSED_ON.match(name))
    }


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(path)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def begin_child(*, death_signal: int = signal.SIGKILL) -> tuple[socket.socket, list[socket.socket]]:
    """First thing in a child's `main`: its title, its fate, its end of the control line, and the sockets that listen
    for it.

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
    return line, [_inherited(fd) for fd in os.environ.pop(LISTEN_FDS, "").split(",") if fd]


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
