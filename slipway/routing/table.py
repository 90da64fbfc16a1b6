"""Which version a request goes to. Pure: the table is built when the routes change, a look-up is a dictionary's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Generic, TypeVar

from slipway.errors import NotFound, NotReady

T = TypeVar("T")
_NUMBERED = re.compile(r"v?(\d+)\Z")


def version_order(version: str) -> tuple[int, int, str]:
    """Sorts versions by number (`v2` before `v10`), and those without one before all others."""
    match = _NUMBERED.match(version)
    return (1, int(match[1]), version) if match else (0, 0, version)


class VersionTable(Generic[T]):
    """From (model, version) to whatever serves it. Version '' is the live one; of several the highest.

    `entries`: (model, version, whether it is live, target). `absent`: models that are known though nothing of them
    runs, and why.
    """

    def __init__(
        self, entries: Iterable[tuple[str, str, bool, T]] = (), *, absent: Mapping[str, str] | None = None
    ) -> None:
        self._live: dict[str, T] = {}
        self._versions: dict[str, dict[str, T]] = {}
        self._absent = dict(absent or {})
        for model, version, live, target in sorted(entries, key=lambda entry: (entry[0], version_order(entry[1]))):
            versions = self._versions.setdefault(model, {})
            versions[version] = target
            if live:
                self._live[model] = target  # sorted: the highest comes last

    def find(self, model: str, version: str = "", *, sees: Callable[[str], bool] | None = None) -> T:
        """Raises NotFound that names the nearest model of those that whoever asks `sees`, or the versions that there
        are, and NotReady for a model that is known and has no live version. `1` finds `v1`."""
        if not version:
            live = self._live.get(model)
            if live is not None:
                return live
        versions = self._versions.get(model)
        if model in self._absent and not (versions and version):
            raise NotReady(f"model {model!r} does not serve: {self._absent[model]}", retry_after_s=5.0)
        if versions is None:
            raise NotFound(f"no model {model[:128]!r}{self._hint(model, sees)}")
        if not version:
            there = ", ".join(versions)
            raise NotReady(f"model {model!r} has no live version yet; on its way: {there}", retry_after_s=1.0)
        target = versions.get(version) or versions.get(f"v{version}")
        if target is None:
            raise NotFound(f"model {model!r} has no version {version[:128]!r}; it has {', '.join(versions)}")
        return target

    def versions(self, model: str, *, sees: Callable[[str], bool] | None = None) -> dict[str, T]:
        """All versions of a model that run, lowest first. Raises NotFound, NotReady."""
        if model not in self._versions:
            self.find(model, sees=sees)
        return self._versions[model]

    def all(self) -> list[T]:
        return [target for versions in self._versions.values() for target in versions.values()]

    def _hint(self, model: str, sees: Callable[[str], bool] | None) -> str:
        known = sorted(name for name in self._versions.keys() | self._absent.keys() if sees is None or sees(name))
        near = get_close_matches(model, known, n=1)
        if near:
            return f"; did you mean {near[0]!r}?"
        return f"; served are {', '.join(known) or 'none yet'}"
