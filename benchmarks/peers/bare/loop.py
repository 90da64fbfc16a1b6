"""The ceiling of a compute-bound server: `session.run` again and again on the same batch, in one process."""

import json
import sys
import time
from pathlib import Path

import numpy as np
from onnx_model import OnnxModel


def main() -> None:
    """argv: number of runs, file of the FP32 rows. Prints one line of JSON; the first two runs warm up."""
    runs, rows_file = int(sys.argv[1]), Path(sys.argv[2])
    model = OnnxModel()
    rows = model.from_octets(rows_file.read_bytes())
    for _ in range(2):
        outputs = model.run(rows)
    took_s = []
    begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
    for _ in range(runs):
        before_s = time.perf_counter()
        outputs = model.run(rows)
        took_s.append(time.perf_counter() - before_s)
    seconds, cpu_s = time.perf_counter() - begun_s, time.process_time() - begun_cpu_s
    answer = np.ascontiguousarray(outputs[model.output_names[-1]])
    result = {"seconds": seconds, "cpu_s": cpu_s, "took_s": took_s, "answer": answer.ravel().tolist()}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
