"""What the person at the terminal sees of a server: how far it is, that it is ready, how to call it."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import time

from slipway.cli.sample import curl_sample
from slipway.infer.signature import TensorSpec
from slipway.logs import fields
from slipway.spec.resources import Addresses
from slipway.supervisor.house import Watcher
from slipway.wire.messages import VersionRoutes

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SHOWN_VERSIONS = 20

logger = logging.getLogger(__name__)


def watcher_for(*, log_json: bool) -> Watcher:
    if log_json:
        return LogWatcher()
    return LiveWatcher() if sys.stdout.isatty() and sys.stderr.isatty() else PlainWatcher()


class LogWatcher:
    """Everything as log records, with fields for machines that read them."""

    with_fields = True

    def __init__(self) -> None:
        self._stages: dict[str, str] = {}

    def loading(self, stages: dict[str, str]) -> None:
        for name, stage in stages.items():
            if self._stages.get(name) != stage:
                extra = fields(child=name, stage=stage) if self.with_fields else None
                logger.info("%s: %s", name, stage, extra=extra)
        self._stages = stages

    def ready(self, addresses: Addresses, versions: list[VersionRoutes], *, closed: bool) -> None:
        models = ", ".join(f"{version.spec.name} {version.spec.version}" for version in versions)
        extra = fields(http=addresses.http, grpc=addresses.grpc, admin=addresses.admin, models=models, closed=closed)
        logger.info("slipway is ready", extra=extra)

    def draining(self) -> None:
        logger.info("draining: finishing what was accepted; a second signal stops at once")

    def close(self) -> None:
        """Every record is written already."""


class PlainWatcher(LogWatcher):
    """Progress as log records on standard error, the ready page as text on standard output."""

    with_fields = False

    def ready(self, addresses: Addresses, versions: list[VersionRoutes], *, closed: bool) -> None:
        say("\n".join(ready_page(addresses, versions, closed=closed)))


class LiveWatcher:
    """On a terminal: one line that moves while processes load, then the ready page in its place.

    The children write their logs to the same terminal whenever they like, so there is no table that they could tear
    apart: after each turn the cursor waits at the line's beginning, and a log line simply takes its place.
    """

    def __init__(self) -> None:
        self._turn = 0
        self._began = time.monotonic()
        self._drawn = False

    def loading(self, stages: dict[str, str]) -> None:
        left = [f"{name} ({stage})" for name, stage in stages.items() if stage != "ready"]
        spinner = SPINNER[self._turn % len(SPINNER)]
        self._turn += 1
        took_s = time.monotonic() - self._began
        ready = f"{len(stages) - len(left)} of {len(stages)} ready"
        text = f"{spinner} {took_s:.1f} s  {ready}; {', '.join(left) or 'joining them'}"
        self._draw(text[: shutil.get_terminal_size().columns - 1])

    def ready(self, addresses: Addresses, versions: list[VersionRoutes], *, closed: bool) -> None:
        self.close()
        title, *page = ready_page(addresses, versions, closed=closed)
        say("\n".join((f"\x1b[1;32m{title}\x1b[0m", *page)))

    def draining(self) -> None:
        self.close()
        say("\nDraining: finishing what was accepted. Ctrl-C again stops at once.")

    def close(self) -> None:
        if self._drawn:
            self._draw("")

    def _draw(self, text: str) -> None:
        self._drawn = bool(text)
        with contextlib.suppress(OSError):
            sys.stdout.write(f"\r\x1b[K{text}\r")
            sys.stdout.flush()


def say(text: str) -> None:
    """To standard output, unless nobody reads it: that is no reason to stop serving."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


def ready_page(addresses: Addresses, versions: list[VersionRoutes], *, closed: bool) -> list[str]:
    """The title, then lines of plain text. `closed`: who calls needs a credential."""
    page = ["Slipway is ready", ""]
    if addresses.http:
        page.append(f"  HTTP     {addresses.http}")
    if addresses.grpc:
        page.append(f"  gRPC     {addresses.grpc}")
    if addresses.admin:
        page.append(f"  Metrics  {addresses.admin}/metrics")
        page.append(f"  Status   {addresses.admin}/api/v1/status")
    page.append(
        f"  Access   {'closed: a key, a user or a token is needed' if closed else 'open: whoever reaches it may call'}"
    )
    page.append("")
    for version in versions[:SHOWN_VERSIONS]:
        page.extend(_describe(version))
    if len(versions) > SHOWN_VERSIONS:
        page.append(f"  and {len(versions) - SHOWN_VERSIONS} more: slipway status")
    if not versions:
        page.append("  Nothing is deployed yet: slipway deploy MODEL")
    first = next((version for version in versions if version.facts and version.replicas), None)
    if first is not None and first.facts is not None and addresses.http:
        sample = curl_sample(url=addresses.http, model=first.spec.name, facts=first.facts, closed=closed)
        page += ["", "Try it:", f"  {sample}"]
    page += ["", "Ctrl-C drains and stops."]
    return page


def _describe(version: VersionRoutes) -> list[str]:
    spec, facts = version.spec, version.facts
    title = f"  {spec.name} {spec.version}"
    if facts is None:
        return [f"{title}  not ready: {version.failure or 'still loading'}"]
    replicas = f"{len(version.replicas)} replica{'' if len(version.replicas) == 1 else 's'}"
    return [
        f"{title}  {replicas}, {facts.platform}, sandbox: {facts.sandbox or 'none'}",
        f"    in   {_tensors(facts.signature.inputs)}",
        f"    out  {_tensors(facts.signature.outputs)}",
    ]


def _tensors(specs: tuple[TensorSpec, ...]) -> str:
    shown = ", ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in specs[:4])
    return shown if len(specs) <= 4 else f"{shown}, and {len(specs) - 4} more"
