from __future__ import annotations

import json

import msgspec
import pytest

from slipway.spec.deployment import (
    AllowRule,
    Auth,
    AutoscaleMetric,
    BatchingRules,
    CacheRules,
    DeploymentSpec,
    Health,
    QueueRules,
    Replicas,
    RequestLimits,
    Sandbox,
    SecretRef,
)
from slipway.spec.serve import Batching, CacheLimits, ModelSpec, QueueLimits, ReplicaSpec
from slipway.spec.settings import model_spec, same_settings, version_settings, with_settings

SPEC = DeploymentSpec(name="iris", model="./iris.onnx", env={"A": "x", "TOKEN": SecretRef("iris-token")})


def changed(**fields: object) -> DeploymentSpec:
    return msgspec.structs.replace(SPEC, **fields)


MAKE_A_VERSION = {
    "model": "./other.onnx",
    "digest": "sha256:" + "0" * 64,
    "runtime": "onnx",
    "options": {"a": "b"},
    "files": {"a": "b"},
    "env": {},
    "batching": BatchingRules(max_rows=3),
    "queue": QueueRules(rows=3),
    "cache": CacheRules(memory="1Mi"),
    "idempotent": False,
    "health": Health(hang_s=3),
    "sandbox": Sandbox(trust_pickle=True),
}
APPLY_LIVE = {
    "name": "other",
    "description": "x",
    "labels": {"a": "b"},
    "autoscaling": (AutoscaleMetric("cpu", 50),),
    "auth": Auth(public=True, allow=(AllowRule(key="*"),)),
    "limits": RequestLimits(burst=3),
    "enabled": False,
    "apiVersion": "slipway.dev/v1",
}


def test_every_field_is_on_one_side_of_the_line() -> None:
    assert {*MAKE_A_VERSION, *APPLY_LIVE, "replicas"} == set(DeploymentSpec.__struct_fields__)


@pytest.mark.parametrize("field", MAKE_A_VERSION)
def test_what_makes_a_version(field: str) -> None:
    assert not same_settings(version_settings(changed(**{field: MAKE_A_VERSION[field]})), version_settings(SPEC))


@pytest.mark.parametrize("field", APPLY_LIVE)
def test_what_applies_live(field: str) -> None:
    assert version_settings(changed(**{field: APPLY_LIVE[field]})) == version_settings(SPEC)


@pytest.mark.parametrize(
    ("replicas", "same"),
    [
        (Replicas(min=3), True),
        (Replicas(max=9), True),
        (Replicas(device="cuda:0"), False),
        (Replicas(cpus=2), False),
        (Replicas(memory="1Gi"), False),
    ],
)
def test_replicas_are_both(replicas: Replicas, same: bool) -> None:
    assert same_settings(version_settings(changed(replicas=replicas)), version_settings(SPEC)) is same


def test_settings_are_plain_and_say_their_defaults() -> None:
    settings = version_settings(SPEC)
    assert json.loads(json.dumps(settings)) == settings
    assert settings["batching"] == {"max_rows": 64, "max_delay_ms": 0, "slo_ms": 0}
    assert settings["env"] == {"A": "x", "TOKEN": {"secret": "iris-token"}}
    assert settings["replicas"] == {"device": "cpu", "cpus": 0, "memory": ""}


def test_one_size_written_in_two_ways_is_no_change() -> None:
    one, other = changed(replicas=Replicas(memory="1Gi")), changed(replicas=Replicas(memory="1024Mi"))
    assert version_settings(one) == version_settings(other)


def test_settings_of_an_older_release_are_completed() -> None:
    assert same_settings(
        {"model": "./iris.onnx", "env": {"A": "x", "TOKEN": {"secret": "iris-token"}}}, version_settings(SPEC)
    )


def test_a_rollback_brings_back_the_version_and_nothing_else() -> None:
    earlier = changed(**MAKE_A_VERSION, replicas=Replicas(min=1, max=1, cpus=2, memory="1024Mi"))
    now = changed(**APPLY_LIVE, replicas=Replicas(min=5, max=9))
    back = with_settings(now, json.loads(json.dumps(version_settings(earlier))))
    assert version_settings(back) == version_settings(earlier)
    assert back.replicas == Replicas(min=5, max=9, cpus=2, memory="1Gi")
    assert {field: getattr(back, field) for field in APPLY_LIVE} == {field: getattr(now, field) for field in APPLY_LIVE}


def test_what_a_worker_hears() -> None:
    spec = changed(
        runtime="onnx",
        replicas=Replicas(min=2, device="cuda:1", cpus=1.5, memory="1Gi"),
        batching=BatchingRules(max_rows=8, max_delay_ms=5, slo_ms=20),
        queue=QueueRules(rows=9, memory="1Mi"),
        cache=CacheRules(memory="2Mi", ttl_s=3),
        idempotent=False,
        health=Health(startup_s=60, hang_s=5, drain_s=7),
        sandbox=Sandbox(enabled=False, allow_read=("/r",), allow_write=("/w",), trust_pickle=True),
        options={"a": "b"},
    )
    expected = ModelSpec(
        name="iris",
        path="/artifacts/iris.onnx",
        version="v3",
        runtime="onnx",
        replicas=ReplicaSpec(
            count=2,
            threads=2,
            memory_bytes=2**30,
            device="cuda:1",
            hang_s=5,
            startup_s=60,
            sandbox=False,
            allow_read=("/r", "/files"),
            allow_write=("/w",),
        ),
        batching=Batching(max_rows=8, max_delay_s=0.005, slo_s=0.02),
        queue=QueueLimits(rows=9, bytes=2**20),
        cache=CacheLimits(bytes=2**21, ttl_s=3),
        idempotent=False,
        trust_pickle=True,
        options={"a": "b"},
        environment={"A": "x", "TOKEN": "s3cret", "SLIPWAY_FILES": "/files"},
        drain_s=7,
    )
    for settings in (spec, version_settings(spec)):
        made = model_spec(
            settings,
            name="iris",
            number=3,
            path="/artifacts/iris.onnx",
            replicas=2,
            environment={"A": "x", "TOKEN": "s3cret"},
            files="/files",
        )
        assert made == expected


def test_defaults_are_those_of_serve() -> None:
    made = model_spec(version_settings(SPEC), name="iris", number=1, path="p", replicas=1, environment={})
    assert made == ModelSpec(name="iris", path="p")
