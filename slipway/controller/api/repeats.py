"""Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): a change that is sent twice is made once.

The first answer is remembered, and given again to whoever sends the same request with the same key. It is sealed: the
answer that creates a key holds the key. Refusals are not remembered: they changed nothing, and may not hold any more.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from slipway.errors import Conflict, InvalidInput, NotLeader, SetupError, StoreUnavailable
from slipway.spec.access import Caller
from slipway.store.records import IdempotentAnswer
from slipway.store.secrets import seal, unseal

HEADER = "idempotency-key"
_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")
logger = logging.getLogger(__name__)
_KEPT_HEADERS = ("content-type", "etag", "location")


class Memory(Protocol):
    async def answer(self, key: str) -> IdempotentAnswer | None: ...

    async def remember_answer(self, answer: IdempotentAnswer) -> object: ...


class Repeats:
    """`seal_key`: 32 bytes; answers that were sealed with another are as if forgotten."""

    def __init__(self, memory: Memory, *, seal_key: bytes) -> None:
        self._memory = memory
        self._seal_key = seal_key
        self._running: set[str] = set()

    async def once(
        self, request: Request, body: bytes, caller: Caller, act: Callable[[], Awaitable[Response]]
    ) -> Response:
        """What `act` answers, or has answered to this key before. Raises Conflict for a key that was used for something
        else, and, with a hint when to come back, for one whose first request is still on its way."""
        given = request.headers.getlist(HEADER)
        if not given:
            return await act()
        if len(given) > 1 or not _KEY.match(given[0]):
            raise InvalidInput("Idempotency-Key is one word of 1 to 255 visible ASCII characters, such as a UUID")
        key, fingerprint = _name(caller, given[0]), _fingerprint(request, body, self._seal_key)
        if key in self._running:
            raise Conflict(
                "a request with this Idempotency-Key is on its way; ask again in a second", retry_after_s=1.0
            )
        self._running.add(key)
        try:
            known = await self._memory.answer(key)
            again = None if known is None else self._again(known, fingerprint)
            if again is not None:
                return again
            answer = await act()
            if 200 <= answer.status_code < 300:
                try:
                    await self._memory.remember_answer(self._sealed(key, fingerprint, answer))
                except (StoreUnavailable, NotLeader) as error:  # it was done, and to say otherwise would be a lie
                    logger.warning("the answer to an Idempotency-Key could not be kept: %s", error.message)
            return answer
        finally:
            self._running.discard(key)

    def _again(self, known: IdempotentAnswer, fingerprint: str) -> Response | None:
        if known.fingerprint != fingerprint:
            raise Conflict("this Idempotency-Key was used for another request; a new request needs a new key")
        try:
            body = unseal(self._seal_key, known.key, known.body)
        except SetupError:
            return None
        return Response(body.encode(), known.status, {**known.headers, "idempotency-replayed": "true"})

    def _sealed(self, key: str, fingerprint: str, answer: Response) -> IdempotentAnswer:
        return IdempotentAnswer(
            key=key,
            fingerprint=fingerprint,
            status=answer.status_code,
            headers={name: answer.headers[name] for name in _KEPT_HEADERS if name in answer.headers},
            body=seal(self._seal_key, key, bytes(answer.body).decode()),
            at=time.time(),
        )


def _name(caller: Caller, given: str) -> str:
    """Of one caller: nobody gets an answer that was for somebody else."""
    return hashlib.sha256(f"{caller.id}\n{given}".encode()).hexdigest()


def _fingerprint(request: Request, body: bytes, seal_key: bytes) -> str:
    """Keyed: the body may hold a password, which a plain hash would let anybody guess who can read the database."""
    told = hmac.new(seal_key, digestmod="sha256")
    for part in (
        request.method,
        request.url.path,
        request.url.query,
        request.headers.get("if-match", ""),
        request.headers.get("if-none-match", ""),
    ):
        told.update(part.encode() + b"\n")
    told.update(body)
    return told.hexdigest()
