"""Plain values as the protocol's `InferParameter`: the one place that knows which field holds what."""

from __future__ import annotations

from slipway.infer.protobuf.messages import Message


def set_parameter(parameter: Message, value: object) -> bool:
    """Put a bool, an integer of 64 bits, a float or a text into the field for it; False for anything else."""
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int) and -(2**63) <= value < 2**63:
        parameter.int64_param = value
    elif isinstance(value, int) and 0 < value < 2**64:
        parameter.uint64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    elif isinstance(value, str):
        parameter.string_param = value
    else:
        return False
    return True
