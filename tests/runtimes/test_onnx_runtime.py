"""The ONNX runtime on graphs of every kind: datatypes, shapes, maps, options, and what is refused at load."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from slipway.errors import InvalidInput, InvalidOutput, LoadFailure, MissingExtra, ModelFailure
from slipway.infer.arrays import to_array, to_tensor
from slipway.infer.runtime import LoadOptions, Runtime
from slipway.infer.signature import TensorSpec
from slipway.infer.tensor import Tensor
from slipway.runtimes.table import load_runtime

X, Y = load_iris(return_X_y=True)
FLOAT = TensorProto.FLOAT
Build = Callable[..., Runtime]


def value(name: str, shape: Sequence[Any] | None, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """A runtime of a graph: nodes, inputs, outputs, initializers."""

    def make(
        nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], weights: Sequence[Any] = (), **options: str
    ) -> Runtime:
        graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(weights))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        path = tmp_path / "graph.onnx"
        onnx.save(model, path)
        return load_runtime(
            "onnx", str(path), LoadOptions(options={k.replace("__", "."): v for k, v in options.items()})
        )

    return make


def identity(x: str = "x", y: str = "y") -> Any:
    return helper.make_node("Identity", [x], [y])


KINDS = {
    "BOOL": (TensorProto.BOOL, np.array([[True, False], [False, True]])),
    "UINT8": (TensorProto.UINT8, np.array([[0, 255], [1, 2]], "u1")),
    "UINT16": (TensorProto.UINT16, np.array([[0, 65535], [1, 2]], "u2")),
    "UINT32": (TensorProto.UINT32, np.array([[0, 2**32 - 1], [1, 2]], "u4")),
    "UINT64": (TensorProto.UINT64, np.array([[0, 2**64 - 1], [1, 2]], "u8")),
    "INT8": (TensorProto.INT8, np.array([[-128, 127], [1, 2]], "i1")),
    "INT16": (TensorProto.INT16, np.array([[-1, 32767], [1, 2]], "i2")),
    "INT32": (TensorProto.INT32, np.array([[-1, 2**31 - 1], [1, 2]], "i4")),
    "INT64": (TensorProto.INT64, np.array([[-1, 2**63 - 1], [1, 2]], "i8")),
    "FP16": (TensorProto.FLOAT16, np.array([[0.5, -1], [np.inf, 2]], "f2")),
    "BF16": (TensorProto.BFLOAT16, np.array([[0.5, -1], [np.inf, 2]], ml_dtypes.bfloat16)),
    "FP32": (FLOAT, np.array([[0.5, -1], [np.inf, 2]], "f4")),
    "FP64": (TensorProto.DOUBLE, np.array([[0.5, -1], [np.inf, 2]], "f8")),
    "BYTES": (TensorProto.STRING, np.array([["å\0b", ""], ["日本", "x"]], object)),
}


@pytest.mark.parametrize("datatype", KINDS)
def test_every_datatype_goes_through_bit_by_bit(build: Build, datatype: str) -> None:
    kind, array = KINDS[datatype]
    runtime = build([identity()], [value("x", ["n", 2], kind)], [value("y", ["n", 2], kind)])
    assert runtime.signature.inputs == (TensorSpec("x", datatype, (-1, 2)),)
    assert runtime.signature.outputs == (TensorSpec("y", datatype, (-1, 2)),)
    assert runtime.signature.batchable
    tensor = to_tensor("x", array)
    (answer,) = runtime.predict([tensor])
    assert (answer.name, answer.datatype, answer.shape) == ("y", datatype, (2, 2))
    assert bytes(answer.data) == bytes(tensor.data)


def test_every_datatype_in_one_model(build: Build) -> None:
    """bfloat16 asks for another way through ONNX Runtime, which all the others must survive."""
    names = [name for name in KINDS if name != "BYTES"]
    text = numpy_helper.from_array(np.array(["a", "b"], object), "text")
    runtime = build(
        [*(identity(f"x{name}", f"y{name}") for name in names), identity("text", "ytext")],
        [value(f"x{name}", [None, 2], KINDS[name][0]) for name in names],
        [*(value(f"y{name}", [None, 2], KINDS[name][0]) for name in names), value("ytext", [2], TensorProto.STRING)],
        [text],
    )
    inputs = [to_tensor(f"x{name}", KINDS[name][1]) for name in names]
    *answers, ytext = runtime.predict(inputs)
    for tensor, answer in zip(inputs, answers, strict=True):
        assert answer.datatype == tensor.datatype
        assert bytes(answer.data) == bytes(tensor.data)
    assert to_array(ytext).tolist() == [b"a", b"b"]


def test_text_with_bfloat16_is_refused_at_load(build: Build) -> None:
    with pytest.raises(LoadFailure, match="takes text and has bfloat16"):
        build(
            [identity("a", "c"), identity("b", "d")],
            [value("a", ["n"], TensorProto.STRING), value("b", ["n"], TensorProto.BFLOAT16)],
            [value("c", ["n"], TensorProto.STRING), value("d", ["n"], TensorProto.BFLOAT16)],
        )


def test_unaligned_and_read_only_inputs(build: Build) -> None:
    runtime = build([identity()], [value("x", ["n", 2])], [value("y", ["n", 2])])
    data = np.array([[1, 2]], "f4").tobytes()
    (answer,) = runtime.predict([Tensor("x", "FP32", (1, 2), memoryview(b"-" + data)[1:])])
    assert bytes(answer.data) == data


def test_text_that_is_no_text_is_the_callers_fault(build: Build) -> None:
    runtime = build([identity()], [value("x", ["n"], TensorProto.STRING)], [value("y", ["n"], TensorProto.STRING)])
    with pytest.raises(InvalidInput, match="input 'x': element 1 is not UTF-8"):
        runtime.predict([to_tensor("x", np.array([b"ok", b"\xff"], object))])


def test_scalars_and_fixed_shapes_are_computed_alone(build: Build) -> None:
    runtime = build(
        [helper.make_node("Add", ["x", "b"], ["y"])], [value("x", []), value("b", [1, 3])], [value("y", None)]
    )
    assert not runtime.signature.batchable
    assert [spec.shape for spec in runtime.signature.inputs] == [(), (1, 3)]
    (answer,) = runtime.predict([to_tensor("x", np.float32(1)), to_tensor("b", np.zeros((1, 3), "f4"))])
    assert to_array(answer).tolist() == [[1, 1, 1]]


@pytest.mark.parametrize(
    ("node", "output", "why"),
    [
        (helper.make_node("ReduceSum", ["x"], ["y"], keepdims=1), ["n", 1], "one number for the whole batch"),
        (helper.make_node("Transpose", ["x"], ["y"]), ["a", "n"], "rows where columns were"),
        (helper.make_node("NonZero", ["x"], ["y"]), None, "as many as there are"),
    ],
)
def test_a_dynamic_first_dimension_that_counts_no_rows(build: Build, node: Any, output: Any, why: str) -> None:
    kind = TensorProto.INT64 if node.op_type == "NonZero" else FLOAT
    runtime = build([node], [value("x", ["n", 4])], [value("y", output, kind)])
    assert not runtime.signature.batchable, why
    runtime.predict(runtime.example(3))


def test_shapes_that_the_graph_leaves_open_are_seen(build: Build) -> None:
    runtime = build([helper.make_node("Relu", ["x"], ["y"])], [value("x", ["n", 3, "w"])], [value("y", None)])
    assert runtime.signature.outputs == (TensorSpec("y", "FP32", (-1, 3, -1)),)
    assert runtime.signature.batchable


def test_no_rows_give_no_rows(build: Build) -> None:
    runtime = build([identity()], [value("x", ["n", 2])], [value("y", ["n", 2])])
    (answer,) = runtime.predict([Tensor("x", "FP32", (0, 2), b"")])
    assert (answer.shape, bytes(answer.data)) == ((0, 2), b"")


def test_convolutions_find_an_example_large_enough(build: Build) -> None:
    kernel = numpy_helper.from_array(np.ones((1, 1, 5, 5), "f4"), "k")
    runtime = build([helper.make_node("Conv", ["x", "k"], ["y"])], [value("x", ["n", 1, "h", "w"])],
                    [value("y", ["n", 1, "a", "b"])], [kernel])  # fmt: skip
    assert runtime.signature.batchable
    assert runtime.example(2)[0].shape == (2, 1, 8, 8)
    assert runtime.predict(runtime.example(2))[0].shape == (2, 1, 4, 4)


def test_a_shape_option_narrows_what_the_graph_left_open(build: Build) -> None:
    nodes, inputs, outputs = [identity()], [value("x", None)], [value("y", None)]
    runtime = build(nodes, inputs, outputs, shape__x="-1,3")
    assert runtime.signature.inputs[0].shape == (-1, 3)
    assert runtime.signature.batchable
    with pytest.raises(LoadFailure, match=r"option shape\.z: the model has no input 'z', it has x"):
        build(nodes, inputs, outputs, shape__z="-1,3")
    with pytest.raises(LoadFailure, match=r"'three' in 'FP32\[-1,three\]' is not a size"):
        build(nodes, inputs, outputs, shape__x="-1,three")


def test_weights_as_inputs_only_when_asked_for(build: Build) -> None:
    graph = (
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [value("x", ["n", 2]), value("w", [2])],
        [value("y", ["n", 2])],
        [numpy_helper.from_array(np.array([1, 2], "f4"), "w")],
    )
    plain = build(*graph)
    assert [spec.name for spec in plain.signature.inputs] == ["x"]
    assert plain.signature.batchable
    open_ = build(*graph, initializers_as_inputs="true")
    assert open_.signature.inputs[1] == TensorSpec("w", "FP32", (2,), optional=True)
    x, w = to_tensor("x", np.zeros((1, 2), "f4")), to_tensor("w", np.array([5, 6], "f4"))
    assert to_array(open_.predict([x])[0]).tolist() == [[1, 2]]
    assert to_array(open_.predict([x, w])[0]).tolist() == [[5, 6]]


def test_optional_inputs_may_be_left_out(build: Build) -> None:
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, [None, 2]))
    runtime = build(
        [helper.make_node("OptionalHasElement", ["o"], ["y"])],
        [helper.make_value_info("o", kind)],
        [value("y", [], TensorProto.BOOL)],
    )
    assert runtime.signature.inputs[0].optional
    assert not runtime.signature.batchable
    assert to_array(runtime.predict([])[0]) == False  # noqa: E712
    assert to_array(runtime.predict([to_tensor("o", np.zeros((1, 2), "f4"))])[0]) == True  # noqa: E712


@pytest.mark.parametrize("labels", [Y, np.array(["setosa", "versicolor", "virginica"])[Y]])
def test_maps_of_classes_become_a_matrix(tmp_path: Path, labels: np.ndarray) -> None:
    model = LogisticRegression(max_iter=300).fit(X, labels)
    path = tmp_path / "zipmap.onnx"
    path.write_bytes(to_onnx(model, X[:1].astype("f4"), options={"zipmap": True}).SerializeToString())
    runtime = load_runtime("onnx", str(path), LoadOptions())
    label, probabilities = runtime.signature.outputs
    assert label.datatype == ("INT64" if labels is Y else "BYTES")
    assert (probabilities.datatype, probabilities.shape) == ("FP32", (-1, 3))
    assert runtime.signature.batchable
    assert runtime.extra["classes"] == {probabilities.name: list(model.classes_)}
    answers = runtime.predict([to_tensor("X", X.astype("f4"))])
    np.testing.assert_allclose(to_array(answers[1]), model.predict_proba(X), atol=1e-5)
    assert runtime.predict([to_tensor("X", X[:0].astype("f4"))])[1].shape == (0, 3)


def test_maps_whose_classes_nobody_can_see_are_refused(build: Build) -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "s"], ["m"]),
        helper.make_node("ZipMap", ["m"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2]),
    ]
    with pytest.raises(LoadFailure, match=r"'zipmap': False"):
        build(
            nodes,
            [value("x", ["n", "k"])],
            [helper.make_value_info("y", helper.make_sequence_type_proto(helper.make_map_type_proto(
                TensorProto.INT64, helper.make_tensor_type_proto(FLOAT, []))))],
            [numpy_helper.from_array(np.array([-1, 7], "i8"), "s")],
        )  # fmt: skip


def test_sequences_are_refused_with_what_to_do(build: Build) -> None:
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    with pytest.raises(LoadFailure, match=r"output 'y' is a seq\(tensor\(float\)\).*Concat or SequenceAt"):
        build([helper.make_node("SequenceConstruct", ["x"], ["y"])], [value("x", ["n", 2])],
              [helper.make_value_info("y", sequence)])  # fmt: skip
    with pytest.raises(LoadFailure, match="input 'x' is a seq"):
        build(
            [helper.make_node("SequenceAt", ["x", "i"], ["y"])],
            [helper.make_value_info("x", sequence), value("i", [], TensorProto.INT64)],
            [value("y", None)],
        )


def test_batchable_by_option(build: Build) -> None:
    graph = ([identity()], [value("x", ["n", 2])], [value("y", ["n", 2])])
    assert not build(*graph, batchable="false").signature.batchable
    with pytest.raises(LoadFailure, match=r"batchable=true: input 'x' has the shape \[1, 2\]"):
        build([identity()], [value("x", [1, 2])], [value("y", [1, 2])], batchable="true")


def test_options_are_read_strictly(build: Build) -> None:
    graph = ([identity()], [value("x", ["n", 2])], [value("y", ["n", 2])])
    build(*graph, graph_optimization_level="basic", execution_mode="parallel", session__set_denormal_as_zero="1")
    with pytest.raises(
        LoadFailure, match="no option 'graph_optimisation_level', did you mean 'graph_optimization_level'"
    ):
        build(*graph, graph_optimisation_level="basic")
    with pytest.raises(LoadFailure, match="it is one of disabled, basic, extended, all"):
        build(*graph, graph_optimization_level="fast")
    with pytest.raises(LoadFailure, match="it is true or false"):
        build(*graph, allow_spinning="perhaps")


def test_devices_that_are_not_there(build: Build, tmp_path: Path) -> None:
    build([identity()], [value("x", ["n", 2])], [value("y", ["n", 2])])
    path = str(tmp_path / "graph.onnx")
    with pytest.raises(MissingExtra, match=r"device cuda:0 needs ONNX Runtime for CUDA.*pip install onnxruntime-gpu"):
        load_runtime("onnx", path, LoadOptions(device="cuda:0"))
    with pytest.raises(LoadFailure, match="device 'gpu' is not known; it is cpu, or cuda:N"):
        load_runtime("onnx", path, LoadOptions(device="gpu"))


def test_weights_in_a_file_beside_the_model(tmp_path: Path) -> None:
    weights = np.arange(4096, dtype="f4").reshape(2, 2048)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [value("x", ["n", 2])], [value("y", ["n", 2048])],
        [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder = tmp_path / "served"
    folder.mkdir()
    onnx.save(model, folder / "net.onnx", save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    runtime = load_runtime("onnx", str(folder), LoadOptions())
    (answer,) = runtime.predict([to_tensor("x", np.array([[1, 0]], "f4"))])
    np.testing.assert_array_equal(to_array(answer)[0], weights[0])
    (folder / "net.onnx.data").unlink()
    with pytest.raises(LoadFailure, match=r"net\.onnx\.data|external"):
        load_runtime("onnx", str(folder), LoadOptions())


def test_damaged_models_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x09:\x05hello")
    with pytest.raises(LoadFailure, match=r"ONNX Runtime [\d.]+ refuses"):
        load_runtime("onnx", str(tmp_path / "bad.onnx"), LoadOptions())


def test_what_the_model_says_against_an_input_is_passed_on(build: Build) -> None:
    runtime = build([helper.make_node("Add", ["a", "b"], ["y"])],
                    [value("a", ["n", "k"]), value("b", ["n", "j"])], [value("y", None)])  # fmt: skip
    with pytest.raises(ModelFailure, match=r"ONNX Runtime: .*Add") as caught:
        runtime.predict([to_tensor("a", np.zeros((2, 3), "f4")), to_tensor("b", np.zeros((2, 4), "f4"))])
    assert "onnxruntime_src" not in caught.value.message
    assert isinstance(caught.value.__cause__, Exception)


def test_an_output_that_breaks_its_promise(build: Build) -> None:
    """A graph whose answer to these values has fewer rows than the question."""
    runtime = build(
        [helper.make_node("Greater", ["x", "z"], ["m"]), helper.make_node("Not", ["m"], ["keep"]),
         helper.make_node("Compress", ["x", "keep"], ["y"], axis=0)],
        [value("x", ["n"])], [value("y", ["n"])], [numpy_helper.from_array(np.float32(0), "z")],
    )  # fmt: skip
    assert runtime.signature.batchable
    with pytest.raises(InvalidOutput, match="'y' has 1 rows for 2 rows of input"):
        runtime.predict([to_tensor("x", np.array([1, 0], "f4"))])


def test_large_outputs_are_handed_on_without_a_copy(build: Build) -> None:
    runtime = build([helper.make_node("Relu", ["x"], ["y"])], [value("x", ["n", 65536])], [value("y", ["n", 65536])])
    (answer,) = runtime.predict([to_tensor("x", np.ones((1, 65536), "f4"))])
    assert isinstance(answer.data, memoryview)
    assert bytes(answer.data) == np.ones(65536, "f4").tobytes()


def test_no_threads_beyond_those_granted(build: Build) -> None:
    before = threading.active_count(), len(list(Path("/proc/self/task").iterdir()))
    runtime = build([identity()], [value("x", ["n", 2])], [value("y", ["n", 2])])
    runtime.predict(runtime.example(8))
    assert (threading.active_count(), len(list(Path("/proc/self/task").iterdir()))) == before
    runtime.close()
    with pytest.raises(ModelFailure, match="closed"):
        runtime.predict(runtime.example(1))
