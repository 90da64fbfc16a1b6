"""`slipway serve --dry-run`: everything that can be checked without starting a process, and what would run."""

from __future__ import annotations

from slipway.errors import SetupError
from slipway.logs import LEVELS
from slipway.runtimes.recognise import find_model
from slipway.spec.serve import ModelSpec, ServerSpec
from slipway.supervisor.begin import HeldPorts
from slipway.supervisor.cores import share_of_cores, usable_cores
from slipway.supervisor.house import addresses_of


def rehearse(spec: ServerSpec) -> None:
    """Recognise the models and try the ports. Raises SetupError as `slipway serve` would."""
    if spec.log_level not in LEVELS:
        raise SetupError(f"--log-level is {spec.log_level!r}; it is one of {', '.join(LEVELS)}")
    lines = [line for model in spec.models for line in _describe(model)]
    ports = HeldPorts(spec.doors)
    try:
        addresses = addresses_of(ports.fill(spec).doors)
    finally:
        ports.release()
    lines += [f"HTTP   {addresses.http or 'shut'}", f"gRPC   {addresses.grpc or 'shut'}"]
    lines += [f"admin  {addresses.admin or 'shut'}", f"{spec.gateways} gateway process(es). Nothing was started."]
    print("\n".join(lines))


def _describe(model: ModelSpec) -> list[str]:
    if model.runtime == "auto":
        found = find_model(model.path)
        runtime, what = found.runtime, f"{found.format}, {found.path}"
    else:
        runtime, what = model.runtime, model.path
    wanted = model.replicas
    threads = wanted.threads or share_of_cores(replicas=wanted.count, cores=usable_cores())
    return [
        f"{model.name} {model.version}: {what}",
        f"  runtime {runtime}, {wanted.count} worker process(es) of {threads} thread(s), device {wanted.device}",
        f"  batches of up to {model.batching.max_rows} rows, queue of {model.queue.rows} rows",
        f"  sandbox {'on' if wanted.sandbox else 'OFF'}, pickle {'TRUSTED' if model.trust_pickle else 'checked'}",
    ]
