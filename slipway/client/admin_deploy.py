"""Deploying and waiting: several calls that a person thinks of as one, as conversations without I/O.

Reading a spec, hashing and reading model files are work on this machine, which a conversation hands to its driver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from slipway.client.admin_calls import AdminCalls
from slipway.client.admin_protocol import AdminTalk, part
from slipway.client.exchange import Pause
from slipway.errors import DeadlineExceeded, LoadFailure, NotFound
from slipway.spec.deployment import DeploymentSpec
from slipway.spec.resources import Deployment, Version

POLL_S = 0.1


class Step(msgspec.Struct, frozen=True):
    """How far a deployment is. `stage`: hashing, uploading, then those of a version: pending, fetching, loading,
    probing, ready, live, draining, stopped, failed. `progress`: 0 to 1 within the stage. `done_bytes`, `total_bytes`:
    of a file transfer, 0 where nothing is transferred."""

    stage: str
    progress: float = 0.0
    done_bytes: int = 0
    total_bytes: int = 0


Progress = Callable[[Step], None]


class DeployCalls(AdminCalls):
    """The calls with those that take several."""

    def deploy(
        self,
        what: DeploymentSpec | Mapping[str, Any] | str | Path,
        *,
        name: str = "",
        hold: bool = False,
        dry_run: bool = False,
        new_version: bool = False,
        upload: bool = True,
        expected_revision: int | None = None,
        wait: bool = False,
        timeout_s: float = 600.0,
        progress: Progress | None = None,
    ) -> AdminTalk[Deployment]:
        """Make what runs under a name be what `what` says; nothing changed is no new version.

        `what`: a spec, as an object, a dict or the path of a YAML or JSON file; or a model: a path, `module:Class` or a
        URL.
        `name`: overrides the spec's; a model without one is called as its file is.
        `hold`: load the new version, but let it take traffic only when it is promoted.
        `dry_run`: change nothing, and tell what would.
        `new_version`: make one even though nothing changed.
        `upload`: send a model that lies on this machine to the server; False: the server finds the path on its own.
        `expected_revision`: refuse with PreconditionFailed when somebody changed it since; 0: it must not exist yet.
        `wait`: until it takes traffic (until it is ready, with `hold`), or `timeout_s` is over. LoadFailure, with the
        model's own words, when it cannot.
        `progress`: called with each Step.
        """
        raise NotImplementedError

    def wait(
        self,
        name: str,
        *,
        version: str = "",
        until: str = "live",
        timeout_s: float = 600.0,
        progress: Progress | None = None,
    ) -> AdminTalk[Deployment]:
        """Until `version` (''; the one that is on its way in) is `live`, or only `ready`; a deployment that is stopped
        is waited for until nothing of it runs. Raises LoadFailure in the model's own words, DeadlineExceeded,
        NotFound when it is deleted meanwhile."""
        deadline = self.at.now + timeout_s
        seen: Step | None = None
        while True:
            found = yield from self.deployment(name)
            version = version or found.target
            its = next((one for one in found.versions if one.version == version), None)
            step = _step(found, its)
            if progress is not None and step != seen:
                progress(step)
            seen = step
            if _arrived(found, its, until):
                return found
            if self.at.now + POLL_S >= deadline:
                raise DeadlineExceeded(
                    f"{name} {version} is {step.stage} after {timeout_s:g} s; it goes on: `slipway status {name}`"
                )
            self.at.now = (yield Pause(POLL_S)).now

    def delete(
        self, name: str, *, expected_revision: int | None = None, wait: bool = False, timeout_s: float = 120.0
    ) -> AdminTalk[None]:
        """It takes no new requests, finishes those it has, and is gone with all its versions. `wait`: until it is."""
        deadline = self.at.now + timeout_s
        path = f"/deployments/{part('deployment', name)}"
        yield from self.send("DELETE", path, type(None), expected_revision=expected_revision)
        while wait:
            try:
                yield from self.deployment(name)
            except NotFound:
                return
            if self.at.now + POLL_S >= deadline:
                raise DeadlineExceeded(f"{name} is still being deleted after {timeout_s:g} s; it goes on")
            self.at.now = (yield Pause(POLL_S)).now


def _step(found: Deployment, version: Version | None) -> Step:
    if version is None:
        return Step(found.state)
    return Step(version.state, version.progress)


def _arrived(found: Deployment, version: Version | None, until: str) -> bool:
    """Raises LoadFailure when it will not."""
    if version is not None and version.state == "failed":
        raise LoadFailure(f"{found.name} {version.version} failed: {version.error}")
    if found.state == "stopped":
        return True
    if version is None:
        return False
    if until == "ready" and version.state in ("ready", "live"):
        return True
    return version.state == "live" and found.live == version.version and found.state != "deploying"
