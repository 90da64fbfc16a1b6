"""What the workers of a version are told: its artifact's place on this disk, and its environment with secrets opened.

Secrets are opened here and nowhere else, at the moment a plan is made; what comes out goes to the supervisor and into
the workers, and never into the store, a log or an event.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.errors import NotFound, SlipwayError
from slipway.spec.model_source import read_source
from slipway.spec.serve import ModelSpec
from slipway.spec.settings import model_spec
from slipway.store.artifacts import ArtifactStore
from slipway.store.records import DeploymentRecord, SecretRecord, VersionRecord
from slipway.store.secrets import secret_key, unseal


class SpecMaker:
    """`secrets` by name: whoever changes one puts it here, and the next plan has it."""

    def __init__(self, *, artifacts_folder: str, data_dir: Path) -> None:
        self._folder = Path(artifacts_folder)
        self._key_file = data_dir / "secret.key"
        self.logs_folder = data_dir / "logs"
        self._artifacts: ArtifactStore | None = None
        self._secrets: dict[str, SecretRecord] = {}
        self._made: dict[tuple[object, ...], ModelSpec] = {}

    @property
    def artifacts(self) -> ArtifactStore:
        """Raises StoreUnavailable while its folder cannot be used."""
        if self._artifacts is None:
            self._artifacts = ArtifactStore(self._folder)
        return self._artifacts

    @property
    def sealing_key(self) -> bytes:
        return secret_key(self._key_file)

    @property
    def secret_names(self) -> list[str]:
        return sorted(self._secrets)

    def take_secrets(self, secrets: list[SecretRecord]) -> None:
        self._secrets = {secret.name: secret for secret in secrets}
        self._made.clear()

    def make(self, deployment: DeploymentRecord, version: VersionRecord) -> ModelSpec:
        """Raises SlipwayError: the artifact is gone, or a secret is, or cannot be opened."""
        key = (deployment.name, version.number, version.created_at, version.digest, replica_count(deployment.spec))
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._make(deployment, version, lenient=False)
        return made

    def make_somehow(self, deployment: DeploymentRecord, version: VersionRecord) -> ModelSpec:
        """For a version that runs: to leave it out of a plan would end it, so what cannot be had is left away, and
        shows when a replica of it has to start again."""
        return self._make(deployment, version, lenient=True)

    def forget(self, name: str) -> None:
        """It is deleted: what its replicas wrote goes too, or the next one of its name would seem to have said it."""
        shutil.rmtree(self.logs_folder / name, ignore_errors=True)
        self._made = {key: made for key, made in self._made.items() if key[0] != name}

    def check_here(self, version: VersionRecord) -> None:
        """Raises NotFound where something of its artifact is not on this disk."""
        if version.digest:
            self.artifacts.path(version.digest)
        self._files(version.settings)

    def _make(self, deployment: DeploymentRecord, version: VersionRecord, *, lenient: bool) -> ModelSpec:
        settings = version.settings
        path, files = str(settings["model"]), ""
        try:
            if version.digest:
                path = read_source(path).loads(str(self.artifacts.path(version.digest)))
            files = self._files(settings)
        except SlipwayError:
            if not lenient:
                raise
            path = path if not version.digest else str(self._folder / "gone" / version.digest)
        return model_spec(
            settings,
            name=deployment.name,
            number=version.number,
            path=path,
            replicas=replica_count(deployment.spec),
            environment=self._environment(settings, lenient=lenient),
            files=files,
        )

    def _environment(self, settings: Mapping[str, Any], *, lenient: bool) -> dict[str, str]:
        made: dict[str, str] = {}
        for name, value in (settings.get("env") or {}).items():
            if isinstance(value, str):
                made[name] = value
                continue
            try:
                made[name] = self._open(name, str(value["secret"]))
            except SlipwayError:
                if not lenient:
                    raise
        return made

    def _open(self, variable: str, name: str) -> str:
        secret = self._secrets.get(name)
        if secret is None:
            raise NotFound(f"env.{variable}: there is no secret {name!r} any more; make it: slipway secrets set {name}")
        return unseal(self.sealing_key, name, secret.sealed)

    def _files(self, settings: Mapping[str, Any]) -> str:
        """The folder of what the spec's `files` name: one artifact, made of theirs."""
        parts = settings.get("files") or {}
        if not parts:
            return ""
        artifact = self.artifacts.combine(parts)
        path = self.artifacts.path(artifact.digest)
        return str(path) if len(artifact.files) > 1 else str(path.parents[artifact.files[0].path.count("/")])


def replica_count(spec: Mapping[str, Any]) -> int:
    return int((spec.get("replicas") or {}).get("min", 1))


def digests_of(version: VersionRecord) -> set[str]:
    """All artifacts that it needs."""
    files = (version.settings.get("files") or {}).values()
    return {digest for digest in (version.digest, *files) if digest.startswith("sha256:")}
