"""Flask as its quickstart writes it: JSON in, a dict out, the model loaded once in each worker."""

import numpy as np
from flask import Flask, Response, request
from onnx_model import NAME, OnnxModel, v2_outputs

app = Flask(__name__)
model = OnnxModel()


@app.get("/health")
def health() -> Response:
    return Response()


@app.post("/infer")
def infer() -> dict[str, object]:
    tensor = request.get_json()["inputs"][0]
    outputs = model.run(np.array(tensor["data"], np.float32).reshape(tensor["shape"]))
    return {"model_name": NAME, "outputs": v2_outputs(outputs)}


@app.post("/raw")
def raw() -> Response:
    outputs = model.run(model.from_octets(request.get_data()))
    return Response(outputs[model.output_names[-1]].tobytes(), mimetype="application/octet-stream")
