"""What the checks send: every datatype of the protocol, and a flower."""

import ml_dtypes
import numpy as np

FLOWER = np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)
SETOSA = 0

EVERY = {
    "BOOL": np.array([[True, False]]),
    "UINT8": np.array([[0, 255]], np.uint8),
    "UINT16": np.array([[0, 65535]], np.uint16),
    "UINT32": np.array([[0, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 2**64 - 1]], np.uint64),
    "INT8": np.array([[-128, 127]], np.int8),
    "INT16": np.array([[-(2**15), 2**15 - 1]], np.int16),
    "INT32": np.array([[-(2**31), 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), 2**63 - 1]], np.int64),
    "FP16": np.array([[1.5, -2.25]], np.float16),
    "BF16": np.array([[1.5, -2.25]], ml_dtypes.bfloat16),
    "FP32": np.array([[1.1, -np.inf]], np.float32),
    "FP64": np.array([[0.1, 1e300]], np.float64),
    "BYTES": np.array([["ü".encode(), b"\xff\x00"]], object),
}
