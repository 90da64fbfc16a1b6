"""The free settings of a model, `--option KEY=VALUE`, read strictly: what is misspelt is refused, never ignored."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from slipway.errors import LoadFailure

_TRUE = ("true", "1", "yes", "on")
_FALSE = ("false", "0", "no", "off")
_DEVICE = re.compile(r"cpu|cuda(?::(\d+))?")


class OptionReader:
    """Take what you know, then `finish`. All methods raise LoadFailure for a value that cannot be."""

    def __init__(self, runtime: str, options: Mapping[str, str]) -> None:
        self._runtime = runtime
        self._left = dict(options)
        self._known: list[str] = []

    def text(self, key: str, default: str = "") -> str:
        self._known.append(key)
        return self._left.pop(key, default)

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        value = self.text(key, default)
        if value not in choices:
            raise LoadFailure(f"option {key}={value!r}: it is one of {', '.join(choices)}")
        return value

    def flag(self, key: str, default: bool | None = None) -> bool | None:
        value = self.text(key).lower()
        if not value:
            return default
        if value not in _TRUE + _FALSE:
            raise LoadFailure(f"option {key}={value!r}: it is true or false")
        return value in _TRUE

    def prefixed(self, prefix: str) -> dict[str, str]:
        """All options whose key begins with `prefix`, under their full keys."""
        self._known.append(f"{prefix}*")
        found = {key: value for key, value in self._left.items() if key.startswith(prefix)}
        for key in found:
            del self._left[key]
        return found

    def finish(self) -> None:
        """Raise LoadFailure for the first option that nobody took."""
        for key in self._left:
            near = get_close_matches(key, self._known, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ";"
            known = ", ".join(sorted(self._known)) or "none"
            raise LoadFailure(f"the {self._runtime} runtime has no option {key!r}{hint} it knows {known}")


def cuda_index(device: str) -> int | None:
    """The number of the GPU, or None for the CPU. Raises LoadFailure for what is neither."""
    found = _DEVICE.fullmatch(device)
    if found is None:
        raise LoadFailure(f"device {device!r} is not known; it is cpu, or cuda:N for the GPU number N")
    return None if device == "cpu" else int(found[1] or 0)
