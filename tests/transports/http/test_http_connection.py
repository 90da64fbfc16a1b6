"""One connection: keep-alive, pipelining, requests in pieces, and clients that go away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from http_stand import Stand, get, infer, result, stand


@pytest.fixture(scope="module")
def door() -> Iterator[Stand]:
    with stand() as opened:
        yield opened


def test_one_connection_serves_many_requests(door: Stand) -> None:
    client = door.client()
    for number in range(5):
        assert result(client.ask(infer(number, 0, 0, 0))) == [2 * number + 1, 1, 1, 1]
        assert client.ask(get("/v2/health/live")).json == {"live": True}
