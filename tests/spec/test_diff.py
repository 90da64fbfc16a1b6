from __future__ import annotations

import msgspec
import pytest

from slipway.spec.deployment import (
    AllowRule,
    Auth,
    AutoscaleMetric,
    CacheRules,
    DeploymentSpec,
    Replicas,
    SecretRef,
)
from slipway.spec.diff import changes_between, diff_specs

IRIS = DeploymentSpec(
    name="iris",
    model="./iris.onnx",
    labels={"team": "fruit"},
    env={"A": "x", "T": SecretRef("t")},
    autoscaling=(AutoscaleMetric("cpu", 50),),
)


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ({}, []),
        ({"replicas": Replicas(min=2)}, ["replicas.min: 1 → 2"]),
        ({"replicas": Replicas(min=2, max=4)}, ["replicas.min: 1 → 2", "replicas.max: 0 → 4"]),
        ({"model": "./b.onnx"}, ["model: ./iris.onnx → ./b.onnx"]),
        ({"enabled": False}, ["enabled: true → false"]),
        ({"description": "yes"}, ['description: "" → "yes"']),
        ({"labels": {}}, ["labels.team: removed, was fruit"]),
        ({"labels": {"team": "fruit", "x": "y"}}, ["labels.x: added, y"]),
        ({"env": {"A": SecretRef("a"), "T": SecretRef("u")}}, ['env.A: x → {"secret": "a"}', "env.T.secret: t → u"]),
        ({"autoscaling": (AutoscaleMetric("cpu", 60),)}, ["autoscaling[0].target: 50 → 60"]),
        ({"autoscaling": ()}, ['autoscaling[0]: removed, was {"metric": "cpu", "target": 50}']),
        ({"auth": Auth(allow=(AllowRule(key="*"),))}, ['auth.allow[0]: added, {"key": "*"}']),
        ({"cache": CacheRules(memory="1Gi")}, ['cache.memory: "" → 1Gi']),
        ({"description": "x" * 100}, [f'description: "" → {"x" * 59}…']),
        ({"description": "a\x1b[31m"}, ['description: "" → "a\\u001b[31m"']),
    ],
)
def test_differences(fields: dict[str, object], lines: list[str]) -> None:
    assert diff_specs(IRIS, msgspec.structs.replace(IRIS, **fields)) == lines


def test_one_size_in_two_forms_is_no_difference() -> None:
    one, other = (
        msgspec.structs.replace(IRIS, replicas=Replicas(memory=memory), cache=CacheRules(memory=memory))
        for memory in ("1Gi", "1024Mi")
    )
    assert diff_specs(one, other) == []


def test_rules_of_another_kind() -> None:
    one = msgspec.structs.replace(IRIS, auth=Auth(allow=(AllowRule(key="a"),)))
    other = msgspec.structs.replace(IRIS, auth=Auth(allow=(AllowRule(user="a"),)))
    assert diff_specs(one, other) == ["auth.allow[0].key: a → nothing", "auth.allow[0].user: nothing → a"]


def test_a_change_has_its_parts() -> None:
    (change,) = changes_between(IRIS, msgspec.structs.replace(IRIS, enabled=False))
    assert (change.path, change.old, change.new) == ("enabled", "true", "false")
