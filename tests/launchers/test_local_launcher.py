"""Local children as an operator sees them: a title in `ps`, a line to talk over, and nothing left of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slipway.errors import SetupError
from slipway.launchers.launcher import ChildPlan
from slipway.launchers.local import LocalChild, LocalLauncher, begin_child, inherited_from
from slipway.wire.control import ControlLine
from slipway.wire.messages import Progress

BEGIN = """
import json, os, signal, subprocess, sys, time
from slipway.launchers.local import begin_child
from slipway.wire.control import ControlLine
from slipway.wire.messages import Progress
line, listeners = begin_child()
control = ControlLine(line)
"""

Launch = Callable[..., LocalChild]


def wait_until(true: Callable[[], object], what: str, timeout_s: float = 10.0) -> None:
    until = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < until, f"not within {timeout_s} s: {what}"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """A zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def said(child: LocalChild) -> str:
    child.line.settimeout(10)
    message = ControlLine(child.line).hear()
    assert isinstance(message, Progress)
    return message.stage


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start `body` as a child, after it has begun as every child does."""
    children: list[LocalChild] = []

    def start(
        body: str, *, title: str = "slipway: child of a test", listen: str = "", **environment: str
    ) -> LocalChild:
        name = f"child_of_a_test_{len(children)}"
        (tmp_path / f"{name}.py").write_text(BEGIN + textwrap.dedent(body))
        environment["PYTHONPATH"] = str(tmp_path)
        child = LocalLauncher().launch(ChildPlan(module=name, title=title, listen=listen, environment=environment))
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        wait_until(lambda child=child: child.poll() is not None, "the end of a killed child")
        child.close()


def test_a_child_has_its_title_its_environment_and_a_line(launch: Launch) -> None:
    child = launch(
        "control.say(Progress(os.environ['COLOUR'])); control.hear()", title="slipway: test #7", COLOUR="teal"
    )
    assert said(child) == "teal"
    assert Path(f"/proc/{child.pid}/cmdline").read_bytes().rstrip(b"\0") == b"slipway: test #7"
    shown = subprocess.run(["ps", "-o", "args=", "-p", str(child.pid)], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "slipway: test #7"


def test_a_child_does_not_inherit_what_was_set_for_our_command_line(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_KEY", "sw_abcdefgh_secret")
    monkeypatch.setenv("SLIPWAY_DATABASE", "postgresql://slipway:secret@host/slipway")
    monkeypatch.setenv("COLOUR", "teal")
    child = launch("control.say(Progress(','.join(sorted(k for k in os.environ if k[:7] in ('SLIPWAY', 'COLOUR')))))")
    assert said(child) == "COLOUR"


def test_nobody_comes_too_early_for_the_listening_socket(launch: Launch, tmp_path: Path) -> None:
    path = str(tmp_path / "door")
    child = launch("link, _ = listeners[0].accept(); link.sendall(b'welcome'); control.hear()", listen=path)
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(10)
        caller.connect(path)  # at once: the child has hardly begun
        assert caller.recv(100) == b"welcome"
    child.kill()
    wait_until(lambda: child.poll() is not None, "its end")
    child.close()
    assert not Path(path).exists()


def test_its_descriptors_are_not_passed_on(launch: Launch, tmp_path: Path) -> None:
    body = """
    import ast
    inner = "import os; print([os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if fd != '3'])"
    seen = subprocess.run([sys.executable, "-c", inner], capture_output=True, text=True, close_fds=False).stdout
    control.say(Progress(str(sum("socket" in name for name in ast.literal_eval(seen)))))
    control.hear()
    """
    assert said(launch(body, listen=str(tmp_path / "door"))) == "0"


@pytest.mark.parametrize(("body", "status"), [("sys.exit(0)", 0), ("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", -9)])
def test_the_exit_status_is_told(launch: Launch, body: str, status: int) -> None:
    child = launch(body)
    wait_until(lambda: child.poll() is not None, "its end")
    assert child.poll() == status
    child.terminate()  # too late, and no error
    child.kill()


def test_terminate_asks_and_kill_does_not(launch: Launch) -> None:
    child = launch("signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); control.say(Progress('on')); time.sleep(60)")
    assert said(child) == "on"
    child.terminate()
    wait_until(lambda: child.poll() == 0, "a clean end")
    stopped = launch("signal.signal(signal.SIGTERM, signal.SIG_IGN); control.say(Progress('on')); time.sleep(60)")
    assert said(stopped) == "on"
    os.kill(stopped.pid, signal.SIGSTOP)
    stopped.terminate()
    assert stopped.poll() is None
    stopped.kill()
    wait_until(lambda: stopped.poll() == -signal.SIGKILL, "the end of a stopped child")


def test_ctrl_c_is_the_parents_business(launch: Launch) -> None:
    child = launch("control.say(Progress('on')); control.say(Progress(str(control.hear())))")
    assert said(child) == "on"
    os.kill(child.pid, signal.SIGINT)
    ControlLine(child.line).say(Progress("still there"))
    assert "still there" in said(child)
    assert os.getpgid(child.pid) == child.pid != os.getpgid(0)


@pytest.mark.parametrize("ending", ["kill", "crash"])
def test_what_a_child_started_ends_with_it(launch: Launch, ending: str) -> None:
    body = """
    inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    control.say(Progress(str(inner.pid)))
    control.hear()
    os._exit(1)
    """
    child = launch(body)
    grandchild = int(said(child))
    assert is_alive(grandchild)
    if ending == "kill":
        child.kill()
    else:
        ControlLine(child.line).say(Progress("crash now"))
    wait_until(lambda: child.poll() is not None, "its end")
    wait_until(lambda: not is_alive(grandchild), "the end of what it started")


def test_a_child_dies_with_its_parent_also_when_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "orphan.py").write_text(BEGIN + "control.say(Progress('on')); time.sleep(60)")
    parent = f"""
import os, sys
from slipway.launchers.local import LocalLauncher
from slipway.launchers.launcher import ChildPlan
environment = dict(PYTHONPATH={str(tmp_path)!r})
child = LocalLauncher().launch(ChildPlan(module="orphan", title="orphan", environment=environment))
child.line.recv(1)
print(child.pid, flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert is_alive(pid)
    process.kill()
    process.communicate()
    wait_until(lambda: not is_alive(pid), "the end of the orphan")


def test_a_file_in_the_working_directory_does_not_replace_a_library(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "json.py").write_text("raise RuntimeError('not the json you look for')")
    monkeypatch.chdir(elsewhere)
    assert said(launch("control.say(Progress(json.dumps(1)))")) == "1"


def test_what_cannot_be_started_says_so(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"cannot start 'lost'.*No such file"):
        LocalLauncher().launch(ChildPlan(module="x", title="lost", listen=str(tmp_path / "no" / "door")))


def test_a_child_is_not_run_by_hand() -> None:
    with pytest.raises(SetupError, match="not run by hand"):
        begin_child()


def test_a_deployment_inherits_what_tells_of_the_machine_and_no_credentials() -> None:
    told = {"PATH": "/bin", "LC_ALL": "C", "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "0", "https_proxy": "p"}
    kept = {"AWS_SECRET_ACCESS_KEY": "a", "PGPASSWORD": "b", "PATHOLOGY": "c", "MY_TOKEN": "d"}
    ours = {"SLIPWAY_KEY": "e"}
    assert inherited_from(told | kept | ours, reserved=True) == told
    assert inherited_from(told | kept | ours, reserved=False) == told | kept
