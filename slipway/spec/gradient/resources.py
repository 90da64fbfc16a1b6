"""Machines, replicas and autoscaling, which every generation has under other names."""

from __future__ import annotations

import re
from typing import Any

from slipway.spec.gradient.conversion import Draft, entries_of, items_of, number_of, text_of, truth_of
from slipway.spec.places import Node, shown

_CPU_MACHINE = re.compile(r"C[0-9]+\w*", re.IGNORECASE)
_SEVERAL = re.compile(r".*x(?P<count>[2-9])", re.IGNORECASE)
_METRICS = {
    "cpu": "cpu",
    "cpupercentage": "cpu",
    "memory": "memory",
    "memoryusage": "memory",
    "requestduration": "request_duration",
}
SIZES = "set replicas.cpus and replicas.memory to what a replica needs, since replicas here share the server's machine"


def put_machine(draft: Draft, node: Node, path: str) -> None:
    """Gradient rents a machine for each replica; here there is one already, and only the kind of device counts."""
    machine = text_of(node)
    if _CPU_MACHINE.fullmatch(machine):
        draft.put(node, path, "replicas.device", "cpu", note=f"{machine} has no GPU; {SIZES}")
    elif machine:
        several = _SEVERAL.fullmatch(machine)
        more = f"; it has {several['count']} GPUs, of which a replica here uses one" if several else ""
        draft.put(node, path, "replicas.device", "cuda:0", note=f"for the GPU of {machine}; {SIZES}{more}")
    else:
        draft.gap(node, path, "it names no machine")


def put_replicas(draft: Draft, node: Node, path: str) -> None:
    count = number_of(node)
    if count == 0:
        draft.put(node, path, "enabled", False, note="0 replicas; `slipway start` brings it into service")
    elif count is None:
        draft.gap(node, path, f"{shown(text_of(node))} is no number")
    else:
        draft.put(node, path, "replicas.min", count)


def put_autoscaling(draft: Draft, node: Node, path: str) -> None:
    """`{enabled, maxReplicas, metrics: [{metric, summary, value}]}`"""
    known = dict(entries_of(node))
    enabled = known.pop("enabled", None)
    if enabled is not None and truth_of(enabled) is False:
        draft.say(enabled, f"{path}.enabled", "nothing scales by itself, so the rest of it is not carried over")
        for key, inner in known.items():
            draft.gap(inner, f"{path}.{key}", "autoscaling is switched off")
        return
    if enabled is not None:
        draft.say(enabled, f"{path}.enabled", "metrics and replicas.max switch it on here")
    wanted: list[dict[str, Any]] = []
    for key, inner in known.items():
        if key == "maxReplicas":
            count = number_of(inner)
            draft.put(inner, f"{path}.{key}", "replicas.max", text_of(inner) if count is None else count)
        elif key == "metrics":
            for i, metric in enumerate(items_of(inner)):
                _put_metric(draft, metric, f"{path}.metrics[{i}]", wanted)
        else:
            draft.gap(inner, f"{path}.{key}", "this is no field of autoscaling that is known here")


def _put_metric(draft: Draft, node: Node, path: str, wanted: list[dict[str, Any]]) -> None:
    fields = dict(entries_of(node))
    summary = fields.get("summary")
    if summary is not None and text_of(summary) != "average":
        draft.gap(summary, f"{path}.summary", "replicas are averaged, and nothing else is known here")
        return
    name, value = fields.get("metric"), fields.get("value")
    if name is None or value is None:
        draft.gap(node, path, "it has no metric, or no value")
        return
    put_target(draft, node, path, wanted, name=text_of(name), target=text_of(value))
    for key, inner in fields.items():
        if key not in ("metric", "summary", "value"):
            draft.gap(inner, f"{path}.{key}", "this is no field of a metric that is known here")


def put_target(draft: Draft, node: Node, path: str, wanted: list[dict[str, Any]], *, name: str, target: str) -> None:
    """One more of the metrics that are `wanted` already."""
    metric = _METRICS.get(name.lower())
    if metric is None:
        draft.gap(
            node,
            path,
            f"the metric {shown(name)} is not known here: autoscaling follows cpu, memory, request_duration, "
            "requests_per_s and queue_rows",
        )
        return
    try:
        number = float(target)
        number = int(number) if number.is_integer() else number
    except ValueError:
        draft.gap(node, path, f"its value {shown(target)} is no number")
        return
    note = "kept and not followed yet: replicas.min run"
    if draft.put(node, path, "autoscaling", [*wanted, {"metric": metric, "target": number}], note=note):
        wanted.append({"metric": metric, "target": number})
