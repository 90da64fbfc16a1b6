"""The options of the first generation's `gradient deployments create`, as they were typed or as YAML or JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from slipway.errors import InvalidSpec
from slipway.spec.gradient.conversion import (
    Draft,
    entries_of,
    items_of,
    moved,
    number_of,
    put_name,
    put_variable,
    text_of,
)
from slipway.spec.gradient.integrations import MOUNT
from slipway.spec.gradient.resources import put_machine, put_replicas, put_target
from slipway.spec.gradient.spec_file import PORTS, PROCESSES
from slipway.spec.places import Entries, Node, Scalar, from_json, shown

Put = Callable[[Draft, Node, str], None]
_TARGET = re.compile(r"(?P<name>[^/]+)/(?:targetAverage|target):(?P<target>.+)")
_RUNTIMES = {"onnx": "onnx"}


def is_options(node: Node) -> bool:
    return len({_spelt(key) for key, _ in entries_of(node)} & OPTIONS.keys()) >= 2


def draft_of_options(node: Node, *, name: str, dashes: str = "") -> Draft:
    """`dashes`: before each option, for messages."""
    draft = Draft(node, name=name)
    known = {_spelt(key): (f"{dashes}{key}", value) for key, value in entries_of(node)}
    order = ("name", "minInstanceCount", "instanceCount", "maxInstanceCount")
    for option in sorted(known, key=lambda option: order.index(option) if option in order else len(order)):
        key, value = known[option]
        put = OPTIONS.get(option)
        if put is None:
            draft.gap(value, key, "this is no option of `gradient deployments create` that is known here")
        elif option == "instanceCount" and "minInstanceCount" in known:
            draft.say(value, key, "minInstanceCount says how many run at least")
        else:
            put(draft, value, key)
    _put_access(draft, node, known)
    _put_metrics(draft, known)
    return draft


def _spelt(key: str) -> str:
    """The option that is meant: `--instance-count` is instanceCount."""
    plain = key.replace("-", "").replace("_", "").lower()
    return next((option for option in OPTIONS if option.lower() == plain), key)


def _deployment_type(draft: Draft, node: Node, path: str) -> None:
    runtime = _RUNTIMES.get(text_of(node).lower())
    if runtime:
        draft.put(node, path, "runtime", runtime)
    else:
        draft.gap(node, path, f"no runtime here takes {shown(text_of(node))}: convert the model to ONNX, or wrap it")


def _model_id(draft: Draft, node: Node, path: str) -> None:
    place = f"./{draft.fields['name']}"
    if draft.put(node, path, "model", place, note="a path to fill"):
        draft.gap(
            node,
            f"the content of {path}",
            f"Gradient's store cannot be read, so put the files of model {text_of(node)} at {place}",
        )


def _env(draft: Draft, node: Node, path: str) -> None:
    """A JSON object as text, or a mapping."""
    if isinstance(node, Scalar):
        try:
            node = moved(from_json(json.loads(node.text)), node.place)
        except (ValueError, RecursionError, InvalidSpec):
            draft.gap(node, path, "it is no JSON object; put its variables in `env`")
            return
    if not isinstance(node, Entries):
        draft.gap(node, path, "it is no JSON object; put its variables in `env`")
    for name, value in entries_of(node):
        put_variable(draft, value, f"{path}.{name}", name)


def _label(field: str) -> Put:
    def put(draft: Draft, node: Node, path: str) -> None:
        draft.put(node, path, f"labels.{field}", text_of(node), note="for people")

    return put


def _tags(draft: Draft, node: Node, path: str) -> None:
    for item in items_of(node):
        for tag in filter(None, (part.strip() for part in text_of(item).split(","))):
            draft.put(item, path, f"labels.{tag}", "", note="a label without a value")


def _most(draft: Draft, node: Node, path: str) -> None:
    count = number_of(node)
    draft.put(node, path, "replicas.max", text_of(node) if count is None else count)


def _api_type(draft: Draft, node: Node, path: str) -> None:
    draft.say(node, path, f"{text_of(node)}: every deployment answers over HTTP and gRPC")


def _later(draft: Draft, node: Node, path: str) -> None:
    """Said by a function that sees several options at once."""


def _put_access(draft: Draft, node: Node, known: dict[str, tuple[str, Node]]) -> None:
    if "authUsername" in known:
        key, value = known["authUsername"]
        note = f"make the user with `slipway users add {text_of(value)}`"
        draft.put(value, key, "auth.allow", [{"user": text_of(value)}], note=note)
    elif "auth" in known:
        key, value = known["auth"]
        note = "users of basic auth may call; make them with `slipway users add NAME`"
        draft.put(value, key, "auth.allow", [{"user": "*"}], note=note)
    else:
        draft.put(node, "the endpoint's access", "auth.public", True, note="as no password was set, it was public")
    if "authPassword" in known:
        key, value = known["authPassword"]
        draft.gap(value, key, "passwords are no part of a spec; `slipway users add` asks for it")


def _put_metrics(draft: Draft, known: dict[str, tuple[str, Node]]) -> None:
    wanted: list[dict[str, Any]] = []
    for option in ("metric", "resource"):
        key, several = known.get(option, ("", None))
        for item in items_of(several) if several is not None else ():
            found = _TARGET.fullmatch(text_of(item))
            if found is None:
                draft.gap(item, key, f"{shown(text_of(item))} is not NAME/target:NUMBER")
            else:
                put_target(draft, item, key, wanted, name=found["name"], target=found["target"])


def _left_out(why: str) -> Put:
    def put(draft: Draft, node: Node, path: str) -> None:
        draft.gap(node, path, why)

    return put


_REGISTRY = _left_out("without images no registry is needed")
_WORKSPACE = _left_out("no source is built: put a Python file with a slipway.Model class where the server can read it")

OPTIONS: dict[str, Put] = {
    "deploymentType": _deployment_type,
    "modelId": _model_id,
    "name": put_name,
    "projectId": _label("project"),
    "machineType": put_machine,
    "imageUrl": _left_out(PROCESSES),
    "command": _left_out(PROCESSES),
    "instanceCount": put_replicas,
    "minInstanceCount": put_replicas,
    "maxInstanceCount": _most,
    "scaleCooldownPeriod": _left_out("how soon replicas are taken away is not a deployment's to say"),
    "metric": _later,
    "resource": _later,
    "containerModelPath": _left_out(MOUNT),
    "containerUrlPath": _left_out("the path is /v2/models/NAME/infer for every deployment"),
    "method": _left_out("the method is infer, POST /v2/models/NAME/infer, for every deployment"),
    "dockerArgs": _left_out("there is no container; see replicas and sandbox for what a replica may use"),
    "env": _env,
    "apiType": _api_type,
    "ports": _left_out(PORTS),
    "clusterId": _left_out("a deployment runs on the server that it is deployed to: see `slipway login`"),
    "imageUsername": _REGISTRY,
    "imagePassword": _REGISTRY,
    "imageServer": _REGISTRY,
    "authUsername": _later,
    "authPassword": _later,
    "auth": _later,
    "tag": _tags,
    "tags": _tags,
    "workspace": _WORKSPACE,
    "workspaceRef": _WORKSPACE,
    "workspaceUsername": _WORKSPACE,
    "workspacePassword": _WORKSPACE,
}
