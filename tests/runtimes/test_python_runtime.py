"""Python classes: where their signature comes from, what they are given, what they may answer, how they fail."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipway.errors import InvalidInput, InvalidOutput, LoadFailure, ModelFailure
from slipway.infer.arrays import to_array, to_tensor
from slipway.infer.runtime import LoadOptions, Runtime
from slipway.infer.signature import TensorSpec, count_rows
from slipway.infer.tensor import Tensor
from slipway.runtimes.table import load_runtime

HEAD = """
from typing import Annotated
import numpy as np
from slipway import Model
from slipway.errors import InvalidInput

"""
Serve = Callable[..., Runtime]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """A runtime of the source text of a class `M`."""

    def make(source: str, *, threads: int = 1, device: str = "cpu", **options: str) -> Runtime:
        path = tmp_path / f"model_{len(list(tmp_path.iterdir()))}.py"
        path.write_text(HEAD + textwrap.dedent(source))
        return load_runtime("python", f"{path}:M", LoadOptions(threads=threads, device=device, options=options))

    return make


def ask(runtime: Runtime, **inputs: Any) -> list[Any]:
    tensors = [to_tensor(name, value) for name, value in inputs.items()]
    count_rows(runtime.signature, tensors)
    return [to_array(tensor).tolist() for tensor in runtime.predict(tensors)]


F4 = np.array([[1, 2], [3, 4]], "f4")


def test_declared(serve: Serve) -> None:
    runtime = serve("""
        class M(Model):
            inputs = {"x": "FP32[-1,2]", "names": "BYTES[-1]"}
            outputs = {"sum": "FP32[-1]", "text": "BYTES[-1]"}
            def predict(self, x, names):
                return {"text": [name.decode().upper() for name in names], "sum": x.sum(axis=1)}
    """)
    assert runtime.platform == "python_class"
    assert runtime.signature.batchable
    assert runtime.signature.inputs == (TensorSpec("x", "FP32", (-1, 2)), TensorSpec("names", "BYTES", (-1,)))
    assert ask(runtime, x=F4, names=["å", "b"]) == [[3, 7], ["Å".encode(), b"B"]]


def test_annotated(serve: Serve) -> None:
    runtime = serve("""
        class M(Model):
            def predict(
                self, x: Annotated[np.ndarray, "FP32[-1,2]"], scale: Annotated[np.ndarray, "FP32[-1]"] = None
            ) -> tuple[Annotated[np.ndarray, "FP32[-1,2]"], Annotated[np.ndarray, "INT64[-1]"]]:
                return (x * (1 if scale is None else scale[:, None])), np.arange(len(x))
    """)
    assert runtime.signature.inputs[1] == TensorSpec("scale", "FP32", (-1,), optional=True)
    assert runtime.signature.outputs == (
        TensorSpec("output_0", "FP32", (-1, 2)),
        TensorSpec("output_1", "INT64", (-1,)),
    )
    assert ask(runtime, x=F4) == [F4.tolist(), [0, 1]]
    assert ask(runtime, x=F4, scale=np.array([2, 0], "f4")) == [[[2, 4], [0, 0]], [0, 1]]


@pytest.mark.parametrize("take", ["inputs: dict", "inputs: dict[str, np.ndarray]", "**inputs"])
def test_all_inputs_at_once(serve: Serve, take: str) -> None:
    runtime = serve(f"""
        class M(Model):
            inputs = {{"a b": "FP32[-1,2]", "c": "FP32[-1,2]"}}
            outputs = {{"y": "FP32[-1,2]"}}
            def predict(self, {take}):
                return inputs["a b"] + inputs["c"]
    """)
    assert ask(runtime, **{"a b": F4, "c": F4}) == [(F4 * 2).tolist()]


def test_outputs_that_nobody_declared_are_seen(serve: Serve) -> None:
    runtime = serve("""
        class M(Model):
            inputs = {"x": "FP32[-1,2]"}
            def predict(self, x):
                return {"y": x.astype("f8"), "n": np.array([len(str(row)) for row in x]), "t": ["a"] * len(x)}
    """)
    assert [(spec.name, spec.datatype, spec.shape) for spec in runtime.signature.outputs] == [
        ("y", "FP64", (-1, 2)),
        ("n", "INT64", (-1,)),
        ("t", "BYTES", (-1,)),
    ]
    assert runtime.signature.batchable
    with pytest.raises(
        LoadFailure, match="declares no outputs, and a trial to find them failed: M failed: ValueError: no"
    ):
        serve("""
            class M(Model):
                inputs = {"x": "FP32[-1,2]"}
                def predict(self, x):
                    raise ValueError("no zeros please")
        """)


def test_what_counts_no_rows_is_computed_alone(serve: Serve) -> None:
    total = "class M(Model):\n    inputs = {'x': 'FP32[-1,2]'}\n"
    assert not serve(total + "    def predict(self, x): return x.sum()").signature.batchable
    fixed = "class M(Model):\n    inputs = {'x': 'FP32[2]'}\n    outputs = {'y': 'FP32[2]'}\n"
    runtime = serve(fixed + "    def predict(self, x): return x")
    assert not runtime.signature.batchable
    assert ask(runtime, x=np.array([1, 2], "f4")) == [[1, 2]]
    alone = "class M(Model):\n    inputs = {'x': 'FP32[-1]'}\n    batchable = False\n"
    assert not serve(alone + "    def predict(self, x): return x").signature.batchable
    with pytest.raises(LoadFailure, match="batchable = True, but not every"):
        serve(fixed + "    batchable = True\n    def predict(self, x): return x")


def test_async_models_and_the_whole_life(serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "log"
    runtime = serve(
        """
        import asyncio
        class M(Model):
            inputs = {"x": "FP32[-1]"}
            outputs = {"y": "FP32[-1]"}
            def __init__(self, log):
                self.log = log
            def say(self, word):
                with open(self.log, "a") as file:
                    file.write(word + " ")
            async def load(self):
                self.say(f"load:{self.threads}:{self.device}")
                self.lock = asyncio.Lock()
            async def predict(self, x):
                async with self.lock:
                    await asyncio.sleep(0)
                    return x + 1
            async def warm_up(self):
                self.say("warm_up")
            async def close(self):
                self.say("close")
        """,
        threads=3,
        device="cuda:1",
        log=str(log),
    )
    assert ask(runtime, x=np.array([1, 2], "f4")) == [[2, 3]]
    runtime.close()
    assert log.read_text().split() == ["load:3:cuda:1", "warm_up", "close"]


def test_arguments_may_be_changed_in_place(serve: Serve) -> None:
    runtime = serve("""
        class M(Model):
            inputs = {"x": "FP32[-1]", "t": "BYTES[-1]"}
            outputs = {"y": "FP32[-1]"}
            def predict(self, x, t):
                x += 1
                t[:] = b"new"
                return x
    """)
    data = np.array([1], "f4").tobytes()
    text = to_tensor("t", np.array([b"old"], object))
    (answer,) = runtime.predict([Tensor("x", "FP32", (1,), data), text])
    assert to_array(answer).tolist() == [2]
    assert data == np.array([1], "f4").tobytes()


ONE = (
    "class M(Model):\n    inputs = {'x': 'FP32[-1]'}\n    outputs = {'y': 'FP32[-1]'}\n"
    "    def predict(self, x): return "
)
TWO = ONE.replace("{'y': 'FP32[-1]'}", "{'y': 'FP32[-1]', 'z': 'INT64[-1]'}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (ONE + "x[:1]", "'y' has 1 rows for 2 rows of input"),
        (ONE + "x[:, None]", r"'y' has shape \[2, 1\], expected \[-1\]"),
        (ONE + "None", "M answers nothing; does its predict lack a return"),
        (ONE + "['a', 'b']", "'y' has dtype <U1, which does not become FP32"),
        (ONE + "[object(), object()]", "'y' has dtype object"),
        (ONE + "[[1], [1, 2]]", "'y' cannot be read as an array"),
        (ONE + "{'Y': x}", "the answer of M lacks y; its outputs are y"),
        (ONE + "{'y': x, 'q': x}", "the answer of M has the unknown q"),
        (ONE + "(x, x)", "M answers 2 values for its outputs y"),
        (TWO + "x", "M answers a ndarray, expected a dict or tuple of y, z"),
        (TWO + "(x, x + 0.5)", "'z' has dtype float32, which does not become INT64 without loss"),
        (TWO + "{'y': x}", "the answer of M lacks z"),
    ],
)
def test_answers_that_are_none(serve: Serve, source: str, message: str) -> None:
    with pytest.raises(InvalidOutput, match=message):
        ask(serve(source), x=np.array([1, 2], "f4"))


@pytest.mark.parametrize("answer", ["x", "[1, 2]", "(x,)", "[np.float64(1), 2]", "{'y': [1, 2]}", "np.array([1, 2])"])
def test_answers_in_every_form(serve: Serve, answer: str) -> None:
    assert ask(serve(ONE + answer), x=np.array([1, 2], "f4")) == [[1, 2]]


def test_no_rows_never_reach_the_model(serve: Serve) -> None:
    assert ask(serve(ONE + "1 / 0"), x=np.zeros(0, "f4")) == [[]]


def test_exceptions_carry_the_models_words(serve: Serve) -> None:
    runtime = serve(
        "class M(Model):\n    inputs = {'x': 'FP32[-1]'}\n    outputs = {'y': 'FP32[-1]'}\n"
        "    def predict(self, x):\n        if x[0] < 0: raise InvalidInput('ages are not negative')\n"
        "        if x[0] > 9: raise MemoryError\n        raise KeyError('weights')\n"
    )
    with pytest.raises(ModelFailure, match="M failed: KeyError: 'weights'") as caught:
        ask(runtime, x=np.ones(1, "f4"))
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(InvalidInput, match="ages are not negative"):
        ask(runtime, x=-np.ones(1, "f4"))
    with pytest.raises(MemoryError):
        ask(runtime, x=np.full(1, 10, "f4"))


def test_options_go_to_the_constructor(serve: Serve) -> None:
    source = """
        class M(Model):
            inputs = {"x": "FP32[-1]"}
            outputs = {"y": "FP32[-1]", "name": "BYTES[-1]"}
            def __init__(self, scale: float = 1.0, shout: bool = False, name="none"):
                self.scale, self.name = scale, name.upper() if shout else name
            def predict(self, x):
                return x * self.scale, [self.name] * len(x)
    """
    x = np.ones(1, "f4")
    assert ask(serve(source), x=x) == [[1], [b"none"]]
    assert ask(serve(source, scale="2.5", shout="true", name="me"), x=x) == [[2.5], [b"ME"]]
    with pytest.raises(LoadFailure, match="M takes no option 'scal', did you mean 'scale'"):
        serve(source, scal="2")
    with pytest.raises(LoadFailure, match="option scale='two' is not float"):
        serve(source, scale="two")
    with pytest.raises(LoadFailure, match="M takes no option 'a'; it takes none"):
        serve(ONE + "x", a="1")


def test_an_example_of_the_models_own(serve: Serve) -> None:
    runtime = serve("""
        class M(Model):
            inputs = {"x": "FP32[-1]"}
            def example(self, rows):
                return {"x": np.full(rows, 5)}
            def predict(self, x):
                assert (x == 5).all()
                return x
    """)
    assert to_array(runtime.example(3)[0]).tolist() == [5, 5, 5]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("class M(Model): pass", "M has no predict method"),
        (
            "class M(Model):\n    def predict(self, x): return x",
            "takes 'x', which has no datatype and shape; declare it",
        ),
        ("class M(Model):\n    def predict(self, x: np.ndarray): return x", "no datatype and shape"),
        ("class M(Model):\n    def predict(self): return 1", "takes no inputs"),
        ("class M(Model):\n    def predict(self, **x): return 1", "nothing names them"),
        ("class M(Model):\n    def predict(self, *x): return 1", "so it must take them by name"),
        ("class M(Model):\n    inputs = ['x']\n    def predict(self, x): return 1", "it is a dict by name"),
        (
            "class M(Model):\n    inputs = {'y': 'FP32[-1]'}\n    def predict(self, x): return 1",
            "takes 'x'.*declares y",
        ),
        (
            "class M(Model):\n    inputs = {'x': 'FP32[-1]', 'y': 'FP32[-1]'}\n    def predict(self, x): return 1",
            "declares 'y', which predict does not take; it takes x",
        ),
        ("class M(Model):\n    inputs = {'x': 'FP32'}\n    def predict(self, x): return 1", r"looks like FP32\[-1,4\]"),
        ("class M(Model):\n    inputs = {'x': 3}\n    def predict(self, x): return 1", "3, which is not text"),
        ("class M(Model):\n    inputs = {'x': 'FP31[-1]'}\n    def predict(self, x): return 1", "did you mean FP32"),
        ("class M(Model):\n    inputs = {'x': 'str[-1]'}\n    def predict(self, x): return 1", "did you mean BYTES"),
        (
            "class M(Model):\n    inputs = {'x': 'FP32[-2]'}\n    def predict(self, x): return 1",
            "-2 in .* is not a size",
        ),
        (
            "class M(Model):\n    inputs = {'x': 'FP32[a]'}\n    def predict(self, x): return 1",
            "'a' in .* is not a size",
        ),
        (ONE + "x\n    def load(self): raise OSError('no weights')", "M failed to load: OSError: no weights"),
        (ONE + "x\n    def warm_up(self): raise OSError('cold')", "M failed to load: OSError: cold"),
        (ONE + "x\n    def __init__(self, path): pass", "M failed to load: TypeError: .*path"),
        ("import nothing_like_it\n" + ONE + "x", "imports 'nothing_like_it', which is not installed: pip install"),
    ],
)
def test_classes_that_cannot_be_served_are_told_why(serve: Serve, source: str, message: str) -> None:
    with pytest.raises(LoadFailure, match=message):
        serve(source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise SystemExit(3)", "importing 'module_0' failed: SystemExit: 3"),
        ("def broken(:", "importing 'module_1' failed: SyntaxError"),
        ("M = 3", "module_2:M is not a class derived from slipway.Model"),
        ("class N(Model): pass", "'module_3' has no class 'M'"),
    ],
)
def test_modules_that_hold_no_model(source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = message.partition("module_")[2][0]
    (tmp_path / f"module_{name}.py").write_text(HEAD + source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(LoadFailure, match=message):
        load_runtime("python", f"module_{name}:M", LoadOptions())


def test_modules_are_found_from_the_working_folder(tmp_path: Path) -> None:
    """In a process of its own, as a worker does it, with a neighbour that the model imports."""
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "scale.py").write_text("FACTOR = 3\n")
    (tmp_path / "pkg" / "net.py").write_text(
        HEAD + "from pkg.scale import FACTOR\n" + ONE.replace("class M", "class Net") + "x * FACTOR\n"
    )
    code = textwrap.dedent("""
        import sys
        from slipway.errors import SetupError
        from slipway.infer.runtime import LoadOptions
        from slipway.infer.tensor import Tensor
        from slipway.runtimes.recognise import recognise
        from slipway.runtimes.table import load_runtime
        path = sys.argv[1]
        try:
            runtime = load_runtime(recognise(path), path, LoadOptions())
            print(runtime.predict([Tensor("x", "FP32", (1,), bytes([0, 0, 128, 63]))])[0].data.hex())
        except SetupError as error:
            print(error.message)
    """)

    def run(path: str) -> str:
        sys_path = os.pathsep.join(sys.path)
        done = subprocess.run(
            [sys.executable, "-c", code, path], cwd=tmp_path, capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONPATH": sys_path},
        )  # fmt: skip
        return done.stdout.strip()

    assert run("pkg.net:Net") == "00004040"
    assert "has no class 'Nett'; did you mean 'Net'" in run("pkg.net:Nett")
    assert "there is no module 'pkg.nett'" in run("pkg.nett:Net")
    assert "there is no module 'gone'" in run("gone:Net")


def test_importing_slipway_imports_nothing_heavy() -> None:
    code = (
        "import sys, slipway\nslipway.Model\n"
        "heavy = {'numpy', 'httpx', 'asyncio', 'msgspec'} & set(sys.modules)\nassert not heavy, heavy\n"
        "assert sorted(dir(slipway)) == sorted(slipway.__all__)\n"
        "try: slipway.Modle\nexcept AttributeError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "has no attribute 'Modle'" in done.stdout
