"""One stand for all tests of a file that only call it, and a client that speaks to it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from api_stand import Stand, standing


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Open, as a server on loopback without auth is."""
    with standing(tmp_path_factory.mktemp("stand")) as made:
        yield made


@pytest.fixture
def web(stand: Stand) -> httpx.Client:
    """As its owner, since only he may name paths of the server's disk."""
    return stand.web
