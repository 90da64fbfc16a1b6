"""The sandbox as an attacker meets it: a model in a real worker tries, and is refused. And as an honest model does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from slipway.spec.serve import ModelSpec, ReplicaSpec
from slipway.worker import landlock
from slipway.worker.failure import words_of
from slipway.worker.sandbox import SandboxPlan, Surroundings, look_around, may_read, plan_sandbox

ONE = np.ones(1, "f4")

AROUND = Surroundings(
    model="/models/iris/iris.onnx",
    model_is_folder=False,
    beside=("/models/iris/iris.onnx.data",),
    module="",
    working="/home/me/project",
    crowded=("/", "/home", "/home/me", "/tmp"),
    prefixes=("/opt/python",),
    imports=("/home/me/site", "/home/me"),
)


def paths_of(plan: SandboxPlan, right: int) -> set[str]:
    return {grant.path for grant in plan.grants if grant.rights & right}


# --- the plan: pure ------------------------------------------------------------------------------------------------


def test_only_scratch_and_devices_can_be_written_to() -> None:
    plan = plan_sandbox(ReplicaSpec(), scratch="/run/scratch", around=AROUND)
    devices = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}
    assert paths_of(plan, landlock.WRITE_FILE) == {"/run/scratch", *devices}
    assert "/run/scratch" not in paths_of(plan, landlock.EXECUTE)


def test_what_the_user_allows_is_allowed() -> None:
    replicas = ReplicaSpec(allow_read=("/data",), allow_write=("/cache",))
    plan = plan_sandbox(replicas, scratch="/run/scratch", around=AROUND)
    assert "/data" in paths_of(plan, landlock.READ_FILE) - paths_of(plan, landlock.WRITE_FILE)
    assert "/cache" in paths_of(plan, landlock.WRITE_FILE)


@pytest.mark.parametrize(
    ("change", "opened", "shut"),
    [
        ({}, ["/models/iris"], ["/home/me/project"]),
        ({"model": "/tmp/a.onnx", "beside": ("/tmp/a.onnx.data",)}, ["/tmp/a.onnx", "/tmp/a.onnx.data"], ["/tmp"]),
        ({"model": "/home/me", "model_is_folder": True}, ["/home/me"], []),
        ({"model": "", "module": "pets"}, ["/home/me/project"], []),
        ({"model": "", "module": "pets", "working": "/home/me"}, ["/home/me/pets", "/home/me/pets.py"], ["/home/me"]),
    ],
)  # fmt: skip
def test_the_model_and_its_folder_but_never_a_whole_home(
    change: dict[str, object], opened: list[str], shut: list[str]
) -> None:
    fields = {name: getattr(AROUND, name) for name in AROUND.__struct_fields__} | change
    plan = plan_sandbox(ReplicaSpec(), scratch="/run/scratch", around=Surroundings(**fields))
    readable = paths_of(plan, landlock.READ_FILE)
    assert readable.issuperset(opened) and not readable & set(shut)
    assert "/home/me/site" in readable and "/opt/python" in readable


def test_cuda_opens_its_devices_and_nothing_else_does() -> None:
    assert not any("nvidia" in grant.path for grant in plan_sandbox(ReplicaSpec(), scratch="/s", around=AROUND).grants)
    plan = plan_sandbox(ReplicaSpec(device="cuda:1"), scratch="/s", around=AROUND)
    assert "/dev/nvidia*" in paths_of(plan, landlock.IOCTL_DEV)


def test_off_is_off_but_memory_stays_limited() -> None:
    plan = plan_sandbox(ReplicaSpec(sandbox=False, memory_bytes=7), scratch="/s", around=AROUND)
    assert plan == SandboxPlan(on=False, memory_bytes=7)


@pytest.mark.parametrize("abi", range(1, 9))
def test_no_right_is_named_that_an_abi_does_not_know(abi: int) -> None:
    known = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}.get(abi, 16)
    assert landlock.rights_of(abi) == (1 << known) - 1


def test_what_lies_around_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.onnx").touch()
    (tmp_path / "net.onnx.data").touch()
    (tmp_path / "link.onnx").symlink_to("net.onnx")
    monkeypatch.chdir(tmp_path)
    around = look_around(ModelSpec("net", "link.onnx"))
    assert around.model == str(tmp_path / "net.onnx") and around.beside == (str(tmp_path / "net.onnx.data"),)
    assert str(Path.home()) in around.crowded and "/" in around.crowded
    assert str(Path(landlock.__file__).parent.parent) in around.imports
    code = look_around(ModelSpec("net", "zoo.pets:Cat"))
    assert (code.model, code.module, code.working) == ("", "zoo", str(tmp_path))
    (tmp_path / "pets.py").touch()
    assert look_around(ModelSpec("net", "pets.py:Cat")).model == str(tmp_path / "pets.py")
    assert look_around(ModelSpec("net", ".")).model_is_folder


# --- hints ---------------------------------------------------------------------------------------------------------


def test_a_refusal_says_which_option_lets_it_through(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    plan = plan_sandbox(ReplicaSpec(), scratch="/run/scratch", around=AROUND)
    error = ValueError("cannot read the vocabulary")
    error.__cause__ = PermissionError(13, "Permission denied", str(secret))
    assert f"--allow-read {secret} lets it read it" in words_of(error, plan)
    error.__cause__ = PermissionError(13, "Permission denied", str(tmp_path / "new"))
    assert f"--allow-write {tmp_path} adds this" in words_of(error, plan)
    error.__cause__ = PermissionError(13, "Permission denied", sys.executable)
    plan = plan_sandbox(ReplicaSpec(), scratch="/s", around=look_around(ModelSpec("x", str(secret))))
    assert may_read(plan, sys.executable) and f"--allow-write {sys.executable}" in words_of(error, plan)
    assert "--allow" not in words_of(error, SandboxPlan(on=False))
    assert "--allow" not in words_of(ValueError("x"), plan)


def test_a_neighbour_of_a_model_in_a_crowded_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "features.py").touch()
    plan = SandboxPlan(on=True, narrowed=str(tmp_path))
    error = ModuleNotFoundError("No module named 'features'", name="features.text")
    assert f"--allow-read {tmp_path / 'features.py'}" in words_of(error, plan)
    assert "--allow-read" not in words_of(ModuleNotFoundError("x", name="torch"), plan)


# --- the act: a real worker ----------------------------------------------------------------------------------------

ATTACKS = {
    "write beside itself": "open(__file__ + '.stolen', 'w')",
    "write to /tmp": "open('/tmp/slipway-attack', 'w')",
    "append to itself": "open(__file__, 'a')",
    "cut a file that it may read": "os.truncate(__file__, 0)",
    "make a folder": "os.mkdir(__file__ + '.d')",
    "remove itself": "os.unlink(__file__)",
    "move itself": "os.rename(__file__, scratch + '/model.py')",
    "read a secret": "open(secret).read()",
    "list the folder of a secret": "os.listdir(os.path.dirname(secret))",
    "read a secret through a link": "os.symlink(secret, scratch + '/link'); open(scratch + '/link').read()",
    "read a secret in a process of its own": "subprocess.run(['cat', secret], check=True)",
    "read a secret in a thread": "in_a_thread(lambda: open(secret).read())",
    "run what it has written": "write_script(); subprocess.run([scratch + '/script'])",
    "signal its parent": "os.kill(os.getppid(), 0)",
    "trace its parent": "must(libc.ptrace(16, os.getppid(), 0, 0))",
    "read the environment of its parent": "open(f'/proc/{os.getppid()}/environ').read()",
    "read the memory of its parent": "open(f'/proc/{os.getppid()}/mem', 'rb').read(1)",
    "reach an abstract socket": "socket.socket(socket.AF_UNIX).connect(chr(0) + os.environ['ABSTRACT'])",
    "leave something in shared memory": "open('/dev/shm/slipway-attack', 'w')",
    "raise its limit of open files": "raise_limit(resource.RLIMIT_NOFILE)",
    "raise its limit of memory": "raise_limit(resource.RLIMIT_DATA)",
    "mount": "must(libc.mount(b'none', scratch.encode(), b'tmpfs', 0, None))",
}

HEAD = """
import ctypes, resource, socket, subprocess, threading

