"""Where a spec's model and files come from, settled before a version is made: what they are now, or that they will be
fetched."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway.controller import decide
from slipway.controller.specs import SpecMaker
from slipway.errors import Conflict, Forbidden, InvalidSpec, NotFound
from slipway.spec.access import Caller
from slipway.spec.deployment import DeploymentSpec
from slipway.spec.hosts import is_loopback
from slipway.spec.local_files import find_files, hash_files
from slipway.spec.manifest import is_pinned_by, manifest_digest
from slipway.spec.model_source import read_source
from slipway.spec.settings import same_settings, version_settings
from slipway.store.artifacts.artifact_store import check_pin
from slipway.store.records import VersionRecord

DIGEST = "sha256:"


@dataclass
class Settled:
    """What a version of this spec would be made of. `digest` '': not known before it is fetched, or no artifact."""

    settings: dict[str, Any]
    digest: str = ""
    size_bytes: int = 0
    state: str = decide.FETCHED
    warnings: list[str] = field(default_factory=list)


class Sources:
    """`host`: what the server's doors are bound to."""

    def __init__(self, specs: SpecMaker, *, host: str) -> None:
        self._specs = specs
        self._host = host

    async def settle(self, spec: DeploymentSpec, *, artifact: str, dry_run: bool, caller: Caller) -> Settled:
        """Raises InvalidSpec, DigestMismatch, NotFound, Conflict for an upload that is not complete, Forbidden for
        paths that this caller may not name."""
        settled = await asyncio.to_thread(self._settle_model, spec, artifact, dry_run, caller)
        files = {}
        for name, source in spec.files.items():
            files[name] = await asyncio.to_thread(self._settle_file, name, source, dry_run, caller)
        settled.settings["files"] = files
        return settled

    def same(self, settled: Settled, current: VersionRecord) -> bool:
        """Whether `current` is what would be made: then nothing is."""
        if current.state == decide.FAILED:
            return False
        ours, theirs = settled.settings, current.settings
        if settled.digest:
            if settled.digest != current.digest:
                return False
            # The same bytes, whatever they are called where they came from; but which class in them matters.
            ours, theirs = _anywhere(ours), _anywhere(theirs)
        elif settled.state == decide.PENDING and ours.get("digest") and self._is_pinned(current, str(ours["digest"])):
            ours, theirs = {**ours, "digest": ""}, {**theirs, "digest": ""}
        return same_settings(ours, theirs)

    def _is_pinned(self, current: VersionRecord, digest: str) -> bool:
        try:
            return bool(current.digest) and is_pinned_by(self._specs.artifacts.get(current.digest).files, digest)
        except NotFound:
            return False

    def _settle_model(self, spec: DeploymentSpec, artifact: str, dry_run: bool, caller: Caller) -> Settled:
        settled = Settled(version_settings(spec))
        source = read_source(spec.model)
        if source.kind == "module":
            if artifact or spec.digest:
                raise InvalidSpec(
                    f"model: {spec.model!r} is code that is imported from what is installed, which has no digest and "
                    "no artifact; leave them away, or name a file: file.py:Class"
                )
        elif artifact:
            files = self._promised(artifact) if dry_run else self._complete(artifact)
            if files or not dry_run:
                check_pin(files, spec.digest, spec.model)
            settled.digest, settled.size_bytes = artifact, sum(file.size_bytes for file in files)
        elif source.kind == "url":
            settled.state = decide.PENDING
            if not spec.digest:
                settled.warnings.append("digest: is not pinned; what is behind the URL is taken as it is now")
        else:
            settled.digest, settled.size_bytes = self._take("model", source.location, spec.digest, dry_run, caller)
        return settled

    def _complete(self, digest: str) -> list[Any]:
        artifacts = self._specs.artifacts
        found = artifacts.get(digest)
        if found.missing:
            raise Conflict(
                f"the artifact {digest} is not complete: {len(found.missing)} of its {len(found.files)} files have to "
                f"be sent yet, {found.missing[0]} first"
            )
        artifacts.commit(digest)
        return list(found.files)

    def _promised(self, digest: str) -> list[Any]:
        """For a dry run: it may be sent only when it is meant, so that its digest is all that is known of it."""
        try:
            return list(self._specs.artifacts.get(digest).files)
        except NotFound:
            return []

    def _settle_file(self, name: str, source: str, dry_run: bool, caller: Caller) -> str:
        """Its digest. What a URL holds is fetched here and now: such files are small beside a model."""
        if source.startswith(DIGEST):
            if not dry_run:
                self._complete(source)
            return source
        if read_source(source).kind == "url":
            return source if dry_run else self._specs.artifacts.fetch(source).digest
        return self._take(f"files.{name}", source, "", dry_run, caller)[0]

    def _take(self, where: str, path: str, pin: str, dry_run: bool, caller: Caller) -> tuple[str, int]:
        """A path of this machine: (digest, size). Only its owner may have the server read it: the server may see more
        than whoever asks."""
        if caller.kind != "owner" and not (caller.kind == "anonymous" and is_loopback(self._host)):
            raise Forbidden(
                f"{where}: {path!r} is a path; only the owner of this server may have it read its own disk. Upload it, "
                "as `slipway deploy` does, or give a URL"
            )
        if not Path(path).is_absolute():
            raise InvalidSpec(
                f"{where}: {path!r} is relative, to nothing that the server knows; upload it, as `slipway deploy` "
                "does, or give the absolute path of a file on the server's machine"
            )
        if dry_run:
            files = hash_files(find_files(Path(path)), progress=lambda *_: None, cancelled=lambda: False)
            check_pin(files, pin, path)
            return manifest_digest(files), sum(file.size_bytes for file in files)
        artifact = self._specs.artifacts.import_path(Path(path), digest=pin)
        return artifact.digest, artifact.size_bytes


def _anywhere(settings: dict[str, Any]) -> dict[str, Any]:
    attribute = read_source(str(settings["model"])).attribute
    return {**settings, "model": f"model.py:{attribute}" if attribute else "model", "digest": ""}
