import pytest

from benchmarks import peers
from benchmarks.contender import PEERS
from benchmarks.plan import CLOSED_LOOP, WORKLOADS, Plan, quick


@pytest.mark.parametrize("peer", peers.load(), ids=lambda peer: peer.name)
def test_every_contender_pins_what_it_runs(peer) -> None:  # type: ignore[no-untyped-def]
    wanted = [line for line in (peer.folder / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert wanted and all("==" in line or line.startswith("-e ") for line in wanted)
    assert peer.how and peer.codecs


def test_the_table_names_every_folder() -> None:
    folders = {path.parent.name for path in PEERS.glob("*/peer.py")}
    assert folders == set(peers.NAMES)


def test_rounds_alternate_their_order_and_skip_what_a_contender_cannot_do() -> None:
    plan = Plan(
        peers=tuple(peers.load(("slipway", "triton", "floor", "bare"))),
        workloads=WORKLOADS,
        rounds=2,
        seconds=1,
        open_loop_names=frozenset(),
    )
    order = [[(key, peer.name) for key, peer, _ in plan.blocks(turn)] for turn in range(2)]
    assert order[0][:3] == [("iris", "slipway"), ("iris", "triton"), ("iris", "floor")]
    assert order[1][:3] == [("iris", "floor"), ("iris", "triton"), ("iris", "slipway")]
    assert ("pixels", "floor") not in order[0]
    assert [pair for pair in order[0] if pair[1] == "bare"] == [("convnet", "bare")]


def test_a_quick_run_keeps_what_the_targets_need() -> None:
    kept = {each.name: each.connections for each in quick(CLOSED_LOOP)}
    assert kept["tiny-json"] == (1, 32)
    assert kept["large-grpc"] == (8,)
