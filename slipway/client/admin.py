"""The blocking management client: runs the conversations of `admin_deploy` over blocking sockets."""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from slipway.client.address import Address, read_address, tls_context
from slipway.client.admin_deploy import DeployCalls
from slipway.client.admin_protocol import AdminProtocol, AdminTalk, Do, Done
from slipway.client.admin_streams import EventFollower, Follower, LogFollower, Patience
from slipway.client.exchange import Heard, Opened, Send
from slipway.client.http_links import UrllibLink
from slipway.client.identity import show_certificate
from slipway.client.login import find_server, new_idempotency_key
from slipway.client.retry import Circumstances, Retry
from slipway.spec.resources import Event

T = TypeVar("T")
P = ParamSpec("P")


def blocking(describe: Callable[Concatenate[DeployCalls, P], AdminTalk[T]]) -> Callable[Concatenate[Admin, P], T]:
    """The same call, made at once."""

    @wraps(describe)
    def call(self: Admin, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(describe(self._calls(), *args, **kwargs))

    call.__signature__ = signature_of(describe)  # type: ignore[attr-defined]
    return call


def signature_of(describe: Callable[..., Any]) -> inspect.Signature:
    """With `Deployment` for `AdminTalk[Deployment]`, for who reads it in help()."""
    found = inspect.signature(describe)
    answer = str(found.return_annotation).removeprefix("AdminTalk[").removesuffix("]")
    return found.replace(return_annotation=answer)


class Admin:
    """Operates a server through its management API: what the command line does, in Python.

        with Admin() as admin:
            admin.deploy("iris.onnx", name="iris", wait=True)
            print(admin.status().state)

    `server`: its management URL, such as http://127.0.0.1:8082. `key`: an API key or a token. Where they are not given
    they are found, in this order, by SLIPWAY_SERVER and SLIPWAY_KEY, in the data directory of a server on this machine
    (`data_dir`, SLIPWAY_DATA_DIR, ~/.slipway), and in what `slipway login` has remembered.
    `user`, `password`: instead of a key.
    `timeout_s`: the longest that one call may take with all its retries; those that wait say their own.
    `ca_file`: certificates to trust instead of the system's. `certificate`: PEM files of a client certificate
    and its key.

    All methods raise classes of `slipway.errors` with the server's words.
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
        self._link = UrllibLink(origin, headers=login.headers(), connections=16, tls=tls)
        self._protocol = AdminProtocol(self._address.path)
        self._timeout_s = timeout_s
        self._retry = retry

    status = blocking(DeployCalls.status)
    whoami = blocking(DeployCalls.whoami)
    schema = blocking(DeployCalls.schema)
    routes = blocking(DeployCalls.routes)
    replicas = blocking(DeployCalls.replicas)
    metrics = blocking(DeployCalls.metrics)
    deployments = blocking(DeployCalls.deployments)
    deployment = blocking(DeployCalls.deployment)
    versions = blocking(DeployCalls.versions)
    version = blocking(DeployCalls.version)
    history = blocking(DeployCalls.history)
    deploy = blocking(DeployCalls.deploy)
    wait = blocking(DeployCalls.wait)
    rollback = blocking(DeployCalls.rollback)
    promote = blocking(DeployCalls.promote)
    scale = blocking(DeployCalls.scale)
    stop = blocking(DeployCalls.stop)
    start = blocking(DeployCalls.start)
    delete = blocking(DeployCalls.delete)
    logs = blocking(DeployCalls.logs)
    events = blocking(DeployCalls.events)
    artifacts = blocking(DeployCalls.artifacts)
    artifact = blocking(DeployCalls.artifact)
    keys = blocking(DeployCalls.keys)
    create_key = blocking(DeployCalls.create_key)
    rotate_key = blocking(DeployCalls.rotate_key)
    revoke_key = blocking(DeployCalls.revoke_key)
    users = blocking(DeployCalls.users)
    put_user = blocking(DeployCalls.put_user)
    delete_user = blocking(DeployCalls.delete_user)
    secrets = blocking(DeployCalls.secrets)
    put_secret = blocking(DeployCalls.put_secret)
    delete_secret = blocking(DeployCalls.delete_secret)
    audit = blocking(DeployCalls.audit)
    verify_audit = blocking(DeployCalls.verify_audit)

    def follow_events(self, deployment: str = "", *, after: int | None = None) -> Iterator[Event]:
        """Events as they happen, each once, over broken connections too; `after` None: from now on. Never ends."""
        yield from self._follow(EventFollower(self._protocol, self._patience(), deployment, after))

    def follow_logs(self, name: str, *, version: str = "", tail: int = 10) -> Iterator[str]:
        """The last `tail` lines and then each as it is written, until the connection ends."""
        yield from self._follow(LogFollower(self._protocol, self._patience(), name, version, tail))

    def close(self) -> None:
        """Close all connections. The client cannot be used any more."""
        self._link.close()

    def __enter__(self) -> Admin:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _calls(self) -> DeployCalls:
        now = time.monotonic()
        at = Circumstances(now + self._timeout_s, now, self._retry, random.random, self._address.url)
        return DeployCalls(self._protocol, at, timeout_s=self._timeout_s, new_key=new_idempotency_key)

    def _patience(self) -> Patience:
        return Patience(self._protocol, self._retry, random.random, self._address.url)

    def _run(self, talk: AdminTalk[T]) -> T:
        try:
            step = next(talk)
            while True:
                outcome: Any = None
                if isinstance(step, Send):
                    outcome = self._link.send(step)
                elif isinstance(step, Do):
                    outcome = do(step)
                else:
                    time.sleep(step.seconds)
                step = talk.send(Heard(time.monotonic(), outcome))
        except StopIteration as end:
            result: T = end.value
            return result

    def _follow(self, follower: Follower[T]) -> Iterator[T]:
        while True:
            outcome = self._link.open(Send(follower.outgoing(), follower.silence_s))
            if isinstance(outcome, Opened):
                with closing(outcome.chunks) as chunks:
                    for chunk in chunks:
                        yield from follower.feed(chunk)
                pause_s = follower.ended(None)
            else:
                pause_s = follower.ended(outcome)
            if pause_s is None:
                return
            time.sleep(pause_s)


def do(step: Do) -> Done:
    try:
        return Done(step.work())
    except Exception as error:  # goes on in the conversation, where it was asked for
        return Done(error=error)
