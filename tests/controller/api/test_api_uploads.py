"""Uploads: in pieces, over broken connections, verified, and never whole in memory."""

from __future__ import annotations

import hashlib
import os
import socket
from typing import Any

import pytest
from api_stand import Stand, wait_for

MODEL = os.urandom(3_000_000)


def declared(content: bytes, path: str = "model.onnx") -> dict[str, Any]:
    return {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}


def blob(content: bytes) -> str:
    return f"/api/v1/artifacts/blobs/{hashlib.sha256(content).hexdigest()}"


def offset(stand: Stand, content: bytes) -> int:
    return int(stand.web.head(blob(content)).headers["upload-offset"])


def test_a_model_on_its_way_to_requests(stand: Stand) -> None:
    labels = b"setosa\nversicolor\nvirginica\n"
    files = [declared(MODEL), declared(labels, "labels/names.txt")]
    artifact = stand.web.post("/api/v1/artifacts", json={"files": files}).json()
    assert set(artifact["missing"]) == {file["sha256"] for file in files}
    put = {"spec": {"name": "sent", "model": "model"}, "artifact": artifact["digest"]}
    early = stand.web.put("/api/v1/deployments/sent", json=put)
    assert (early.status_code, "not complete" in early.json()["detail"]) == (409, True)
    for content in (MODEL, labels):
        assert offset(stand, content) == 0
        sent = stand.web.put(blob(content), content=content, headers={"upload-offset": "0"})
        assert (sent.status_code, sent.headers["upload-offset"]) == (204, str(len(content)))
    whole = stand.web.get(f"/api/v1/artifacts/{artifact['digest']}").json()
    assert (whole["missing"], whole["size_bytes"]) == ([], len(MODEL) + len(labels))
    assert stand.web.put("/api/v1/deployments/sent", json=put).status_code == 201
    stand.wait_live("sent", "v1")
    kept = next((stand.folder / "data" / "artifacts").rglob("labels/names.txt"))
    assert kept.read_bytes() == labels
    listed = stand.web.get("/api/v1/artifacts").json()["items"]
    assert artifact["digest"] in [one["digest"] for one in listed]
    again = stand.web.post("/api/v1/artifacts", json={"files": files}).json()
    assert (again["digest"], again["missing"]) == (artifact["digest"], [])


def test_a_broken_upload_goes_on_where_it_was(stand: Stand) -> None:
    content = os.urandom(2_500_000)
    stand.web.post("/api/v1/artifacts", json={"files": [declared(content)]})
    half = 1_300_000
    with socket.create_connection(("127.0.0.1", stand.port), timeout=20) as line:
        head = (
            f"PUT {blob(content)} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {stand.owner_key}\r\n"
            f"upload-offset: 0\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        line.sendall(head.encode() + content[:half])
        wait_for(lambda: offset(stand, content) >= 2**20)
    wait_for(lambda: offset(stand, content) == half)
    rest = stand.web.put(blob(content), content=content[half:], headers={"upload-offset": str(half)})
    assert (rest.status_code, rest.headers["upload-offset"]) == (204, str(len(content)))


def test_pieces_that_do_not_follow_are_refused(stand: Stand) -> None:
    content = os.urandom(1000)
    stand.web.post("/api/v1/artifacts", json={"files": [declared(content)]})
    assert stand.web.put(blob(content), content=content[:400], headers={"upload-offset": "0"}).status_code == 204
    for wrong in ("0", "300", "401", "1000"):
        answer = stand.web.put(blob(content), content=content[400:], headers={"upload-offset": wrong})
        assert answer.status_code == 409, answer.text
    for wrong in (None, "-1", "x", "99999999999999999999"):
        headers = {} if wrong is None else {"upload-offset": wrong}
        answer = stand.web.put(blob(content), content=b"x", headers=headers)
        assert (answer.status_code, "Upload-Offset" in answer.json()["detail"]) == (400, True)
    assert offset(stand, content) == 400


def test_what_is_not_what_it_says_is_thrown_away(stand: Stand) -> None:
    content = os.urandom(1000)
    stand.web.post("/api/v1/artifacts", json={"files": [declared(content)]})
    spoiled = stand.web.put(blob(content), content=b"y" * 1000, headers={"upload-offset": "0"})
    assert (spoiled.status_code, spoiled.json()["code"]) == (422, "digest_mismatch")
    assert offset(stand, content) == 0
    assert stand.web.put(blob(content), content=content, headers={"upload-offset": "0"}).status_code == 204


def test_nothing_undeclared_is_taken(stand: Stand) -> None:
    content = os.urandom(100)
    answer = stand.web.put(blob(content), content=content, headers={"upload-offset": "0"})
    assert answer.status_code == 404


def test_more_than_was_declared_is_not_kept(stand: Stand) -> None:
    content = os.urandom(5000)
    stand.web.post("/api/v1/artifacts", json={"files": [declared(content)]})
    answer = stand.web.put(blob(content), content=content + b"more", headers={"upload-offset": "0"})
    assert answer.status_code in (400, 409, 413, 422), answer.text


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"path": "../model"}, 422),
        ({"path": "/etc/passwd"}, 422),
        ({"path": "a\nb"}, 422),
        ({"sha256": "XYZ"}, 422),
        ({"size_bytes": -1}, 400),
        ({"size_bytes": "many"}, 400),
        ({"size_bytes": None}, 400),
        ({"executeable": True}, 400),
    ],
)
def test_artifacts_that_cannot_be(stand: Stand, change: dict[str, Any], status: int) -> None:
    answer = stand.web.post("/api/v1/artifacts", json={"files": [declared(b"x") | change]})
    assert answer.status_code == status, answer.text
