"""What crash tests do to a store, also in processes of their own that are killed in the middle of it."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from slipway.spec.resources import UploadFile
from slipway.store.artifacts import ArtifactStore


def scenario(folder: Path, source: Path, salt: bytes) -> None:
    """All that changes the disk: three artifacts, an upload in pieces, and a collection that removes another."""
    store = ArtifactStore(folder)
    body = salt * 50_000
    sha256 = hashlib.sha256(body).hexdigest()
    artifact = store.declare([UploadFile(path="m", sha256=sha256, size_bytes=len(body))])
    for at in range(store.received(sha256), len(body), 20_000):
        store.append(sha256, at, body[at : at + 20_000])
    store.finish(sha256)
    store.commit(artifact.digest)
    imported = store.import_path(source)
    combined = store.combine({"x": imported.digest, "y": artifact.digest})
    doomed = store.combine({"z": imported.digest})
    keep = {artifact.digest, imported.digest, combined.digest}
    store.collect(keep - {doomed.digest}, now=time.time() + 1, grace_s=0.5)
