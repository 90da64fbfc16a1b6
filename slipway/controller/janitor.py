"""What grows is cut back: artifacts that no version needs, old events and versions, answers that nobody asks for."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from slipway.controller.events import KEEP, EventBook, Note
from slipway.controller.ledger import Ledger
from slipway.controller.specs import SpecMaker, digests_of
from slipway.controller.world import World
from slipway.errors import SlipwayError

FIRST_S, EVERY_S = 60.0, 600.0
ANSWERS_S = 24 * 3600.0
KEEP_REVISIONS, KEEP_VERSIONS = 1000, 100
"""Of each deployment: entries of its history, and versions that are over but could come back."""

logger = logging.getLogger(__name__)


class Janitor:
    def __init__(
        self,
        *,
        world: World,
        ledger: Ledger,
        events: EventBook,
        specs: SpecMaker,
        leading: Callable[[], bool],
        wall: Callable[[], float],
    ) -> None:
        self._world = world
        self._ledger = ledger
        self._events = events
        self._specs = specs
        self._leading = leading
        self._wall = wall

    async def run(self) -> None:
        await asyncio.sleep(FIRST_S)
        while True:
            try:
                if self._leading():
                    await self.clean()
                if self._world.known:
                    await asyncio.to_thread(remove_logs, self._specs.logs_folder, set(self._world.deployments))
            except SlipwayError as error:
                logger.warning("cleaning up was put off: %s", error.message)
            except Exception:
                logger.exception("cleaning up failed")
            await asyncio.sleep(EVERY_S)

    async def clean(self) -> int:
        """The bytes of artifacts freed. What came lately is kept, whether a version needs it or not: who sent it may
        not have deployed it yet."""
        await self._ledger.call(lambda store: store.prune_events(KEEP))
        await self._ledger.call(lambda store: store.forget_answers(self._wall() - ANSWERS_S))
        if await self._ledger.call(lambda store: store.prune_history(revisions=KEEP_REVISIONS, versions=KEEP_VERSIONS)):
            await self._ledger.refresh()
        await self._ledger.fresh()
        keep = {
            digest
            for versions in self._world.versions.values()
            for one in versions.values()
            for digest in digests_of(one)
        }
        together = [
            one.settings["files"]
            for versions in self._world.versions.values()
            for one in versions.values()
            if one.settings.get("files")
        ]
        freed = await asyncio.to_thread(self._collect, keep, together)
        if freed:
            words = f"{freed} bytes of artifacts that no version needs were removed"
            self._events.add([Note("artifacts.collected", words, data={"freed_bytes": freed})])
        return freed

    def _collect(self, keep: set[str], together: list[dict[str, str]]) -> int:
        artifacts = self._specs.artifacts
        for parts in together:
            try:
                keep.add(artifacts.combine(parts).digest)
            except SlipwayError as error:
                logger.warning("files of a version are gone: %s", error.message)
        return artifacts.collect(keep, now=self._wall())


def remove_logs(folder: Path, known: set[str]) -> None:
    """Those of deployments that are not there any more: deleted while another controller led, or this one was dead."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and path.name not in known:
            shutil.rmtree(path, ignore_errors=True)
