"""FastAPI as its tutorial writes it: a typed body, a typed answer, the model loaded once."""

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from onnx_model import NAME, ONE_INSTANCE, OnnxModel, v2_outputs
from pydantic import BaseModel

app = FastAPI()
model = OnnxModel()


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Question(BaseModel):
    inputs: list[Tensor]


class Answer(BaseModel):
    model_name: str
    outputs: list[Tensor]


async def predict(rows: np.ndarray) -> dict[str, np.ndarray]:
    # Microseconds of work are cheapest on the loop; a convolution net would block it, so that goes to a thread.
    return await run_in_threadpool(model.run, rows) if ONE_INSTANCE else model.run(rows)


@app.get("/health")
async def health() -> Response:
    return Response()


@app.post("/infer")
async def infer(question: Question) -> Answer:
    tensor = question.inputs[0]
    outputs = await predict(np.array(tensor.data, np.float32).reshape(tensor.shape))
    return Answer(model_name=NAME, outputs=[Tensor.model_validate(entry) for entry in v2_outputs(outputs)])


@app.post("/raw")
async def raw(request: Request) -> Response:
    outputs = await predict(model.from_octets(await request.body()))
    return Response(outputs[model.output_names[-1]].tobytes(), media_type="application/octet-stream")
