"""The protobuf classes of what we serve, in a descriptor pool of their own.

The process-wide pool allows one definition of a name, and tritonclient puts its own `inference.*` there; users
have both in one process. So ours stay out of it. Classes are built from the committed descriptors, without
generated code, which ties itself to a range of protobuf versions.
"""

from __future__ import annotations

from base64 import b85decode
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from slipway.infer.protobuf.descriptors import FILES_BASE85

Message = Any  # classes made at run time: there is nothing for a type checker to see

FILES = descriptor_pb2.FileDescriptorSet.FromString(b85decode(FILES_BASE85)).file
POOL = descriptor_pool.DescriptorPool()
for _file in FILES:
    POOL.Add(_file)

INFERENCE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
REFLECTION = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


def class_of(descriptor: Message) -> Message:
    return message_factory.GetMessageClass(descriptor)


def message_class(full_name: str) -> Message:
    """The class of a message, such as `inference.ModelInferRequest`."""
    return class_of(POOL.FindMessageTypeByName(full_name))


ModelInferRequest = message_class("inference.ModelInferRequest")
ModelInferResponse = message_class("inference.ModelInferResponse")
ModelStreamInferResponse = message_class("inference.ModelStreamInferResponse")
