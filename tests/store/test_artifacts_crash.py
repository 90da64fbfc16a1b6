"""Killed with SIGKILL at any moment, a store opens again with all of an artifact or nothing of it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from artifact_remotes import QUICK, remote, sha
from artifact_writer import scenario

from slipway.spec.resources import UploadFile
from slipway.store.artifacts import ArtifactStore

MB = 2**20
KILLS = 8
LOOP = """
import sys
from pathlib import Path
from artifact_writer import scenario
print("ready", flush=True)
number = 0
while True:
    number += 1
    scenario(Path(sys.argv[1]), Path(sys.argv[2]), bytes([number % 256]))
"""
# Each child does the same, and kills itself at its number of calls that change the disk: before the call, or in the
# middle of a write. The last one survives.
EVERY = """
import os, signal, sys
from pathlib import Path
from artifact_writer import scenario
CALLS = "pwrite fsync ftruncate fchmod chmod mkdir link rename replace unlink rmdir utime".split()

def arm(fatal):
    seen = 0
    def wrap(name, real):
        def call(*args, **kwargs):
            nonlocal seen
            seen += 1
            if seen == fatal:
                if name == "pwrite":
                    real(args[0], memoryview(args[1])[: len(args[1]) // 2], args[2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)
        return call
    for name in CALLS:
        setattr(os, name, wrap(name, getattr(os, name)))

fatal = 0
while True:
    fatal += 1
    child = os.fork()
    if child == 0:
        arm(fatal)
        scenario(Path(sys.argv[1], str(fatal)), Path(sys.argv[2]), b"x")
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status):
        sys.exit(os.waitstatus_to_exitcode(status))
    assert os.WTERMSIG(status) == signal.SIGKILL
"""
FETCHER = """
import sys, time
from pathlib import Path
from slipway.store.artifacts import ArtifactStore, fetch
fetch.CHECKPOINT_BYTES = int(sys.argv[4])

def progress(done, total):
    if done >= int(sys.argv[3]):
        print(done, flush=True)
        time.sleep(60)

ArtifactStore(Path(sys.argv[1])).fetch(sys.argv[2], progress=progress)
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, env=here)


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL, "it died of something else"
    assert process.stdout is not None
    process.stdout.close()


def check(folder: Path) -> int:
    """How many artifacts there are: each whole, and no blob that is another than its name says."""
    store = ArtifactStore(folder)
    for tree in (folder / "trees").iterdir():
        store.verify(f"sha256:{tree.name}")
    for blob in (folder / "blobs").rglob("*"):
        assert blob.is_dir() or sha(blob.read_bytes()) == blob.name
    return len(store.list())


def check_traces(folder: Path) -> None:
    ArtifactStore(folder).collect(set(), now=time.time() + 100 * 86400)
    left = {path.name for path in folder.rglob("*") if path.is_file()}
    assert left <= {"lock"}, "traces of a crash stay for ever"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    place = tmp_path / "source"
    (place / "sub").mkdir(parents=True)
    (place / "a").write_bytes(os.urandom(200_000))
    (place / "sub" / "b").write_bytes(os.urandom(50_000))
    return place


def test_at_each_single_step(tmp_path: Path, source: Path) -> None:
    process = start(EVERY, str(tmp_path / "stores"), str(source))
    assert process.wait(60) == 0
    stores = sorted((tmp_path / "stores").iterdir(), key=lambda folder: int(folder.name))
    assert len(stores) > 60
    counts = [check(folder) for folder in stores]
    assert counts[0] == 0
    assert max(counts) == 4
    assert counts[-1] == 3  # the one that lived to collect the fourth
    for folder in stores[:: len(stores) // 10]:
        scenario(folder, source, b"x")  # it works on as if nothing had been
        check_traces(folder)


def test_at_any_moment(tmp_path: Path, source: Path) -> None:
    chance, seen = random.Random(7), 0
    for _ in range(KILLS):
        process = start(LOOP, str(tmp_path / "artifacts"), str(source))
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.0, 0.1))  # the moment of the kill, not a wait for anything
        kill(process)
        seen += check(tmp_path / "artifacts")
    assert seen > 0
    check_traces(tmp_path / "artifacts")


def test_an_upload_goes_on_after_it(tmp_path: Path) -> None:
    body = os.urandom(3_000_000)
    (tmp_path / "body").write_bytes(body)
    code = """
import hashlib, sys, time
from pathlib import Path
from slipway.spec.resources import UploadFile
from slipway.store.artifacts import ArtifactStore
store, body = ArtifactStore(Path(sys.argv[1])), Path(sys.argv[2]).read_bytes()
sha256 = hashlib.sha256(body).hexdigest()
store.declare([UploadFile(path="m", sha256=sha256, size_bytes=len(body))])
for at in range(store.received(sha256), len(body), 3000)[:100]:
    print(store.append(sha256, at, body[at : at + 3000]), flush=True)
time.sleep(60)
"""
    at = 0
    for _ in range(3):
        process = start(code, str(tmp_path / "artifacts"), str(tmp_path / "body"))
        assert process.stdout is not None
        for _ in range(100):
            before, at = at, int(process.stdout.readline())
            assert at > before
        kill(process)
    store = ArtifactStore(tmp_path / "artifacts")
    have = store.received(sha(body))
    assert have >= at
    store.append(sha(body), have, body[have:])
    store.finish(sha(body))
    artifact = store.declare([UploadFile(path="m", sha256=sha(body), size_bytes=len(body))])
    assert store.path(artifact.digest).read_bytes() == body


def test_a_fetch_goes_on_after_it_and_mixes_nothing(tmp_path: Path) -> None:
    """The remote file changes before the third kill, far from a checkpoint, and changes back after it."""
    one, two = os.urandom(6 * MB), os.urandom(6 * MB)
    with remote(one) as there:
        for content, etag, until, checkpoint in (
            (one, '"one"', 2 * MB, MB),
            (one, '"one"', 4 * MB, MB),
            (two, '"two"', 5 * MB, 64 * MB),
        ):
            there.content, there.etag = content, etag
            process = start(FETCHER, str(tmp_path / "artifacts"), there.url, str(until), str(checkpoint))
            assert process.stdout is not None
            assert until <= int(process.stdout.readline()) < 6 * MB
            kill(process)
        there.content, there.etag = one, '"one"'
        store = ArtifactStore(tmp_path / "artifacts", patience=QUICK)
        assert store.path(store.fetch(there.url).digest).read_bytes() == one
        assert [begun.startswith("bytes=") for begun in there.seen] == [False, True, True, False]


def test_a_folder_that_was_half_made_is_not_there(tmp_path: Path) -> None:
    """The state that a kill between two links leaves, made by hand."""
    store = ArtifactStore(tmp_path / "artifacts")
    half = tmp_path / "artifacts" / "incoming" / "scratch" / "abc" / "files"
    half.mkdir(parents=True)
    (half / "a").write_bytes(b"x" * 1000)
    half.chmod(0o555)
    assert store.list() == []
    assert store.collect(set(), now=time.time()) == 1000
    assert not half.exists()
