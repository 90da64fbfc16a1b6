"""For schemathesis: specs that have the name of their path, so that more of them come further than that."""

from __future__ import annotations

import re
from typing import Any

import schemathesis

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:  # noqa: ARG001
    body, name = case.body, (case.path_parameters or {}).get("name")
    spec = body.get("spec") if isinstance(body, dict) else None
    if isinstance(spec, dict) and all(isinstance(one, str) and NAME.match(one) for one in (spec.get("name"), name)):
        case.body = body | {"spec": spec | {"name": name}}
    return case
