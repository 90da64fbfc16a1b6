"""The second generation's spec file and the third's (v0alpha0, v0alpha1, v1), which share most fields."""

from __future__ import annotations

from collections.abc import Callable

from slipway.spec.gradient.conversion import (
    Draft,
    entries_of,
    items_of,
    number_of,
    put_name,
    put_variable,
    text_of,
    truth_of,
)
from slipway.spec.gradient.integrations import put_integrations, put_models, put_repositories
from slipway.spec.gradient.resources import put_autoscaling, put_machine, put_replicas
from slipway.spec.places import Entries, Node, shown

VERSIONS = ("v0alpha0", "v0alpha1", "v1")
PROCESSES = (
    "images and commands wait until processes can be deployed; deploy the model that it serves, or a Python file"
)
PORTS = "the ports are the server's, the same for all deployments: call /v2/models/NAME there"
PROBES = "Slipway asks its replicas itself: one is ready when it has loaded, warmed up and answered every gateway"

Put = Callable[[Draft, Node, str], None]


def is_spec_file(node: Node) -> bool:
    return bool({key for key, _ in entries_of(node)} & {"image", "resources", "integrations", "models", "healthChecks"})


def draft_of_spec(node: Node, *, name: str) -> Draft:
    draft = Draft(node, name=name)
    fields = dict(entries_of(node))
    for key in sorted(fields, key=lambda key: key not in ("name", "models", "integrations")):
        put = FIELDS.get(key)
        if put is None:
            draft.gap(fields[key], key, "this is no field of Gradient's specs that is known here")
        else:
            put(draft, fields[key], key)
    if "basicAuthKey" not in fields:
        note = "as there is no basicAuthKey, the endpoint was public"
        draft.put(node, "the endpoint's access", "auth.public", True, note=note)
    return draft


def _api_version(draft: Draft, node: Node, path: str) -> None:
    if text_of(node) in VERSIONS:
        draft.say(node, path, f"{text_of(node)} became slipway.dev/v1")
    else:
        draft.gap(node, path, f"{shown(text_of(node))} is none of {', '.join(VERSIONS)}; it was read like v1")


def _enabled(draft: Draft, node: Node, path: str) -> None:
    truth = truth_of(node)
    draft.put(node, path, "enabled", text_of(node) if truth is None else truth)


def _env(draft: Draft, node: Node, path: str) -> None:
    """`[{name, value}]`, or a mapping."""
    if isinstance(node, Entries) and not {"name", "value"} <= dict(entries_of(node)).keys():
        for name, value in entries_of(node):
            put_variable(draft, value, f"{path}.{name}", name)
        return
    for i, one in enumerate(items_of(node)):
        fields = dict(entries_of(one))
        if "name" not in fields or "value" not in fields:
            draft.gap(one, f"{path}[{i}]", "it has no name, or no value")
        else:
            put_variable(draft, fields["value"], f"{path}[{i}]", text_of(fields["name"]))


def _resources(draft: Draft, node: Node, path: str) -> None:
    fields = dict(entries_of(node))
    order = ("replicas", "autoscaling")  # the floor first: a ceiling is compared with it
    for key in sorted(fields, key=lambda key: order.index(key) if key in order else -1):
        put = RESOURCES.get(key)
        if put is None:
            draft.gap(fields[key], f"{path}.{key}", "this is no resource that is known here")
        else:
            put(draft, fields[key], f"{path}.{key}")


def _protected(draft: Draft, node: Node, path: str) -> None:
    note = "users of basic auth may call; make them with `slipway users add NAME`. The key itself is not carried over"
    draft.put(node, path, "auth.allow", [{"user": "*"}], note=note)


def _region(draft: Draft, node: Node, path: str) -> None:
    draft.put(node, path, "labels.region", text_of(node), note="for people; the server runs where it was started")


def _health_checks(draft: Draft, node: Node, path: str) -> None:
    for kind, check in entries_of(node):
        here = f"{path}.{kind}"
        if kind not in ("liveness", "readiness", "startup"):
            draft.gap(check, here, "checks are liveness, readiness and startup")
            continue
        fields = dict(entries_of(check))
        home = {"startup": "health.startup_s", "liveness": "health.hang_s"}.get(kind, "")
        used = _put_seconds(draft, check, here, fields, home) if home else ()
        left = [key for key in fields if key not in used]
        if left:
            draft.gap(check, f"{here}.{{{', '.join(left)}}}", PROBES)


def _put_seconds(draft: Draft, node: Node, path: str, fields: dict[str, Node], home: str) -> tuple[str, ...]:
    """How long the check would have gone on before the container was given up; the fields that say so."""
    period, failures, delay = (
        number_of(fields[key]) if key in fields else None
        for key in ("periodSeconds", "failureThreshold", "initialDelaySeconds")
    )
    if period is None or failures is None:
        return ()
    seconds = period * failures + ((delay or 0) if home == "health.startup_s" else 0)
    used = ("periodSeconds", "failureThreshold", *(("initialDelaySeconds",) if home == "health.startup_s" else ()))
    named = [key for key in used if key in fields]
    return used if draft.put(node, f"{path}.{{{', '.join(named)}}}", home, seconds) else ()


def _left_out(why: str) -> Put:
    def put(draft: Draft, node: Node, path: str) -> None:
        draft.gap(node, path, why)

    return put


RESOURCES: dict[str, Put] = {
    "replicas": put_replicas,
    "machineType": put_machine,
    "instanceType": put_machine,
    "autoscaling": put_autoscaling,
    "ports": _left_out(PORTS),
}

FIELDS: dict[str, Put] = {
    "apiVersion": _api_version,
    "name": put_name,
    "image": _left_out(PROCESSES),
    "command": _left_out(PROCESSES),
    "containerRegistry": _left_out("without images no registry is needed"),
    "enabled": _enabled,
    "region": _region,
    "basicAuthKey": _protected,
    "env": _env,
    "resources": _resources,
    "instanceType": put_machine,
    "port": _left_out(PORTS),
    "models": put_models,
    "integrations": put_integrations,
    "repositories": put_repositories,
    "healthChecks": _health_checks,
}
