"""The stage for tests of the engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from engine_stage import Stage


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.loop.close()
