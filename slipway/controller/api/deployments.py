"""Deployments: declared as a whole by PUT, and moved by verbs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated

from fastapi import Query
from pydantic import StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from slipway.controller.api.bodies import DeployBody, NothingBody, PromoteBody, RollbackBody, ScaleBody
from slipway.controller.api.desk import Desk, Given, Who, reply
from slipway.controller.api.names import Name, OneVersion
from slipway.controller.api.operations import Operation
from slipway.controller.api.pages import Cursor, Limit, page_of, read_number, write_cursor
from slipway.controller.api.preconditions import REVISION, as_expected, etag
from slipway.controller.api.rules import Rule, sees
from slipway.errors import InvalidSpec, NotFound
from slipway.spec.reading import spec_from_json
from slipway.spec.resources import Deployment, Page, Replica, Revision, Version

TAG = "deployments"
ONE = "/api/v1/deployments/{name}"
REFUSALS = (404, 409, 412, 422)
EXAMPLE = {"spec": {"name": "iris", "model": "s3://models/iris.onnx", "replicas": {"min": 2}}}
Label = Annotated[str, StringConstraints(pattern=r"^[^=]", max_length=8192)]
Labels = Annotated[list[Label] | None, Query(description="`key=value`, or `key`; several must all hold.")]
Flag = Annotated[bool, Query()]


class DeploymentHandlers:
    def __init__(self, desk: Desk) -> None:
        self._commands = desk.commands

    async def list_deployments(
        self, who: Who, label: Labels = None, limit: Limit = 100, cursor: Cursor = ""
    ) -> Response:
        wanted = [_label(text) for text in label or ()]
        found = [
            one
            for one in await self._commands.deployments()
            if sees(who, one.name) and all(_has(one, key, value) for key, value in wanted)
        ]
        return reply(page_of(found, key=lambda one: (one.name,), kind="deployments", limit=limit, cursor=cursor))

    async def get_deployment(self, name: Name) -> Response:
        return _told(await self._commands.deployment(name))

    async def put_deployment(
        self,
        request: Request,
        name: Name,
        who: Who,
        dry_run: Flag = False,
        hold: Flag = False,
        new_version: Flag = False,
        body: DeployBody = Given,
    ) -> Response:
        spec = spec_from_json(body.spec, at="/spec")
        if spec.name != name:
            raise InvalidSpec(f"/spec/name: is {spec.name!r}, but this is the path of {name!r}; make them the same")

        async def deploy(revision: int | None) -> Deployment:
            return await self._commands.deploy(
                spec,
                artifact=body.artifact,
                hold=hold,
                dry_run=dry_run,
                force_version=new_version,
                expected_revision=revision,
                caller=who,
            )

        found = await self._expecting(request, name, deploy)
        if found.change == "created" and not dry_run:
            return _told(found, status=201, location=f"/api/v1/deployments/{name}")
        return _told(found)

    async def delete_deployment(self, request: Request, name: Name, who: Who) -> Response:
        async def delete(revision: int | None) -> Deployment:
            return await self._commands.delete(name, expected_revision=revision, caller=who)

        return _told(await self._expecting(request, name, delete), status=202)

    async def scale_deployment(self, request: Request, name: Name, who: Who, body: ScaleBody = Given) -> Response:
        async def scale(revision: int | None) -> Deployment:
            return await self._commands.scale(name, body.replicas, expected_revision=revision, caller=who)

        return _told(await self._expecting(request, name, scale))

    async def stop_deployment(self, request: Request, name: Name, who: Who) -> Response:
        async def stop(revision: int | None) -> Deployment:
            return await self._commands.stop(name, expected_revision=revision, caller=who)

        return _told(await self._expecting(request, name, stop))

    async def start_deployment(self, request: Request, name: Name, who: Who) -> Response:
        async def start(revision: int | None) -> Deployment:
            return await self._commands.start(name, expected_revision=revision, caller=who)

        return _told(await self._expecting(request, name, start))

    async def roll_back_deployment(
        self, request: Request, name: Name, who: Who, body: RollbackBody = Given
    ) -> Response:
        async def roll_back(revision: int | None) -> Deployment:
            return await self._commands.rollback(name, body.to, expected_revision=revision, caller=who)

        return _told(await self._expecting(request, name, roll_back))

    async def promote_deployment(self, request: Request, name: Name, who: Who, body: PromoteBody = Given) -> Response:
        async def promote(revision: int | None) -> Deployment:
            return await self._commands.promote(name, body.version, expected_revision=revision, caller=who)

        return _told(await self._expecting(request, name, promote))

    async def list_versions(self, name: Name, limit: Limit = 100, cursor: Cursor = "") -> Response:
        found = await self._commands.versions(name)
        kind = f"versions of {name}"
        return reply(page_of(found, key=lambda one: (-one.number,), kind=kind, limit=limit, cursor=cursor))

    async def get_version(self, name: Name, version: OneVersion) -> Response:
        return reply(await self._commands.version(name, version))

    async def list_history(self, name: Name, limit: Limit = 100, cursor: Cursor = "") -> Response:
        kind = f"history of {name}"
        before = read_number(kind, cursor) if cursor else 0
        found = await self._commands.history(name, limit=limit + 1, before=before)
        shown = found[:limit]
        more = len(found) > limit
        return reply(Page(items=shown, next=write_cursor(kind, (shown[-1].revision,)) if more else ""))

    async def list_replicas_of(self, name: Name, limit: Limit = 100, cursor: Cursor = "") -> Response:
        await self._commands.deployment(name)  # NotFound, where an empty list would hide a misspelt name
        found = await self._commands.replicas(name)
        return reply(page_of(found, key=replica_key, kind=f"replicas of {name}", limit=limit, cursor=cursor))

    async def _expecting(
        self, request: Request, name: str, act: Callable[[int | None], Awaitable[Deployment]]
    ) -> Deployment:
        return await as_expected(
            request.headers, f"deployment {name!r}", present=partial(self._revision, name), act=act
        )

    async def _revision(self, name: str) -> int:
        try:
            return (await self._commands.deployment(name)).revision
        except NotFound:
            return 0


def operations(desk: Desk) -> list[Operation]:
    do = DeploymentHandlers(desk)
    return [*_declared(do), *_verbs(do), *_views(do)]


def _declared(do: DeploymentHandlers) -> list[Operation]:
    one = partial(Operation, tag=TAG, needs=Rule.DEPLOYMENT, path=ONE, headers=REVISION)
    return [
        Operation(
            method="GET",
            path="/api/v1/deployments",
            call=do.list_deployments,
            tag=TAG,
            summary="All deployments that you may see, by name, without their versions",
            needs=Rule.ANYBODY,
            answers={200: Page[Deployment]},
        ),
        one(
            method="GET",
            call=do.get_deployment,
            summary="One deployment with its versions and their replicas",
            answers={200: Deployment},
            refuses=(404,),
        ),
        one(
            method="PUT",
            call=do.put_deployment,
            summary="Declare a deployment: create it, or change what differs; nothing changed makes no new version",
            takes=DeployBody,
            example=EXAMPLE,
            answers={200: Deployment, 201: Deployment},
            once=True,
            refuses=REFUSALS,
        ),
        one(
            method="DELETE",
            call=do.delete_deployment,
            summary="Drain it and forget it with all its versions; it is gone once nothing of it runs",
            answers={202: Deployment},
            refuses=(404, 409, 412),
        ),
    ]


def _verbs(do: DeploymentHandlers) -> list[Operation]:
    verb = partial(
        Operation,
        tag=TAG,
        needs=Rule.DEPLOYMENT,
        method="POST",
        answers={200: Deployment},
        once=True,
        headers=REVISION,
        refuses=REFUSALS,
    )
    return [
        verb(
            path=f"{ONE}/scale",
            call=do.scale_deployment,
            summary="Run so many replicas, without a new version",
            takes=ScaleBody,
            example={"replicas": 3},
        ),
        verb(
            path=f"{ONE}/stop",
            call=do.stop_deployment,
            summary="Finish what was accepted, and run nothing of it",
            takes=NothingBody,
            optional=True,
        ),
        verb(
            path=f"{ONE}/start",
            call=do.start_deployment,
            summary="Run it again",
            takes=NothingBody,
            optional=True,
        ),
        verb(
            path=f"{ONE}/rollback",
            call=do.roll_back_deployment,
            summary="Back to an earlier version; without `to`, the one that was live before",
            takes=RollbackBody,
            optional=True,
            example={"to": "v2"},
        ),
        verb(
            path=f"{ONE}/promote",
            call=do.promote_deployment,
            summary="Give the traffic to a version that was held",
            takes=PromoteBody,
            optional=True,
            example={"version": "v3"},
        ),
    ]


def _views(do: DeploymentHandlers) -> list[Operation]:
    view = partial(Operation, tag=TAG, needs=Rule.DEPLOYMENT, method="GET", refuses=(404,))
    return [
        view(
            path=f"{ONE}/versions",
            call=do.list_versions,
            summary="Its versions, the newest first",
            answers={200: Page[Version]},
        ),
        view(
            path=f"{ONE}/versions/{{version}}",
            call=do.get_version,
            summary="One version",
            answers={200: Version},
        ),
        view(
            path=f"{ONE}/history",
            call=do.list_history,
            summary="Who changed what, the newest first",
            answers={200: Page[Revision]},
        ),
        view(
            path=f"{ONE}/replicas",
            call=do.list_replicas_of,
            summary="Its worker processes",
            answers={200: Page[Replica]},
        ),
    ]


def replica_key(one: Replica) -> tuple[str | float, ...]:
    return (one.deployment, one.version, one.index, one.generation)


def _told(found: Deployment, *, status: int = 200, location: str = "") -> Response:
    headers = {"etag": etag(found.revision)}
    if location:
        headers["location"] = location
    return reply(found, status=status, headers=headers)


def _label(text: str) -> tuple[str, str | None]:
    key, equals, value = text.partition("=")
    return key, value if equals else None


def _has(deployment: Deployment, key: str, value: str | None) -> bool:
    labels = deployment.spec.get("labels", {})
    return key in labels and (value is None or labels[key] == value)
