"""How a person writes down a tensor: `FP32[-1,4]`. For `slipway.Model` classes and for options."""

from __future__ import annotations

import re
from difflib import get_close_matches

from slipway.errors import LoadFailure
from slipway.infer.signature import TensorSpec
from slipway.infer.tensor import DATATYPES

_FORM = re.compile(r"\s*([A-Za-z0-9_]+)\s*(?:\[(.*)\])?\s*", re.DOTALL)
_EXAMPLE = "a declaration looks like FP32[-1,4]: a datatype, then the sizes, where -1 is any size"


def parse_spec(name: str, text: object, *, optional: bool = False) -> TensorSpec:
    """`FP32[-1,4]` as the spec of the tensor `name`; `FP32[]` is a scalar. Raises LoadFailure."""
    if not isinstance(text, str):
        raise LoadFailure(f"tensor {name!r} is declared as {text!r}, which is not text; {_EXAMPLE}")
    found = _FORM.fullmatch(text)
    if found is None or found[2] is None:
        raise LoadFailure(f"tensor {name!r} is declared as {text!r}; {_EXAMPLE}")
    return TensorSpec(name, parse_datatype(name, found[1]), _sizes(name, text, found[2]), optional=optional)


def parse_datatype(name: str, text: str) -> str:
    """A datatype of the Open Inference Protocol, in any case. Raises LoadFailure that names the nearest."""
    datatype = text.strip().upper()
    if datatype in DATATYPES:
        return datatype
    near = get_close_matches(_FAMILIAR.get(datatype, datatype), DATATYPES, n=1)
    hint = f", did you mean {near[0]}?" if near else ";"
    raise LoadFailure(f"tensor {name!r} has the unknown datatype {text!r}{hint} known are {', '.join(DATATYPES)}")


_FAMILIAR = {"FLOAT": "FP32", "FLOAT32": "FP32", "FLOAT64": "FP64", "DOUBLE": "FP64", "FLOAT16": "FP16"}
_FAMILIAR |= {"HALF": "FP16", "BFLOAT16": "BF16", "STR": "BYTES", "STRING": "BYTES", "OBJECT": "BYTES"}
_FAMILIAR |= {"INT": "INT64", "LONG": "INT64", "BYTE": "UINT8"}


def _sizes(name: str, text: str, inside: str) -> tuple[int, ...]:
    if not inside.strip():
        return ()
    sizes: list[int] = []
    for part in inside.split(","):
        try:
            size = int(part)
        except ValueError:
            raise LoadFailure(f"tensor {name!r}: {part.strip()!r} in {text!r} is not a size; {_EXAMPLE}") from None
        if size < -1:
            raise LoadFailure(f"tensor {name!r}: {size} in {text!r} is not a size; {_EXAMPLE}")
        sizes.append(size)
    return tuple(sizes)
