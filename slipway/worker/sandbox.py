"""What a replica may do to its machine: as little as serving its model takes.

`plan_sandbox` says in plain data what is allowed, `apply` makes it so, before any code or pickle of the model is
touched. Closed: gaining privileges, the powers of root, core dumps (they would hold requests), reading or writing
files but those below, signals and ptrace to other processes, and with `memory_bytes` memory beyond it.

Open on purpose: the network and Unix sockets with a path, since models call feature stores; the environment; what
`allow_read` and `allow_write` name. `/dev/shm` is shut: who needs shared memory names it in `allow_write`.
"""

from __future__ import annotations

import ctypes
import glob
import os
import resource
import struct
import sys
from pathlib import Path, PurePath

import msgspec

from slipway.errors import SetupError
from slipway.spec.serve import ModelSpec, ReplicaSpec
from slipway.worker import landlock

OPEN_FILES = 4096

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store")
# fmt: off
_READABLE = (
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/timezone", "/etc/os-release",
    "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/hosts",
    "/etc/host.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols", "/etc/passwd", "/etc/group",
    "/etc/mime.types", "/etc/fonts", "/proc", "/sys/devices", "/sys/bus", "/sys/class",
    "/sys/fs/cgroup", "/sys/kernel/mm",
)
# fmt: on
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_CUDA_DEVICES = ("/dev/nvidia*", "/dev/nvidia-caps/*", "/dev/dri/*")
_CUDA_READABLE = ("/sys", "/etc/nvidia", "/etc/OpenCL", "/etc/vulkan", "/run/nvidia-persistenced")

_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 4, 24, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAP_DAC_OVERRIDE = 1
_LAST_CAPABILITY = 63
_CAPABILITY_VERSION = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class Surroundings(msgspec.Struct, frozen=True):
    """What the plan must know of this machine and process. Paths are absolute; `model` is resolved.

    `model` '' where the model is code that is imported from the working directory. `beside`: files whose names
    begin with the model file's stem. `crowded`: folders too wide to open for the sake of one file in them.
    """

    model: str
    model_is_folder: bool
    beside: tuple[str, ...]
    module: str
    working: str
    crowded: tuple[str, ...]
    prefixes: tuple[str, ...]
    imports: tuple[str, ...]
    libraries: tuple[str, ...] = ()


class Grant(msgspec.Struct, frozen=True):
    """`named`: the user asked for it, so it has to exist."""

    path: str
    rights: int
    named: bool = False


class SandboxPlan(msgspec.Struct, frozen=True):
    """`memory_bytes` 0: no limit, and the only thing that is limited unless `on`.

    `narrowed`: the model's folder, where only the model in it was opened.
    """

    on: bool
    narrowed: str = ""
    grants: tuple[Grant, ...] = ()
    memory_bytes: int = 0
    open_files: int = OPEN_FILES


def plan_sandbox(replicas: ReplicaSpec, *, scratch: str, around: Surroundings) -> SandboxPlan:
    """Pure: what a replica may open. A later grant adds to an earlier one of the same path."""
    if not replicas.sandbox:
        return SandboxPlan(on=False, memory_bytes=replicas.memory_bytes)
    grants = [Grant(path, landlock.RUN) for path in (*_SYSTEM, *around.prefixes)]
    grants += [Grant(path, landlock.READ) for path in (*_READABLE, *around.libraries)]
    grants += [Grant(path, landlock.READ) for path in around.imports if path not in around.crowded]
    grants += [Grant(path, landlock.DEVICE) for path in _DEVICES]
    folder, opened = _model_grants(around)
    grants += [Grant(path, landlock.READ) for path in opened]
    if replicas.device.startswith("cuda"):
        grants += [Grant(path, landlock.DEVICE) for path in _CUDA_DEVICES]
        grants += [Grant(path, landlock.READ) for path in _CUDA_READABLE]
    grants += [Grant(path, landlock.READ, named=True) for path in replicas.allow_read]
    grants += [Grant(path, landlock.WRITE, named=True) for path in replicas.allow_write]
    grants.append(Grant(scratch, landlock.WRITE, named=True))
    narrowed = "" if folder in opened else folder
    return SandboxPlan(on=True, grants=tuple(grants), memory_bytes=replicas.memory_bytes, narrowed=narrowed)


def _model_grants(around: Surroundings) -> tuple[str, list[str]]:
    """The model's folder and what to open: all of it, since weights may lie beside the file; less where that folder
    holds everything else too."""
    if around.model_is_folder:
        return around.model, [around.model]
    if around.model:
        folder = str(PurePath(around.model).parent)
        alone = [around.model, *around.beside]
    else:
        folder = around.working
        alone = [f"{folder}/{around.module}", f"{folder}/{around.module}.py"]
    return folder, alone if folder in around.crowded else [folder]


