"""One version as a gateway sees it: what it should be (routes), and the engine and links that make it so."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence

import msgspec

from slipway.engine.cache import CachedEngine
from slipway.engine.engine import Engine
from slipway.engine.link import Link
from slipway.errors import InvalidInput, NotReady
from slipway.infer.signature import Signature, batch_key, count_rows
from slipway.infer.tensor import Tensor
from slipway.wire.messages import ReplicaAddress, VersionRoutes

log = logging.getLogger(__name__)
RECONNECT_S = 0.1
MAX_FORMS = 4096


class Version:
    """`engine` is None until a replica was ready once: before that nobody knows the signature.

    `accepting`: the engine, while new requests may go to it. `refused`: answers that met no engine, by (protocol, error
    code).
    """

    def __init__(self, routes: VersionRoutes, *, changed: Callable[[], None]) -> None:
        self.routes = routes
        self.engine: Engine | None = None
        self.cached: CachedEngine | None = None
        self.signature: Signature | None = None
        self.output_names: frozenset[str] = frozenset()
        self.refused: Counter[tuple[str, str]] = Counter()
        self._forms: dict[Hashable, tuple[int, int]] = {}
        self._keys: dict[Hashable, int] = {}
        self._numbers = itertools.count()
        self._changed = changed
        self._links: dict[tuple[int, int], Link] = {}
        self._connecting: dict[tuple[int, int], asyncio.Task[None]] = {}
        self.accepting: Engine | None = None

    def measure(self, inputs: Sequence[Tensor]) -> tuple[int, int]:
        """Check inputs against the signature: the rows that they hold, and the number of their batch key.

        Raises InvalidInput. Names, datatypes and shapes decide, and those of good requests repeat: they are remembered.
        """
        form: Hashable
        if len(inputs) == 1:
            only = inputs[0]
            form = (only.name, only.datatype, only.shape)
        else:
            form = tuple([(tensor.name, tensor.datatype, tensor.shape) for tensor in inputs])
        known = self._forms.get(form)
        if known is None:
            assert self.signature is not None  # a version that has an engine has its signature
            rows = count_rows(self.signature, inputs)
            self._check_rows(rows, inputs)
            if len(self._forms) >= MAX_FORMS:
                self._forms.clear()
                self._keys.clear()  # the numbers go on: what waits with an old one meets no other form
            key = batch_key(inputs)
            if key not in self._keys:
                self._keys[key] = next(self._numbers)
            known = self._forms[form] = rows, self._keys[key]
        return known

    def _check_rows(self, rows: int, inputs: Sequence[Tensor]) -> None:
        if rows < 1:
            raise InvalidInput(
                f"input {inputs[0].name!r} has shape {list(inputs[0].shape)}: no rows, nothing to answer"
            )
        if rows > self.routes.spec.batching.max_rows and not any(len(tensor.data) for tensor in inputs):
            # Rows without elements cost their sender nothing: a short request could ask for a billion batches.
            raise InvalidInput(f"{rows} rows without any data are more than a batch holds")

    @property
    def ready(self) -> bool:
        routes = self.routes
        return routes.wanted and not routes.leaving and self.engine is not None and self.engine.replicas > 0

    @property
    def settled(self) -> bool:
        """Nothing stands between it and what its routes say: a live one has a replica, and so has one that could."""
        routes = self.routes
        return self.ready or not routes.wanted or routes.leaving or not (routes.live or routes.replicas)

    def not_ready(self) -> NotReady:
        """Why it cannot serve, for whoever asked."""
        routes = self.routes
        label = f"model {routes.spec.name!r} {routes.spec.version}"
        if routes.leaving:
            return NotReady(f"{label} is on its way out and takes no new requests")
        if not routes.wanted:
            return NotReady(f"{label} is not loaded; load it through the model repository")
        if routes.failure:
            return NotReady(f"{label} is not ready: {routes.failure}", retry_after_s=5.0)
        if routes.facts is None:
            return NotReady(f"{label} is still loading", retry_after_s=1.0)
        return NotReady(f"{label} has no replica that is ready", retry_after_s=1.0)

    def apply(self, routes: VersionRoutes) -> None:
        """Make it as `routes` says: connect to replicas that are new, retire those that are no longer listed."""
        self.routes = routes
        facts = routes.facts
        if facts is not None and (self.engine is None or facts.signature != self.signature):
            if self.engine is not None:
                self.engine.close(NotReady(f"model {routes.spec.name!r} was loaded anew", retry_after_s=1.0))
                self._links.clear()
                self._stop_connecting(set(self._connecting))
            self.signature = facts.signature
            self._forms.clear()
            self.output_names = frozenset(spec.name for spec in facts.signature.outputs)
            self.engine = Engine(routes.spec, batchable=facts.signature.batchable, changed=self._replicas_changed)
            self.cached = CachedEngine(self.engine, routes.spec.cache) if routes.spec.cache.bytes else None
        wanted = {(place.index, place.generation): place for place in routes.replicas}
        self._stop_connecting(self._connecting.keys() - wanted.keys())
        for key in [key for key in self._links if key not in wanted]:
            self._links.pop(key).retire()
        self._connect_missing(wait_s=0.0)
        self.accepting = self.engine if routes.wanted and not routes.leaving else None
        if not routes.wanted and self.engine is not None:
            self.engine.fail_waiting(self.not_ready())
        self._changed()

    def _replicas_changed(self) -> None:
        """A connection may be gone though its replica is not: it is made anew until the replica is no longer listed."""
        for key in [key for key, link in self._links.items() if link.gone]:
            del self._links[key]
        self._connect_missing(wait_s=RECONNECT_S)
        self._changed()

    def _connect_missing(self, *, wait_s: float) -> None:
        for place in self.routes.replicas:
            key = (place.index, place.generation)
            if key not in self._links and key not in self._connecting:
                connecting = self._connect(key, place, wait_s=wait_s)
                self._connecting[key] = asyncio.get_running_loop().create_task(connecting)

    def _stop_connecting(self, keys: Iterable[tuple[int, int]]) -> None:
        for key in tuple(keys):
            self._connecting.pop(key).cancel()

    async def _connect(self, key: tuple[int, int], place: ReplicaAddress, *, wait_s: float) -> None:
        engine = self.engine
        assert engine is not None  # a replica is listed only once it is ready, with its facts
        loop = asyncio.get_running_loop()
        for attempt in itertools.count():
            await asyncio.sleep(wait_s if attempt == 0 else RECONNECT_S)
            link = Link(engine, index=place.index, generation=place.generation, token=place.token)
            try:
                await loop.create_unix_connection(lambda link=link: link, place.socket)  # type: ignore[misc]
            except OSError as error:
                level = logging.DEBUG if attempt else logging.WARNING
                log.log(level, "cannot reach replica #%d of %s: %s", place.index, self.routes.spec.name, error)
                continue
            if not link.gone:
                self._links[key] = link
                del self._connecting[key]
                return

    def close(self) -> None:
        self.routes = msgspec.structs.replace(self.routes, replicas=[])
        self._stop_connecting(set(self._connecting))
        self.accepting = None
        if self.engine is not None:
            self.engine.close(self.not_ready())
        self._links.clear()
