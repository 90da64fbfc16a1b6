"""A process that asks one deployment at a steady pace and notes how long each answer took.

Open loop: requests leave by the clock, and a late answer does not make the next ones fewer (Tene, "How NOT to Measure
Latency"). Times count from when a request should have left.
"""

from __future__ import annotations

import contextlib
import http.client
import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

BODY = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}'


class Asker:
    """Ask `model` so many times a second, from `begin` to `end`."""

    def __init__(self, url: str, model: str, *, per_s: float) -> None:
        self._ours, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("fork").Process(
            target=_ask, args=(theirs, self._ours, url, model, per_s)
        )
        self._process.start()
        theirs.close()

    def window(self, seconds: float) -> None:
        """Begin to ask, for so long."""
        self._ours.send(seconds)

    def times(self) -> list[float]:
        """Seconds of each request of the window, once it is over. Raises RuntimeError for an answer that is none."""
        found = self._ours.recv()
        if isinstance(found, str):
            raise RuntimeError(found)
        times: list[float] = found
        return times

    def close(self) -> None:
        self._ours.close()
        self._process.join(10)


def _ask(control: Connection, parents: Connection, url: str, model: str, per_s: float) -> None:
    with contextlib.suppress(PermissionError):  # who asks is elsewhere, as a rule: what it waits for itself is not of
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))  # the server's time
    parents.close()  # the copy that a fork makes; with it open, nobody would ever see the end
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    while True:
        try:
            seconds = control.recv()
        except EOFError:
            return
        times = []
        began = time.perf_counter()
        for number in range(int(seconds * per_s)):
            due = began + number / per_s
            wait = due - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            connection.request("POST", f"/v2/models/{model}/infer", BODY)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != 200:
                control.send(f"{answer.status}: {said[:300]!r}")
                return
            times.append(time.perf_counter() - due)
        control.send(times)
