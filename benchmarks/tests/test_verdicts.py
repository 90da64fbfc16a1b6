from benchmarks.ratios import by_round, paired, spread
from benchmarks.report import Report
from benchmarks.results import Measurement, Results
from benchmarks.targets import TARGETS, judge


def ran(contender: str, turn: int, rate: float, *, workload: str = "tiny-json", connections: int = 32) -> Measurement:
    return Measurement(
        contender=contender,
        workload=workload,
        connections=connections,
        turn=turn,
        rate=rate,
        answered=int(rate),
        errors=0,
        seconds=1.0,
        p50_us=1e6 / rate,
        p99_us=2e6 / rate,
        p999_us=3e6 / rate,
        cpu_us=10.0,
    )


def test_ratios_are_taken_within_a_round() -> None:
    """The machine halves its speed in the second round: medians of each would not tell 2 from 4."""
    runs = [ran("slipway", 0, 400), ran("triton", 0, 200), ran("slipway", 1, 200), ran("triton", 1, 50)]
    ours, theirs = (by_round(runs, name, "tiny-json", 32) for name in ("slipway", "triton"))
    found = paired(ours, theirs)
    assert found is not None
    assert (found.low, found.median, found.high, found.rounds) == (2.0, 3.0, 4.0, 2)


def test_a_round_that_only_one_of_the_two_finished_is_left_out() -> None:
    found = paired({0: 10.0, 1: 20.0}, {0: 5.0})
    assert found is not None and found.rounds == 1
    assert paired({0: 10.0}, {1: 5.0}) is None
    assert spread([]) is None


def test_without_slipway_nothing_is_claimed() -> None:
    assert {verdict.word for verdict in judge([ran("triton", 0, 100)])} == {"not measured"}


def test_a_rate_must_reach_and_a_latency_must_stay_below() -> None:
    runs = [ran("slipway", 0, 250), ran("triton", 0, 100), ran("fastapi", 0, 100)]
    runs += [ran(name, 0, rate, connections=1) for name, rate in (("slipway", 190), ("triton", 100))]
    words = {(v.target.other, v.target.value, v.target.workload): v.word for v in judge(runs)}
    assert words["triton", "rate", "tiny-json"] == "yes"
    assert words["fastapi", "rate", "tiny-json"] == "no"
    assert words["triton", "p50_us", "tiny-json"] == "no"  # 0.53 of Triton's, and at most 0.5 was asked


def test_every_target_is_in_the_report_and_raw_results_survive_the_disk(tmp_path) -> None:  # type: ignore[no-untyped-def]
    results = Results(measurements=[ran("slipway", 0, 200), ran("triton", 0, 100)])
    results.contenders = {name: {"title": name.title(), "how": "so"} for name in ("slipway", "triton")}
    results.save(tmp_path / "results.json")
    again = Results.load(tmp_path / "results.json")
    assert again == results
    text = Report(again).text()
    assert all(target.about in text for target in TARGETS)
    assert "| Triton | 100 | 2.00 |" in text
