"""`python -m slipway.worker`: the process inside a replica, from its first word to its exit status."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import socket
import sys
from typing import NoReturn

from slipway.errors import LoadFailure, SetupError
from slipway.launchers.launcher import EXIT_ORPHANED, EXIT_OUT_OF_MEMORY, EXIT_SETUP_FAILED
from slipway.launchers.local import begin_child
from slipway.launchers.memory import Memory
from slipway.logs import configure_logs, fields
from slipway.wire.control import ControlLine
from slipway.wire.messages import BeginWorker, Progress, Ready, SetupFailed
from slipway.worker.failure import ran_out_of_memory, words_of
from slipway.worker.pulse import Pulse, beat
from slipway.worker.sandbox import SandboxPlan, look_around, plan_sandbox
from slipway.worker.serve import Desk, ServingLoop
from slipway.worker.start import Started, start
from slipway.worker.voice import loosen_tongue

logger = logging.getLogger("slipway.worker")


def main() -> NoReturn:
    faulthandler.enable()  # a crash in native code leaves at least a trace of where
    loosen_tongue()
    socket_of_control, listeners = begin_child()
    line = ControlLine(socket_of_control)
    begin = line.hear()
    if begin is None:
        os._exit(EXIT_ORPHANED)
    if not isinstance(begin, BeginWorker) or len(listeners) != 1:
        raise SetupError("a worker begins with BeginWorker and a listening socket")
    spec = begin.spec
    title = f"worker {spec.name} {spec.version} #{begin.index}"
    configure_logs(title, as_json=begin.log_json, level=begin.log_level)
    memory = Memory()
    try:
        started = start(begin, progress=lambda stage: line.say(Progress(stage)))
    except BaseException as error:
        _refuse(line, begin, error)
    logger.info("ready", extra=fields(model=spec.name, version=spec.version, sandbox=started.facts.sandbox))
    _serve(started, line, listeners[0], memory, token=begin.token)
    _leave(0)


def _serve(started: Started, line: ControlLine, listener: socket.socket, memory: Memory, *, token: str) -> None:
    pulse = Pulse()
    desk = Desk(started.runtime, pulse=pulse, memory=memory, plan=started.plan)
    loop = ServingLoop(desk, listener, token=token)
    loop.stop_on_signal(signal.SIGTERM)
    with contextlib.suppress(OSError):  # the pulse sees the same, and ends the process
        line.say(Ready(started.facts))
    beat(line, pulse, memory)
    loop.run()
    try:
        started.runtime.close()
    except Exception:
        logger.exception("closing the model failed")


def _refuse(line: ControlLine, begin: BeginWorker, error: BaseException) -> NoReturn:
    """Tell the supervisor why there will be no replica; the traceback, where it says more, goes to the log."""
    status, code, words = EXIT_SETUP_FAILED, LoadFailure.code, ""
    if ran_out_of_memory(error):
        limit_mb = begin.spec.replicas.memory_bytes >> 20
        status = EXIT_OUT_OF_MEMORY
        words = f"the model does not fit in memory (limit: {limit_mb} MB, --memory-mb)" if limit_mb else ""
    elif isinstance(error, SetupError):
        code = error.code
    words = words or words_of(error, _plan_of(begin))
    shown = None if status == EXIT_OUT_OF_MEMORY or (isinstance(error, SetupError) and not error.__cause__) else error
    logger.error("cannot serve: %s", words, exc_info=shown, extra=fields(model=begin.spec.name, code=code))
    with contextlib.suppress(OSError):
        line.say(SetupFailed(code, words))
    _leave(status)


def _plan_of(begin: BeginWorker) -> SandboxPlan:
    return plan_sandbox(begin.spec.replicas, scratch=begin.scratch, around=look_around(begin.spec))


def _leave(status: int) -> NoReturn:
    """Without the interpreter's own good-bye: threads of native libraries are known to crash or hang in it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
