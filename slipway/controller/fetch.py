"""Artifacts of versions that are far away, brought here in the background, a few at once.

A fetch that a crash cut off goes on where it was: the version is still `fetching` in the store, and the artifact store
keeps what had come. A version that nobody wants any more is not fetched to its end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from slipway.controller import decide
from slipway.controller.events import Note
from slipway.controller.ledger import Ledger
from slipway.controller.specs import SpecMaker
from slipway.controller.world import World
from slipway.errors import Cancelled, NotFound, SlipwayError, StoreUnavailable, Unavailable
from slipway.spec.model_source import read_source
from slipway.spec.resources import Artifact
from slipway.store.records import VersionRecord
from slipway.store.store import Store

AT_ONCE = 4
PROGRESS_S = 1.0
AGAIN_S = 10.0
ACTOR = "controller"

logger = logging.getLogger(__name__)


class Fetcher:
    def __init__(
        self,
        *,
        world: World,
        ledger: Ledger,
        specs: SpecMaker,
        wall: Callable[[], float],
        wake: Callable[[str], None],
        leading: Callable[[], bool],
    ) -> None:
        self._world = world
        self._ledger = ledger
        self._specs = specs
        self._wall = wall
        self._wake = wake
        self._leading = leading
        self._running: dict[tuple[str, int, float], asyncio.Task[None]] = {}
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetch")

    def tend(self, names: Iterable[str]) -> None:
        """Begin what is due for these deployments."""
        for name in names:
            for version in self._world.of(name).values():
                key = (name, version.number, version.created_at)
                if self._is_due(version) and key not in self._running:
                    task = asyncio.get_running_loop().create_task(self._fetch(version))
                    self._running[key] = task
                    task.add_done_callback(partial(self._done, key))

    def close(self) -> None:
        for task in self._running.values():
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _done(self, key: tuple[str, int, float], task: asyncio.Task[None]) -> None:
        self._running.pop(key, None)
        if not task.cancelled() and task.exception() is not None:
            logger.error("the fetch of %s v%d failed", key[0], key[1], exc_info=task.exception())

    def _is_due(self, version: VersionRecord) -> bool:
        deployment = self._world.deployments.get(version.deployment)
        if deployment is None or deployment.deleting or not self._leading():
            return False
        return version.state in (decide.PENDING, decide.FETCHING) and version.number in (
            deployment.live,
            deployment.target,
        )

    def _is_wanted(self, version: VersionRecord) -> bool:
        """Asked from the thread that fetches; the world is only read."""
        now = self._world.of(version.deployment).get(version.number)
        return now is not None and now.created_at == version.created_at and self._is_due(now)

    async def _fetch(self, version: VersionRecord) -> None:
        name, number = version.deployment, version.number
        begun = Note("version.fetching", f"{name}: v{number} is fetched from {version.source}", name, number)
        if version.state == decide.PENDING:
            await self._set(version, begun, state=decide.FETCHING, progress=0.0)
        while True:
            try:
                artifact = await self._bring(version)
            except (Cancelled, NotFound) as error:
                if not self._is_wanted(version):
                    return
                await self._fail(version, error)
            except (StoreUnavailable, Unavailable) as error:
                logger.warning("%s v%d cannot be fetched; it is tried again: %s", name, number, error.message)
                await self._say(version, error.message)
                await asyncio.sleep(AGAIN_S)
                if self._is_wanted(version):
                    continue
            except SlipwayError as error:
                await self._fail(version, error)
            else:
                data = {"digest": artifact.digest, "size_bytes": artifact.size_bytes, "files": len(artifact.files)}
                note = Note(
                    "version.fetched", f"{name}: the artifact of v{number} is here, verified", name, number, data
                )
                await self._set(
                    version, note, state=decide.FETCHED, progress=1.0, error="", digest=artifact.digest,
                    size_bytes=artifact.size_bytes,
                )  # fmt: skip
            self._wake(name)
            return

    async def _bring(self, version: VersionRecord) -> Artifact:
        """The files, in a thread; how far it is goes to the store once a second."""
        done_of = [0, 0]
        source = read_source(version.source)
        pin = version.digest or str(version.settings.get("digest", ""))

        def tell(done: int, total: int | None) -> None:
            done_of[:] = done, total or 0

        work = partial(
            self._specs.artifacts.fetch,
            source.location,
            digest=pin,
            progress=tell,
            cancelled=lambda: not self._is_wanted(version),
        )
        job = asyncio.get_running_loop().run_in_executor(self._threads, work)
        told = 0.0
        while not (await asyncio.wait([job], timeout=PROGRESS_S))[0]:
            progress = round(done_of[0] / done_of[1], 3) if done_of[1] else 0.0
            if progress != told:
                told = progress
                await self._set(version, None, progress=min(progress, 0.999))
        return job.result()

    async def _say(self, version: VersionRecord, words: str) -> None:
        try:
            await self._set(version, None, error=words)
        except SlipwayError as error:
            logger.debug("%s v%d: %s", version.deployment, version.number, error.message)

    async def _fail(self, version: VersionRecord, error: SlipwayError) -> None:
        name, number = version.deployment, version.number
        deployment = self._world.deployments.get(name)
        goes_on = f"; v{deployment.live} goes on" if deployment and deployment.live else ""
        words = f"{name}: v{number} could not be fetched{goes_on}: {error.message}"
        note = Note("version.failed", words, name, number, {"code": error.code, "error": error.message})

        def also(store: Store) -> None:
            now = self._world.deployments.get(name)
            if now is not None and now.target == number and now.live != number:
                store.set_target(name, target=now.live, now=self._wall(), actor=ACTOR)

        await self._set(version, note, also, state=decide.FAILED, error=error.message)

    async def _set(
        self, version: VersionRecord, note: Note | None, also: Callable[[Store], None] | None = None, **values: object
    ) -> None:
        name = version.deployment

        def work(store: Store) -> None:
            store.set_version(name, version.number, now=self._wall(), **values)  # type: ignore[arg-type]
            if also is not None:
                also(store)

        async with self._world.lock(name):
            if self._is_wanted(version):
                await self._ledger.change(name, work, [note] if note else [])
