"""How others call us: `Client` and `AsyncClient` for predictions, over HTTP and gRPC, with numpy and pandas in and out;
`Admin` and `AsyncAdmin` for the server itself, which need neither: each name is imported when it is first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slipway.client.admin import Admin as Admin
    from slipway.client.admin_async import AsyncAdmin as AsyncAdmin
    from slipway.client.asynchronous import AsyncClient as AsyncClient
    from slipway.client.blocking import Client as Client
    from slipway.client.prediction import Prediction as Prediction
    from slipway.client.retry import Retry as Retry

__all__ = ["Admin", "AsyncAdmin", "AsyncClient", "Client", "Prediction", "Retry"]

_HOMES = {
    "Admin": "slipway.client.admin",
    "AsyncAdmin": "slipway.client.admin_async",
    "AsyncClient": "slipway.client.asynchronous",
    "Client": "slipway.client.blocking",
    "Prediction": "slipway.client.prediction",
    "Retry": "slipway.client.retry",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'slipway.client' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
