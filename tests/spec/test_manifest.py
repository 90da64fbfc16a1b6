"""The canonical form of an artifact, and which paths it may have."""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.errors import Cancelled, Conflict, InvalidSpec, NotFound
from slipway.spec.local_files import LocalFile, find_files, hash_files, read_chunks, read_piece
from slipway.spec.manifest import (
    MAX_FILES,
    check_files,
    check_path,
    digest_hex,
    is_pinned_by,
    manifest_bytes,
    manifest_digest,
    read_manifest,
)
from slipway.spec.model_source import ModelSource, read_source
from slipway.spec.resources import UploadFile

A = hashlib.sha256(b"a").hexdigest()
B = hashlib.sha256(b"b").hexdigest()


def file(path: str, sha256: str = A, size_bytes: int = 1, executable: bool = False) -> UploadFile:
    return UploadFile(path=path, sha256=sha256, size_bytes=size_bytes, executable=executable)


def test_the_form_is_what_anybody_can_compute() -> None:
    files = check_files([file("ä/model.onnx", B), file("config.json")])
    by_hand = (
        f'[{{"executable":false,"path":"config.json","sha256":"{A}","size_bytes":1}},'
        f'{{"executable":false,"path":"ä/model.onnx","sha256":"{B}","size_bytes":1}}]'
    )
    assert manifest_bytes(files).decode() == by_hand
    assert manifest_digest(files) == "sha256:" + hashlib.sha256(by_hand.encode()).hexdigest()


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=8)
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


@given(st.lists(paths, min_size=1, max_size=6, unique=True), st.randoms())
def test_one_artifact_has_one_digest_and_comes_back_whole(found: list[str], chance: random.Random) -> None:
    try:
        files = check_files([file(path) for path in found])
    except InvalidSpec:
        return
    chance.shuffle(found)
    assert manifest_digest(check_files([file(path) for path in found])) == manifest_digest(files)
    assert read_manifest(manifest_bytes(files)) == files
    assert json.loads(manifest_bytes(files))[0]["path"] == files[0].path


@given(st.text(max_size=30))
def test_a_path_that_passes_stays_within(path: str) -> None:
    if not check_path(path):
        joined = os.path.normpath(f"/models/x/{path}")
        assert joined == f"/models/x/{path}"
        assert joined.startswith("/models/x/")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "empty"),
        ("/etc/passwd", "absolute"),
        ("../x", "no name"),
        ("a/../../x", "no name"),
        ("a//b", "no name"),
        ("a/", "no name"),
        ("./a", "no name"),
        ("a\\..\\b", "backslash"),
        ("a\nb", "U\\+000A"),
        ("a\x00b", "U\\+0000"),
        ("evil\u202egpj.exe", "U\\+202E"),
        ("a\ud800b", "not UTF-8"),
        ("x" * 256, "255 bytes"),
        ("/".join(["abc"] * 300), "1024 are allowed"),
    ],
)
def test_paths_that_cannot_be(path: str, words: str) -> None:
    with pytest.raises(InvalidSpec, match=words) as caught:
        check_files([file(path)])
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([], "at least one file"),
        ([file("a"), file("a")], "is there twice"),
        ([file("Model"), file("model")], "only in case"),
        ([file("caf\u00e9"), file("cafe\u0301")], "Unicode form"),
        ([file("A/x"), file("a/y")], "folder 'A' only in case"),
        ([file("a"), file("A/b")], "is a file, and there are files below"),
        ([file("a", sha256="x")], "not a SHA-256"),
        ([file("a", sha256=A.upper())], "lower case"),
        ([file("a", size_bytes=-1)], "size_bytes is -1"),
        ([file("a", size_bytes=2**60)], "size_bytes"),
        ([file("a", size_bytes=0)], "contradict"),
        ([file("a"), file("b", size_bytes=2)], "another size"),
        ([file(f"{n}") for n in range(MAX_FILES + 1)], "at most 10000"),
        ([file(f"{n}", f"{n:064x}", 4 * 2**40) for n in range(2)], "together"),
    ],
)
def test_sets_of_files_that_cannot_be(found: list[UploadFile], words: str) -> None:
    with pytest.raises(InvalidSpec, match=words):
        check_files(found)


def test_many_problems_are_said_in_few_lines() -> None:
    with pytest.raises(InvalidSpec) as caught:
        check_files([file(f"../{number}") for number in range(100)])
    assert len(caught.value.problems) == 11
    assert caught.value.problems[-1] == "… and 90 more"


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"[1]", b'[{"path":"a"}]', b"\xff"])
def test_what_is_no_manifest(data: bytes) -> None:
    with pytest.raises(InvalidSpec):
        read_manifest(data)


def test_a_file_is_pinned_by_its_own_hash_too() -> None:
    one, two = check_files([file("m.onnx")]), check_files([file("m.onnx"), file("n", B)])
    assert is_pinned_by(one, f"sha256:{A}")
    assert is_pinned_by(one, manifest_digest(one))
    assert not is_pinned_by(one, f"sha256:{B}")
    assert not is_pinned_by(two, f"sha256:{A}")
    assert digest_hex(f"SHA256:{A.upper()}") == A
    for wrong in ("", A, "md5:abc", f"sha256:{A[1:]}", f"sha256:{A}\n0"):
        with pytest.raises(InvalidSpec, match="is not a digest"):
            digest_hex(wrong)


