"""What the store says of deployments, in memory: the leader is its only writer, so it need not ask again to decide."""

from __future__ import annotations

import asyncio
from difflib import get_close_matches

from slipway.errors import NotFound
from slipway.store.records import DeploymentRecord, VersionRecord
from slipway.store.store import Store

Everything = tuple[list[DeploymentRecord], list[VersionRecord]]


class World:
    """`deployments` by name; `versions` by name and number. `stale`: the store may have changed without us."""

    def __init__(self) -> None:
        self.deployments: dict[str, DeploymentRecord] = {}
        self.versions: dict[str, dict[int, VersionRecord]] = {}
        self.known = False
        self.stale = False
        self._locks: dict[str, asyncio.Lock] = {}

    def lock(self, name: str) -> asyncio.Lock:
        """Held by whoever reads a deployment in order to change it."""
        return self._locks.setdefault(name, asyncio.Lock())

    def get(self, name: str) -> DeploymentRecord:
        found = self.deployments.get(name)
        if found is None:
            near = get_close_matches(name, self.deployments, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "`slipway list` shows those that there are"
            raise NotFound(f"there is no deployment {name!r}; {hint}")
        return found

    def of(self, name: str) -> dict[int, VersionRecord]:
        return self.versions.get(name, {})

    def version(self, name: str, version: str) -> VersionRecord:
        """By its name, `v3` (or `3`). Raises NotFound that says which there are."""
        self.get(name)
        number = number_of(version)
        found = self.of(name).get(number)
        if found is None:
            known = [f"v{one}" for one in sorted(self.of(name))]
            near = get_close_matches(version, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there {_are(known)}"
            raise NotFound(f"{name!r} has no version {version!r}; {hint}")
        return found

    def take(self, everything: Everything) -> None:
        deployments, versions = everything
        self.deployments = {deployment.name: deployment for deployment in deployments}
        self.versions = {name: {} for name in self.deployments}
        for version in versions:
            self.versions.setdefault(version.deployment, {})[version.number] = version
        self._locks = {name: lock for name, lock in self._locks.items() if lock.locked() or name in self.deployments}
        self.known, self.stale = True, False

    def put(self, deployment: DeploymentRecord, versions: list[VersionRecord]) -> None:
        self.deployments[deployment.name] = deployment
        self.versions[deployment.name] = {version.number: version for version in versions}

    def drop(self, name: str) -> None:
        self.deployments.pop(name, None)
        self.versions.pop(name, None)


def read_all(store: Store) -> Everything:
    return store.deployments(), store.all_versions()


def number_of(version: str) -> int:
    """Of `v3` or `3`; 0 for what names no version."""
    digits = version.removeprefix("v")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else 0


def _are(known: list[str]) -> str:
    if not known:
        return "is none yet"
    return "is " + known[0] if len(known) == 1 else f"are {', '.join(known[-10:])}"
