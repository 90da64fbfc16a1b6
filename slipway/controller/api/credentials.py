"""API keys, users and secrets: given once, and never told again."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from slipway.controller.api.bodies import KeyBody, RotateBody, SecretBody, UserBody
from slipway.controller.api.desk import Desk, Given, Who, reply
from slipway.controller.api.names import KeyId, PlainName
from slipway.controller.api.operations import Operation
from slipway.controller.api.pages import Cursor, Limit, page_of
from slipway.controller.api.preconditions import REVISION, as_expected, etag
from slipway.controller.api.rules import Rule
from slipway.spec.resources import Key, Page, Secret, User

T = TypeVar("T")


class CredentialHandlers:
    def __init__(self, desk: Desk) -> None:
        self._commands = desk.commands

    async def list_keys(self, limit: Limit = 100, cursor: Cursor = "") -> Response:
        found = await self._commands.keys()
        return reply(page_of(found, key=lambda one: (one.created_at, one.id), kind="keys", limit=limit, cursor=cursor))

    async def create_key(self, who: Who, body: KeyBody = Given) -> Response:
        expires_at = None if body.expires_in_s is None else time.time() + body.expires_in_s
        made = await self._commands.create_key(body.name, scopes=body.scopes, expires_at=expires_at, caller=who)
        return reply(made, status=201)

    async def rotate_key(self, request: Request, key_id: KeyId, who: Who, body: RotateBody = Given) -> Response:
        async def rotate(revision: int | None) -> Key:
            return await self._commands.rotate_key(
                key_id, overlap_s=body.overlap_s, expected_revision=revision, caller=who
            )

        return _told(await self._expecting(request, "key", key_id, rotate), status=201)

    async def revoke_key(self, request: Request, key_id: KeyId, who: Who) -> Response:
        async def revoke(revision: int | None) -> Key:
            return await self._commands.revoke_key(key_id, expected_revision=revision, caller=who)

        return _told(await self._expecting(request, "key", key_id, revoke))

    async def list_users(self, limit: Limit = 100, cursor: Cursor = "") -> Response:
        found = await self._commands.users()
        return reply(page_of(found, key=lambda one: (one.name,), kind="users", limit=limit, cursor=cursor))

    async def put_user(self, request: Request, plain_name: PlainName, who: Who, body: UserBody = Given) -> Response:
        async def put(revision: int | None) -> User:
            return await self._commands.put_user(
                plain_name, password=body.password, scopes=body.scopes, expected_revision=revision, caller=who
            )

        return _told(await self._expecting(request, "user", plain_name, put))

    async def delete_user(self, request: Request, plain_name: PlainName, who: Who) -> Response:
        async def delete(revision: int | None) -> None:
            await self._commands.delete_user(plain_name, expected_revision=revision, caller=who)

        await self._expecting(request, "user", plain_name, delete)
        return Response(status_code=204)

    async def list_secrets(self, limit: Limit = 100, cursor: Cursor = "") -> Response:
        found = await self._commands.secrets()
        return reply(page_of(found, key=lambda one: (one.name,), kind="secrets", limit=limit, cursor=cursor))

    async def put_secret(self, request: Request, plain_name: PlainName, who: Who, body: SecretBody = Given) -> Response:
        async def put(revision: int | None) -> Secret:
            return await self._commands.put_secret(plain_name, value=body.value, expected_revision=revision, caller=who)

        return _told(await self._expecting(request, "secret", plain_name, put))

    async def delete_secret(self, request: Request, plain_name: PlainName, who: Who) -> Response:
        async def delete(revision: int | None) -> None:
            await self._commands.delete_secret(plain_name, expected_revision=revision, caller=who)

        await self._expecting(request, "secret", plain_name, delete)
        return Response(status_code=204)

    async def _expecting(self, request: Request, kind: str, name: str, act: Callable[[int | None], Awaitable[T]]) -> T:
        async def present() -> int:
            if kind == "key":
                return next((one.revision for one in await self._commands.keys() if one.id == name), 0)
            found = await (self._commands.users() if kind == "user" else self._commands.secrets())
            return next((one.revision for one in found if one.name == name), 0)

        return await as_expected(request.headers, f"{kind} {name!r}", present=present, act=act)


def _told(found: Key | User | Secret, *, status: int = 200) -> Response:
    return reply(found, status=status, headers={"etag": etag(found.revision)})


def operations(desk: Desk) -> list[Operation]:
    return [*_keys(desk), *_users(desk), *_secrets(desk)]


def _keys(desk: Desk) -> list[Operation]:
    do = CredentialHandlers(desk)
    one = partial(Operation, tag="keys", needs=Rule.ADMINISTRATOR)
    return [
        one(
            method="GET",
            path="/api/v1/keys",
            call=do.list_keys,
            summary="All API keys, without what makes them keys",
            answers={200: Page[Key]},
        ),
        one(
            method="POST",
            path="/api/v1/keys",
            call=do.create_key,
            summary="A new API key; `secret` of the answer is the key, told this once",
            takes=KeyBody,
            example={"name": "ci", "scopes": ["deploy:iris"], "expires_in_s": 2_592_000},
            answers={201: Key},
            once=True,
            refuses=(409, 422),
        ),
        one(
            method="POST",
            path="/api/v1/keys/{key_id}/rotate",
            call=do.rotate_key,
            summary="A new key with the name and scopes of this one, which goes on for `overlap_s` seconds",
            takes=RotateBody,
            optional=True,
            example={"overlap_s": 3600},
            answers={201: Key},
            headers=REVISION,
            once=True,
            refuses=(404, 409, 412, 422),
        ),
        one(
            method="DELETE",
            path="/api/v1/keys/{key_id}",
            call=do.revoke_key,
            summary="It opens nothing any more",
            answers={200: Key},
            headers=REVISION,
            refuses=(404, 409, 412),
        ),
    ]


def _users(desk: Desk) -> list[Operation]:
    do = CredentialHandlers(desk)
    one = partial(Operation, tag="users", needs=Rule.ADMINISTRATOR)
    return [
        one(
            method="GET",
            path="/api/v1/users",
            call=do.list_users,
            summary="The users of basic auth",
            answers={200: Page[User]},
        ),
        one(
            method="PUT",
            path="/api/v1/users/{plain_name}",
            call=do.put_user,
            summary="Make a user, or give one another password and other scopes",
            takes=UserBody,
            example={"password": "correct horse battery staple", "scopes": ["predict:iris"]},
            answers={200: User},
            headers=REVISION,
            once=True,
            refuses=(409, 412, 422),
        ),
        one(
            method="DELETE",
            path="/api/v1/users/{plain_name}",
            call=do.delete_user,
            summary="Remove a user",
            answers={204: None},
            refuses=(404, 409, 412),
        ),
    ]


def _secrets(desk: Desk) -> list[Operation]:
    do = CredentialHandlers(desk)
    one = partial(Operation, tag="secrets", needs=Rule.ADMINISTRATOR)
    return [
        one(
            method="GET",
            path="/api/v1/secrets",
            call=do.list_secrets,
            summary="The names of all secrets, and who uses them",
            answers={200: Page[Secret]},
        ),
        one(
            method="PUT",
            path="/api/v1/secrets/{plain_name}",
            call=do.put_secret,
            summary="Write a secret; replicas that start from now on read it",
            takes=SecretBody,
            example={"value": "…"},
            answers={200: Secret},
            headers=REVISION,
            once=True,
            refuses=(409, 412, 422),
        ),
        one(
            method="DELETE",
            path="/api/v1/secrets/{plain_name}",
            call=do.delete_secret,
            summary="Remove a secret that nothing uses",
            answers={204: None},
            refuses=(404, 409, 412),
        ),
    ]
