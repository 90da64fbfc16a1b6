"""Server reflection: how grpcurl and its like learn what we serve. Pure: one request in, one answer out."""

from __future__ import annotations

from typing import Any

from slipway.infer.protobuf.messages import HEALTH, INFERENCE, POOL, REFLECTION, Message, class_of
from slipway.transports import codes

PATHS = {f"/{service}/ServerReflectionInfo": service for service in REFLECTION}
"""Both versions of the protocol; they differ only in name."""


def reflect(service: str, payload: bytes) -> bytes:
    """Answer one ServerReflectionRequest of the named version. Raises DecodeError for what is none."""
    method = POOL.FindServiceByName(service).methods_by_name["ServerReflectionInfo"]
    asked = class_of(method.input_type).FromString(payload)
    answer = class_of(method.output_type)(valid_host=asked.host, original_request=asked, **_look_up(asked))
    written: bytes = answer.SerializeToString()
    return written


def _look_up(asked: Message) -> dict[str, Any]:
    kind = asked.WhichOneof("message_request")
    if kind == "list_services":
        return {"list_services_response": {"service": [{"name": name} for name in (INFERENCE, HEALTH, *REFLECTION)]}}
    if kind in ("file_by_filename", "file_containing_symbol"):
        wanted = getattr(asked, kind)
        find = POOL.FindFileByName if kind == "file_by_filename" else POOL.FindFileContainingSymbol
        try:
            file = find(wanted)
        except KeyError:
            return _error(codes.NOT_FOUND, f"no {kind.removeprefix('file_').replace('_', ' ')} {wanted!r} here")
        # Our files import nothing, so one file is all there is to send.
        return {"file_descriptor_response": {"file_descriptor_proto": [file.serialized_pb]}}
    if kind is None:
        return _error(codes.INVALID_ARGUMENT, "the request asks for nothing: set one field of message_request")
    return _error(codes.NOT_FOUND, "no message here has extensions")


def _error(code: int, message: str) -> dict[str, Any]:
    return {"error_response": {"error_code": code, "error_message": message}}
