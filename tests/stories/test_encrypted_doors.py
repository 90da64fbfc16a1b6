"""All three doors of a server encrypted, by its configuration, and a client who is known by its certificate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from certificates import Place
from serving import IRIS
from upping import eventually, upped

import slipway
from slipway.client.retry import Retry
from slipway.errors import SlipwayError


def ask(url: str, **who: Any) -> str:
    """'' for an answer, or the error's code."""
    try:
        with slipway.Client(url, retry=Retry(attempts=1), **who) as client:
            client.predict("iris", [[5.1, 3.5, 1.4, 0.2]])
    except SlipwayError as error:
        return error.code
    return ""


def test_encrypted_doors_and_clients_with_certificates(tmp_path: Path) -> None:
    place = Place.at(tmp_path)
    trust = place.files.put("authority.pem", place.authority.certificate)
    tls = place.tls("optional")
    config = tmp_path / "server.yaml"
    config.write_text(
        json.dumps(
            {
                "gateways": 2,
                "tls": {
                    "certificate": tls.certificate,
                    "key": tls.key,
                    "client_ca": tls.client_ca,
                    "client": tls.client,
                },
                "auth": {"certificates": [{"subject": "edge-*", "scopes": ["predict:iris"]}]},
            }
        )
    )
    edge = place.files.pair("edge", place.clients.issue("edge-1"))
    laptop = place.files.pair("laptop", place.clients.issue("laptop"))
    with upped("--config", str(config)) as up:
        port = int(up.http.rpartition(":")[2])
        with slipway.Admin(data_dir=str(up.data_dir), ca_file=trust) as admin:
            admin.deploy(str(IRIS), name="iris", wait=True)
            made = admin.create_key("grpc", scopes=["predict:iris"])
        http, over_grpc = f"https://127.0.0.1:{port}", f"grpcs://127.0.0.1:{up.address('gRPC').rpartition(':')[2]}"
        assert ask(http, ca_file=trust, certificate=edge) == ""
        assert ask(http, ca_file=trust, certificate=laptop) == "forbidden"
        assert ask(http, ca_file=trust) == ask(over_grpc, ca_file=trust) == "unauthenticated"
        eventually(lambda: ask(over_grpc, ca_file=trust, key=made.secret) == "", "a key over gRPC")
        assert ask(http) == "unavailable"  # nobody trusts the tests' authority by himself
