"""Four replicas under load: one killed, one stopped, one leaking. Every accepted request gets its own answer, once."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import threading
from pathlib import Path
from urllib.parse import urlsplit

from running import Running, eventually, running

LEAKY = '''
import os
import numpy as np
import slipway

class Leaky(slipway.Model):
    """Doubles; where the file `leak` names its process, it keeps 4 MB of every call for ever."""
    inputs = {"x": "FP64[-1]"}
    outputs = {"y": "FP64[-1]"}

    def __init__(self, leak: str):
        self.leak, self.kept = leak, []

    def predict(self, x):
        with open(self.leak) as named:
            if named.read() == str(os.getpid()):
                self.kept.append(np.ones(2**19))
        return x * 2
'''
CLIENTS = 8
MEMORY_MB = 300


class Client(threading.Thread):
    """Sends one number after the other over one connection, and checks each answer against its question."""

    def __init__(self, url: str, numbers: itertools.count[int], stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.right: list[int] = []
        self.wrong: list[str] = []
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        self._numbers = numbers
        self._over = stop

    def run(self) -> None:
        while not self._over.is_set():
            number = next(self._numbers)
            try:
                self._ask(number)
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                self.wrong.append(f"{number}: {error!r}")
                self._connection.close()
        self._connection.close()

    def _ask(self, number: int) -> None:
        tensor = {"name": "x", "datatype": "FP64", "shape": [2], "data": [number, -number]}
        body = json.dumps({"id": str(number), "inputs": [tensor]})
        self._connection.request("POST", "/v2/models/leaky/infer", body)
        answer = self._connection.getresponse()
        said = json.loads(answer.read())
        if (
            answer.status == 200
            and said["id"] == str(number)
            and said["outputs"][0]["data"] == [2 * number, -2 * number]
        ):
            self.right.append(number)
        else:
            self.wrong.append(f"{number}: {answer.status} {said}")


def restarts(server: Running) -> dict[str, float]:
    found = server.metrics().get("slipway_replica_restarts_total", {})
    return {dict(labels)["reason"]: value for labels, value in found.items()}


def test_four_replicas_one_killed_one_stopped_one_leaking(tmp_path: Path) -> None:
    (tmp_path / "leaky.py").write_text(LEAKY)
    leak = tmp_path / "leak"
    leak.write_text("")
    settings = ("--replicas", "4", "--gateways", "2", "--hang-s", "1.5", "--memory-mb", str(MEMORY_MB))
    model = (f"leaky={tmp_path / 'leaky.py'}", "--option", f"leak={leak}", "--allow-read", str(leak))
    with running(*model, *settings, "--max-batch-rows", "8") as server:
        server.wait_ready()
        stop, numbers = threading.Event(), itertools.count(1)
        clients = [Client(server.http, numbers, stop) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        killed, stopped, leaking, _ = (replica["pid"] for replica in server.replicas())
        leak.write_text(str(leaking))
        os.kill(killed, signal.SIGKILL)
        os.kill(stopped, signal.SIGSTOP)
        eventually(lambda: {"signal", "hung", "memory"} <= restarts(server).keys(), "all three were replaced")
        eventually(lambda: [r["state"] for r in server.replicas()] == ["ready"] * 4, "all four are back")
        answered = sum(len(client.right) for client in clients)
        eventually(lambda: sum(len(client.right) for client in clients) > answered + 100, "load goes on")
        stop.set()
        for client in clients:
            client.join(60)
        assert [said for client in clients for said in client.wrong] == []
        right = [number for client in clients for number in client.right]
        assert len(right) == len(set(right)) == next(numbers) - 1
        codes = server.metrics()["slipway_requests_total"]
        assert {dict(labels)["code"]: value for labels, value in codes.items()} == {"ok": len(right)}
