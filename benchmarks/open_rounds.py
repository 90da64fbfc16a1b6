"""The open-loop part of a run: Poisson arrivals at shares of what each contender could do in closed loop."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import closed_loop
from benchmarks.contender import ROOT, Peer
from benchmarks.plan import CAPACITY_CONNECTIONS, CLOSED_LOOP, PAIR, SHARES
from benchmarks.results import OpenLoop
from benchmarks.standing import Failed, Standing

if TYPE_CHECKING:
    from benchmarks.rounds import Rounds

_TINY_JSON = CLOSED_LOOP[0]
# About what the Python generator can send beside a server on two cores; above, it would measure itself.
_GENERATOR_LIMIT = 40_000.0


class PoissonRounds:
    def __init__(self, rounds: Rounds) -> None:
        self.rounds, self.plan = rounds, rounds.plan
        self.model = rounds.model("iris")

    def run(self, after_round: Callable[[], None]) -> None:
        peers = [each for each in self.plan.peers if each.name in self.plan.open_loop_names and each.serves]
        peers = [each for each in peers if each.can("iris", "json") and (each.name, "iris") not in self.rounds.out]
        capacity: dict[str, float] = {}
        for peer in peers:
            self.rounds.guarded(peer, "iris", partial(self._find_capacity, peer, capacity))
        if not capacity:
            return
        # A rate that everyone can keep would be idle talk for the fast; so the same rate is for the pair, if both ran.
        pair = [capacity[name] for name in PAIR if name in capacity]
        shared = min(pair) if len(pair) == len(PAIR) else None
        for turn in range(self.plan.rounds):
            self.rounds.say(f"open loop, round {turn + 1} of {self.plan.rounds}")
            for peer in peers if turn % 2 == 0 else peers[::-1]:
                if peer.name in capacity and (peer.name, "iris") not in self.rounds.out:
                    own = capacity[peer.name]
                    self.rounds.guarded(peer, "iris", partial(self._block, peer, own, shared, turn))
            after_round()

    def _find_capacity(self, peer: Peer, into: dict[str, float]) -> None:
        """Its closed-loop rate in this run, or a short probe where that workload was not asked for."""
        wanted = (peer.name, _TINY_JSON.name, CAPACITY_CONNECTIONS)
        seen = [
            each.rate
            for each in self.rounds.results.measurements
            if (each.contender, each.workload, each.connections) == wanted
        ]
        if not seen:
            with Standing(peer, self.model, self.rounds.cache) as standing:
                request, port = standing.request("json"), standing.ports.http
                for _ in range(2):  # the first is the warm-up
                    found = closed_loop.run(
                        request,
                        port=port,
                        grpc=False,
                        connections=CAPACITY_CONNECTIONS,
                        scratch=standing.scratch,
                        seconds=self.plan.seconds,
                    )
                seen = [found.rate]
        into[peer.name] = statistics.median(seen)
        self.rounds.say(f"{peer.name:9} capacity {into[peer.name]:,.0f}/s")

    def _block(self, peer: Peer, own: float, shared: float | None, turn: int) -> None:
        with Standing(peer, self.model, self.rounds.cache) as standing:
            request = _whole_request(standing)
            port, limit = standing.ports.http, min(own, _GENERATOR_LIMIT)
            # A warm-up, so that the first of the rates is not the one that pays for it.
            _poisson(port, request, rate=limit * SHARES[0], seconds=1, seed=0)
            for share in SHARES:
                if own * share <= limit:
                    told = _poisson(port, request, rate=own * share, seconds=self.plan.open_loop_seconds, seed=1 + turn)
                    self._keep(peer.name, "own", share, turn, told)
                    if own == shared:  # the same rate: measured once, shown in both tables
                        self._keep(peer.name, "shared", share, turn, told)
            if shared is not None and shared < own and peer.name in PAIR:
                for share in SHARES:
                    rate = shared * share
                    told = _poisson(port, request, rate=rate, seconds=self.plan.open_loop_seconds, seed=1 + turn)
                    self._keep(peer.name, "shared", share, turn, told)
            standing.check("json")

    def _keep(self, name: str, of: str, share: float, turn: int, told: dict[str, float]) -> None:
        found = OpenLoop(contender=name, of=of, share=share, turn=turn, **told)  # type: ignore[arg-type]
        self.rounds.results.open_loop.append(found)
        errors = f"  {found.errors} ERRORS" if found.errors else ""
        self.rounds.say(
            f"{name:9} {share:.0%} of {of:6} {found.asked_rate:9,.0f}/s   "
            f"p50 {found.p50_us / 1e3:8.3f}   p99 {found.p99_us / 1e3:8.3f}   "
            f"p99.9 {found.p999_us / 1e3:8.3f} ms   late {found.late_p99_us / 1e3:.3f} ms{errors}"
        )


def _whole_request(standing: Standing) -> Path:
    asked = standing.request("json")
    lines = [f"POST {asked.path} HTTP/1.1", f"host: 127.0.0.1:{standing.ports.http}"]
    lines += [f"{name}: {value}" for name, value in asked.headers]
    lines += [f"content-length: {len(asked.body)}", "", ""]
    path = standing.scratch / "request.bin"
    path.write_bytes("\r\n".join(lines).encode() + asked.body)
    return path


def _poisson(port: int, request: Path, *, rate: float, seconds: float, seed: int) -> dict[str, float]:
    argv = [sys.executable, "-m", "benchmarks.open_loop", "--port", str(port), "--request", str(request)]
    argv += ["--rate", f"{rate:.1f}", "--seconds", str(seconds), "--seed", str(seed)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=seconds + 60, cwd=ROOT)
    except subprocess.TimeoutExpired as error:
        raise Failed("the open-loop generator did not end") from error
    if done.returncode:
        raise Failed(f"the open-loop generator said: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)  # type: ignore[no-any-return]
