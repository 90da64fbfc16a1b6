"""The three models: tiny (from the examples), large input with little compute, and a convolution net.

The two that are not in the repository are built here, from a seed, so that every machine serves the same numbers.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.contender import ROOT, Model

IMAGE = (3, 224, 224)
_SEED = 20240501


class _Graph:
    """Collects nodes and weights; each layer method returns the name of the tensor it makes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(_SEED)

    def weight(self, *shape: int, spread: float) -> str:
        name = f"w{len(self.weights)}"
        values = (self.random.standard_normal(shape) * spread).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def add(self, kind: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        output = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def conv(self, source: str, channels: tuple[int, int], *, kernel: int, stride: int) -> str:
        wide_in, wide_out = channels
        weights = self.weight(wide_out, wide_in, kernel, kernel, spread=(2 / (wide_in * kernel**2)) ** 0.5)
        bias = self.weight(wide_out, spread=0.01)
        pads = [kernel // 2] * 4
        return self.add("Conv", [source, weights, bias], strides=[stride, stride], pads=pads)

    def head(self, source: str, channels: int, classes: int, output: str) -> None:
        flat = self.add("Flatten", [self.add("GlobalAveragePool", [source])])
        weights = self.weight(channels, classes, spread=channels**-0.5)
        self.add("Gemm", [flat, weights, self.weight(classes, spread=0.01)], output)

    def save(self, path: Path, *, output: str, classes: int) -> None:
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", *IMAGE])
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["rows", classes])
        graph = helper.make_graph(self.nodes, path.stem, [image], [result], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        # Written aside and renamed: an interrupted run must not leave half a model behind.
        aside = path.with_suffix(".part")
        onnx.save(model, str(aside))
        aside.rename(path)


def _build_pixels(path: Path) -> None:
    graph = _Graph()
    graph.head("image", IMAGE[0], 10, "scores")
    graph.save(path, output="scores", classes=10)


def _build_convnet(path: Path) -> None:
    """ResNet-18's shape: a stem, four stages of two residual blocks, a linear head (batch norms folded away)."""
    graph = _Graph()
    stem = graph.add("Relu", [graph.conv("image", (3, 64), kernel=7, stride=2)])
    flow = graph.add("MaxPool", [stem], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    wide_in = 64
    for wide_out in (64, 128, 256, 512):
        for block in range(2):
            stride = 2 if block == 0 and wide_out > 64 else 1
            inner = graph.add("Relu", [graph.conv(flow, (wide_in, wide_out), kernel=3, stride=stride)])
            inner = graph.conv(inner, (wide_out, wide_out), kernel=3, stride=1)
            if stride != 1:
                flow = graph.conv(flow, (wide_in, wide_out), kernel=1, stride=stride)
            flow = graph.add("Relu", [graph.add("Add", [inner, flow])])
            wide_in = wide_out
    graph.head(flow, 512, 1000, "logits")
    graph.save(path, output="logits", classes=1000)


def _expected(path: Path, input_name: str, rows: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {input_name: rows}), strict=True))


def iris() -> Model:
    path = ROOT / "examples" / "iris" / "iris.onnx"
    rows = np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)
    return Model(
        key="iris",
        path=path,
        input_name="input",
        main_output="probabilities",
        rows=rows,
        expected=_expected(path, "input", rows),
        batch_rows=64,
        one_instance=False,
    )


def _image_model(path: Path, *, rows: int, output: str, batch_rows: int, one_instance: bool) -> Model:
    pixels = np.random.default_rng(_SEED).random((rows, *IMAGE), np.float32)
    return Model(
        key=path.stem,
        path=path,
        input_name="image",
        main_output=output,
        rows=pixels,
        expected=_expected(path, "image", pixels),
        batch_rows=batch_rows,
        one_instance=one_instance,
    )


def model(key: str, cache: Path) -> Model:
    """The model of that key, built under `cache` if it is not there yet."""
    if key == "iris":
        return iris()
    path = cache / "models" / f"{key}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    build = {"pixels": _build_pixels, "convnet": _build_convnet}[key]
    if not path.exists():
        build(path)
    if key == "pixels":
        return _image_model(path, rows=1, output="scores", batch_rows=8, one_instance=False)
    # A request is a full batch: servers and the bare loop then run exactly the same batches.
    return _image_model(path, rows=8, output="logits", batch_rows=8, one_instance=True)
