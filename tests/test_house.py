"""The drawing of the house, and a machine that holds the code to it.

The drawing is the table below. Everything is read from the syntax tree and nothing is run, so an import that hides
in a function or behind TYPE_CHECKING counts like any other. The second half of this file proves on small made-up
houses that each rule can fail.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent

# From the roof down. Rooms see the floors below their own; rooms on one floor are strangers.
DRAWING = {
    "ROOF": "slipway",  # the package's own front page: what `import slipway` offers
    "FACES": "cli web testing",
    "PROCESSES": "supervisor gateway worker controller batch edge",
    "ENGINE": "engine",
    "LIMBS": "runtimes transports wire launchers store auth client",
    "BRAINS": "schedule routing rollout autoscale monitor",
    "GROUND": "spec infer clock logs",
    "ROCK": "errors",
}
# Rooms that see less than all that lies below them.
LIMBS_SEE = "spec infer clock logs errors"
BRAINS_SEE = "spec infer errors"  # `now` is an argument, so not even the clock
SEES_ONLY = {
    "web": "client " + LIMBS_SEE,
    **dict.fromkeys(DRAWING["LIMBS"].split(), LIMBS_SEE),
    **dict.fromkeys(DRAWING["BRAINS"].split(), BRAINS_SEE),
}
# What brains must not touch: clocks, chance, and the world outside.
OUTSIDE_WORLD = """
    asyncio time random secrets os io pathlib tempfile shutil socket ssl select selectors signal threading queue
    subprocess multiprocessing concurrent sched uuid logging
"""
# Frameworks, and the rooms that may load each. Whatever can unpickle runs in workers only.
FRAMEWORK_ROOMS = {
    "onnxruntime": "runtimes",
    "sklearn": "runtimes",
    "skops": "runtimes",
    "joblib": "runtimes",
    "pickle": "runtimes",
    "cloudpickle": "runtimes",
    "pandas": "runtimes client",
    "grpc": "transports client",
    "pygrpc_native": "transports",
    "sqlalchemy": "store",
    "alembic": "store",
    "fsspec": "store",
    "jwt": "auth",
    "argon2": "auth",
    "fastapi": "controller",
    "starlette": "controller",
    "uvicorn": "controller",
    "pydantic": "controller",
    "yaml": "spec cli",
}
PLAIN_NAMES = "utils util common helpers helper manager managers misc _internal internal"
PLAIN_CLASSES = ("Manager", "Helper", "Helpers", "Utils", "Util")
FILE_LINES = 400
FUNCTION_LINES = 60

FLOOR = {room: number for number, rooms in enumerate(reversed(DRAWING.values())) for room in rooms.split()}


class Import(NamedTuple):
    target: str  # dotted, absolute: slipway.infer.tensor, os.path
    line: int


class Module(NamedTuple):
    name: str  # dotted: slipway.infer.tensor
    file: str  # from the root of the tree, for messages
    is_package: bool
    lines: int
    tree: ast.Module

    @property
    def room(self) -> str:
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 and parts[1] != "__main__" else "slipway"


def read_house(root: Path) -> dict[str, Module]:
    """Every module of the package `slipway` below `root`, by dotted name."""
    modules = {}
    for path in sorted((root / "slipway").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        text = path.read_text()
        modules[name] = Module(
            name, path.relative_to(root).as_posix(), is_package, text.count("\n"), ast.parse(text, str(path))
        )
    return modules


def imports_of(module: Module, modules: dict[str, Module]) -> Iterator[Import]:
    """All of them, wherever they stand; `import_module("a.b")` with a literal counts too."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.name.split(".")
                above = above[: len(above) - node.level + (1 if module.is_package else 0)]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                if base == "slipway" and alias.name == "__version__":
                    continue  # a fact about the house, not a room of it
                inner = f"{base}.{alias.name}"
                is_room = base == "slipway" and alias.name in FLOOR
                yield Import(inner if inner in modules or is_room else base, node.lineno)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield Import(node.args[0].value, node.lineno)


def room_of(target: str) -> str:
    parts = target.split(".")
    return parts[1] if len(parts) > 1 else "slipway"


def check_imports(module: Module, modules: dict[str, Module]) -> Iterator[str]:
    here = module.room
    if here not in FLOOR:
        return  # check_rooms has said so
    for target, line in imports_of(module, modules):
        top = target.split(".")[0]
        if top != "slipway":
            yield from _check_foreign(module, target, line)
            continue
        there = room_of(target)
        if there == here:
            continue
        if there not in FLOOR:
            yield f"{module.file}:{line}: imports {target}, but there is no room {there!r} on the drawing"
        elif FLOOR[there] == FLOOR[here]:
            yield f"{module.file}:{line}: imports sideways: {here} and {there} are strangers on one floor ({target})"
        elif FLOOR[there] > FLOOR[here]:
            yield f"{module.file}:{line}: imports up: {there} stands above {here} ({target})"
        elif here in SEES_ONLY and there not in SEES_ONLY[here].split():
            yield f"{module.file}:{line}: {here} sees only {SEES_ONLY[here]}, not {there} ({target})"


