"""Each test of a call runs against real doors, over both protocols, with the blocking and the asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from client_doors import LiveDoors, live_doors

from slipway.client import AsyncClient, Client


@pytest.fixture(scope="module")
def doors() -> Iterator[LiveDoors]:
    with live_doors() as opened:
        yield opened


@pytest.fixture(autouse=True)
def a_quiet_house(request: pytest.FixtureRequest) -> Iterator[None]:
    """All knobs of the stub house are back where they were after each test."""
    yield
    if "doors" in request.fixturenames:
        opened: LiveDoors = request.getfixturevalue("doors")
        opened.do(lambda service: service.release())
        opened.set(fail=None, refuse=None, delay_s=0.0, hold=False, is_live=True, is_ready=True, load_outcome=None)
        opened.do(lambda service: [setattr(model, "ready", True) for model in service.models.values()])
        opened.do(lambda service: (service.requests.clear(), service.cancelled.clear()))


class Awaiting:
    """An AsyncClient used like a blocking one, so that one test serves both."""

    def __init__(self, url: str, **settings: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = AsyncClient(url, **settings)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return lambda *args, **kwargs: self._loop.run_until_complete(method(*args, **kwargs))

    def stream(self, *args: Any, **kwargs: Any) -> list[Any]:
        async def collect() -> list[Any]:
            return [prediction async for prediction in self._client.stream(*args, **kwargs)]

        return self._loop.run_until_complete(collect())

    def __enter__(self) -> Awaiting:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._client.close())
        self._loop.close()


KINDS = {"blocking": Client, "asyncio": Awaiting}


@pytest.fixture(params=["http-blocking", "http-asyncio", "grpc-blocking", "grpc-asyncio"])
def client(request: pytest.FixtureRequest, doors: LiveDoors) -> Iterator[Any]:
    protocol, kind = request.param.split("-")
    with KINDS[kind](getattr(doors, protocol)) as made:
        yield made


@pytest.fixture(params=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]
