"""HTTP sockets: urllib3 for the blocking client, aiohttp for the asyncio one. They carry bytes and know nothing more.

Two libraries, since each is the fastest and most trusted of its kind, and what is written twice is this file only.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from slipway.client.exchange import Incoming, Lost, Opened, Send, TimedOut
from slipway.errors import MissingExtra

if TYPE_CHECKING:
    import ssl

    import aiohttp

_MISSING = "calling over HTTP needs {}: pip install 'slipway[client]'"
# Compressing floats costs more time than it saves on the networks where models are served.
_HEADERS = {"accept-encoding": "identity"}
_CHUNK_BYTES = 2**16
_ERROR_BYTES = 2**16

T = TypeVar("T")


class UrllibLink:
    """Thread-safe: a pool of at most `connections`, each kept alive between calls."""

    def __init__(
        self, origin: str, *, headers: Mapping[str, str], connections: int, tls: ssl.SSLContext | None
    ) -> None:
        try:
            import urllib3
        except ImportError:
            raise MissingExtra(_MISSING.format("urllib3")) from None
        settings: dict[str, Any] = {} if tls is None else {"ssl_context": tls}
        self._urllib3 = urllib3
        self._pool = urllib3.connection_from_url(origin, maxsize=connections, block=True, **settings)
        self._headers = _HEADERS | dict(headers)

    def send(self, what: Send) -> Incoming | Lost | TimedOut:
        answer = self._ask(what, self._urllib3.Timeout(total=what.timeout_s), whole=True)
        if isinstance(answer, Lost | TimedOut):
            return answer
        return Incoming(answer.status, _lower(answer.headers), answer.data)

    def open(self, what: Send) -> Opened[Generator[bytes]] | Incoming | Lost | TimedOut:
        """An answer as it comes; `timeout_s` is for each wait, not for the whole."""
        answer = self._ask(what, self._urllib3.Timeout(connect=what.timeout_s, read=what.timeout_s), whole=False)
        if isinstance(answer, Lost | TimedOut):
            return answer
        if answer.status != 200:
            return Incoming(answer.status, _lower(answer.headers), answer.read(_ERROR_BYTES))
        return Opened(self._chunks(answer))

    def _chunks(self, answer: Any) -> Generator[bytes]:
        try:
            while chunk := answer.read1(_CHUNK_BYTES):
                yield chunk
        except (self._urllib3.exceptions.HTTPError, OSError):
            pass
        finally:
            answer.close()

    def _ask(self, what: Send, timeout: Any, *, whole: bool) -> Any:
        outgoing, faults = what.outgoing, self._urllib3.exceptions
        try:
            return self._pool.urlopen(
                outgoing.method,
                outgoing.path,
                body=outgoing.body or None,
                headers=self._headers | outgoing.headers,
                retries=False,
                redirect=False,
                timeout=timeout,
                preload_content=whole,
                pool_timeout=what.timeout_s,  # type: ignore[arg-type]  # floats are fine
            )
        except (faults.NewConnectionError, faults.SSLError) as error:
            return Lost(_words(error), sent=False)
        except (faults.TimeoutError, faults.EmptyPoolError):
            return TimedOut()
        except (faults.HTTPError, OSError) as error:
            return Lost(_words(error), sent=True)

    def close(self) -> None:
        self._pool.close()


class AiohttpLink:
    """For one event loop: the session begins with the first call."""

    def __init__(
        self, origin: str, *, headers: Mapping[str, str], connections: int, tls: ssl.SSLContext | None
    ) -> None:
        try:
            import aiohttp
        except ImportError:
            raise MissingExtra(_MISSING.format("aiohttp")) from None
        self._aiohttp = aiohttp
        self._origin = origin
        self._connections = connections
        self._tls = tls
        self._headers = _HEADERS | dict(headers)
        self._session: aiohttp.ClientSession | None = None

    def _begin(self) -> aiohttp.ClientSession:
        library = self._aiohttp
        session: aiohttp.ClientSession = library.ClientSession(
            connector=library.TCPConnector(limit=self._connections, ssl=True if self._tls is None else self._tls),
            cookie_jar=library.DummyCookieJar(),
            headers=self._headers,
        )
        return session

    async def send(self, what: Send) -> Incoming | Lost | TimedOut:
        timeout = self._aiohttp.ClientTimeout(total=what.timeout_s)
        return await self._ask(what, timeout, self._whole)

    async def open(self, what: Send) -> Opened[AsyncGenerator[bytes]] | Incoming | Lost | TimedOut:
        """An answer as it comes; `timeout_s` is for each wait, not for the whole."""
        timeout = self._aiohttp.ClientTimeout(total=None, sock_connect=what.timeout_s, sock_read=what.timeout_s)
        return await self._ask(what, timeout, self._begun)

    async def _whole(self, answer: aiohttp.ClientResponse) -> Incoming:
        async with answer:
            return Incoming(answer.status, _lower(answer.headers), await answer.read())

    async def _begun(self, answer: aiohttp.ClientResponse) -> Opened[AsyncGenerator[bytes]] | Incoming:
        if answer.status != 200:
            async with answer:
                return Incoming(answer.status, _lower(answer.headers), await answer.content.read(_ERROR_BYTES))
        return Opened(self._chunks(answer))

    async def _chunks(self, answer: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
        try:
            async for chunk in answer.content.iter_any():
                yield chunk
        except (self._aiohttp.ClientError, TimeoutError, OSError):
            pass
        finally:
            answer.close()

    async def _ask(
        self, what: Send, timeout: Any, read: Callable[[aiohttp.ClientResponse], Awaitable[T]]
    ) -> T | Lost | TimedOut:
        from yarl import URL

        if self._session is None:
            self._session = self._begin()
        outgoing, faults = what.outgoing, self._aiohttp
        try:
            answer = await self._session.request(
                outgoing.method,
                URL(self._origin + outgoing.path, encoded=True),
                data=outgoing.body or None,
                headers=outgoing.headers,
                allow_redirects=False,
                timeout=timeout,
            )
            return await read(answer)
        except TimeoutError:
            return TimedOut()
        except faults.ClientConnectorError as error:
            return Lost(_words(error), sent=False)
        except (faults.ClientError, OSError) as error:
            return Lost(_words(error), sent=True)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


def _words(error: BaseException) -> str:
    """What happened, without the names of a library's objects around it: of the chain of causes the system's own words,
    such as "Connection refused", else the innermost one's."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        nested = getattr(cause, "os_error", None) or next((a for a in cause.args if isinstance(a, BaseException)), None)
        cause = nested or cause.__cause__
    for one in reversed(seen):
        if type(one).__module__ == "builtins" and isinstance(one, OSError) and one.errno:  # not ssl's and socket's own
            return os.strerror(one.errno)
        if isinstance(one, OSError) and one.strerror:
            return str(one.strerror)
    return str(seen[-1]) or str(error) or type(error).__name__


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
