"""`slipway top`: the numbers of a frame, and the table that lives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cli_stage import Shell, StubServer, a_deployment, a_replica, a_version, in_turn, status_of
from hypothesis import given
from hypothesis import strategies as st

from slipway.cli.top_frame import SORTS, Look, Numbers, quantile, read_numbers, rows_of
from slipway.errors import Unavailable

BOUNDS = (0.001, 0.01, 0.1, float("inf"))


def page(model: str, *, ok: int, bad: int = 0, rows: int = 0, queue: int = 0, took: tuple[int, int, int, int]) -> str:
    labels = f'model="{model}",version="v1"'
    lines = [
        "# HELP slipway_requests_total Answered inference requests.",
        "# TYPE slipway_requests_total counter",
        f'slipway_requests_total{{{labels},protocol="http",code="ok"}} {ok - 1}.0',
        f'slipway_requests_total{{{labels},protocol="grpc",code="ok"}} 1.0',
        f'slipway_requests_total{{{labels},protocol="http",code="invalid_input"}} {bad}.0',
        f"slipway_batch_rows_sum{{{labels}}} {rows}.0",
        f"slipway_queue_rows{{{labels}}} {queue}.0",
        f"slipway_inflight_requests{{{labels}}} 2.0",
        f'slipway_compute_seconds_bucket{{{labels},le="0.001"}} 999.0',
    ]
    total = 0
    for bound, count in zip(BOUNDS, took, strict=True):
        total += count
        le = "+Inf" if bound == float("inf") else bound
        lines.append(f'slipway_request_seconds_bucket{{{labels},le="{le}"}} {total}.0')
    return "\n".join(lines) + "\n"


def test_the_page_of_metrics_is_read_by_name() -> None:
    found = read_numbers(page("iris", ok=10, bad=3, rows=40, queue=5, took=(1, 2, 3, 4)))
    assert found == {
        ("iris", "v1"): Numbers(
            requests=13,
            errors=3,
            rows=40,
            queue_rows=5,
            inflight=2,
            buckets={0.001: 1, 0.01: 3, 0.1: 6, float("inf"): 10},
        )
    }


def test_rates_and_quantiles_hold_for_the_time_between_two_looks() -> None:
    before = Look(
        10.0,
        status_of(a_deployment(versions=[a_version(replicas=[a_replica(cpu_s=3.0)])])),
        read_numbers(page("iris", ok=100, took=(100, 0, 0, 0))),
    )
    now = Look(
        12.0,
        status_of(a_deployment(versions=[a_version(replicas=[a_replica(cpu_s=4.0), a_replica(index=2)])])),
        read_numbers(page("iris", ok=300, bad=8, rows=640, queue=7, took=(100, 198, 2, 0))),
    )
    (row,) = rows_of(before, now, sort="name")
    assert (row.requests_per_s, row.errors_per_s, row.rows_per_s) == (104.0, 4.0, 320.0)
    assert row.p50_s is not None
    assert 0.001 < row.p50_s < 0.01, "what was before does not count"
    assert row.p99_s == pytest.approx(0.01)
    assert (row.queue_rows, row.inflight, row.ready, row.replicas) == (7, 2, 2, 2)
    assert row.cpu == 0.5, "of the replica that was there before"
    assert row.memory_bytes == 2 * (120 << 20)


def test_a_gateway_that_began_anew_is_no_negative_rate() -> None:
    looks = [
        Look(at, status_of(a_deployment()), read_numbers(page("iris", ok=ok, took=(ok, 0, 0, 0))))
        for at, ok in ((0.0, 90), (1.0, 5))
    ]
    (row,) = rows_of(*looks, sort="name")
    assert row.requests_per_s == 0.0
    assert row.p50_s is None


def test_without_requests_there_is_nothing_to_tell() -> None:
    look = Look(0.0, status_of(a_deployment(state="stopped", versions=[])), {})
    (row,) = rows_of(look, replace(look, at=1.0), sort="latency")
    assert (row.requests_per_s, row.p99_s, row.cpu, row.version, row.state) == (None, None, None, "v1", "stopped")


@given(st.lists(st.integers(0, 1000), min_size=4, max_size=4), st.floats(0.01, 1.0))
def test_a_quantile_lies_in_the_bucket_that_holds_it(counts: list[int], share: float) -> None:
    cumulative, total = {}, 0
    for bound, count in zip(BOUNDS, counts, strict=True):
        total += count
        cumulative[bound] = float(total)
    found = quantile(cumulative, share)
    if not total:
        assert found is None
        return
    assert found is not None
    reached = next(bound for bound in BOUNDS if cumulative[bound] >= share * total)
    lower = ([0.0] + [bound for bound in BOUNDS if bound < reached])[-1]
    assert lower <= found <= (lower if reached == float("inf") else reached)


@pytest.mark.parametrize("sort", SORTS)
def test_the_largest_comes_first(sort: str) -> None:
    def using(cpu_s: float, memory_bytes: int) -> list[Any]:
        """`a` uses nothing, `b` so much."""
        replicas = [a_replica("a", cpu_s=0.0, memory_bytes=0), a_replica("b", cpu_s=cpu_s, memory_bytes=memory_bytes)]
        return [a_deployment(one.deployment, versions=[a_version(replicas=[one])]) for one in replicas]

    idle, status = status_of(*using(0.0, 0)), status_of(*using(1.0, 9))
    numbers = read_numbers(
        page("a", ok=1, took=(9, 0, 0, 0)) + page("b", ok=9, bad=9, rows=9, queue=9, took=(0, 9, 0, 0))
    )
    found = rows_of(Look(0.0, idle, {}), Look(1.0, status, numbers), sort=sort)
    assert [row.deployment for row in found] == (["a", "b"] if sort == "name" else ["b", "a"])


# --- the command ------------------------------------------------------------------------------------------------------


def serve_numbers(server: StubServer) -> None:
    server.put(a_deployment())
    pages = [page("iris", ok=10 * turn, took=(0, 10 * turn, 0, 0)) for turn in range(1, 200)]
    server.routes["GET", "/metrics"] = in_turn(*pages)


def test_once_prints_a_table_or_json(shell: Shell, server: StubServer) -> None:
    serve_numbers(server)
    said = shell.run("top", "--once", "--interval-s", "0.2")
    assert said.status == 0, said.err
    titles, row = said.out.splitlines()[1:]
    assert titles.split()[:5] == ["DEPLOYMENT", "VERSION", "STATE", "REPLICAS", "REQ/S"]
    assert row.split()[:4] == ["iris", "v1", "ready", "1/1"]
    assert row.split()[7].endswith("ms")
    (found,) = shell.run("top", "--once", "--interval-s", "0.2", "-o", "json").json
    assert found["deployment"] == "iris"
    assert found["requests_per_s"] > 0
    assert found["p99_s"] == pytest.approx(0.01, rel=0.2)
    wrong = shell.run("top", "--sort", "colour")
    assert wrong.status == 2
    assert "requests, errors" in wrong.err


def test_it_lives_changes_its_order_and_survives_the_server(shell: Shell, server: StubServer) -> None:
    serve_numbers(server)
    good = server.routes["GET", "/metrics"]
    with shell.terminal("top", "--interval-s", "0.2") as terminal:
        terminal.wait_for("requests ▾")
        terminal.wait_for("ms")
        terminal.type("m")
        terminal.wait_for("memory ▾")

        def gone(_: Any) -> None:
            raise Unavailable("the controller is starting", retry_after_s=None)

        server.routes["GET", "/metrics"] = gone
        terminal.wait_for("the controller is starting")
        server.routes["GET", "/metrics"] = good
        terminal.type("q")
        assert terminal.ended() == 0, terminal.screen
        assert "\x1b[?1049l" in terminal.raw, "the screen is as it was"
    with shell.terminal("top", "--interval-s", "5") as terminal:
        terminal.wait_for("q leave")
        terminal.type("\x03")
        assert terminal.ended() in (0, 130), terminal.screen
