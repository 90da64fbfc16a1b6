"""A spec is strict: each value out of range is refused by the name of its option."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from slipway.errors import SetupError
from slipway.spec.serve import (
    Batching,
    CacheLimits,
    Doors,
    ModelSpec,
    QueueLimits,
    ReplicaSpec,
    ServerSpec,
    check_server,
)

MODEL = ModelSpec(name="iris", path="iris.onnx")


def server(**changes: Any) -> ServerSpec:
    return ServerSpec(**{"models": (MODEL,), **changes})


def with_model(**changes: Any) -> ServerSpec:
    return server(models=(msgspec.structs.replace(MODEL, **changes),))


def test_the_defaults_are_right() -> None:
    check_server(server())


def test_two_versions_of_one_model_are_right() -> None:
    check_server(server(models=(MODEL, msgspec.structs.replace(MODEL, version="v2"))))


def test_ports_may_be_free_ones_or_shut() -> None:
    check_server(server(doors=Doors(http_port=0, grpc_port=0, admin_port=0)))
    check_server(server(doors=Doors(http_port=-1, grpc_port=-1, admin_port=-1)))


WRONG: dict[str, tuple[Callable[[], ServerSpec], str]] = {
    "no model": (lambda: server(models=()), "nothing to serve: give at least one PATH"),
    "twins": (lambda: server(models=(MODEL, MODEL)), "two models are called 'iris'.*NAME=PATH"),
    "a name": (lambda: with_model(name="a b"), "'a b' cannot name a model: letters, digits"),
    "a long name": (lambda: with_model(name="a" * 129), "128 at most"),
    "rows": (lambda: with_model(batching=Batching(max_rows=0)), "--max-batch-rows is 0; it must be at least 1"),
    "delay": (lambda: with_model(batching=Batching(max_delay_s=-0.1)), "--max-batch-delay-ms is -0.1"),
    "slo": (lambda: with_model(batching=Batching(slo_s=float("nan"))), "--slo-ms is nan"),
    "queue": (lambda: with_model(queue=QueueLimits(rows=0)), "--queue-rows is 0"),
    "queue bytes": (lambda: with_model(queue=QueueLimits(bytes=0)), "--queue-mb is 0"),
    "cache": (lambda: with_model(cache=CacheLimits(bytes=-1)), "--cache-mb is -1"),
    "replicas": (lambda: with_model(replicas=ReplicaSpec(count=0)), "--replicas is 0"),
    "threads": (lambda: with_model(replicas=ReplicaSpec(threads=-1)), "--threads is -1"),
    "memory": (lambda: with_model(replicas=ReplicaSpec(memory_bytes=-1)), "--memory-mb is -1"),
    "hang": (lambda: with_model(replicas=ReplicaSpec(hang_s=0)), "--hang-s is 0"),
    "gateways": (lambda: server(gateways=0), "--gateways is 0"),
    "drain": (lambda: server(drain_s=-1), "--drain-s is -1"),
    "port": (lambda: server(doors=Doors(http_port=70000)), "--port is 70000; a port is 1 to 65535"),
    "same ports": (lambda: server(doors=Doors(http_port=80, grpc_port=80)), "--port, --grpc-port and --admin-port"),
    "door": (lambda: server(doors=Doors(grpc_door="fast")), "--grpc-door is 'fast'; it is auto, native or grpcio"),
}


@pytest.mark.parametrize(("make", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named(make: Callable[[], ServerSpec], words: str) -> None:
    with pytest.raises(SetupError, match=words):
        check_server(make())
