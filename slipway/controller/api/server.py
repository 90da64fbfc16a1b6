"""The server itself: who asks, what is true now, and what probes and scrapers read."""

from __future__ import annotations

from dataclasses import replace

from starlette.responses import Response

from slipway.auth.scopes import may
from slipway.controller.api.deployments import replica_key
from slipway.controller.api.desk import Desk, Who, reply
from slipway.controller.api.names import MaybeDeployment
from slipway.controller.api.operations import Operation
from slipway.controller.api.pages import Cursor, Limit, page_of
from slipway.controller.api.rules import Rule, sees
from slipway.errors import NotReady
from slipway.spec.resources import Identity, Page, Replica, Route, ServerStatus
from slipway.spec.schema import spec_schema

TAG = "server"
TEXT = "text/plain"


class ServerHandlers:
    def __init__(self, desk: Desk) -> None:
        self._commands = desk.commands

    async def get_status(self, who: Who) -> Response:
        found = await self._commands.status()
        return reply(replace(found, deployments=[one for one in found.deployments if sees(who, one.name)]))

    async def get_whoami(self, who: Who) -> Response:
        return reply(Identity(kind=who.kind, name=who.name, scopes=list(who.scopes)))

    async def get_schema(self) -> Response:
        return reply(spec_schema())

    async def list_routes(self, who: Who, limit: Limit = 100, cursor: Cursor = "") -> Response:
        found = [one for one in await self._commands.routes() if sees(who, one.model)]
        return reply(
            page_of(found, key=lambda one: (one.model, one.version), kind="routes", limit=limit, cursor=cursor)
        )

    async def list_replicas(
        self, who: Who, deployment: MaybeDeployment = "", limit: Limit = 100, cursor: Cursor = ""
    ) -> Response:
        found = [one for one in await self._commands.replicas(deployment) if sees(who, one.deployment)]
        return reply(page_of(found, key=replica_key, kind="replicas", limit=limit, cursor=cursor))

    async def get_health(self) -> Response:
        return reply({"status": "alive"})

    async def get_readiness(self) -> Response:
        if not self._commands.ready:
            raise NotReady("not everything that should serve does yet; /api/v1/status tells what")
        return reply({"status": "ready"})

    async def get_metrics(self, who: Who) -> Response:
        from slipway.controller.exposition import CONTENT_TYPE

        page = await self._commands.metrics_page(shows=lambda name: sees(who, name) or may(who, "predict", name))
        return Response(page, headers={"content-type": CONTENT_TYPE})

    async def get_index(self) -> Response:
        return reply(
            {
                "name": "slipway",
                "api": "/api/v1",
                "status": "/api/v1/status",
                "documentation": "/docs",
                "openapi": "/openapi.json",
                "metrics": "/metrics",
                "health": ["/healthz", "/readyz"],
            }
        )


def operations(desk: Desk) -> list[Operation]:
    do = ServerHandlers(desk)

    def get(path: str, call: object, summary: str, answer: object, *, needs: Rule = Rule.ANYBODY) -> Operation:
        refuses = (503,) if path == "/readyz" else ()
        return Operation(
            method="GET",
            path=path,
            call=call,  # type: ignore[arg-type]
            tag=TAG,
            summary=summary,
            needs=needs,
            answers={200: answer},
            refuses=refuses,
        )

    return [
        get("/api/v1/status", do.get_status, "The server, and the deployments that you may see", ServerStatus),
        get("/api/v1/whoami", do.get_whoami, "As whom the server knows you", Identity),
        get("/api/v1/schema", do.get_schema, "The JSON Schema of a deployment's spec", dict),
        get("/api/v1/routes", do.list_routes, "Which versions answer at the inference doors", Page[Route]),
        get("/api/v1/replicas", do.list_replicas, "Worker processes of one deployment, or all", Page[Replica]),
        get("/metrics", do.get_metrics, "Metrics of what you may see, as Prometheus reads them", TEXT),
        get("/healthz", do.get_health, "The controller runs", dict, needs=Rule.OPEN),
        get("/readyz", do.get_readiness, "Everything that should serve does", dict, needs=Rule.OPEN),
        get("/", do.get_index, "Where to find what", dict),
    ]