@pytest.mark.parametrize(
    ("model", "source"),
    [
        ("./iris.onnx", ModelSource("path", "./iris.onnx", "")),
        ("/m/iris.py:Iris", ModelSource("path", "/m/iris.py", "Iris")),
        ("my_models.iris:Iris", ModelSource("module", "my_models.iris", "Iris")),
        ("./odd:name", ModelSource("path", "./odd:name", "")),
        ("https://h:8080/m.onnx", ModelSource("url", "https://h:8080/m.onnx", "")),
        ("s3://b/iris.py:Iris", ModelSource("url", "s3://b/iris.py", "Iris")),
        ("s3://b/a:b", ModelSource("url", "s3://b/a:b", "")),
        ("file:///m.py:M", ModelSource("url", "file:///m.py", "M")),
        (":Class", ModelSource("path", ":Class", "")),
    ],
)
def test_what_a_spec_can_call_a_model(model: str, source: ModelSource) -> None:
    assert read_source(model) == source


def test_where_the_artifact_lies_and_the_class_in_it_are_what_a_worker_loads() -> None:
    assert read_source("./iris.py:Iris").loads("/data/iris.py") == "/data/iris.py:Iris"
    assert read_source("./iris.onnx").loads("/data/iris.onnx") == "/data/iris.onnx"


# --- on disk -------------------------------------------------------------------------------------------------------


def hashed(source: Path) -> list[UploadFile]:
    return hash_files(find_files(source), progress=lambda *_: None, cancelled=lambda: False)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "a").write_bytes(b"a")
    (folder / "deep" / "er" / "b").write_bytes(b"b")
    return folder


def test_a_folder_is_its_files(model: Path) -> None:
    (model / "run.sh").write_bytes(b"a")
    (model / "run.sh").chmod(0o755)
    (model / "__pycache__").mkdir()
    (model / "__pycache__" / "x.pyc").write_bytes(b"changes with every run")
    (model / ".git").mkdir()
    (model / ".git" / "HEAD").write_bytes(b"x")
    (model / "empty").mkdir()
    assert hashed(model) == [file("a"), file("deep/er/b", B), file("run.sh", executable=True)]
    assert hashed(model / "a") == [file("a")]


def test_links_within_are_followed_and_links_out_are_not(model: Path, tmp_path: Path) -> None:
    (model / "link").symlink_to("deep/er/b")
    (model / "folder").symlink_to(model / "deep")
    assert [each.path for each in hashed(model)] == ["a", "deep/er/b", "folder/er/b", "link"]
    (tmp_path / "secret").write_bytes(b"s")
    (model / "out").symlink_to("../secret")
    with pytest.raises(InvalidSpec, match="link out of the model's folder"):
        find_files(model)


def test_links_to_nothing_and_rings(model: Path) -> None:
    (model / "ring").symlink_to(model)
    with pytest.raises(InvalidSpec, match="has no end"):
        find_files(model)
    (model / "ring").unlink()
    (model / "gone").symlink_to("nowhere")
    with pytest.raises(InvalidSpec, match="link to nothing"):
        find_files(model)
    (model / "gone").unlink()
    (model / "self").symlink_to("self")
    with pytest.raises(InvalidSpec):
        find_files(model)


def test_a_model_may_itself_be_named_by_a_link(model: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(model)
    assert hashed(tmp_path / "latest") == hashed(model)
    (tmp_path / "latest.onnx").symlink_to(model / "a")
    assert hashed(tmp_path / "latest.onnx") == [file("latest.onnx")]


def test_what_is_no_model(model: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nothing"):
        find_files(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidSpec, match="without files"):
        find_files(tmp_path / "empty")
    with pytest.raises(InvalidSpec, match="neither a file nor a folder"):
        find_files(Path("/dev/zero"))
    os.mkfifo(model / "pipe")
    with pytest.raises(InvalidSpec, match="neither a file nor a folder"):
        find_files(model)
    (model / "pipe").unlink()
    Path(os.fsdecode(os.fsencode(model) + b"/\xff\xfe")).write_bytes(b"x")
    with pytest.raises(InvalidSpec, match="not UTF-8"):
        find_files(model)


def test_a_file_that_changes_while_it_is_read_is_noticed(model: Path) -> None:
    (model / "a").write_bytes(b"x" * 100)
    found: LocalFile = find_files(model / "a")[0]
    chunks = read_chunks(found, chunk_bytes=30)
    next(chunks)
    with (model / "a").open("ab") as opened:
        opened.write(b"more")
    with pytest.raises(Conflict, match="changed while it was read"):
        list(chunks)
    with pytest.raises(Conflict, match="changed while it was read"):
        read_piece(found, 0, 10)


def test_a_link_in_a_files_place_is_not_followed(model: Path, tmp_path: Path) -> None:
    found = find_files(model / "a")[0]
    (tmp_path / "secret").write_bytes(b"s")
    (model / "a").unlink()
    (model / "a").symlink_to(tmp_path / "secret")
    with pytest.raises(Conflict):
        list(read_chunks(found))
    with pytest.raises(Conflict):
        read_piece(found, 0, 1)


def test_hashing_tells_how_far_it_is_and_can_be_stopped(model: Path) -> None:
    (model / "a").write_bytes(os.urandom(3 * 2**20))
    seen: list[tuple[int, int]] = []
    files = hash_files(find_files(model), progress=lambda *step: seen.append(step), cancelled=lambda: False)
    total = sum(each.size_bytes for each in files)
    assert seen[-1] == (total, total)
    assert len(seen) >= 4
    with pytest.raises(Cancelled):
        hash_files(find_files(model), progress=lambda *_: None, cancelled=lambda: True)
