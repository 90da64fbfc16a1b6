"""What Gradient mounts into a container: models, buckets, repositories, volumes. The first that is or could be the
model becomes the deployment's `model`, other buckets its `files`."""

from __future__ import annotations

import re

from slipway.spec.gradient.conversion import Draft, entries_of, items_of, text_of
from slipway.spec.places import Node, shown

_BUCKET_TYPES = ("s3", "spaces", "do-spaces")
_REPOSITORY_TYPES = ("git-lfs", "git", "gitlfs")
_CREDENTIALS = {
    "accessKeyId": "AWS_ACCESS_KEY_ID",
    "secretAccessKey": "AWS_SECRET_ACCESS_KEY",
    "region": "AWS_DEFAULT_REGION",
    "endpoint": "AWS_ENDPOINT_URL",
}
MOUNT = "nothing is mounted: the runtime is given the model, and code finds what `files` names in SLIPWAY_FILES"


def put_models(draft: Draft, node: Node, path: str) -> None:
    """`[{id, path}]`"""
    for i, model in enumerate(items_of(node)):
        _put_stored_model(draft, model, f"{path}[{i}]", dict(entries_of(model)))


def put_integrations(draft: Draft, node: Node, path: str) -> None:
    """What can be fetched comes first, since a deployment has one model."""
    several = [(f"{path}[{i}]", one, dict(entries_of(one))) for i, one in enumerate(items_of(node))]
    for here, one, fields in sorted(several, key=lambda each: _rank(each[2])):
        kind = _kind(fields)
        if kind in _BUCKET_TYPES:
            _put_bucket(draft, one, here, fields)
        elif kind == "model":
            _put_stored_model(draft, one, here, fields)
        elif kind in _REPOSITORY_TYPES:
            _put_repository(draft, one, here, fields)
        elif kind == "volume":
            draft.gap(one, here, f"there are no volumes: put the path of the volume's model in `model`; {MOUNT}")
        else:
            draft.gap(one, here, f"integrations of the type {shown(kind)} are not known here")


def _kind(fields: dict[str, Node]) -> str:
    return text_of(fields["type"]) if "type" in fields else ""


def _rank(fields: dict[str, Node]) -> int:
    kind = _kind(fields)
    return 0 if kind in _BUCKET_TYPES else 1 if kind == "model" else 2


def put_repositories(draft: Draft, node: Node, path: str) -> None:
    """`{dataset, mountPath, repositories: [{url, …}]}` of v0alpha0."""
    fields = dict(entries_of(node))
    several = fields.pop("repositories", None)
    for i, one in enumerate(items_of(several) if several is not None else ()):
        inner = dict(entries_of(one))
        _put_repository(draft, one, f"{path}.repositories[{i}]", inner)
    for key, inner_node in fields.items():
        why = MOUNT if key == "mountPath" else "datasets of Gradient cannot be read; copy what it holds"
        draft.gap(inner_node, f"{path}.{key}", why)


def _put_stored_model(draft: Draft, node: Node, path: str, fields: dict[str, Node]) -> None:
    """A model of Gradient's own store, which is no more: its place is kept for the files that somebody still has."""
    stored = fields.get("id", node)
    mounted = text_of(fields["path"]) if "path" in fields else ""
    if draft.fields["model"]:
        draft.gap(node, path, f"a deployment has one model, which is {draft.fields['model']} already")
        return
    place = f"./{_last_part(mounted) or text_of(stored) or draft.fields['name']}"
    note = f"Gradient's store cannot be read, so put the files of model {text_of(stored)} at {place}"
    if draft.put(stored, f"{path}.id", "model", place, note="a path to fill"):
        draft.gap(stored, f"the content of {path}.id", note)
    for key, inner in fields.items():
        if key == "path":
            draft.gap(inner, f"{path}.path", MOUNT)
        elif key not in ("id", "type"):
            draft.gap(inner, f"{path}.{key}", "it has no meaning without Gradient's store")


def _put_bucket(draft: Draft, node: Node, path: str, fields: dict[str, Node]) -> None:
    url = fields.get("url")
    name = _last_part(text_of(fields["name"])) if "name" in fields else ""
    if url is None or "://" not in text_of(url):
        draft.gap(node, path, "it has no url to fetch from")
    elif not draft.fields["model"]:
        draft.put(url, f"{path}.url", "model", text_of(url))
    else:
        draft.put(url, f"{path}.url", f"files.{name or _last_part(text_of(url)) or 'files'}", text_of(url))
    for key, inner in fields.items():
        if key in _CREDENTIALS:
            draft.gap(
                inner,
                f"{path}.{key}",
                f"specs hold no credentials; the server reads {_CREDENTIALS[key]} from its own environment",
            )
        elif key == "path":
            draft.gap(inner, f"{path}.path", MOUNT)
        elif key == "name":
            draft.say(inner, f"{path}.name", "only names what is mounted")
        elif key not in ("type", "url"):
            draft.gap(inner, f"{path}.{key}", "this is no field of a bucket that is known here")


def _put_repository(draft: Draft, node: Node, path: str, fields: dict[str, Node]) -> None:
    url = fields.get("url", node)
    name = _last_part(text_of(fields["name"])) if "name" in fields else ""
    place = f"./{name or _last_part(text_of(url).removesuffix('.git')) or 'repository'}"
    if not draft.fields["model"] and draft.put(url, f"{path}.url", "model", place, note="a path to fill"):
        draft.gap(url, f"the content of {path}.url", f"repositories are not cloned: git clone it to {place} yourself")
    else:
        draft.gap(url, f"{path}.url", "repositories are not cloned: clone it, and name its files in `files`")
    for key, inner in fields.items():
        if key in ("path", "mountPath"):
            draft.gap(inner, f"{path}.{key}", MOUNT)
        elif key == "name":
            draft.say(inner, f"{path}.name", "only names what is mounted")
        elif key not in ("type", "url"):
            draft.gap(inner, f"{path}.{key}", "clone the repository with it yourself")


def _last_part(path: str) -> str:
    last = path.split("?")[0].rstrip("/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._ +@-]+", "-", last).strip(".")
