"""The bare `session.run` loop: not a server, the ceiling that a compute-bound server can reach."""

from benchmarks.contender import Command, Peer, Start
from benchmarks.payloads import V2_BINARY


def start(start: Start) -> Command:
    return Command(argv=(str(start.python), str(PEER.folder / "loop.py")))


PEER = Peer(
    name="bare",
    title="bare session.run loop",
    how="onnxruntime on one thread, the same batch again and again in one process",
    packages=("onnxruntime", "numpy"),
    start=start,
    codecs={"binary": V2_BINARY},  # never sent: it names the workload that the loop is the ceiling of
    models=frozenset({"convnet"}),
    serves=False,
)
