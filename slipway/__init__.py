"""Slipway puts a trained model to work. The public names, each imported when it is first asked for.

So `import slipway` costs nothing, `slipway --help` imports no framework, and a model file that says
`from slipway import Model` does not load an HTTP client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slipway.client import AsyncClient as AsyncClient
    from slipway.client import Client as Client
    from slipway.client.admin import Admin as Admin
    from slipway.client.admin_async import AsyncAdmin as AsyncAdmin
    from slipway.runtimes.model import Model as Model

__version__ = "0.1.0"
__all__ = ["Admin", "AsyncAdmin", "AsyncClient", "Client", "Model", "__version__"]

_HOMES = {
    "Admin": "slipway.client.admin",
    "AsyncAdmin": "slipway.client.admin_async",
    "AsyncClient": "slipway.client",
    "Client": "slipway.client",
    "Model": "slipway.runtimes.model",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'slipway' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