libc = ctypes.CDLL(None, use_errno=True)
scratch = os.environ["TMPDIR"]
secret = os.environ["SECRET"]
ATTACKS = ATTACK_TABLE

def must(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")

def in_a_thread(attempt):
    errors = []
    def run():
        try:
            attempt()
        except OSError as error:
            errors.append(error)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]

def raise_limit(which):
    try:
        resource.setrlimit(which, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except ValueError as error:
        raise PermissionError(*error.args) from error

def write_script():
    with open(scratch + "/script", "w") as file:
        file.write("#!/bin/sh")
    os.chmod(scratch + "/script", 0o700)
"""

ATTACK = """
try:
    exec(list(ATTACKS.values())[int(x[0])], globals())
except (PermissionError, subprocess.CalledProcessError):
    return np.zeros(len(x))
return np.ones(len(x))
"""


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / ".ssh"
    folder.mkdir(parents=True)
    (folder / "id_ed25519").write_text("the key")
    return folder / "id_ed25519"


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


@pytest.mark.parametrize("sandbox", [True, False])
def test_attacks_are_refused_and_would_succeed_without_the_sandbox(
    launch: Callable, python_model: Callable, secret: Path, sandbox: bool
) -> None:
    assert landlock.abi() >= 6, "this test needs a kernel with Landlock ABI 6 or later"
    name = f"slipway-test-{os.getpid()}-{sandbox}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        path = python_model(ATTACK, head=HEAD.replace("ATTACK_TABLE", repr(ATTACKS)), options="batchable = False")
        environment = {"SECRET": str(secret), "ABSTRACT": name}
        worker = launch(path, replicas=ReplicaSpec(sandbox=sandbox, memory_bytes=2**30), environment=environment)
        facts = worker.ready()
        assert facts.sandbox.startswith("landlock abi ") if sandbox else facts.sandbox == "off"
        gateway = worker.gateway()
        harmless = ["read a secret", "list the folder of a secret", "read a secret in a thread", "signal its parent"]
        names = list(ATTACKS) if sandbox else harmless
        succeeded = [name for name in names if gateway.run(x=[np.float32(list(ATTACKS).index(name))])["y"][0]]
    assert succeeded == ([] if sandbox else harmless)
    assert Path(path).exists()
    assert not Path("/tmp/slipway-attack").exists() and not Path("/dev/shm/slipway-attack").exists()


def test_the_process_is_what_its_status_says(launch: Callable, python_model: Callable) -> None:
    worker = launch(python_model("return x"), replicas=ReplicaSpec(memory_bytes=2**30))
    sandbox = worker.ready().sandbox
    assert sandbox == f"landlock abi {landlock.abi()}, no-new-privs, no capabilities, no core dumps, rlimits"
    status = status_of(worker.pid)
    assert status["NoNewPrivs"] == "1"
    may_override = 2 if os.geteuid() == 0 else 0
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == may_override
    limits = Path(f"/proc/{worker.pid}/limits").read_text()
    assert _limit(limits, "Max core file size") == ["0", "0"]
    assert _limit(limits, "Max data size") == [str(2**30)] * 2
    assert int(_limit(limits, "Max open files")[1]) <= 4096
    assert worker.beat().rss_bytes > 0


def _limit(table: str, name: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(name)]
    return line[len(name) :].split()[:2]


HONEST = """
import concurrent.futures, random, socket, ssl, tempfile, uuid
with tempfile.NamedTemporaryFile("w+") as file:
    file.write("kept")
os.makedirs(os.environ["XDG_CACHE_HOME"] + "/mine")
os.rename(os.environ["XDG_CACHE_HOME"] + "/mine", os.environ["TMPDIR"] + "/moved")
assert os.environ["TMPDIR"] == os.path.dirname(os.environ["XDG_CACHE_HOME"])
ssl.create_default_context()
socket.getaddrinfo("localhost", 80)
time.localtime()
uuid.uuid4(), random.SystemRandom().random(), os.cpu_count(), open("/dev/null", "w").write("x")
assert open(os.path.dirname(__file__) + "/weights.txt").read() == "0.5"
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    assert list(pool.map(abs, [-1])) == [1]
assert subprocess.run(["echo", "hello"], capture_output=True, check=True).stdout == b"hello\\n"
"""


def test_an_honest_model_notices_nothing(launch: Callable, python_model: Callable) -> None:
    path = python_model("return x", load=HONEST, head="import subprocess")
    (Path(path).parent / "weights.txt").write_text("0.5")
    worker = launch(path)
    worker.ready()
    assert worker.gateway().run(x=ONE)["y"] == [1]


def test_what_is_allowed_can_be_done_and_the_hint_says_how(
    launch: Callable, python_model: Callable, secret: Path
) -> None:
    path = python_model(f"if x[0] > 0: open({str(secret)!r}).read()\nreturn x")
    worker = launch(path)
    worker.ready()
    failure = worker.gateway().failure(x=ONE)
    assert failure.code == "model_failure" and f"--allow-read {secret} lets it read it" in failure.message

    allowed = launch(path, replicas=ReplicaSpec(allow_read=(str(secret),)))
    allowed.ready()
    assert allowed.gateway().run(x=ONE)["y"] == [1]

    path = python_model(f"if x[0] > 0: open({str(secret)!r} + str(x[0]), 'w').write('x')\nreturn x")
    worker = launch(path)
    worker.ready()
    assert f"--allow-write {secret.parent} adds this" in worker.gateway().failure(x=ONE).message
    allowed = launch(path, replicas=ReplicaSpec(allow_write=(str(secret.parent),)))
    allowed.ready()
    assert allowed.gateway().run(x=ONE)["y"] == [1]


def test_the_sandbox_is_shut_before_the_model_is_imported_and_the_refusal_says_how(
    launch: Callable, python_model: Callable, secret: Path
) -> None:
    refusal = launch(python_model("return x", head=f"open({str(secret)!r})")).refusal()
    assert refusal.code == "load_failure" and f"--allow-read {secret}" in refusal.message


def test_a_path_to_allow_that_does_not_exist_is_an_error(launch: Callable, python_model: Callable) -> None:
    refusal = launch(python_model("return x"), replicas=ReplicaSpec(allow_read=("/no/such/place",))).refusal()
    assert refusal.code == "setup_error" and "'/no/such/place'" in refusal.message


def test_a_kernel_without_landlock_is_told_honestly() -> None:
    """In a child, since there is no way back."""
    program = """
from slipway.worker import landlock, sandbox
landlock.abi = lambda: 0
print(sandbox.apply(sandbox.SandboxPlan(on=True)))
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.startswith("no landlock") and "no-new-privs" in said


@pytest.mark.parametrize("abi", range(1, landlock.abi() + 1))
def test_older_kernels_get_what_they_offer(abi: int, tmp_path: Path) -> None:
    program = f"""
from slipway.worker import landlock, sandbox
landlock.abi = lambda: {abi}
grants = (sandbox.Grant({str(tmp_path)!r}, landlock.WRITE), sandbox.Grant("/dev/null", landlock.DEVICE))
print(sandbox.apply(sandbox.SandboxPlan(on=True, grants=grants)))
open({str(tmp_path / "made")!r}, "w").write("x")
open("/dev/null", "w").write("x")
try:
    open("/etc/passwd")
except PermissionError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    said, refused = done.stdout.splitlines()
    assert said.startswith(f"landlock abi {abi}, ") and refused == "refused"
