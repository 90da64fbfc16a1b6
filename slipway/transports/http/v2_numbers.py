"""Arrays of numbers between JSON and raw bytes, when they are large or odd: numpy and simdjson do the work."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import orjson
import simdjson

from slipway.errors import InvalidInput
from slipway.infer.arrays import NUMPY, to_array, to_tensor
from slipway.infer.tensor import DATATYPES, MAX_RANK, Tensor

MAX_FIELDS = 64  # of a request or an input; those that are known are far fewer
_SIMDJSON_MAX_LEN = 0xFFFFFF  # its arrays count no further
_MAX_FLOAT = int(np.finfo("f8").max)  # as an integer: a larger one cannot even be compared to a float of numpy
_RANGES = {name: np.iinfo(NUMPY[name]) for name, facts in DATATYPES.items() if facts.kind in "iu"}


class Numbers:
    """A JSON array of numbers, nested or not, as simdjson read it: flat, all float64 or all (u)int64.

    `arrays`: how many there were, with those within.
    """

    __slots__ = ("array", "arrays")

    def __init__(self, array: Any, arrays: int) -> None:
        self.array = array
        self.arrays = arrays


def parse_large(body: bytes) -> dict[str, Any] | None:
    """A large infer request as plain objects, its numeric arrays as Numbers.

    None where simdjson cannot read it (the strict parser then says why) or where an array holds something else.
    """
    if body.startswith(b"\xef\xbb\xbf"):
        return None  # a byte order mark, which JSON has not
    parser = simdjson.Parser()
    try:
        document = parser.parse(body)
        if not isinstance(document, simdjson.Object):
            return None
        plain: dict[str, Any] = {}
        for key, value in _items(document):
            if key == "inputs" and isinstance(value, simdjson.Array):
                plain[key] = [_input(item) if isinstance(item, simdjson.Object) else item for item in value]
            else:
                plain[key] = _plain(value)
        # Among numbers, an array that is too long and one that is empty look like two numbers. But there is then a
        # bracket too many. (One in a string is, too: then the strict parser's word is as good, and only slower.)
        brackets = int(np.count_nonzero(np.frombuffer(body, "u1") == ord("[")))  # several times faster than bytes.count
        return plain if brackets == _arrays(plain) else None
    except (ValueError, RuntimeError, UnicodeDecodeError):  # RuntimeError: also of a recursion that is too deep
        return None


def _input(tensor: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    fields = dict(_items(tensor))
    datatype, shape = fields.get("datatype"), _shape(fields.get("shape"))
    for key, value in fields.items():
        if key == "data" and isinstance(value, simdjson.Array) and datatype in NUMPY and datatype != "BOOL":
            plain[key] = _numbers(value, DATATYPES[datatype].kind, shape)
        else:
            plain[key] = _plain(value)
    return plain


def _items(fields: Any) -> list[tuple[str, Any]]:
    """By key, since `items` would make lists of all arrays at once; so of few keys only, as each is searched for.

    Raises ValueError for many, and for a key that is given twice: the strict parser looks at each.
    """
    if len(fields) > MAX_FIELDS:
        raise ValueError("too many fields")
    keys = list(fields.keys())
    if len(set(keys)) != len(keys):
        raise ValueError("a key is given twice")
    return [(key, fields[key]) for key in keys]


def _plain(value: Any) -> Any:
    if isinstance(value, simdjson.Array):
        return value.as_list()
    return value.as_dict() if isinstance(value, simdjson.Object) else value


def _shape(value: Any) -> list[int]:
    """Raises ValueError for what the strict parser will refuse, so that nobody computes with it."""
    if not isinstance(value, simdjson.Array) or len(value) > MAX_RANK:
        raise ValueError("no shape")
    shape = [size for size in value.as_list() if type(size) is int]
    if len(shape) != len(value):
        raise ValueError("no shape")
    return shape


def _numbers(value: Any, kind: str, shape: list[int]) -> Any:
    try:
        arrays = 1
        if not _is_flat(value, shape):
            if not _nests_as_shaped(value, shape):
                return value.as_list()
            arrays = sum(prod(shape[:depth]) for depth in range(len(shape)))
        if kind == "f":
            return Numbers(np.frombuffer(value.as_buffer(of_type="d"), "f8"), arrays)
        return Numbers(np.frombuffer(value.as_buffer(of_type=kind), kind + "8"), arrays)
    except (ValueError, TypeError):
        return value.as_list()  # not (only) numbers, or out of range: the long way says what


def _arrays(value: Any) -> int:
    if isinstance(value, Numbers):
        return value.arrays
    if isinstance(value, list):
        return 1 + sum(map(_arrays, value))
    return sum(map(_arrays, value.values())) if isinstance(value, dict) else 0


def _is_flat(value: Any, shape: list[int]) -> bool:
    return len(value) == min(prod(shape), _SIMDJSON_MAX_LEN) and not (value and isinstance(value[0], simdjson.Array))


def _nests_as_shaped(value: Any, shape: list[int]) -> bool:
    """Simdjson flattens whatever nests: without this, rows of another length would come out as other rows."""
    level = [value]
    for depth, size in enumerate(shape):
        if depth:
            level = [item for array in level for item in array]
        if not all(isinstance(item, simdjson.Array) and len(item) == size for item in level):
            return False
    return bool(shape)


def to_bytes(numbers: Numbers, name: str, datatype: str) -> bytes:
    return _cast(numbers.array, name, datatype)


def pack(name: str, datatype: str, items: list[Any]) -> bytes:
    """A flat list to raw bytes. Raises InvalidInput that names the first element that does not fit."""
    kind = DATATYPES[datatype].kind
    for place, item in enumerate(items):
        good = isinstance(item, bool) if kind == "b" else isinstance(item, int) and not isinstance(item, bool)
        if kind == "b":
            good = good or item in (0, 1)
        if kind == "f":
            good = good or isinstance(item, float) or item is None
        if not good:
            wanted = {"b": "true or false", "f": "a number (null is NaN)"}.get(kind, "a whole number")
            raise InvalidInput(f"input {name!r}, element {place}: {_shown(item)} is not {wanted}")
    if kind == "f":
        try:
            return _cast(np.array([np.nan if item is None else item for item in items], "f8"), name, datatype)
        except OverflowError:
            place = next(i for i, item in enumerate(items) if item is not None and abs(item) > _MAX_FLOAT)
            raise InvalidInput(_out_of_range(name, datatype, place, _shown(items[place]))) from None
    if kind != "b":
        bounds = _RANGES[datatype]
        for place, item in enumerate(items):
            if not bounds.min <= item <= bounds.max:
                raise InvalidInput(_out_of_range(name, datatype, place, _shown(item)))
    return _cast(np.array(items, "u8" if kind == "u" else "i8"), name, datatype)


def _shown(item: Any) -> str:
    """As JSON shows it; a list or an integer may be too large for that."""
    return orjson.dumps(item).decode() if item is None or isinstance(item, bool) else f"{item!r:.40}"


def _cast(array: Any, name: str, datatype: str) -> bytes:
    """float64 or (u)int64 to the datatype, refusing what does not fit it."""
    if datatype in _RANGES:
        bounds = _RANGES[datatype]
        wrong = (array < bounds.min) | (array > bounds.max)
        if wrong.any():
            place = int(wrong.argmax())
            raise InvalidInput(_out_of_range(name, datatype, place, array[place]))
        return bytes(array.astype(NUMPY[datatype]).tobytes())
    if datatype in ("FP64", "BOOL"):
        return bytes(array.astype(NUMPY[datatype]).tobytes())
    with np.errstate(over="ignore"):
        narrow = to_tensor(name, array.astype("f4") if datatype == "BF16" else array, datatype=datatype)
    wide = to_array(narrow)
    overflown = np.isinf(wide) & np.isfinite(array)
    if overflown.any():
        place = int(overflown.argmax())
        raise InvalidInput(_out_of_range(name, datatype, place, array[place]))
    return bytes(narrow.data)


def _out_of_range(name: str, datatype: str, place: int, item: Any) -> str:
    return f"input {name!r}, element {place}: {item} is out of the range of {datatype}"


def to_json(tensor: Tensor) -> bytes:
    """Data as a flat JSON array, each number as short as it can be and still be the same number; NaN is null."""
    array = to_array(tensor).reshape(-1)
    if array.dtype == np.float16:
        array = array.astype("f4")
    return orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)


def rows_to_json(tensor: Tensor) -> list[bytes]:
    """The numbers of each row with commas between them. At least one element, not BYTES.

    One call of orjson for all rows of a batch, and one split, instead of a call for each request.
    """
    array = to_array(tensor).reshape(tensor.shape[0], -1)
    if array.dtype == np.float16:
        array = array.astype("f4")
    return orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(b"],[")
