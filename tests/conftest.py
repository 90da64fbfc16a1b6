"""What many tests share: a served example for those that only call it, and the databases of `postgres`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from postgres import database, postgres  # noqa: F401 - fixtures
from serving import IRIS, Served, serving


@pytest.fixture(scope="session")
def iris() -> Iterator[Served]:
    """The shipped example, served as `scripts/serve` does."""
    with serving(f"iris={IRIS}") as served:
        yield served
