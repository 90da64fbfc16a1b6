"""One served example for all tests that only call it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from serving import IRIS, Served, serving


@pytest.fixture(scope="session")
def iris() -> Iterator[Served]:
    """The shipped example, served as `scripts/serve` does."""
    with serving(f"iris={IRIS}") as served:
        yield served
