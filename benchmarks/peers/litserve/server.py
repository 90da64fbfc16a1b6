"""LitServe as its guide writes it: a LitAPI that decodes, batches, predicts and encodes."""

import litserve
import numpy as np
from onnx_model import BATCH_ROWS, HTTP_PORT, NAME, ONE_INSTANCE, OnnxModel, v2_outputs


class Api(litserve.LitAPI):
    def setup(self, _device: str) -> None:
        self.model = OnnxModel()

    def decode_request(self, request: dict) -> np.ndarray:
        tensor = request["inputs"][0]
        return np.array(tensor["data"], np.float32).reshape(tensor["shape"])

    def batch(self, inputs: list[np.ndarray]) -> tuple[np.ndarray, list[int]]:
        return np.concatenate(inputs), [len(rows) for rows in inputs]

    def predict(self, batch: tuple[np.ndarray, list[int]]) -> tuple[dict[str, np.ndarray], list[int]]:
        rows, sizes = batch
        return self.model.run(rows), sizes

    def unbatch(self, output: tuple[dict[str, np.ndarray], list[int]]) -> list[dict[str, np.ndarray]]:
        outputs, sizes = output
        cuts = np.cumsum(sizes)[:-1]
        parts = {name: np.split(array, cuts) for name, array in outputs.items()}
        return [{name: parts[name][index] for name in outputs} for index in range(len(sizes))]

    def encode_response(self, output: dict[str, np.ndarray]) -> dict[str, object]:
        return {"model_name": NAME, "outputs": v2_outputs(output)}


if __name__ == "__main__":
    api = Api(max_batch_size=BATCH_ROWS, batch_timeout=0.001, api_path="/infer")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=60, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=HTTP_PORT,
        num_api_servers=1 if ONE_INSTANCE else 2,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
