"""BentoML as its guide writes it: a service class with a batchable API over arrays."""

from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import DType
from onnx_model import BATCH_ROWS, ONE_INSTANCE, OnnxModel

# Batchable APIs take and give one array (its own JSON form), so the answer is the main output alone.
Rows = Annotated[np.ndarray, DType("float32")]


@bentoml.service(
    workers=1 if ONE_INSTANCE else 2,
    traffic={"timeout": 60, "max_concurrency": 256},
    logging={"access": {"enabled": False}},
)
class Model:
    def __init__(self) -> None:
        self.model = OnnxModel()

    @bentoml.api(batchable=True, max_batch_size=BATCH_ROWS, max_latency_ms=60_000, route="/infer")
    def infer(self, rows: Rows) -> np.ndarray:
        return self.model.run(rows)[self.model.output_names[-1]]
