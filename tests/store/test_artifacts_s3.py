"""Models from a real S3 API, and what other protocols of fsspec answer."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from artifact_remotes import QUICK, sha

from slipway.errors import Cancelled, DigestMismatch, Forbidden, InvalidSpec, MissingExtra, NotFound, Unavailable
from slipway.store.artifacts import ArtifactStore

MB = 2**20
SERVER = """
import sys, warnings
warnings.simplefilter("ignore")
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of its own, not of what is tested. A bucket `models`, empty."""
    import botocore.session

    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    client = botocore.session.get_session().create_client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket="models")
    for item in client.list_objects_v2(Bucket="models").get("Contents", []):
        client.delete_object(Bucket="models", Key=item["Key"])
    return client


@pytest.fixture
def store(tmp_path: Path, endpoint: str) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts", patience=QUICK, storage={"s3": {"endpoint_url": endpoint}})


def put(s3: Any, key: str, body: bytes) -> None:
    s3.put_object(Bucket="models", Key=key, Body=body)


def test_a_file(s3: Any, store: ArtifactStore) -> None:
    body = os.urandom(9 * MB + 3)
    put(s3, "iris/v1/iris.onnx", body)
    seen: list[tuple[int, int | None]] = []
    artifact = store.fetch("s3://models/iris/v1/iris.onnx", progress=lambda *step: seen.append(step))
    assert [(file.path, file.sha256) for file in artifact.files] == [("iris.onnx", sha(body))]
    assert store.path(artifact.digest).read_bytes() == body
    assert seen[-1] == (len(body), len(body))


def test_a_folder_has_the_digest_of_the_same_folder_on_disk(s3: Any, store: ArtifactStore, tmp_path: Path) -> None:
    files = {"model.onnx": b"m" * 1000, "tokens/a.txt": b"a", "tokens/b/c.txt": b"", "__pycache__/x.pyc": b"no"}
    put(s3, "bert/", b"")  # what consoles make for a folder
    put(s3, "bert-large/model.onnx", b"a neighbour whose name begins alike")
    for path, body in files.items():
        put(s3, f"bert/{path}", body)
        place = tmp_path / "bert" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(body)
    artifact = store.fetch("s3://models/bert/")
    assert [file.path for file in artifact.files] == ["model.onnx", "tokens/a.txt", "tokens/b/c.txt"]
    assert artifact == store.import_path(tmp_path / "bert")
    assert (store.path(artifact.digest) / "tokens/a.txt").read_bytes() == b"a"


def test_it_goes_on_where_it_was_stopped(s3: Any, store: ArtifactStore) -> None:
    body = os.urandom(10 * MB)
    put(s3, "big.onnx", body)
    have = [0]
    with pytest.raises(Cancelled):
        store.fetch(
            "s3://models/big.onnx",
            progress=lambda done, _: have.__setitem__(0, done),
            cancelled=lambda: have[0] >= 8 * MB,
        )
    seen: list[int] = []
    artifact = store.fetch("s3://models/big.onnx", progress=lambda done, _: seen.append(done))
    assert seen[0] >= 8 * MB
    assert store.path(artifact.digest).read_bytes() == body


def test_what_changed_since_is_not_mixed(s3: Any, store: ArtifactStore) -> None:
    old, new = os.urandom(10 * MB), os.urandom(10 * MB)
    put(s3, "big.onnx", old)
    have = [0]
    with pytest.raises(Cancelled):
        store.fetch(
            "s3://models/big.onnx",
            progress=lambda done, _: have.__setitem__(0, done),
            cancelled=lambda: have[0] >= 8 * MB,
        )
    put(s3, "big.onnx", new)
    assert store.path(store.fetch("s3://models/big.onnx").digest).read_bytes() == new


def test_what_changes_while_it_is_read_is_read_again(s3: Any, store: ArtifactStore) -> None:
    old, new = os.urandom(10 * MB), os.urandom(10 * MB)
    put(s3, "big.onnx", old)
    swapped = threading.Event()

    def swap(done: int, _: int | None) -> None:
        if done >= 8 * MB and not swapped.is_set():
            swapped.set()
            put(s3, "big.onnx", new)

    artifact = store.fetch("s3://models/big.onnx", progress=swap)
    assert store.path(artifact.digest).read_bytes() == new


def test_a_folder_that_changes_while_it_is_read_comes_as_it_is_in_the_end(s3: Any, store: ArtifactStore) -> None:
    for name in ("a", "b", "c"):
        put(s3, f"pair/{name}", b"old" * 100)
    swapped = threading.Event()

    def swap(done: int, _: int | None) -> None:
        if done == 900 and not swapped.is_set():  # all is here, and all of it old
            swapped.set()
            for name in ("a", "b", "c"):
                put(s3, f"pair/{name}", b"new" * 100)

    artifact = store.fetch("s3://models/pair", progress=swap)
    assert {file.sha256 for file in artifact.files} == {sha(b"new" * 100)}


def test_the_same_is_not_read_twice(s3: Any, store: ArtifactStore) -> None:
    put(s3, "pair/a", b"a" * 100)
    put(s3, "pair/b", b"b" * 100)
    artifact = store.fetch("s3://models/pair")
    seen: list[int] = []
    assert store.fetch("s3://models/pair", progress=lambda done, _: seen.append(done)) == artifact
    assert seen == []
    put(s3, "pair/b", b"c" * 100)
    assert store.fetch("s3://models/pair") != artifact


def test_what_is_not_there(s3: Any, store: ArtifactStore) -> None:  # noqa: ARG001 - its bucket
    for url in ("s3://models/nothing.onnx", "s3://nobody-has-this/model.onnx"):
        with pytest.raises(NotFound, match="is not there"):
            store.fetch(url)


def test_the_wrong_digest(s3: Any, store: ArtifactStore) -> None:
    put(s3, "iris.onnx", b"iris")
    with pytest.raises(DigestMismatch, match=sha(b"iris")):
        store.fetch("s3://models/iris.onnx", digest="sha256:" + "1" * 64)
    assert store.fetch("s3://models/iris.onnx", digest=f"sha256:{sha(b'iris')}").size_bytes == 4


def test_names_that_would_leave_the_folder(s3: Any, store: ArtifactStore) -> None:
    put(s3, "evil/a\\b", b"x")
    with pytest.raises(InvalidSpec, match="backslash"):
        store.fetch("s3://models/evil")
    put(s3, "twice/a", b"x")
    put(s3, "twice/A", b"x")
    with pytest.raises(InvalidSpec, match="only in case"):
        store.fetch("s3://models/twice")


def test_no_credentials(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    store = ArtifactStore(tmp_path, patience=QUICK, storage={"s3": {"endpoint_url": endpoint}})
    with pytest.raises(Forbidden, match="credentials"):
        store.fetch("s3://models/iris.onnx")


def test_an_endpoint_where_nobody_is(s3: Any, tmp_path: Path) -> None:  # noqa: ARG001 - its credentials
    settings = {"endpoint_url": "http://127.0.0.1:1", "config_kwargs": {"retries": {"max_attempts": 1}}}
    store = ArtifactStore(tmp_path, patience=QUICK, storage={"s3": settings})
    with pytest.raises(Unavailable, match="tries in a row"):
        store.fetch("s3://models/iris.onnx")


@pytest.mark.parametrize(
    ("url", "package"),
    [
        ("gs://bucket/m.onnx", "slipway[gcs]"),
        ("az://box/m.onnx", "slipway[azure]"),
        ("abfs://box/m.onnx", "slipway[azure]"),
    ],
)
def test_a_protocol_whose_package_is_missing(
    store: ArtifactStore, url: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gcsfs", "adlfs"):  # also where it is installed
        monkeypatch.setitem(sys.modules, name, None)
    loaded = import_module("fsspec.registry")._registry
    for protocol in ("gs", "gcs", "az", "abfs"):
        monkeypatch.delitem(loaded, protocol, raising=False)
    with pytest.raises(MissingExtra) as caught:
        store.fetch(url)
    assert f"pip install '{package}'" in caught.value.message
