"""RESULTS.md: the figures as tables, ratios first."""

import statistics
from collections.abc import Iterable, Sequence

from benchmarks.plan import CAPACITY_CONNECTIONS, CLOSED_LOOP, SHARES, Workload
from benchmarks.ratios import Spread, by_round, paired, spread
from benchmarks.results import Results
from benchmarks.targets import judge


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column holds names, the others figures."""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _short(value: float) -> str:
    """Three digits that mean something."""
    if value != value:  # NaN: nothing was measured
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ratio(found: Spread | None) -> str:
    if found is None:
        return "-"
    middle = _short(found.median)
    return middle if found.rounds == 1 else f"{middle} ({_short(found.low)}…{_short(found.high)})"


def _ms(micros: float) -> str:
    return _short(micros / 1e3)


class Report:
    def __init__(self, results: Results) -> None:
        self.results = results
        self.titles = {name: str(about["title"]) for name, about in results.contenders.items()}
        measured = {each.contender for each in results.measurements}
        # Without Slipway in the run the tables still need someone to be compared with.
        self.base = next((name for name in ("slipway", "triton", *self.titles) if name in measured), "")

    def text(self) -> str:
        parts = ["# Results\n", self._machine(), self._targets(), self._contenders()]
        parts += [self._workload(workload) for workload in CLOSED_LOOP]
        parts += [self._open_loop(), self._start_up(), self._problems()]
        return "\n".join(part for part in parts if part)

    def _machine(self) -> str:
        facts, options = self.results.machine, self.results.options
        note = "**This run was interrupted: what is here is all it got to.**\n\n" if self.results.interrupted else ""
        told = ", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in {**facts, **options}.items())
        return (
            f"{note}Written by `scripts/bench`; every raw number is in `results.json`, how to read this in "
            f"`README.md`. Wall time {self.results.wall_s / 60:.0f} min.\n\n{told}.\n\n"
            "Figures are medians over rounds with (lowest … highest). Ratios are taken within a round, then the "
            "median: absolute figures drift with the machine, ratios hardly do.\n"
        )

    def _targets(self) -> str:
        rows = []
        for verdict in judge(self.results.measurements):
            target = verdict.target
            sign = "≤" if target.at_most else "≥"
            beside = ", ".join(f"{count}: {_short(s.median)}" for count, s in verdict.beside.items() if s)
            about = f"{target.about} ({target.connections} connection{'s' * (target.connections > 1)})"
            rows.append((about, f"{sign} {target.asked:g}", _ratio(verdict.reached), beside or "-", verdict.word))
        head = ("target", "asked", "reached", "at other connection counts", "met")
        return "## Targets\n\n" + _table(head, rows)

    def _contenders(self) -> str:
        rows = []
        for about in self.results.contenders.values():
            packages = about.get("versions")
            versions = ", ".join(f"{k} {v}" for k, v in packages.items()) if isinstance(packages, dict) else ""
            rows.append((str(about["title"]), str(about.get("problem") or versions), str(about["how"])))
        lines = ["| contender | versions | as it ran |", "|---|---|---|"]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        return "## Contenders\n\n" + "\n".join(lines) + "\n"

    def _workload(self, workload: Workload) -> str:
        mine = [each for each in self.results.measurements if each.workload == workload.name]
        if not mine:
            return ""
        counts = sorted({each.connections for each in mine})
        names = [name for name in self.titles if any(each.contender == name for each in mine)]
        base = self.titles[self.base]
        most = CAPACITY_CONNECTIONS if CAPACITY_CONNECTIONS in counts else counts[-1]
        head = ["contender"]
        for count in counts:
            head += [f"{count}: req/s", f"{count}: {base} ÷ it"]
        throughput, latency = [], []
        for name in names:
            rates, times = [self.titles[name]], [self.titles[name]]
            for count in counts:
                ours, theirs = (by_round(mine, each, workload.name, count) for each in (self.base, name))
                rates.append(_ratio(spread(list(theirs.values()))))
                rates.append("1" if name == self.base else _ratio(paired(ours, theirs)))
                times.append(self._times(name, workload.name, count))
            times.append(self._cpu(name, workload.name, most))
            throughput.append(rates)
            latency.append(times)
        errors = sum(each.errors for each in mine)
        wrong = [f"{self.titles[n]}: {e}" for n in names if (e := sum(m.errors for m in mine if m.contender == n))]
        return (
            f"## {workload.name}: {workload.about}\n\nThroughput by number of connections.\n\n"
            + _table(head, throughput)
            + f"\nErrors: {'; '.join(wrong) if errors else 'none'}.\n\nLatency p50 / p99 in ms, closed loop; "
            f"processor time of all of the server's processes for one answer at {most} connections.\n\n"
            + _table(["contender", *(f"{count} connections" for count in counts), "CPU us"], latency)
        )

    def _times(self, name: str, workload: str, count: int) -> str:
        found = []
        for value in ("p50_us", "p99_us"):
            seen = list(by_round(self.results.measurements, name, workload, count, value).values())
            found.append(_ms(statistics.median(seen)) if seen else "-")
        return " / ".join(found)

    def _cpu(self, name: str, workload: str, count: int) -> str:
        found = spread(list(by_round(self.results.measurements, name, workload, count, "cpu_us").values()))
        return "-" if found is None else _short(found.median)

    def _open_loop(self) -> str:
        runs = self.results.open_loop
        if not runs:
            return ""
        text = (
            "## open-loop: Poisson arrivals, iris, one row, HTTP JSON\n\nLatency from the moment a request was "
            "due, p50 / p99 / p99.9 in ms. `late` is how late the generator itself was at its p99: latencies "
            "near it say more about the generator than about the server.\n"
        )
        for of, about in (
            ("own", "Share of each contender's own capacity"),
            ("shared", "The same rate for both: shares of the slower one's capacity"),
        ):
            rows = []
            for name in self.titles:
                for share in SHARES:
                    mine = [e for e in runs if (e.contender, e.of, e.share) == (name, of, share)]
                    if not mine:
                        continue
                    middle = [statistics.median(getattr(each, q) for each in mine) for q in _QUANTILES]
                    late = statistics.median(each.late_p99_us for each in mine)
                    rate = statistics.median(each.asked_rate for each in mine)
                    errors = sum(each.errors for each in mine)
                    times = " / ".join(_ms(each) for each in middle)
                    rows.append((self.titles[name], f"{share:.0%}", _short(rate), times, _ms(late), str(errors)))
            if rows:
                head = ("contender", "share", "req/s", "p50 / p99 / p99.9", "late", "errors")
                text += f"\n{about}.\n\n" + _table(head, rows)
        return text

    def _start_up(self) -> str:
        rows = []
        for name, title in self.titles.items():
            mine = [each for each in self.results.start_ups if (each.contender, each.model) == (name, "iris")]
            if not mine:
                continue
            idle, loaded = (
                [sum(float(str(p["pss_mb"])) for p in getattr(each, when)) for each in mine]
                for when in ("idle", "loaded")
            )
            took = spread([each.seconds for each in mine])
            parts = sorted((float(str(p["pss_mb"])) for p in mine[-1].loaded), reverse=True)
            largest = ", ".join(_short(part) for part in parts[:6]) + (", …" if len(parts) > 6 else "")
            rows.append(
                (
                    title,
                    _ratio(took),
                    str(len(parts)),
                    _short(statistics.median(idle)),
                    _short(statistics.median(loaded)),
                    largest,
                )
            )
        if not rows:
            return ""
        head = ("contender", "s to first answer", "processes", "MB idle", "MB after load", "MB by process")
        return (
            "## Start-up and memory, tiny model\n\nFrom the start of the process to the first right answer. Memory "
            "is the proportional set size (shared pages divided among their users), by process and in sum.\n\n"
            + _table(head, rows)
        )

    def _problems(self) -> str:
        lines = [f"- {problem}" for problem in self.results.problems]
        return "## What did not work\n\n" + "\n".join(lines) + "\n" if lines else ""


_QUANTILES = ("p50_us", "p99_us", "p999_us")
