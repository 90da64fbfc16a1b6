"""Whether a version answers through this gateway: a made-up request on the way that every request takes."""

from __future__ import annotations

import asyncio
import time

from slipway.engine.meter import Meter
from slipway.errors import ModelFailure, SlipwayError
from slipway.gateway.version import Version
from slipway.infer.example import example_tensors
from slipway.infer.request import Request, Response

ATTACH_WITHIN_S = 5.0
LOOK_EVERY_S = 0.005


async def probe(version: Version) -> SlipwayError | None:
    """None where it answered, or why it did not.

    A model that refuses the made-up inputs in its own words has answered: whether it computes was tried with inputs
    of its own when it warmed up.
    """
    until = time.monotonic() + ATTACH_WITHIN_S
    while (engine := version.accepting) is None or not engine.replicas:
        if time.monotonic() > until:
            return version.not_ready()
        await asyncio.sleep(LOOK_EVERY_S)
    assert version.signature is not None  # it has an engine
    spec = version.routes.spec
    inputs = example_tensors(version.signature, 1)
    deadline = time.monotonic() + spec.replicas.hang_s
    request = Request(spec.name, inputs, spec.version, deadline=deadline, protocol="probe")
    answered: asyncio.Future[Response | SlipwayError] = asyncio.get_running_loop().create_future()
    try:
        rows, key = version.measure(inputs)
        engine.submit(request, rows=rows, done=answered.set_result, key=key)
    except SlipwayError as error:
        return error
    outcome = await answered
    engine.meter.fold()
    if engine.meter.success + engine.meter.fail == 1:
        engine.meter = Meter()  # a probe is no traffic: the books begin after it
    if isinstance(outcome, Response) or type(outcome) is ModelFailure:
        return None
    return outcome
