"""Triton: NVIDIA's real server binary out of the nvidia-pytriton wheel.

The wheel has the server and its Python backend, not the ONNX Runtime backend; so the same onnxruntime that
everyone else uses runs inside the Python backend, behind Triton's own doors and dynamic batcher.
"""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from benchmarks.contender import Command, Model, Peer, Start
from benchmarks.payloads import V2_BINARY, V2_GRPC, V2_JSON

_KINDS = {"float32": "TYPE_FP32", "int64": "TYPE_INT64"}


def config(model: Model) -> str:
    """config.pbtxt: dynamic batching without waiting, as Triton's guide advises to begin with."""
    shape = ", ".join(str(size) for size in model.rows.shape[1:])
    outputs = ", ".join(
        f'{{ name: "{name}", data_type: {_KINDS[array.dtype.name]}, dims: [{_dims(array.shape)}]'
        + (" , reshape: { shape: [] } }" if array.ndim == 1 else " }")
        for name, array in model.expected.items()
    )
    instances = 1
    return f"""name: "{model.key}"
backend: "python"
max_batch_size: {model.batch_rows}
input [ {{ name: "{model.input_name}", data_type: TYPE_FP32, dims: [{shape}] }} ]
output [ {outputs} ]
instance_group [ {{ kind: KIND_CPU, count: {instances} }} ]
dynamic_batching {{ }}
parameters {{ key: "onnx" value {{ string_value: "{model.path}" }} }}
"""


def _dims(shape: tuple[int, ...]) -> str:
    return ", ".join(str(size) for size in shape[1:]) or "1"


def start(start: Start) -> Command:
    packages = next(start.python.parent.parent.glob("lib/python3.*/site-packages"))
    server = packages / "pytriton" / "tritonserver"
    backend = start.scratch / "backends" / "python"
    shutil.copytree(server / "backends" / "python", backend)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy2(server / "python_backend_stubs" / version / "triton_python_backend_stub", backend)
    folder = start.scratch / "repository" / start.model.key
    (folder / "1").mkdir(parents=True)
    shutil.copy2(PEER.folder / "model.py", folder / "1" / "model.py")
    (folder / "config.pbtxt").write_text(config(start.model))
    libraries = [str(packages / "nvidia_pytriton.libs"), str(sysconfig.get_config_var("LIBDIR"))]
    argv = (
        *(str(server / "bin" / "tritonserver"), "--model-repository", str(folder.parent)),
        *("--backend-directory", str(backend.parent), "--cache-directory", str(server / "caches")),
        *("--http-address", "127.0.0.1", "--http-port", str(start.ports.http)),
        *("--grpc-address", "127.0.0.1", "--grpc-port", str(start.ports.grpc)),
        *("--metrics-address", "127.0.0.1", "--metrics-port", str(start.ports.admin)),
    )
    env = {
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "PYTHONPATH": str(packages),
        # The stub embeds the interpreter it was not built with: tell it where its standard library is.
        "PYTHONHOME": str(Path(sys.base_prefix)),
    }
    return Command(argv=argv, env=env)


PEER = Peer(
    name="triton",
    title="Triton",
    how="the server of the wheel, Python backend with onnxruntime, dynamic batching without delay, 1 instance",
    packages=("nvidia-pytriton", "onnxruntime", "numpy"),
    start=start,
    codecs={"json": V2_JSON, "binary": V2_BINARY, "grpc": V2_GRPC},
    ready_path="/v2/health/ready",
)
