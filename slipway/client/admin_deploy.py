"""Deploying and waiting: several calls that a person thinks of as one, as conversations without I/O.

Reading a spec, hashing and reading model files are work on this machine, which a conversation hands to its driver.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from slipway.client.admin_calls import AdminCalls
from slipway.client.admin_protocol import AdminTalk, part, perform
from slipway.client.exchange import Pause
from slipway.client.upload import upload
from slipway.errors import Conflict, DeadlineExceeded, InvalidInput, LoadFailure, NotFound, SlipwayError
from slipway.spec.deployment import DeploymentSpec
from slipway.spec.model_source import read_source
from slipway.spec.resources import Deployment, Version

T = TypeVar("T")

POLL_S = 0.1
SPEC_ENDINGS = (".yaml", ".yml", ".json")


class Step(msgspec.Struct, frozen=True):
    """How far a deployment is. `stage`: hashing, uploading, then those of a version: pending, fetching, loading,
    warming, probing, ready, live, draining, stopped, failed. `progress`: 0 to 1 within the stage. `done_bytes`,
    `total_bytes`: of a file transfer, 0 where nothing is transferred. `trouble`: why the stage is tried again."""

    stage: str
    progress: float = 0.0
    done_bytes: int = 0
    total_bytes: int = 0
    trouble: str = ""


Progress = Callable[[Step], None]


class DeployCalls(AdminCalls):
    """The calls with those that take several."""

    def deploy(
        self,
        what: DeploymentSpec | Mapping[str, Any] | str | Path,
        *,
        name: str = "",
        hold: bool = False,
        dry_run: bool = False,
        new_version: bool = False,
        upload: bool = True,
        keep_model: bool = False,
        expected_revision: int | None = None,
        wait: bool = False,
        timeout_s: float = 600.0,
        progress: Progress | None = None,
    ) -> AdminTalk[Deployment]:
        """Make what runs under a name be what `what` says; nothing changed is no new version.

        `what`: a spec, as an object, a dict or the path of a YAML or JSON file, which says all there is; or a model
        (a path, `module:Class` or a URL), which replaces the model of what is there and leaves its other settings.
        `name`: overrides the spec's; a model without one is called as its file is.
        `hold`: load the new version, but let it take traffic only when it is promoted.
        `dry_run`: change nothing, and tell what would. Files are hashed for that, and not sent.
        `new_version`: make one even though nothing changed.
        `upload`: send a model that lies on this machine to the server; False: the server finds it at the same path.
        `keep_model`: the model stays the one that the deployment has, byte for byte, and needs not lie on this machine;
        Conflict when the spec names another.
        `expected_revision`: refuse with PreconditionFailed when somebody changed it since; 0: it must not exist yet.
        `wait`: until it takes traffic (until it is ready, with `hold`), or `timeout_s` is over. LoadFailure, with the
        model's own words, when it cannot.
        `progress`: called with each Step.
        """
        spec, folder = yield from self._spec(what, name)
        artifact = ""
        if upload or keep_model:
            if keep_model:
                artifact = yield from self._kept(spec)
            else:
                artifact = yield from self._bring_model(spec, folder, dry_run, progress)
            yield from self._bring_files(spec, folder, dry_run, progress)
        else:
            _make_absolute(spec, folder)
        answer: Deployment = yield from self.send(
            "PUT",
            f"/deployments/{part('deployment', str(spec.get('name', '')))}",
            Deployment,
            {"spec": spec, "artifact": artifact},
            query={"hold": hold, "dry_run": dry_run, "new_version": new_version},
            expected_revision=expected_revision,
        )
        if dry_run or not wait:
            return answer
        until = "ready" if hold else "live"
        done = yield from self.wait(
            answer.name, version=answer.target, until=until, timeout_s=timeout_s, progress=progress
        )
        return replace(done, change=answer.change, warnings=answer.warnings)

    def wait(
        self,
        name: str,
        *,
        version: str = "",
        until: str = "live",
        timeout_s: float = 600.0,
        progress: Progress | None = None,
    ) -> AdminTalk[Deployment]:
        """Until `version` (''; the one that is on its way in) is `live`, or only `ready`; a deployment that is stopped
        is waited for until nothing of it runs. Raises LoadFailure in the model's own words, Conflict when another
        version takes its place, DeadlineExceeded, and NotFound when it is deleted meanwhile."""
        if until not in ("live", "ready"):
            raise InvalidInput(f"until is {until!r}; it is live or ready")
        deadline = self.at.now + timeout_s
        seen: Step | None = None
        while True:
            try:
                found = yield from self.deployment(name)
            except NotFound as error:
                if not version:
                    raise
                raise NotFound(f"{name} was deleted meanwhile, and {version} with it") from error
            version = version or found.target
            its = next((one for one in found.versions if one.version == version), None)
            step = Step(found.state) if its is None else Step(_stage(its), its.progress, trouble=_trouble(its))
            if progress is not None and step != seen:
                progress(step)
            seen = step
            if _arrived(found, its, until):
                return found
            if self.at.now + POLL_S >= deadline:
                raise DeadlineExceeded(
                    f"{name} {version} is {step.stage} after {timeout_s:g} s, and goes on. {found.reason}".strip()
                )
            self.at.now = (yield Pause(POLL_S)).now

    def delete(
        self, name: str, *, expected_revision: int | None = None, wait: bool = False, timeout_s: float = 120.0
    ) -> AdminTalk[None]:
        """It takes no new requests, finishes those it has, and is gone with all its versions. `wait`: until it is."""
        deadline = self.at.now + timeout_s
        path = f"/deployments/{part('deployment', name)}"
        yield from self.send("DELETE", path, Deployment, expected_revision=expected_revision)
        while wait:
            try:
                yield from self.deployment(name)
            except NotFound:
                return
            if self.at.now + POLL_S >= deadline:
                raise DeadlineExceeded(f"{name} is still being deleted after {timeout_s:g} s, and goes on")
            self.at.now = (yield Pause(POLL_S)).now

    # --- what to deploy -------------------------------------------------------------------------------------------

    def _spec(
        self, what: DeploymentSpec | Mapping[str, Any] | str | Path, name: str
    ) -> AdminTalk[tuple[dict[str, Any], Path]]:
        """(the spec as plain JSON, what its relative paths are relative to)."""
        folder = Path()
        if isinstance(what, DeploymentSpec | Mapping):
            spec = yield from perform(self.at, partial(_plain, what))
        elif str(what).endswith(SPEC_ENDINGS) and Path(what).is_file():
            spec, folder = (yield from perform(self.at, partial(_read_spec, Path(what)))), Path(what).parent
        else:
            spec = yield from self._of_model(str(what), name or _name_of(str(what)))
        if name:
            spec["name"] = name
        return spec, folder

    def _of_model(self, model: str, name: str) -> AdminTalk[dict[str, Any]]:
        try:
            spec = dict((yield from self.deployment(name)).spec)
        except NotFound:
            spec = {"name": name}
        spec.pop("digest", None)  # of the model before
        return spec | {"model": model}

    def _kept(self, spec: Mapping[str, Any]) -> AdminTalk[str]:
        """The digest of the model that the deployment has; '' where it has none: a module, or not fetched yet."""
        found: Deployment = yield from self.deployment(str(spec.get("name", "")))
        theirs, ours = str(found.spec.get("model", "")), str(spec.get("model", ""))
        if theirs != ours:
            raise Conflict(f"{found.name} has the model {theirs!r}; {ours!r} is another, so there is nothing to keep")
        aim = found.target or found.live
        return next((one.digest for one in found.versions if one.version == aim), "")

    def _bring_model(
        self, spec: Mapping[str, Any], folder: Path, dry_run: bool, progress: Progress | None
    ) -> AdminTalk[str]:
        """The digest of what is on the server then; '' for what it gets on its own."""
        source = read_source(str(spec.get("model", "")))
        if source.kind != "path" or not source.location:
            return ""
        return (yield from self._bring(folder / source.location, "the model", dry_run, progress))

    def _bring_files(
        self, spec: dict[str, Any], folder: Path, dry_run: bool, progress: Progress | None
    ) -> AdminTalk[None]:
        """What lies on this machine is named by its digest from then on."""
        files = spec.get("files")
        if not isinstance(files, Mapping):
            return
        brought = dict(files)
        for key, value in files.items():
            if isinstance(value, str) and _is_local(value):
                brought[key] = yield from self._bring(folder / value, f"files.{key}", dry_run, progress)
        spec["files"] = brought

    def _bring(self, source: Path, what: str, dry_run: bool, progress: Progress | None) -> AdminTalk[str]:
        path = source.expanduser()
        if not path.exists():
            raise NotFound(
                f"{what} is {str(source)!r}, and nothing is there on this machine; with upload=False (--no-upload) the "
                "server looks for it on its own, with keep_model (--keep-model) it stays what the deployment has"
            )

        def tell(stage: str, done: int, total: int) -> None:
            if progress is not None:
                progress(Step(stage, done / total if total else 1.0, done, total))

        if dry_run:
            digest: str = yield from perform(self.at, partial(_digest_of, path, partial(tell, "hashing")))
            return digest
        artifact = yield from upload(path, protocol=self.protocol, at=self.at, progress=tell)
        return artifact.digest


def _plain(what: DeploymentSpec | Mapping[str, Any]) -> dict[str, Any]:
    """Checked here already, so that nothing is hashed or sent for a spec that cannot be."""
    from slipway.spec.reading import spec_from_json
    from slipway.spec.writing import spec_to_json

    return spec_to_json(what if isinstance(what, DeploymentSpec) else spec_from_json(dict(what)))


def _read_spec(path: Path) -> dict[str, Any]:
    from slipway.spec.reading import read_spec
    from slipway.spec.writing import spec_to_json

    try:
        return spec_to_json(read_spec(path.read_bytes(), file=str(path)))
    except OSError as error:
        raise NotFound(f"cannot read {path}: {error.strerror or error}") from error


def _digest_of(path: Path, tell: Callable[[int, int], None]) -> str:
    from slipway.spec.local_files import find_files, hash_files
    from slipway.spec.manifest import manifest_digest

    return manifest_digest(hash_files(find_files(path), progress=tell, cancelled=lambda: False))


def _name_of(model: str) -> str:
    """Of a model that nobody has named: its file's or class's, made fit."""
    source = read_source(model)
    last = source.attribute or source.location.split("?")[0].rstrip("/").rpartition("/")[2]
    if source.kind != "module" and not source.attribute:
        last = Path(last).stem
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-._")
    if not name:
        raise SlipwayError(f"{model!r} gives no name to a deployment; say name=…")
    return name[:128]


def _is_local(value: str) -> bool:
    return not value.startswith("sha256:") and read_source(value).kind != "url"


def _make_absolute(spec: dict[str, Any], folder: Path) -> None:
    """The server stands in another folder."""
    source = read_source(str(spec.get("model", "")))
    if source.kind == "path" and source.location:
        spec["model"] = source.loads(str((folder / source.location).expanduser().absolute()))
    files = spec.get("files")
    if isinstance(files, Mapping):
        spec["files"] = {
            key: str((folder / value).expanduser().absolute()) if _is_local(value) else value
            for key, value in files.items()
        }


def _stage(version: Version) -> str:
    """The version's state, but for `warming`: every replica that is not ready yet has loaded and warms up."""
    left = [replica for replica in version.replicas if replica.state != "ready"]
    warms_up = version.state == "loading" and left and all(replica.stage == "warm-up" for replica in left)
    return "warming" if warms_up else version.state


def _trouble(version: Version) -> str:
    """What is said of a failed version is raised and no step."""
    return version.error if version.state == "fetching" else ""


def _arrived(found: Deployment, version: Version | None, until: str) -> bool:
    """Raises LoadFailure or Conflict when it never will."""
    if version is not None and version.state == "failed":
        raise LoadFailure(f"{found.name} {version.version} failed: {version.error}")
    if found.state == "stopped":
        return True
    if version is None:
        return False
    if version.version not in (found.target, found.live):
        raise Conflict(f"{found.name} {version.version} gave way to {found.target}, which was asked for since")
    if until == "ready" and version.state in ("ready", "live"):
        return True
    return version.state == "live" and found.live == version.version and found.state != "deploying"
