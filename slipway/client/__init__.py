"""How others call us: `Client` and `AsyncClient` for predictions, over HTTP and gRPC, with numpy and pandas in and out;
`Admin` and `AsyncAdmin` for the server itself."""

from slipway.client.admin import Admin
from slipway.client.admin_async import AsyncAdmin
from slipway.client.asynchronous import AsyncClient
from slipway.client.blocking import Client
from slipway.client.prediction import Prediction
from slipway.client.retry import Retry

__all__ = ["Admin", "AsyncAdmin", "AsyncClient", "Client", "Prediction", "Retry"]
