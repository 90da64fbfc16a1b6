"""The bare `session.run` loop: not a server, the ceiling that a compute-bound server can reach."""

from benchmarks.contender import Command, Peer, Start


def start(start: Start) -> Command:
    return Command(argv=(str(start.python), str(PEER.folder / "loop.py")))


PEER = Peer(
    name="bare",
    title="bare session.run loop",
    how="onnxruntime on one thread, the same batch again and again in one process",
    packages=("onnxruntime", "numpy"),
    start=start,
    codecs={"binary": None},  # type: ignore[dict-item]
    models=frozenset({"convnet"}),
    serves=False,
)
