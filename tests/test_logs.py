"""The log as a person or a log shipper reads it: what arrives on a real process's standard error."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys

import pytest

from slipway.errors import SetupError
from slipway.logs import LEVELS, configure_logs, new_correlation

HEAD = """
import logging, os, sys, threading, warnings
from slipway.logs import configure_logs, fields
configure_logs("slipway: worker iris v1 #2", as_json={as_json}, level={level!r})
logger = logging.getLogger("slipway.worker")
"""


def run(body: str, *, as_json: bool = False, level: str = "info") -> str:
    """What a process that runs `body` writes to its standard error."""
    program = HEAD.format(as_json=as_json, level=level) + body
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert done.stdout == ""
    return done.stderr


def test_a_plain_line_has_time_level_process_message_and_fields() -> None:
    text = run(
        "logger.info('replica is %s', 'ready', extra=fields(model='iris', version='v1', took_s=0.25, note='a b'))"
    )
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info \[slipway: worker iris v1 #2\] replica is ready "
        r'model=iris version=v1 took_s=0.25 note="a b"\n',
        text,
    )


def test_json_is_one_object_a_line_and_the_traceback_stays_inside() -> None:
    text = run(
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n"
        "    logger.exception('model failed', extra=fields(correlation='c0ffee', model='iris', pid='shadow'))\n"
        "logger.info('then')\n",
        as_json=True,
    )
    first, second = [json.loads(line) for line in text.splitlines()]
    assert (first["level"], first["message"], first["process"]) == (
        "error",
        "model failed",
        "slipway: worker iris v1 #2",
    )
    assert (first["correlation"], first["model"], first["pid_"]) == ("c0ffee", "iris", "shadow")
    assert isinstance(first["pid"], int)
    assert "ZeroDivisionError" in first["traceback"] and "Traceback" in first["traceback"]
    assert second["message"] == "then"


def test_the_level_holds() -> None:
    text = run("logger.debug('no'); logger.info('no'); logger.warning('yes')", level="warning")
    assert "yes" in text and " no" not in text


def test_an_unknown_level_names_the_known_ones() -> None:
    with pytest.raises(SetupError, match=r"loud.*debug, info, warning"):
        configure_logs("slipway", level="loud")
    assert "info" in LEVELS


def test_nobody_can_forge_a_line_or_send_terminal_codes() -> None:
    forged = "id\\n2026-01-01T00:00:00.000Z info [slipway] all is well\\x1b[2J\\u2028x"
    text = run(f"logger.warning('got {forged}', extra=fields(request_id='{forged}'))")
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text


def test_warnings_uncaught_errors_and_dying_threads_are_logged() -> None:
    text = run(
        "warnings.warn('old model')\n"
        "thread = threading.Thread(target=lambda: 1 / 0, name='beat'); thread.start(); thread.join()\n"
        "raise RuntimeError('boom')\n",
        as_json=True,
    )
    messages = [json.loads(line)["message"] for line in text.splitlines()]
    assert any("old model" in message for message in messages)
    assert "thread beat ended: division by zero" in messages
    assert "the process ends: boom" in messages


def test_a_record_that_cannot_be_formatted_does_not_end_the_process() -> None:
    text = run("logger.info('%d things', 'many'); logger.info('still here', extra=fields(odd=object()))")
    assert "cannot format a log record of slipway.worker" in text
    assert "still here" in text


def test_a_closed_standard_error_is_survived() -> None:
    program = HEAD.format(as_json=False, level="info") + "os.close(2); logger.info('x'); print('alive')"
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=30)
    assert done.stdout == "alive\n"


def test_a_forked_child_can_log_while_another_thread_of_the_parent_does() -> None:
    text = run(
        "def chatter():\n    for n in range(2000): logger.info('parent %d', n)\n"
        "thread = threading.Thread(target=chatter); thread.start()\n"
        "for n in range(20):\n"
        "    child = os.fork()\n"
        "    if not child:\n        logger.info('child %d', n); os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
        "thread.join()\n"
    )
    lines = text.splitlines()
    assert len(lines) == 2020
    assert all(re.search(r"\] (parent|child) \d+$", line) for line in lines)


@pytest.mark.parametrize(("no_colour", "coloured"), [("", True), ("1", False)])
def test_colours_on_a_terminal_only(no_colour: str, coloured: bool) -> None:
    master, slave = pty.openpty()
    program = HEAD.format(as_json=False, level="info") + "logger.warning('look', extra=fields(model='iris'))"
    child = subprocess.Popen([sys.executable, "-c", program], stderr=slave, env=os.environ | {"NO_COLOR": no_colour})
    os.close(slave)
    assert child.wait(timeout=30) == 0
    text = os.read(master, 65536).decode()
    os.close(master)
    assert ("\x1b[33m" in text) is coloured
    assert "look" in text and "model=iris" in text


def test_the_log_costs_little_to_import() -> None:
    program = "import sys; before = set(sys.modules); import slipway.logs; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert not {"rich", "asyncio", "numpy", "typer"} & set(done.stdout.split())


def test_correlations_differ() -> None:
    assert len({new_correlation() for _ in range(100)}) == 100
