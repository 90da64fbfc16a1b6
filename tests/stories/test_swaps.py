"""New versions under load: nobody gets an error, and every answer comes whole from one version."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from upping import Up, constant_model, upped

import slipway
from slipway.client.retry import Retry

SWAPS = 50
ROWS = 3
ONCE = Retry(attempts=1)
Ask = Callable[[], tuple[str, np.ndarray]]
"""One request on the live path: the version that answered, and what."""


class Load:
    """Threads that ask as fast as they can. `failures`: in words, of every kind; `seen`: answers by version."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.seen: Counter[tuple[str, str]] = Counter()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def ask(self, kind: str, ask: Ask) -> None:
        def loop() -> None:
            while not self._over.is_set():
                try:
                    version, answer = ask()
                except Exception as error:
                    self.failures.append(f"{kind}: {type(error).__name__}: {error}")
                    continue
                if answer.shape != (ROWS, 64) or set(answer.ravel().tolist()) != {float(version[1:])}:
                    self.failures.append(f"{kind}: {version} answered {np.unique(answer)}")
                self.seen[kind, version] += 1

        thread = threading.Thread(target=loop)
        thread.start()
        self._threads.append(thread)

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)


INPUT = np.ones((ROWS, 1), np.float32)
BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [ROWS, 1], "data": [1.0] * ROWS}]})


def pooled(client: slipway.Client) -> Ask:
    def ask() -> tuple[str, np.ndarray]:
        answer = client.predict("m", INPUT)
        return answer.version, answer["y"]

    return ask


def with_new_connections(url: str) -> Ask:
    parts = urlsplit(url)

    def ask() -> tuple[str, np.ndarray]:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        try:
            connection.request("POST", "/v2/models/m/infer", BODY)
            answer = connection.getresponse()
            said = json.loads(answer.read())
        finally:
            connection.close()
        assert answer.status == 200, said
        (output,) = said["outputs"]
        return said["model_version"], np.array(output["data"]).reshape(output["shape"])

    return ask


def with_new_channels(url: str) -> Ask:
    def ask() -> tuple[str, np.ndarray]:
        with slipway.Client(url, retry=ONCE) as client:
            answer = client.predict("m", INPUT)
            return answer.version, answer["y"]

    return ask


@pytest.fixture
def up() -> Iterator[Up]:
    with upped("--gateways", "2") as running:
        yield running


def test_fifty_swaps_under_load_lose_nothing_and_mix_nothing(up: Up, tmp_path: Path) -> None:
    load = Load()
    with up.admin() as admin, slipway.Client(up.http, retry=ONCE) as web, slipway.Client(up.grpc, retry=ONCE) as wire:
        admin.deploy(constant_model(tmp_path / "1" / "m.onnx", 1), name="m", wait=True)
        try:
            load.ask("http pooled", pooled(web))
            load.ask("grpc pooled", pooled(wire))
            load.ask("http new", with_new_connections(up.http))
            load.ask("grpc new", with_new_channels(up.grpc))
            for number in range(2, SWAPS + 2):
                made = admin.deploy(constant_model(tmp_path / str(number) / "m.onnx", number), name="m", wait=True)
                assert made.live == f"v{number}"
        finally:
            load.stop()
        assert not load.failures, load.failures[:10]
        for kind in ("http pooled", "grpc pooled", "http new", "grpc new"):
            answered = {version for (which, version), count in load.seen.items() if which == kind and count}
            assert len(answered) > SWAPS // 2, f"{kind} met only {sorted(answered)}"
        flips = [event for event in admin.events("m", limit=1000) if event.kind == "version.live"]
        assert len(flips) == SWAPS + 1
