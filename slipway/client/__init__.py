"""How others call us: `Client` and `AsyncClient`, over HTTP and gRPC, with numpy and pandas in and out."""

from slipway.client.asynchronous import AsyncClient
from slipway.client.blocking import Client
from slipway.client.prediction import Prediction
from slipway.client.retry import Retry

__all__ = ["AsyncClient", "Client", "Prediction", "Retry"]
