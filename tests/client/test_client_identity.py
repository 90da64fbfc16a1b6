"""Clients that say who they are, against real doors that ask."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import callers
import pytest
from certificates import Place
from client_doors import LiveDoors

from slipway.client import AsyncClient, Client
from slipway.errors import Forbidden, RateLimited, SetupError, Unauthenticated
from slipway.gateway.guard import AccessGuard
from slipway.spec.access import DeploymentAccess
from slipway.spec.deployment import RequestLimits
from slipway.spec.serve import Tls

ROWS = [[1.0, 2.0, 3.0, 4.0]]
BOB = ("bob", callers.PASSWORD)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place.at(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def guard() -> AccessGuard:
    guard = AccessGuard(now=lambda: callers.NOW)
    guard.apply(callers.access())
    return guard


def _doors(guard: AccessGuard, tls: Tls | None) -> Iterator[LiveDoors]:
    doors = LiveDoors(guard=guard, tls=tls)
    doors.open()
    try:
        yield doors
    finally:
        doors.close()


@pytest.fixture(scope="module")
def plain(guard: AccessGuard) -> Iterator[LiveDoors]:
    yield from _doors(guard, None)


@pytest.fixture(scope="module")
def encrypted(guard: AccessGuard, place: Place) -> Iterator[LiveDoors]:
    yield from _doors(guard, place.tls("required"))


def ask(url: str, **options: Any) -> list[list[float]]:
    """By both clients, which must agree."""

    async def awaited() -> Any:
        async with AsyncClient(url, **options) as client:
            return (await client.predict("affine", ROWS))["y"].tolist()

    with Client(url, **options) as client:
        found = client.predict("affine", ROWS)["y"].tolist()
    assert asyncio.run(awaited()) == found
    return found  # type: ignore[no-any-return]


@pytest.fixture(params=["http", "grpc"])
def url(request: pytest.FixtureRequest, plain: LiveDoors) -> str:
    return str(getattr(plain, request.param))


@pytest.mark.parametrize(
    "options",
    [{"key": callers.AFFINE}, {"key": callers.token()}, {"user": BOB}, {"headers": {"X-API-Key": callers.ALL}}],
    ids=["key", "token", "user", "header"],
)
def test_who_says_who_he_is_gets_in(url: str, options: dict[str, Any]) -> None:
    assert ask(url, **options) == [[3, 5, 7, 9]]


def test_errors_say_what_is_missing(url: str) -> None:
    with pytest.raises(Unauthenticated, match="a credential is needed"):
        ask(url)
    with pytest.raises(Unauthenticated, match="not accepted"):
        ask(url, key=callers.STRANGER)
    with pytest.raises(Forbidden, match="'no-scopes' may not use model 'affine'"):
        ask(url, key=callers.NOTHING)


def test_limits_are_errors_that_say_when(plain: LiveDoors, guard: AccessGuard, url: str) -> None:
    limits = (DeploymentAccess("affine", limits=RequestLimits(requests_per_s=0.01, burst=1)),)
    plain.do(lambda _: guard.apply(callers.access(epoch=2, deployments=limits)))
    try:
        with Client(url, key=callers.ADMIN if "grpc" in url else callers.ALL) as client:
            client.predict("affine", ROWS)
            with pytest.raises(RateLimited) as refused:
                client.predict("affine", ROWS, timeout_s=5)
            assert 90 < (refused.value.retry_after_s or 0) <= 100
    finally:
        plain.do(lambda _: guard.apply(callers.access(epoch=3)))


@pytest.mark.parametrize("protocol", ["https", "grpcs"])
def test_a_certificate_is_shown(encrypted: LiveDoors, place: Place, protocol: str) -> None:
    port = encrypted.http_port if protocol == "https" else encrypted.grpc_port
    url = f"{protocol}://localhost:{port}"
    trust = place.files.put("authority.pem", place.authority.certificate)
    edge = place.files.pair("edge", place.clients.issue("edge-1"))
    laptop = place.files.pair("laptop", place.clients.issue("laptop"))
    assert ask(url, ca_file=trust, certificate=edge) == [[3, 5, 7, 9]]
    with pytest.raises(Forbidden, match="certificate 'laptop'"):
        ask(url, ca_file=trust, certificate=laptop)
    assert ask(url, ca_file=trust, certificate=laptop, key=callers.AFFINE) == [[3, 5, 7, 9]]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_what_cannot_be_is_said_before_anything_is_sent(kind: Any, scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}://127.0.0.1:1"
    missing = (str(tmp_path / "none.pem"), str(tmp_path / "none.key"))
    for options, words in (
        ({"key": "k", "user": BOB}, "one credential"),
        ({"key": "k", "headers": {"Authorization": "x"}}, "one credential"),
        ({"key": "two words"}, "the key holds"),
        ({"key": "line\nbreak"}, "the key holds"),
        ({"user": ("a:b", "c")}, "no user's name"),
        ({"certificate": missing}, "https:// and grpcs:// only"),
    ):
        with pytest.raises(SetupError, match=words):
            kind(url, **options)
    with pytest.raises(SetupError, match="cannot be used"):
        kind(url.replace(scheme, scheme + "s"), certificate=missing)
