"""Starting a server, weighing all of its processes, and making sure that none is left."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_TERM_S = 15.0
_KILL_S = 5.0


def adopt_orphans() -> None:
    """Make the kernel hand orphaned grandchildren to this process.

    Several contenders start daemons that leave their process group; as adopted children they stay in our tree,
    so they can be weighed and ended by id.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _parents() -> dict[int, int]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                # The command's name may hold anything, so the fields are counted from the last bracket.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    found[int(entry.name)] = int(fields[1])
    return found


def descendants(pid: int) -> list[int]:
    """Every living process below `pid`, parents before children."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents().items():
        children.setdefault(parent, []).append(child)
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(0), [])
        found += below
        queue += below
    return found


@dataclass(frozen=True, kw_only=True)
class Weight:
    """What one process keeps in memory. Shared pages are divided among their users, so weights may be added."""

    pid: int
    name: str
    pss_mb: float


def weigh(pids: list[int]) -> list[dict[str, object]]:
    weights = []
    for pid in pids:
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").split()
            name = " ".join(word.rpartition("/")[2][:40] for word in words[:3])
            weights.append(asdict(Weight(pid=pid, name=name, pss_mb=round(kilobytes / 1024, 1))))
    return weights


def cpu_seconds(pids: list[int]) -> float:
    """Processor time that these processes have used so far, user and system, in steps of 10 ms a process.

    Children that died meanwhile are counted too, by the parent that buried them: some servers replace workers.
    """
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


class Server:
    """A started contender. `stop` ends everything that descends from it."""

    def __init__(self, argv: tuple[str, ...], *, env: Mapping[str, str], cwd: Path, log: Path) -> None:
        self.log = log
        self._out = log.open("wb")
        self.begun_s = time.monotonic()
        self._process = subprocess.Popen(
            argv,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def exit_code(self) -> int | None:
        return self._process.poll()

    def pids(self) -> list[int]:
        """All processes below this one: only one server stands at a time, so all of them are the server's."""
        return descendants(os.getpid())

    def last_words(self) -> str:
        """The end of its output, as the reason of a failure."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        telling = [line for line in lines if "error" in line.lower() or "exception" in line.lower()]
        return " | ".join((telling or lines)[-2:])[-400:]

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_TERM_S)
        for number, patience_s in ((signal.SIGTERM, _KILL_S), (signal.SIGKILL, _KILL_S)):
            _signal_all(self.pids(), number)
            if self._gone_within(patience_s):
                break
        self._process.poll()
        self._out.close()

    def _gone_within(self, patience_s: float) -> bool:
        until_s = time.monotonic() + patience_s
        while time.monotonic() < until_s:
            self._process.poll()
            _reap(except_for=self._process.pid)
            if not self.pids():
                return True
            time.sleep(0.05)
        return False


def _signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _reap(*, except_for: int) -> None:
    """Bury adopted orphans; the server's own process is left to its Popen."""
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if found.si_pid == except_for:
                return
            os.waitpid(found.si_pid, 0)
