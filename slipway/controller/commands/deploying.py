"""Verbs that change deployments."""

from __future__ import annotations

from slipway.spec.access import Caller
from slipway.spec.deployment import DeploymentSpec
from slipway.spec.resources import Deployment


class DeployCommands:
    """All answer the deployment as it is afterwards, with `change`: created, new_version, updated, unchanged.
    `expected_revision`: PreconditionFailed when the deployment's differs; 0: it must not exist yet."""

    async def deploy(
        self,
        spec: DeploymentSpec,
        *,
        artifact: str = "",
        hold: bool = False,
        dry_run: bool = False,
        force_version: bool = False,
        expected_revision: int | None = None,
        caller: Caller,
    ) -> Deployment:
        raise NotImplementedError

    async def delete(self, name: str, *, expected_revision: int | None = None, caller: Caller) -> Deployment:
        raise NotImplementedError

    async def scale(
        self, name: str, replicas: int, *, expected_revision: int | None = None, caller: Caller
    ) -> Deployment:
        raise NotImplementedError

    async def stop(self, name: str, *, expected_revision: int | None = None, caller: Caller) -> Deployment:
        raise NotImplementedError

    async def start(self, name: str, *, expected_revision: int | None = None, caller: Caller) -> Deployment:
        raise NotImplementedError

    async def rollback(
        self, name: str, to: str = "", *, expected_revision: int | None = None, caller: Caller
    ) -> Deployment:
        raise NotImplementedError

    async def promote(
        self, name: str, version: str = "", *, expected_revision: int | None = None, caller: Caller
    ) -> Deployment:
        raise NotImplementedError
