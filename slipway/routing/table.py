"""Which version a request goes to. Pure: the table is built when the routes change, a look-up is a dictionary's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Generic, TypeVar

from slipway.errors import NotFound

T = TypeVar("T")
_NUMBERED = re.compile(r"v?(\d+)\Z")


def version_order(version: str) -> tuple[int, int, str]:
    """Sorts versions by number (`v2` before `v10`), and those without one before all others."""
    match = _NUMBERED.match(version)
    return (1, int(match[1]), version) if match else (0, 0, version)


class VersionTable(Generic[T]):
    """From (model, version) to whatever serves it. Version '' is the live one: the highest."""

    def __init__(self, entries: Iterable[tuple[str, str, T]] = ()) -> None:
        self._live: dict[str, T] = {}
        self._versions: dict[str, dict[str, T]] = {}
        for model, version, target in sorted(entries, key=lambda entry: (entry[0], version_order(entry[1]))):
            versions = self._versions.setdefault(model, {})
            versions[version] = target
            self._live[model] = target  # sorted: the highest comes last

    def find(self, model: str, version: str = "") -> T:
        """Raises NotFound that names the nearest model, or the versions that there are. `1` finds `v1`."""
        if not version:
            live = self._live.get(model)
            if live is not None:
                return live
        versions = self._versions.get(model)
        if versions is None:
            raise NotFound(f"no model {model[:128]!r}{self._hint(model)}")
        target = versions.get(version) or versions.get(f"v{version}")
        if target is None:
            raise NotFound(f"model {model!r} has no version {version[:128]!r}; it has {', '.join(versions)}")
        return target

    def versions(self, model: str) -> dict[str, T]:
        """All versions of a model, lowest first. Raises NotFound."""
        self.find(model)
        return self._versions[model]

    def all(self) -> list[T]:
        return [target for versions in self._versions.values() for target in versions.values()]

    def _hint(self, model: str) -> str:
        near = get_close_matches(model, self._versions, n=1)
        if near:
            return f"; did you mean {near[0]!r}?"
        return f"; served are {', '.join(sorted(self._versions)) or 'none yet'}"
