"""The model as every hand-written server under this folder runs it: onnxruntime, one thread, nothing around it.

Runs in the contenders' own environments: onnxruntime and numpy are all it may import.
"""

import contextlib
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

NAME = os.environ["BENCH_MODEL_NAME"]
HTTP_PORT = int(os.environ["BENCH_HTTP_PORT"])
GRPC_PORT = int(os.environ["BENCH_GRPC_PORT"])
BATCH_ROWS = int(os.environ["BENCH_BATCH_ROWS"])
ONE_INSTANCE = bool(os.environ["BENCH_ONE_INSTANCE"])
DATATYPES = {"float32": "FP32", "int64": "INT64"}


class OnnxModel:
    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        # One compute thread for everyone: the other core belongs to the door and to the load generator.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        path = Path(os.environ["BENCH_MODEL"])
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input_name: str = self.session.get_inputs()[0].name
        self.row_shape: list[int] = self.session.get_inputs()[0].shape[1:]
        self.output_names: list[str] = [output.name for output in self.session.get_outputs()]

        # Where compute is compared, a server with threads must not use two cores against everyone's one.
        self.turn: contextlib.AbstractContextManager = threading.Lock() if ONE_INSTANCE else contextlib.nullcontext()

    def run(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """FP32 [rows, ...] -> outputs by name."""
        with self.turn:
            return dict(zip(self.output_names, self.session.run(None, {self.input_name: rows}), strict=True))

    def from_octets(self, body: bytes) -> np.ndarray:
        return np.frombuffer(body, np.float32).reshape(-1, *self.row_shape)


def v2_outputs(outputs: Mapping[str, np.ndarray]) -> list[dict[str, object]]:
    """Outputs as the `outputs` list of an Open Inference Protocol v2 answer."""
    return [
        {
            "name": name,
            "datatype": DATATYPES[array.dtype.name],
            "shape": list(array.shape),
            "data": array.ravel().tolist(),
        }
        for name, array in outputs.items()
    ]
