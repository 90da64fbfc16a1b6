"""Options from the environment, held to the same strictness as those that are typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from slipway.cli.options import variable_of
from slipway.errors import SetupError

PREFIX = "SLIPWAY_"
OTHERS = ("SLIPWAY_SERVER", "SLIPWAY_KEY", "SLIPWAY_FILES")
"""Of the verbs that call a server, and of models."""
SERVICE_LINKS = ("SLIPWAY_SERVICE_", "SLIPWAY_PORT_")
"""What Kubernetes tells every pod about a service that is called `slipway`."""

_FLAGS = ("1", "true", "yes", "on", "t", "y", "0", "false", "no", "off", "f", "n", "")


def check_environment(environment: Mapping[str, str], table: type[Any]) -> None:
    """Raise SetupError for a variable whose value is no value of its option in `table`, or whose name is nearly an
    option's."""
    options = {variable_of(field.name): field for field in fields(table)}
    for variable, value in environment.items():
        if not variable.startswith(PREFIX) or variable.startswith(SERVICE_LINKS) or variable in OTHERS:
            continue
        field = options.get(variable)
        if field is None:
            near = get_close_matches(variable, options, n=1, cutoff=0.85)
            if near:
                raise SetupError(f"the environment has {variable}, which is no option; did you mean {near[0]}?")
            continue
        wanted = _wanted(str(field.type), value)
        if wanted:
            flag = field.name.replace("_", "-")
            raise SetupError(f"the environment has {variable}={value!r}, but --{flag} takes {wanted}")


def _wanted(kind: str, value: str) -> str:
    """What would be right, or '' where `value` is. `kind`: as the table has it, such as `int | None`."""
    kind = kind.removesuffix(" | None")
    if kind == "bool":
        return "" if value.strip().lower() in _FLAGS else "true or false"
    if kind in ("int", "float"):
        try:
            float(value) if kind == "float" else int(value)
        except ValueError:
            return "a whole number" if kind == "int" else "a number"
    return ""