def look_around(spec: ModelSpec) -> Surroundings:
    """The facts for the plan, as this process sees them."""
    model, module = _place_of(spec.path)
    beside: tuple[str, ...] = ()
    if model and not model.is_dir():
        beside = tuple(str(path) for path in model.parent.glob(f"{glob.escape(model.stem)}*") if path != model)
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 (Path.home() fails for a user whom nobody knows)
    crowded = {"/", "/tmp", "/var/tmp", "/dev/shm", str(home), *map(str, home.parents)}
    package = str(Path(__file__).resolve().parent.parent)
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    return Surroundings(
        model=str(model) if model else "",
        model_is_folder=model is not None and model.is_dir(),
        beside=beside,
        module=module,
        working=str(Path.cwd()),
        crowded=tuple(sorted(crowded)),
        prefixes=tuple(sorted(prefixes - crowded)),
        imports=(package, *_import_places()),
        libraries=tuple(p for p in os.environ.get("LD_LIBRARY_PATH", "").split(":") if p.startswith("/")),
    )


def _place_of(path: str) -> tuple[Path | None, str]:
    """(file or folder, '') or (None, top package) for `module:Class`; `file.py:Class` is its file."""
    plain = path.rpartition(":")[0] or path
    for candidate in (path, plain):
        if Path(candidate).exists():
            return Path(candidate).resolve(), ""
    if ":" in path:
        return None, plain.partition(".")[0]
    return Path(path).resolve(), ""  # loading it says that there is none


def _import_places() -> list[str]:
    """Where imports look: `sys.path`, and the sources of packages installed in editable mode."""
    found = [entry for entry in sys.path if entry.startswith("/")]
    for name, module in list(sys.modules.items()):
        if name.startswith("__editable__"):
            found += [str(source) for source in getattr(module, "MAPPING", {}).values()]
    return found


def apply(plan: SandboxPlan) -> str:
    """Make it so, for this thread and all that it will start; what was achieved, in words for the status.

    Raises SetupError where a path that the user named does not exist, or the kernel refuses what it offers.
    """
    if not plan.on:
        _limit_memory(plan.memory_bytes)
        return "off"
    abi = landlock.abi()
    achieved = ["no-new-privs"] if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 else []
    if achieved and abi:
        landlock.restrict(_existing(plan.grants), abi=abi)
        achieved.insert(0, f"landlock abi {abi}")
    else:
        achieved.insert(0, "no landlock: files are as open as to any process of this user")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = plan.open_files if hard == resource.RLIM_INFINITY else min(plan.open_files, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    _limit_memory(plan.memory_bytes)
    if _drop_capabilities():
        achieved.append("no capabilities")
    if _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0:
        achieved.append("no core dumps")
    achieved.append("rlimits")
    return ", ".join(achieved)


def _drop_capabilities() -> bool:
    """What makes root root: without this it could lift its limits and read the memory of others.

    All but one: a server that runs as root in a container may have to read a model that belongs to another user,
    and what there is to read Landlock says.
    """
    for capability in range(_LAST_CAPABILITY + 1):
        if capability != _CAP_DAC_OVERRIDE:
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # refused to who has none, and needs none dropped
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    kept = 1 << _CAP_DAC_OVERRIDE if os.geteuid() == 0 else 0
    header = struct.pack("<Ii", _CAPABILITY_VERSION, 0)
    wanted = struct.pack("<6I", kept, kept, 0, 0, 0, 0)  # effective, permitted, inheritable; then the upper halves
    return any(_libc.capset(header, chosen) == 0 for chosen in (wanted, bytes(24)))


def _limit_memory(memory_bytes: int) -> None:
    """RLIMIT_DATA: private writable memory. Not RLIMIT_AS, which would also count mapped libraries, weights and
    what allocators merely reserve, several times what is used."""
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def _existing(grants: tuple[Grant, ...]) -> list[tuple[str, int]]:
    found = []
    for grant in grants:
        paths = sorted(glob.glob(grant.path)) if "*" in grant.path and not grant.named else [grant.path]  # noqa: PTH207
        for path in paths:
            if os.access(path, os.F_OK):
                found.append((path, grant.rights))
            elif grant.named:
                raise SetupError(f"the sandbox is to open {path!r}, which does not exist or is not for us to see")
    return found


def may_read(plan: SandboxPlan, path: str) -> bool:
    """Whether the plan opens `path` (absolute) for reading."""
    real = os.path.realpath(path)
    return any(Path(real).is_relative_to(os.path.realpath(grant.path)) for grant in plan.grants)
