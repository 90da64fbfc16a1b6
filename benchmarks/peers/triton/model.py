"""Triton's Python backend running the same ONNX file through onnxruntime.

Each call hands over the requests that the dynamic batcher put together; they run as one batch.
"""

import json

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        path = parameters["onnx"]["string_value"]
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.input_name = self.session.get_inputs()[0].name
        self.output_names = [output.name for output in self.session.get_outputs()]

    def execute(self, requests: list) -> list:
        arrays = [pb_utils.get_input_tensor_by_name(call, self.input_name).as_numpy() for call in requests]
        rows = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        outputs = self.session.run(None, {self.input_name: rows})
        responses, begin = [], 0
        for array in arrays:
            part = slice(begin, begin + len(array))
            begin = part.stop
            tensors = [
                pb_utils.Tensor(name, output[part]) for name, output in zip(self.output_names, outputs, strict=True)
            ]
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
        return responses
