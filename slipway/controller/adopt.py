"""`slipway serve`: what its command line named runs already, and an empty store takes it over as if it had been
deployed, so that the first plan changes nothing and every verb works on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from slipway.controller import decide
from slipway.controller.world import number_of
from slipway.errors import SetupError
from slipway.spec.deployment import BatchingRules, CacheRules, DeploymentSpec, Health, QueueRules, Replicas, Sandbox
from slipway.spec.quantities import format_bytes
from slipway.spec.serve import ModelSpec
from slipway.spec.settings import model_spec, version_settings
from slipway.spec.writing import spec_to_json
from slipway.store.records import VersionSettings
from slipway.store.store import Store

ACTOR = "slipway serve"
DONE = "server.adopt"


def spec_of_model(model: ModelSpec) -> DeploymentSpec:
    """The deployment whose version's ModelSpec is `model`, exactly."""
    wanted = model.replicas
    return DeploymentSpec(
        name=model.name,
        model=model.path,
        runtime=model.runtime,
        options=dict(model.options),
        env=dict(model.environment),
        replicas=Replicas(
            min=wanted.count,
            device=wanted.device,
            cpus=wanted.threads,
            memory=format_bytes(wanted.memory_bytes) if wanted.memory_bytes else "",
        ),
        batching=BatchingRules(
            max_rows=model.batching.max_rows,
            max_delay_ms=milliseconds(model.batching.max_delay_s),
            slo_ms=milliseconds(model.batching.slo_s),
        ),
        queue=QueueRules(rows=model.queue.rows, memory=format_bytes(model.queue.bytes)),
        cache=CacheRules(memory=format_bytes(model.cache.bytes) if model.cache.bytes else "", ttl_s=model.cache.ttl_s),
        idempotent=model.idempotent,
        health=Health(startup_s=wanted.startup_s, hang_s=wanted.hang_s, drain_s=model.drain_s),
        sandbox=Sandbox(
            enabled=wanted.sandbox,
            allow_read=wanted.allow_read,
            allow_write=wanted.allow_write,
            trust_pickle=model.trust_pickle,
        ),
    )


def milliseconds(seconds: float) -> float:
    """That divided by 1000 are exactly `seconds` again, where one of the nearest floats is."""
    about = seconds * 1000
    near = (about, math.nextafter(about, 0.0), math.nextafter(about, math.inf))
    return next((one for one in near if one / 1000 == seconds), about)


def adopt(store: Store, models: Sequence[ModelSpec], *, wall: Callable[[], float]) -> bool:
    """In the store's thread; again after a crash in the middle of it. Whether there was anything to do: what a person
    has changed or deleted since stays so."""
    if not models or any(entry.action == DONE for entry in store.audit(limit=4 * len(models) + 100)):
        return False
    live = {model.name: number_of(model.version) for model in models}  # the last of a name is live
    known = {(version.deployment, version.number) for version in store.all_versions()}
    for model in models:
        number = number_of(model.version)
        if (model.name, number) not in known:
            _adopt_one(store, model, number, now=wall())
    for name, number in live.items():
        store.set_live(name, live=number, target=number, now=wall(), actor=ACTOR)
        for version in store.versions(name):
            if version.number != number:
                store.set_version(name, version.number, state=decide.KEPT, now=wall())
    store.note(actor=ACTOR, action=DONE, target="", details={"models": len(models)}, now=wall())
    return True


def _adopt_one(store: Store, model: ModelSpec, number: int, *, now: float) -> None:
    spec = spec_of_model(model)
    settings = version_settings(spec)
    again = model_spec(
        settings, name=model.name, number=number, path=model.path, replicas=model.replicas.count,
        environment=model.environment,
    )  # fmt: skip
    if msgspec.structs.asdict(again) != msgspec.structs.asdict(model):
        raise SetupError(f"{model.name} {model.version} cannot be taken over: {again} is not {model}")
    store.declare(
        name=model.name,
        spec=spec_to_json(spec),
        action="adopt",
        changes=[],
        version=VersionSettings(source=model.path, settings=settings, state=decide.FETCHED, number=number),
        target=None,
        hold=False,
        expected_revision=None,
        now=now,
        actor=ACTOR,
    )
