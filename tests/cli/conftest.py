from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_stage import Shell, StubServer, stub_server


@pytest.fixture
def server() -> Iterator[StubServer]:
    with stub_server() as running:
        yield running


@pytest.fixture
def shell(tmp_path: Path, server: StubServer) -> Shell:
    """At home in an empty folder, with the stub server as the one that is meant."""
    home = tmp_path / "home"
    home.mkdir()
    return Shell(home, SLIPWAY_SERVER=server.url)
