"""Flask on gunicorn: the same by an older road."""

from benchmarks.contender import Command, Peer, Start
from benchmarks.payloads import PLAIN_JSON, PLAIN_OCTETS


def start(start: Start) -> Command:
    workers = "1" if start.model.one_instance else "2"
    # Threads, because the plain sync worker closes every connection; the timeout must outlast a cold start.
    shape = ("--workers", workers, "--worker-class", "gthread", "--threads", "4", "--timeout", "120")
    address = ("--bind", f"127.0.0.1:{start.ports.http}", "--backlog", "1024", "--keep-alive", "60")
    return Command(
        argv=(
            *(start.script("gunicorn"), "server:app", "--chdir", str(PEER.folder)),
            *(*address, *shape, "--log-level", "warning"),
        )
    )


PEER = Peer(
    name="flask",
    title="Flask + gunicorn",
    how="gunicorn with 2 gthread workers of 4 threads and keep-alive; binary is plain octets",
    packages=("flask", "gunicorn", "werkzeug", "onnxruntime"),
    start=start,
    codecs={"json": PLAIN_JSON, "binary": PLAIN_OCTETS},
    ready_path="/health",
)
