"""Ray Serve as its guide writes it: one deployment with `serve.batch`, the HTTP proxy in front."""

import signal
import tempfile

import numpy as np
import ray
from onnx_model import BATCH_ROWS, HTTP_PORT, NAME, OnnxModel, v2_outputs
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})
class Model:
    def __init__(self) -> None:
        self.model = OnnxModel()

    @serve.batch(max_batch_size=BATCH_ROWS, batch_wait_timeout_s=0.001)
    async def predict(self, arrays: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
        outputs = self.model.run(np.concatenate(arrays))
        cuts = np.cumsum([len(array) for array in arrays])[:-1]
        parts = {name: np.split(array, cuts) for name, array in outputs.items()}
        return [{name: parts[name][index] for name in outputs} for index in range(len(arrays))]

    async def __call__(self, request: Request) -> Response | dict[str, object]:
        if request.url.path == "/raw":
            outputs = await self.predict(self.model.from_octets(await request.body()))
            main = outputs[self.model.output_names[-1]]
            return Response(main.tobytes(), media_type="application/octet-stream")
        tensor = (await request.json())["inputs"][0]
        outputs = await self.predict(np.array(tensor["data"], np.float32).reshape(tensor["shape"]))
        return {"model_name": NAME, "outputs": v2_outputs(outputs)}


def main() -> None:
    # A folder of its own, short because sockets lie in it, so that hundreds of megabytes of logs go with the run.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False, _temp_dir=folder)
        http = {"host": "127.0.0.1", "port": HTTP_PORT}
        serve.start(http_options=http, logging_config={"enable_access_log": False})
        serve.run(Model.bind(), route_prefix="/")
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
        ray.shutdown()


if __name__ == "__main__":
    main()