def _check_foreign(module: Module, target: str, line: int) -> Iterator[str]:
    top = target.split(".")[0]
    if module.room in DRAWING["BRAINS"].split() and (top in OUTSIDE_WORLD.split() or target == "numpy.random"):
        yield f"{module.file}:{line}: a brain imports {target}: time, chance and I/O are arguments there"
    allowed = FRAMEWORK_ROOMS.get(top)
    if allowed is not None and module.room not in allowed.split():
        yield f"{module.file}:{line}: {module.room} imports {target}, which only {allowed} may load"


def check_brain_calls(module: Module) -> Iterator[str]:
    """Clocks and chance that need no import of their own: datetime.now(), numpy.random, open()."""
    if module.room not in DRAWING["BRAINS"].split():
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner, name = node.value.id, node.attr
            reads_clock = owner in ("datetime", "date") and name in ("now", "utcnow", "today")
            if reads_clock or (owner in ("np", "numpy") and name == "random"):
                yield f"{module.file}:{node.lineno}: a brain uses {owner}.{name}: time and chance are arguments there"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("open", "input"):
            yield f"{module.file}:{node.lineno}: a brain calls {node.func.id}(): no I/O there"


def check_sizes(module: Module) -> Iterator[str]:
    if module.lines > FILE_LINES:
        yield f"{module.file}:{module.lines}: {module.lines} lines; a file has at most {FILE_LINES}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            lines = node.end_lineno - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield (
                    f"{module.file}:{node.lineno}: {node.name}() has {lines} lines; a function has at most "
                    f"{FUNCTION_LINES}"
                )


def check_names(module: Module) -> Iterator[str]:
    last = module.name.split(".")[-1]
    if last in PLAIN_NAMES.split() or last.split("_")[-1] in PLAIN_NAMES.split():
        yield f"{module.file}:1: {last!r} names nothing; name what the file is about"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef) and node.name.endswith(PLAIN_CLASSES):
            yield f"{module.file}:{node.lineno}: class {node.name}: a name that says nothing"
    if module.tree.body and ast.get_docstring(module.tree) is None:
        yield f"{module.file}:1: no docstring that says why this file exists"


def check_cycles(modules: dict[str, Module]) -> Iterator[str]:
    """Modules that import each other in a ring (strongly connected components, by Tarjan's algorithm)."""
    edges = {
        name: sorted({target for target, _ in imports_of(module, modules) if target in modules and target != name})
        for name, module in modules.items()
    }
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    rings: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in edges[name]:
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            ring = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(ring) > 1:
                rings.append(sorted(ring))

    for name in edges:
        if name not in order:
            visit(name)
    for ring in rings:
        yield f"{modules[ring[0]].file}:1: import cycle: {' · '.join(ring)}"


def check_rooms(root: Path, modules: dict[str, Module]) -> Iterator[str]:
    """Each room is on the drawing, and has tests/ROOM/test_*.py, or tests/test_ROOM.py where it is one file."""
    for room in sorted({module.room for module in modules.values()} - {"slipway"}):
        if room not in FLOOR:
            yield f"slipway/{room}:1: room {room!r} is not on the drawing (DRAWING in tests/test_house.py)"
        has_code = any(module.tree.body for module in modules.values() if module.room == room)
        tests = [*(root / "tests" / room).rglob("test_*.py"), *(root / "tests").glob(f"test_{room}.py")]
        if has_code and not tests:
            yield f"tests/{room}/: room slipway/{room} has no tests"


def check_house(root: Path) -> list[str]:
    """Everything that is wrong, each as `file:line: what and which rule`."""
    modules = read_house(root)
    found: list[str] = []
    for module in modules.values():
        for check in (check_sizes, check_names, check_brain_calls):
            found += check(module)
        found += check_imports(module, modules)
    return [*found, *check_cycles(modules), *check_rooms(root, modules)]


# --- the house as it stands ---------------------------------------------------------------------------------------


def test_the_house_stands_as_drawn() -> None:
    assert len(read_house(ROOT)) > 20
    wrong = check_house(ROOT)
    assert not wrong, "\n" + "\n".join(wrong)


def test_every_folder_of_the_package_is_a_package() -> None:
    """A folder without __init__.py would be missing from the wheel."""
    missing = {p.parent for p in (ROOT / "slipway").rglob("*.py") if not (p.parent / "__init__.py").exists()}
    assert not missing


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import slipway", "numpy onnxruntime sklearn scipy pandas grpc google httpx typer uvloop rich yaml urllib3"),
        (
            "import sys; sys.argv = ['slipway', '--help']\nfrom slipway.cli.main import run\n"
            "try: run()\nexcept SystemExit: pass",
            "numpy onnxruntime sklearn scipy pandas grpc google httpx opentelemetry uvloop rich yaml urllib3 "
            "sqlalchemy alembic fastapi starlette uvicorn pydantic jwt argon2 fsspec",
        ),
    ],
    ids=["import slipway", "slipway --help"],
)
def test_what_starts_light(code: str, heavy: str) -> None:
    said = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert said.returncode == 0, said.stderr
    loaded = {name.split(".")[0] for name in json.loads(said.stderr.splitlines()[-1])}
    assert not loaded & set(heavy.split())
