"""What kind of thing the `model` of a spec names: something on disk, something far away, or code that is installed."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::[A-Za-z][A-Za-z0-9+.-]*)*://")


class ModelSource(NamedTuple):
    """`location`: a path, a URL, or a module's dotted name. `attribute`: the class in it, '' where none is named; it
    is no part of the artifact. A module is no artifact at all: it is imported from what is installed, its digest is ''.
    """

    kind: Literal["path", "url", "module"]
    location: str
    attribute: str

    def loads(self, path: str) -> str:
        """What a worker is told to load, where the artifact lies at `path`."""
        return f"{path}:{self.attribute}" if self.attribute else path


def read_source(model: str) -> ModelSource:
    """`./iris.onnx`, `iris.py:Iris`, `package.module:Class`, `s3://bucket/iris.py:Iris`. A path that looks like
    `module:Class` is written `./module:Class`."""
    location, _, attribute = model.rpartition(":")
    named = attribute.isidentifier() and location != ""
    if _URL.match(model):
        if named and location.endswith(".py"):
            return ModelSource("url", location, attribute)
        return ModelSource("url", model, "")
    if named and location.endswith(".py"):
        return ModelSource("path", location, attribute)
    if named and _MODULE.match(location):
        return ModelSource("module", location, attribute)
    return ModelSource("path", model, "")
