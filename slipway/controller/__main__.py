"""The control-plane process: `python -m slipway.controller`, started by a launcher."""

from __future__ import annotations

import logging
import sys

import uvloop

from slipway.controller.house import House
from slipway.launchers.courtesy import stand_aside
from slipway.launchers.local import begin_child
from slipway.logs import configure_logs
from slipway.wire.control import ControlLine
from slipway.wire.messages import BeginController


def main() -> int:
    control, listeners = begin_child()
    stand_aside()
    begin = ControlLine(control).hear()
    if not isinstance(begin, BeginController):
        return 1
    configure_logs("controller", as_json=begin.log_json, level=begin.log_level)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # each migration is not news to a person

    async def live() -> int:
        return await House(begin, control, listeners).live()

    return uvloop.run(live())


if __name__ == "__main__":
    sys.exit(main())
