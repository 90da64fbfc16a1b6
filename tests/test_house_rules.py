"""Each rule of tests/test_house.py can fail: small made-up houses, each with one thing wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_house import check_house

DOC = '"""Why."""\n'


def build(root: Path, files: dict[str, str]) -> Path:
    """A house of `files`; a docstring and tests are added, so that only what the case is about is wrong."""
    for name, text in files.items():
        path = root / "slipway" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(DOC + text)
        tests = root / "tests" / Path(name).parts[0].removesuffix(".py")
        tests.mkdir(parents=True, exist_ok=True)
        (tests / "test_it.py").touch()
    return root


CASES = {
    "up": ({"engine/a.py": "import slipway.gateway.b", "gateway/b.py": ""}, "slipway/engine/a.py:2: imports up"),
    "sideways": ({"wire/a.py": "import slipway.store.b", "store/b.py": ""}, "slipway/wire/a.py:2: imports sideways"),
    "from the package": (
        {"gateway/a.py": "from slipway import controller", "controller/b.py": ""},
        "gateway and controller are strangers",
    ),
    "relative": ({"wire/a.py": "from ..cli import b", "cli/b.py": ""}, "imports up: cli stands above wire"),
    "hidden in a function": (
        {"supervisor/a.py": "def f():\n    from slipway.gateway.b import c", "gateway/b.py": "c = 1"},
        "slipway/supervisor/a.py:3: imports sideways",
    ),
    "for types only": (
        {"infer/a.py": "if TYPE_CHECKING:\n    from slipway.engine.b import c", "engine/b.py": "c = 1"},
        "imports up",
    ),
    "by import_module": (
        {"client/a.py": "import_module('slipway.transports.b')", "transports/b.py": ""},
        "imports sideways",
    ),
    "the roof": ({"engine/a.py": "import slipway"}, "imports up: slipway stands above engine"),
    "limb sees brain": ({"transports/a.py": "import slipway.monitor.b", "monitor/b.py": ""}, "transports sees only"),
    "web sees engine": ({"web/a.py": "import slipway.engine.b", "engine/b.py": ""}, "web sees only client"),
    "brain sees clock": ({"schedule/a.py": "import slipway.clock", "clock.py": ""}, "schedule sees only"),
    "brain imports time": ({"schedule/a.py": "from time import monotonic"}, "a brain imports time"),
    "brain imports in a function": ({"rollout/a.py": "def f():\n    import os.path"}, "a brain imports os.path"),
    "brain reads the date": ({"monitor/a.py": "x = datetime.now()"}, "a brain uses datetime.now"),
    "brain draws lots": ({"routing/a.py": "x = np.random.rand()"}, "a brain uses np.random"),
    "brain reads a file": ({"monitor/a.py": "x = open('x')"}, "a brain calls open()"),
    "framework": ({"gateway/a.py": "import sklearn.base"}, "gateway imports sklearn.base, which only runtimes"),
    "unpickling": ({"store/a.py": "import pickle"}, "store imports pickle, which only runtimes"),
    "long file": ({"wire/a.py": "x = 1\n" * 400}, "401 lines; a file has at most 400"),
    "long function": ({"wire/a.py": "def f():\n" + "    x = 1\n" * 60}, "f() has 61 lines"),
    "long method": (
        {"wire/a.py": "class A:\n    async def g(self):\n" + "        x = 1\n" * 60},
        "slipway/wire/a.py:3: g() has 61 lines",
    ),
    "plain file name": ({"wire/utils.py": ""}, "'utils' names nothing"),
    "plain folder name": ({"wire/common/a.py": ""}, "'common' names nothing"),
    "plain last word": ({"wire/socket_helpers.py": ""}, "'socket_helpers' names nothing"),
    "plain class name": ({"wire/a.py": "class FrameManager: ..."}, "class FrameManager"),
    "unknown room": ({"plumbing/a.py": ""}, "room 'plumbing' is not on the drawing"),
    "unknown target": ({"wire/a.py": "import slipway.plumbing"}, "there is no room 'plumbing'"),
    "cycle": (
        {"wire/a.py": "from . import b", "wire/b.py": "import slipway.wire.c", "wire/c.py": "import slipway.wire.a"},
        "import cycle: slipway.wire.a · slipway.wire.b · slipway.wire.c",
    ),
}


@pytest.mark.parametrize(("files", "words"), CASES.values(), ids=CASES)
def test_each_rule_can_fail(tmp_path: Path, files: dict[str, str], words: str) -> None:
    (wrong,) = check_house(build(tmp_path, files))
    assert words in wrong


def test_what_is_right_passes(tmp_path: Path) -> None:
    house = {
        "errors.py": "",
        "infer/tensor.py": "from slipway.errors import A",
        "schedule/queue.py": "import math\nfrom slipway.infer.tensor import B\nfrom slipway.schedule.batch import C",
        "schedule/batch.py": "def g(now: float) -> None:\n" + "    x = 1\n" * 59,
        "runtimes/sklearn.py": "def load():\n    import sklearn",
        "worker/main.py": "from slipway.runtimes import sklearn",
        "cli/version.py": "from slipway import __version__",
        "gateway/main.py": "from slipway import errors\nimport datetime\nnow = datetime.now()",
    }
    assert check_house(build(tmp_path, house)) == []


def test_a_module_without_docstring(tmp_path: Path) -> None:
    build(tmp_path, {"wire/a.py": ""})
    (tmp_path / "slipway/wire/a.py").write_text("x = 1\n")
    (wrong,) = check_house(tmp_path)
    assert wrong == "slipway/wire/a.py:1: no docstring that says why this file exists"


def test_a_room_without_tests(tmp_path: Path) -> None:
    build(tmp_path, {"wire/a.py": ""})
    (tmp_path / "tests/wire/test_it.py").unlink()
    (wrong,) = check_house(tmp_path)
    assert wrong == "tests/wire/: room slipway/wire has no tests"
