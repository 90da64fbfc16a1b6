"""One way to log for every process of a server: stdlib logging to standard error, with fields beside the message.

Several processes share one standard error, so a record is written with a single `write` and lines never mix. What a
client sent (a request id, a model's message) may hold line breaks or terminal codes; outside a traceback they are
escaped, so that nobody can forge a line of the log.

    logger = logging.getLogger(__name__)
    logger.info("replica is ready", extra=fields(model="iris", version="v1", took_s=0.4))
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import threading
import time
from types import TracebackType
from typing import Any, Literal

from slipway.errors import SetupError

LEVELS = ("debug", "info", "warning", "error", "critical")

Style = Literal["json", "plain", "pretty"]

_STDERR = 2
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_BARE = re.compile(r"[^\s\"'=\x00-\x1f\x7f-\x9f\u2028\u2029]+\Z")
_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
_RESERVED = frozenset(("time", "level", "process", "pid", "logger", "message", "traceback"))


def fields(**values: Any) -> dict[str, dict[str, Any]]:
    """For the `extra` of a log call: `request_id`, `model`, `version`, `correlation`, and what else tells the story."""
    return {"fields": values}


def new_correlation() -> str:
    """A short random word that ties what a client was told to what the log says."""
    return os.urandom(6).hex()


def configure_logs(process_title: str, *, as_json: bool = False, level: str = "info") -> None:
    """Send the records of this process from `level` up to standard error; warnings and uncaught errors too.

    One JSON object a line with `as_json`; otherwise coloured on a terminal (unless NO_COLOR is set) and
    `time level process message key=value` elsewhere. May be called again. Raises SetupError for an unknown level.
    """
    if level not in LEVELS:
        raise SetupError(f"--log-level is {level!r}; it is one of {', '.join(LEVELS)}")
    style: Style = "json" if as_json else "plain"
    if style == "plain" and os.isatty(_STDERR) and not os.environ.get("NO_COLOR"):
        style = "pretty"
    handler = StderrHandler()
    handler.setFormatter(FieldFormatter(process_title, style))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_of_thread


class StderrHandler(logging.Handler):
    """Each record in one `write` to the file descriptor: no buffer that a fork could copy or a crash could lose."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            rest = self.format(record).encode(errors="backslashreplace") + b"\n"
        except Exception as error:  # a `%` too many in some library's call must not end the process
            rest = f"cannot format a log record of {record.name}: {error!r}\n".encode(errors="backslashreplace")
        with contextlib.suppress(OSError):  # nobody reads it any more: not a reason to stop serving
            while rest:
                rest = rest[os.write(_STDERR, rest) :]


class FieldFormatter(logging.Formatter):
    def __init__(self, process_title: str, style: Style) -> None:
        super().__init__()
        self._process = process_title
        self._form = style

    def format(self, record: logging.LogRecord) -> str:
        extra: dict[str, Any] = getattr(record, "fields", None) or {}
        level = record.levelname.lower()
        trace = self.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
        if self._form == "json":
            return self._json(record, level, extra, trace)
        message = _UNSAFE.sub(_escape, record.getMessage())
        values = " ".join(f"{key}={_plain(value)}" for key, value in extra.items() if value not in (None, ""))
        if self._form == "pretty":
            line = self._pretty(record, level, message, values)
        else:
            line = " ".join(filter(None, (_utc(record), level, f"[{self._process}]", message, values)))
        return f"{line}\n{trace}" if trace else line

    def _json(self, record: logging.LogRecord, level: str, extra: dict[str, Any], trace: str) -> str:
        entry: dict[str, Any] = {
            "time": _utc(record),
            "level": level,
            "process": self._process,
            "pid": record.process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update((f"{key}_" if key in _RESERVED else key, value) for key, value in extra.items())
        if trace:
            entry["traceback"] = trace
        return json.dumps(entry, default=str)

    def _pretty(self, record: logging.LogRecord, level: str, message: str, values: str) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        word = f"\x1b[{_COLOURS.get(level, '0')}m{level:<8}\x1b[0m"
        line = f"\x1b[2m{clock}\x1b[0m {word} \x1b[36m{self._process}\x1b[0m  {message}"
        return f"{line}  \x1b[2m{values}\x1b[0m" if values else line


def _utc(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if _BARE.match(text) else json.dumps(text, ensure_ascii=bool(_UNSAFE.search(text)))


def _escape(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode()


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        logging.getLogger("slipway").critical("the process ends: %s", error, exc_info=(kind, error, trace))


def _log_uncaught_of_thread(caught: threading.ExceptHookArgs) -> None:
    if caught.exc_value is not None and not issubclass(caught.exc_type, SystemExit):
        name = caught.thread.name if caught.thread else "?"
        trace = (caught.exc_type, caught.exc_value, caught.exc_traceback)
        logging.getLogger("slipway").critical("thread %s ended: %s", name, caught.exc_value, exc_info=trace)
