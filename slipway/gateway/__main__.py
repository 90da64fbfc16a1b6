"""The data-plane process: `python -m slipway.gateway`, started by a launcher."""

from __future__ import annotations

import resource
import signal
import sys

import uvloop

from slipway.gateway.house import Gateway
from slipway.launchers.local import begin_child
from slipway.logs import configure_logs
from slipway.wire.control import ControlLine
from slipway.wire.messages import BeginGateway


def main() -> int:
    # SIGTERM as the death signal: the gateway outlives its supervisor for the moment that cleaning up takes.
    control, _ = begin_child(death_signal=signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    begin = ControlLine(control).hear()
    if not isinstance(begin, BeginGateway):
        return 1
    configure_logs(f"gateway #{begin.number}", as_json=begin.spec.log_json, level=begin.spec.log_level)

    _allow_many_connections()

    async def serve() -> int:
        return await Gateway(begin, control).run()

    return uvloop.run(serve())


def _allow_many_connections() -> None:
    """Shells give 1,024 descriptors where the system would give more; every client is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    sys.exit(main())
