"""The command line of the bench: choose, install, run, write."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from benchmarks import environments, facts, peers, processes
from benchmarks.contender import ROOT, Peer
from benchmarks.plan import OPEN_LOOP_BY_DEFAULT, WORKLOADS, Plan, Workload, about_seconds, quick
from benchmarks.report import Report
from benchmarks.results import Results, without_paths
from benchmarks.rounds import Rounds

_EXAMPLES = """\
examples:
  scripts/bench                                     everything, below 25 minutes once the environments exist
  scripts/bench --quick                             fewer rounds, seconds and connection counts: a few minutes
  scripts/bench --only slipway,triton,floor         just these; order as in --list
  scripts/bench --workloads tiny-json,tiny-grpc     just these
  scripts/bench --only slipway,triton --workloads tiny-grpc --rounds 9 --seconds 4
                                                    one question, answered with more certainty
  scripts/bench --check                             does every contender answer rightly? nothing is timed
  scripts/bench --install                           make the environments and stop
  scripts/bench --output /tmp/bench                 leave benchmarks/RESULTS.md as it is
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Slipway beside its peers in one run: each in its own environment, in turns, as ratios.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="NAMES", help="contenders, with commas between (see --list)")
    parser.add_argument("--workloads", metavar="NAMES", help="workloads, with commas between (see --list)")
    parser.add_argument("--quick", action="store_true", help="1 round, 1 s, 1 and 32 connections")
    parser.add_argument("--rounds", type=int, help="rounds, A B C … A B C … (default 3)")
    parser.add_argument("--seconds", type=float, help="seconds of load for each figure (default 2)")
    parser.add_argument("--list", action="store_true", help="name contenders and workloads, then stop")
    parser.add_argument("--check", action="store_true", help="check every answer, time nothing")
    parser.add_argument("--install", action="store_true", help="make the environments, then stop")
    parser.add_argument(
        "--output",
        type=Path,
        default=ROOT / "benchmarks",
        metavar="FOLDER",
        help="where results.json and RESULTS.md go (default benchmarks/)",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=ROOT / ".bench",
        metavar="FOLDER",
        help="environments, models and logs (default .bench/)",
    )
    return parser


def _chosen(asked: str | None, names: tuple[str, ...], kind: str) -> tuple[str, ...]:
    """Keeps the order of `names`; an unknown name ends the program with the known ones."""
    if asked is None:
        return names
    wanted = [each.strip() for each in asked.split(",") if each.strip()]
    for each in wanted:
        if each not in names:
            raise SystemExit(f"bench: no {kind} named {each!r}; there are: {', '.join(names)}")
    return tuple(each for each in names if each in wanted)


def _list() -> None:
    print("contenders")
    for peer in peers.load():
        print(f"  {peer.name:10} {peer.title}: {peer.how}")
    print("workloads")
    for workload in WORKLOADS:
        counts = ", ".join(str(count) for count in workload.connections)
        print(f"  {workload.name:13} {workload.about}" + (f"; connections: {counts}" if counts else ""))


def _need_h2load() -> None:
    """Debian's nghttp2-client; installed where that is allowed, asked for where it is not."""
    if shutil.which("h2load"):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print("bench: installing nghttp2-client (h2load)", flush=True)
        for words in (["update", "-q"], ["install", "-qy", "nghttp2-client"]):
            subprocess.run(["apt-get", *words], check=False, stdout=subprocess.DEVNULL)
    if not shutil.which("h2load"):
        raise SystemExit("bench: h2load is missing; install it first, on Debian: apt-get install nghttp2-client")


def _prepared(names: tuple[str, ...], cache: Path, results: Results) -> list[Peer]:
    """The contenders that can run, with their environments made; the others are reported."""
    ready = []
    for peer in peers.load(names):
        about: dict[str, object] = {"title": peer.title, "how": peer.how}
        results.contenders[peer.name] = about
        problem = peer.missing()
        if problem is None:
            try:
                if not environments.is_ready(cache, peer):
                    print(f"bench: making the environment of {peer.title}", flush=True)
                    environments.install(cache, peer)
                found = environments.versions(cache, peer)
                about["versions"] = {name: found[name] for name in peer.packages if name in found}
                about["all_versions"] = found
                ready.append(peer)
                continue
            except environments.CannotInstall as error:
                problem = str(error)
        about["problem"] = without_paths(f"skipped: {problem}")
        results.problems.append(f"{peer.title} {about['problem']}")
        print(f"bench: {peer.title} {about['problem']}", flush=True)
    return ready


def _plan(options: argparse.Namespace, ready: list[Peer]) -> Plan:
    names = _chosen(options.workloads, tuple(each.name for each in WORKLOADS), "workload")
    workloads: tuple[Workload, ...] = tuple(each for each in WORKLOADS if each.name in names)
    if options.quick:
        workloads = quick(workloads)
    return Plan(
        peers=tuple(ready),
        workloads=workloads,
        rounds=options.rounds or (1 if options.quick else 3),
        seconds=options.seconds or (1.0 if options.quick else 2.0),
        open_loop_names=frozenset(peers.NAMES) if options.only else OPEN_LOOP_BY_DEFAULT,
    )


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # Only once: a second Ctrl-C would break off the stopping of what was started.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _write(results: Results, folder: Path, begun_s: float) -> None:
    results.wall_s = round(time.monotonic() - begun_s, 1)
    folder.mkdir(parents=True, exist_ok=True)
    results.save(folder / "results.json")
    (folder / "RESULTS.md").write_text(Report(results).text())


def main() -> int:
    options = _parser().parse_args()
    if options.list:
        _list()
        return 0
    names = _chosen(options.only, peers.NAMES, "contender")
    options.cache.mkdir(parents=True, exist_ok=True)
    (options.cache / ".gitignore").write_text("*\n")
    cache = options.cache.resolve()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    processes.adopt_orphans()
    _need_h2load()
    results = Results(machine=facts.machine())
    ready = _prepared(names, cache, results)
    if options.install:
        return 0
    plan = _plan(options, ready)
    results.options = {"rounds": plan.rounds, "seconds": plan.seconds, "quick": options.quick}
    rounds = Rounds(plan, cache, results, lambda line: print(line, flush=True))
    if options.check:
        return 0 if rounds.check() else 1
    print(f"bench: about {about_seconds(plan) / 60:.0f} minutes; Ctrl-C stops and keeps what is there", flush=True)
    begun_s = time.monotonic()
    try:
        rounds.run(lambda: _write(results, options.output, begun_s))
    except KeyboardInterrupt:
        results.interrupted = True
        print("bench: interrupted; writing what there is", file=sys.stderr)
    results.machine["load_average_after"] = round(os.getloadavg()[0], 2)
    _write(results, options.output, begun_s)
    print(f"bench: wrote {options.output / 'RESULTS.md'} and results.json")
    return 130 if results.interrupted else 0
