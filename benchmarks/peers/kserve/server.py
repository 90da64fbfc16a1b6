"""A KServe custom predictor as its guide writes it: kserve.Model with predict over the v2 request."""

import uuid

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from onnx_model import DATATYPES, GRPC_PORT, HTTP_PORT, NAME, ONE_INSTANCE, OnnxModel


class Predictor(Model):
    def __init__(self) -> None:
        super().__init__(NAME)
        self.model = OnnxModel()
        self.ready = True

    def __reduce__(self) -> tuple[type["Predictor"], tuple[()]]:
        # Its HTTP workers are spawned with a pickled model; a session is not data, so each worker loads its own.
        return Predictor, ()

    def predict(self, payload: InferRequest, _headers: dict | None = None, **_: object) -> InferResponse:
        rows = np.ascontiguousarray(payload.inputs[0].as_numpy(), np.float32)
        tensors = []
        for name, array in self.model.run(rows).items():
            tensor = InferOutput(name=name, shape=list(array.shape), datatype=DATATYPES[array.dtype.name])
            tensor.set_data_from_numpy(array, binary_data=payload.use_binary_outputs)
            tensors.append(tensor)
        return InferResponse(
            response_id=payload.id or str(uuid.uuid4()),
            model_name=self.name,
            infer_outputs=tensors,
            use_binary_outputs=payload.use_binary_outputs,
        )


if __name__ == "__main__":
    server = ModelServer(
        http_port=HTTP_PORT,
        grpc_port=GRPC_PORT,
        workers=1 if ONE_INSTANCE else 2,
        enable_latency_logging=False,
    )
    server.start([Predictor()])
