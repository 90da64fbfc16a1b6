"""Open Inference Protocol v2 over HTTP: answers as JSON, as binary tensors after JSON, or as a mix of both.

An answer that is one row of a batch is cut out of text that was written once for all rows.
"""

from __future__ import annotations

import struct

import orjson

from slipway.errors import InvalidInput
from slipway.infer.request import BatchOutputs, Response
from slipway.infer.tensor import DATATYPES, Tensor, unpack_bytes
from slipway.transports.http import v2_numbers
from slipway.transports.http.v2_json import JSON_ONLY, SMALL_ELEMENTS, Wanted

SMALL_BYTES = 2048
MAX_HEADS = 4096

_BEGINNINGS: dict[tuple[str, str], bytes] = {}
_OUTPUT_HEADS: dict[tuple[str, str, tuple[int, ...]], bytes] = {}


def encode_infer(response: Response, wanted: Wanted) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON part where binary tensors follow it."""
    start = _BEGINNINGS.get((response.model, response.version))
    if start is None:
        names = orjson.dumps({"model_name": response.model, "model_version": response.version})
        start = _BEGINNINGS[response.model, response.version] = names[:-1]
    if response.id:
        start = b'%b,"id":%b' % (start, orjson.dumps(response.id))
    batch = response.batch
    if batch is not None and wanted is JSON_ONLY and not response.parameters:
        rows = batch.memo.get("json")
        if rows is None:
            rows = batch.memo["json"] = _rows_json(response, batch)
        if rows:
            return start + rows[response.row], None
    if response.parameters:
        start = b'%b,"parameters":%b' % (start, orjson.dumps(response.parameters))
    outputs, binary = [], []
    for tensor in response.outputs:
        if wanted is not JSON_ONLY and _goes_binary(tensor.name, wanted):
            outputs.append(b'%b,"parameters":{"binary_data_size":%d}}' % (_output_head(tensor), len(tensor.data)))
            binary.append(tensor.data)
        else:
            outputs.append(b'%b,"data":%b}' % (_output_head(tensor), _data_json(tensor)))
    text = b'%b,"outputs":[%b]}' % (start, b",".join(outputs))
    if not binary:
        return text, None
    return b"".join((text, *binary)), len(text)


def _rows_json(response: Response, batch: BatchOutputs) -> list[bytes]:
    """The outputs of each row of a batch, as they follow an answer's beginning; [] where it cannot be done.

    The whole batch is written in one go. Not BYTES: one caller's bytes that are no text must not spoil the others'
    answers. Not large rows: little is to gain, and a client that has gone would be written for.
    """
    columns = []
    for tensor, piece in zip(batch.tensors, response.outputs, strict=True):
        if tensor.datatype == "BYTES" or not 0 < len(piece.data) <= SMALL_BYTES:
            return []
        head = _output_head(piece)
        columns.append([b'%b,"data":[%b]}' % (head, row) for row in v2_numbers.rows_to_json(tensor)])
    return [b',"outputs":[%b]}' % b",".join(row) for row in zip(*columns, strict=True)]


def _goes_binary(name: str, wanted: Wanted) -> bool:
    return name in wanted.binary or (wanted.every and name not in wanted.text)


def _output_head(tensor: Tensor) -> bytes:
    key = (tensor.name, tensor.datatype, tensor.shape)
    head = _OUTPUT_HEADS.get(key)
    if head is None:
        if len(_OUTPUT_HEADS) >= MAX_HEADS:
            _OUTPUT_HEADS.clear()
        facts = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        head = _OUTPUT_HEADS[key] = orjson.dumps(facts)[:-1]
    return head


def _data_json(tensor: Tensor) -> bytes:
    typecode = DATATYPES[tensor.datatype].typecode
    if tensor.datatype == "BYTES":
        try:
            return orjson.dumps([element.decode() for element in unpack_bytes(tensor)])
        except UnicodeDecodeError:
            raise InvalidInput(
                f"output {tensor.name!r} holds bytes that are not text; ask for it as binary: "
                '"outputs": [{"name": …, "parameters": {"binary_data": true}}]'
            ) from None
    if typecode and tensor.datatype not in ("FP32", "BOOL") and len(tensor.data) <= 8 * SMALL_ELEMENTS:
        return orjson.dumps(list(struct.unpack(f"<{tensor.elements}{typecode}", tensor.data)))
    return v2_numbers.to_json(tensor)
