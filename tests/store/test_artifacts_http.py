"""Models fetched over HTTP from servers that cut, forget, change and redirect."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from artifact_remotes import QUICK, Remote, remote, sha

from slipway.errors import Cancelled, DigestMismatch, Forbidden, InvalidSpec, NotFound, Unavailable, Unsupported
from slipway.store.artifacts import ArtifactStore

MB = 2**20
ONE = os.urandom(3 * MB + 17)
TWO = os.urandom(3 * MB + 17)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts", patience=QUICK)


@pytest.fixture
def there() -> Iterator[Remote]:
    with remote(ONE) as opened:
        yield opened


def fetched(store: ArtifactStore, there: Remote) -> bytes:
    return store.path(store.fetch(there.url).digest).read_bytes()


def test_a_file_arrives_whole_under_its_name(store: ArtifactStore, there: Remote) -> None:
    seen: list[tuple[int, int | None]] = []
    artifact = store.fetch(there.url, progress=lambda done, total: seen.append((done, total)))
    assert [(file.path, file.sha256, file.size_bytes) for file in artifact.files] == [
        ("model.onnx", sha(ONE), len(ONE))
    ]
    assert store.path(artifact.digest).read_bytes() == ONE
    assert store.path(artifact.digest).name == "model.onnx"
    assert seen[-1] == (len(ONE), len(ONE))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_connection_that_breaks_is_taken_up_where_it_broke(store: ArtifactStore, there: Remote) -> None:
    there.cut_after = [MB, MB, 5]
    assert fetched(store, there) == ONE
    assert there.seen == ["", f"bytes={MB}-", f"bytes={2 * MB}-", f"bytes={2 * MB + 5}-"]


def test_it_is_taken_up_by_the_next_process_too(store: ArtifactStore, there: Remote, tmp_path: Path) -> None:
    there.cut_after = [2 * MB, 0, 0, 0, 0]
    with pytest.raises(Unavailable, match="tries in a row"):
        store.fetch(there.url)
    there.cut_after, there.seen = [], []
    again = ArtifactStore(tmp_path / "artifacts", patience=QUICK)
    assert fetched(again, there) == ONE
    assert there.seen == [f"bytes={2 * MB}-"]


def test_a_file_that_changes_is_never_mixed(store: ArtifactStore, there: Remote) -> None:
    def change(file: Remote) -> None:
        if len(file.seen) == 1:
            file.content, file.etag = TWO, '"two"'

    there.cut_after, there.on_request = [2 * MB], change
    assert fetched(store, there) == TWO


def test_nor_by_a_server_that_answers_a_range_of_whatever_it_has(store: ArtifactStore, there: Remote) -> None:
    def change(file: Remote) -> None:
        if len(file.seen) == 1:
            file.content, file.etag = TWO, '"two"'

    there.cut_after, there.on_request, there.knows_if_range = [2 * MB], change, False
    assert fetched(store, there) == TWO


def test_nor_between_two_processes(store: ArtifactStore, there: Remote, tmp_path: Path) -> None:
    there.cut_after = [2 * MB, 0, 0, 0, 0]
    with pytest.raises(Unavailable):
        store.fetch(there.url)
    there.cut_after, there.content, there.etag = [], TWO, '"two"'
    assert fetched(ArtifactStore(tmp_path / "artifacts", patience=QUICK), there) == TWO


def test_a_server_that_ignores_ranges_sends_it_all_again(store: ArtifactStore, there: Remote) -> None:
    there.knows_ranges, there.cut_after = False, [MB, 2 * MB]
    assert fetched(store, there) == ONE


def test_without_a_validator_it_begins_anew(store: ArtifactStore, there: Remote) -> None:
    there.etag, there.cut_after = None, [2 * MB]
    assert fetched(store, there) == ONE
    assert there.seen == ["", ""]


def test_a_time_of_change_is_enough_to_go_on(store: ArtifactStore, there: Remote) -> None:
    there.etag, there.modified, there.cut_after = None, "Wed, 21 Oct 2015 07:28:00 GMT", [2 * MB]
    assert fetched(store, there) == ONE
    assert there.seen == ["", f"bytes={2 * MB}-"]


def test_a_weak_etag_is_not(store: ArtifactStore, there: Remote) -> None:
    there.etag, there.cut_after = 'W/"one"', [2 * MB]
    assert fetched(store, there) == ONE
    assert there.seen == ["", ""]


def test_a_server_that_never_gets_further_is_given_up(store: ArtifactStore, there: Remote) -> None:
    there.cut_after = [MB] + [0] * 50
    with pytest.raises(Unavailable, match="the last of 4 tries in a row"):
        store.fetch(there.url)
    assert len(there.seen) == 4  # the first got further than ever before
    assert store.list() == []


def test_busy_servers_are_asked_again(store: ArtifactStore, there: Remote) -> None:
    there.statuses = [503, 429, 500]
    assert fetched(store, there) == ONE


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (404, NotFound, "is not there"),
        (403, Forbidden, "may not be read"),
        (401, Forbidden, "credentials"),
        (418, Unavailable, "418"),
    ],
)
def test_what_will_not_change_is_said_at_once(
    store: ArtifactStore, there: Remote, status: int, error: type[Exception], words: str
) -> None:
    there.statuses = [status]
    with pytest.raises(error, match=words):
        store.fetch(there.url)
    assert len(there.seen) == 1


def test_a_server_that_falls_silent_is_asked_again(there: Remote, tmp_path: Path) -> None:
    over = threading.Event()

    def stall(file: Remote) -> None:
        if not file.seen:
            file.seen.append("silent")
            over.wait(10)

    there.on_request = stall
    store = ArtifactStore(tmp_path / "artifacts", patience=msgspec.structs.replace(QUICK, silence_s=0.2))
    try:
        assert fetched(store, there) == ONE
    finally:
        over.set()


def test_nobody_there(store: ArtifactStore) -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        store.fetch("http://127.0.0.1:1/model.onnx")


def test_the_wrong_content_is_refused_with_both_digests(store: ArtifactStore, there: Remote) -> None:
    wanted = "sha256:" + "0" * 64
    with pytest.raises(DigestMismatch) as caught:
        store.fetch(there.url, digest=wanted)
    assert wanted in caught.value.message
    assert sha(ONE) in caught.value.message
    assert store.list() == []
    assert not [path for path in (store._places.root / "blobs").rglob("*") if path.is_file()]


def test_a_pinned_file_is_fetched_once(store: ArtifactStore, there: Remote) -> None:
    artifact = store.fetch(there.url, digest=f"sha256:{sha(ONE)}")
    assert store.fetch(there.url, digest=f"sha256:{sha(ONE)}") == artifact
    assert store.fetch(there.url, digest=artifact.digest.upper().replace("SHA", "sha")) == artifact
    assert len(there.seen) == 1


def test_the_same_content_is_not_sent_twice(store: ArtifactStore, there: Remote) -> None:
    artifact = store.fetch(there.url)
    there.cut_after = [0] * 10  # whoever asks for the content now gets none
    assert store.fetch(there.url) == artifact
    there.cut_after, there.content, there.etag = [], TWO, '"two"'
    assert fetched(store, there) == TWO


def test_known_content_that_was_collected_is_fetched_again(store: ArtifactStore, there: Remote) -> None:
    store.fetch(there.url)
    assert store.collect(set(), now=2e10) > 0
    assert fetched(store, there) == ONE


def test_nobody_collects_what_is_being_fetched(store: ArtifactStore, there: Remote) -> None:
    def collect(done: int, _: int | None) -> None:
        if done > MB:
            store.collect(set(), now=2e10)

    artifact = store.fetch(there.url, progress=collect)
    assert store.path(artifact.digest).read_bytes() == ONE
    there.cut_after, there.content, there.etag = [2 * MB, 0, 0, 0, 0], TWO, '"two"'
    with pytest.raises(Unavailable):
        store.fetch(there.url)
    there.cut_after, there.seen = [], []
    assert store.collect(set(), now=2e10) >= 2 * MB  # nobody came back for it
    assert fetched(store, there) == TWO
    assert there.seen == [""]


def test_two_that_fetch_the_same_take_turns(store: ArtifactStore, there: Remote, tmp_path: Path) -> None:
    other = ArtifactStore(tmp_path / "artifacts", patience=QUICK)
    with ThreadPoolExecutor(4) as pool:
        artifacts = list(pool.map(lambda each: each.fetch(there.url), [store, other, store, other]))
    assert len({artifact.digest for artifact in artifacts}) == 1
    assert store.path(artifacts[0].digest).read_bytes() == ONE


def test_it_can_be_stopped_and_taken_up(store: ArtifactStore, there: Remote) -> None:
    have = [0]
    with pytest.raises(Cancelled):
        store.fetch(
            there.url,
            progress=lambda done, _: have.__setitem__(0, done),
            cancelled=lambda: have[0] > 2 * MB,
        )
    assert fetched(store, there) == ONE
    assert there.seen[1].startswith("bytes=")


def test_redirects_lead_to_http_and_nowhere_else(store: ArtifactStore, there: Remote) -> None:
    there.locations = {"/model.onnx": "/elsewhere", "/away": "file:///etc/passwd", "/round": "/round"}
    artifact = store.fetch(there.url)
    assert artifact.files[0].path == "model.onnx"
    base = there.url.removesuffix("/model.onnx")
    with pytest.raises(Forbidden, match="may only lead to http"):
        store.fetch(base + "/away")
    with pytest.raises(Unavailable, match="redirects more than"):
        store.fetch(base + "/round")


def test_credentials_go_to_their_own_server_only(store: ArtifactStore, there: Remote) -> None:
    with remote(TWO) as other:
        there.locations = {"/model.onnx": other.url}
        url = there.url.replace("http://", "http://ann:s3cret@")
        assert store.path(store.fetch(url).digest).read_bytes() == TWO
        assert there.authorizations[0].startswith("Basic ")
        assert other.authorizations == [""]


def test_no_error_shows_credentials(store: ArtifactStore, there: Remote) -> None:
    there.statuses = [404]
    with pytest.raises(NotFound) as caught:
        store.fetch(there.url.replace("http://", "http://ann:s3cret@") + "?X-Amz-Signature=abcdef")
    assert "s3cret" not in str(caught.value)
    assert "abcdef" not in str(caught.value)
    assert "/model.onnx" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[fd00:ec2::254]/latest",
        "http://[::ffff:169.254.169.254]/latest",
    ],
)
def test_where_clouds_keep_credentials_nobody_looks(store: ArtifactStore, url: str) -> None:
    with pytest.raises(Forbidden, match="keep their credentials"):
        store.fetch(url)


def test_nor_through_a_name_or_a_redirect(store: ArtifactStore, there: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    there.locations = {"/model.onnx": "http://169.254.169.254/latest"}
    with pytest.raises(Forbidden, match="keep their credentials"):
        store.fetch(there.url)
    from slipway.store.artifacts import http_source

    there.locations = {}
    monkeypatch.setattr(http_source, "_is_metadata", lambda address: str(address) == "127.0.0.1")
    with pytest.raises(Forbidden, match=r"localhost leads to 127\.0\.0\.1"):
        store.fetch(there.url.replace("127.0.0.1", "localhost"))
    assert there.seen == [""]


def test_a_name_from_the_server_where_the_url_has_none(store: ArtifactStore, there: Remote) -> None:
    there.extra = {"content-disposition": 'attachment; filename="../iris.onnx"'}
    url = there.url.replace("/model.onnx", "/download?id=7")
    assert [file.path for file in store.fetch(url).files] == ["iris.onnx"]
    assert [file.path for file in store.fetch(there.url).files] == ["model.onnx"]


def test_what_comes_packed_is_refused(store: ArtifactStore, there: Remote) -> None:
    there.extra = {"content-encoding": "gzip"}
    with pytest.raises(Unsupported, match="gzip"):
        store.fetch(there.url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("htps://host/m.onnx", "did you mean http"),
        ("file:///etc/passwd", "server's own machine"),
        ("FILE:///etc/passwd", "server's own machine"),
        ("local:///etc/passwd", "server's own machine"),
        ("zip://a::file:///etc/passwd", "chain"),
        ("simplecache::s3://bucket/key", "chain"),
        ("reference://x", "server's own machine"),
        ("/etc/passwd", "path of the server"),
        ("http:///m.onnx", "no host"),
        ("http://host:notaport/m", "not a URL"),
        ("http://host/a%0ab.onnx", "control character"),
        ("http://host/a%2f..%2f..", "is no name"),
        ("http://host/a%5c..%5cb", "backslash"),
        ("s3://bucket/a::file:///etc/passwd", "chain"),
    ],
)
def test_urls_that_cannot_be(store: ArtifactStore, url: str, words: str) -> None:
    with pytest.raises(InvalidSpec, match=words):
        store.fetch(url)


def test_local_ones_only_where_the_caller_says_so(store: ArtifactStore, tmp_path: Path) -> None:
    file = tmp_path / "a model.onnx"
    file.write_bytes(ONE)
    first = store.fetch(file.as_uri(), allow_local=True)
    assert store.fetch(str(file), allow_local=True) == first
    assert store.path(first.digest).name == "a model.onnx"
    with pytest.raises(InvalidSpec, match="names the host"):
        store.fetch("file://elsewhere/m.onnx", allow_local=True)
