"""The asyncio management client: runs the conversations of `admin_deploy` over asyncio sockets. For one event loop."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from slipway.client.address import Address, read_address, tls_context
from slipway.client.admin import do, signature_of
from slipway.client.admin_deploy import DeployCalls
from slipway.client.admin_protocol import AdminProtocol, AdminTalk, Do
from slipway.client.admin_streams import EventFollower, Follower, LogFollower, Patience
from slipway.client.exchange import Heard, Opened, Send
from slipway.client.http_links import AiohttpLink
from slipway.client.identity import show_certificate
from slipway.client.login import find_server, new_idempotency_key
from slipway.client.retry import Circumstances, Retry
from slipway.spec.resources import Event

T = TypeVar("T")
P = ParamSpec("P")


def awaited(
    describe: Callable[Concatenate[DeployCalls, P], AdminTalk[T]],
) -> Callable[Concatenate[AsyncAdmin, P], Coroutine[Any, Any, T]]:
    """The same call, to be awaited."""

    @wraps(describe)
    async def call(self: AsyncAdmin, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(describe(self._calls(), *args, **kwargs))

    call.__signature__ = signature_of(describe)  # type: ignore[attr-defined]
    return call


class AsyncAdmin:
    """`Admin` for asyncio: the same arguments, methods, errors and retries, each method awaited.

    async with AsyncAdmin() as admin:
        await admin.deploy("iris.onnx", name="iris", wait=True)
    """

    def __init__(
        self,
        server: str = "",
        key: str = "",
        *,
        data_dir: str = "",
        user: str = "",
        password: str = "",
        timeout_s: float = 60.0,
        retry: Retry = Retry(),  # noqa: B008 - frozen
        ca_file: str | None = None,
        certificate: tuple[str, str] | None = None,
    ) -> None:
        login = find_server(server=server, key=key, data_dir=data_dir, user=user, password=password)
        self.login = login
        self._address: Address = read_address(login.server)
        origin = f"{self._address.scheme}://{self._address.target}"
        trust = tls_context(self._address, ca_file or login.ca_file or None, pinned=login.pinned)
        tls = show_certificate(trust, certificate)
        self._link = AiohttpLink(origin, headers=login.headers(), connections=64, tls=tls)
        self._protocol = AdminProtocol(self._address.path)
        self._timeout_s = timeout_s
        self._retry = retry

    status = awaited(DeployCalls.status)
    whoami = awaited(DeployCalls.whoami)
    schema = awaited(DeployCalls.schema)
    routes = awaited(DeployCalls.routes)
    replicas = awaited(DeployCalls.replicas)
    metrics = awaited(DeployCalls.metrics)
    deployments = awaited(DeployCalls.deployments)
    deployment = awaited(DeployCalls.deployment)
    versions = awaited(DeployCalls.versions)
    version = awaited(DeployCalls.version)
    history = awaited(DeployCalls.history)
    deploy = awaited(DeployCalls.deploy)
    wait = awaited(DeployCalls.wait)
    rollback = awaited(DeployCalls.rollback)
    promote = awaited(DeployCalls.promote)
    scale = awaited(DeployCalls.scale)
    stop = awaited(DeployCalls.stop)
    start = awaited(DeployCalls.start)
    delete = awaited(DeployCalls.delete)
    logs = awaited(DeployCalls.logs)
    events = awaited(DeployCalls.events)
    artifacts = awaited(DeployCalls.artifacts)
    artifact = awaited(DeployCalls.artifact)
    keys = awaited(DeployCalls.keys)
    create_key = awaited(DeployCalls.create_key)
    rotate_key = awaited(DeployCalls.rotate_key)
    revoke_key = awaited(DeployCalls.revoke_key)
    users = awaited(DeployCalls.users)
    put_user = awaited(DeployCalls.put_user)
    delete_user = awaited(DeployCalls.delete_user)
    secrets = awaited(DeployCalls.secrets)
    put_secret = awaited(DeployCalls.put_secret)
    delete_secret = awaited(DeployCalls.delete_secret)
    audit = awaited(DeployCalls.audit)
    verify_audit = awaited(DeployCalls.verify_audit)

    async def follow_events(self, deployment: str = "", *, after: int | None = None) -> AsyncIterator[Event]:
        """Events as they happen, each once, over broken connections too; `after` None: from now on. Never ends."""
        async for event in self._follow(EventFollower(self._protocol, self._patience(), deployment, after)):
            yield event

    async def follow_logs(self, name: str, *, version: str = "", tail: int = 10) -> AsyncIterator[str]:
        """The last `tail` lines and then each as it is written, until the connection ends."""
        async for line in self._follow(LogFollower(self._protocol, self._patience(), name, version, tail)):
            yield line

    async def close(self) -> None:
        """Close all connections. The client cannot be used any more."""
        await self._link.close()

    async def __aenter__(self) -> AsyncAdmin:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _calls(self) -> DeployCalls:
        now = time.monotonic()
        at = Circumstances(now + self._timeout_s, now, self._retry, random.random, self._address.url)
        return DeployCalls(self._protocol, at, timeout_s=self._timeout_s, new_key=new_idempotency_key)

    def _patience(self) -> Patience:
        return Patience(self._protocol, self._retry, random.random, self._address.url)

    async def _run(self, talk: AdminTalk[T]) -> T:
        try:
            step = next(talk)
            while True:
                outcome: Any = None
                if isinstance(step, Send):
                    outcome = await self._link.send(step)
                elif isinstance(step, Do):
                    outcome = await asyncio.to_thread(do, step)
                else:
                    await asyncio.sleep(step.seconds)
                step = talk.send(Heard(time.monotonic(), outcome))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _follow(self, follower: Follower[T]) -> AsyncIterator[T]:
        while True:
            outcome = await self._link.open(Send(follower.outgoing(), follower.silence_s))
            if isinstance(outcome, Opened):
                async with aclosing(outcome.chunks) as chunks:
                    async for chunk in chunks:
                        for one in follower.feed(chunk):
                            yield one
                pause_s = follower.ended(None)
            else:
                pause_s = follower.ended(outcome)
            if pause_s is None:
                return
            await asyncio.sleep(pause_s)
