"""The floor: a bare uvloop socket that answers a constant."""

from benchmarks.contender import Command, Peer, Start
from benchmarks.payloads import V2_JSON


def start(start: Start) -> Command:
    return Command(argv=(str(start.python), str(PEER.folder / "server.py")))


PEER = Peer(
    name="floor",
    title="floor (bare socket)",
    how="one uvloop loop that writes a constant answer to whatever arrives: no parsing, no model",
    packages=("uvloop",),
    start=start,
    codecs={"json": V2_JSON},
    models=frozenset({"iris"}),
)
