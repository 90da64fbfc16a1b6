"""How the management API is spoken: JSON of `spec.resources`, problem details (RFC 9457) where something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from slipway.client.exchange import Heard, Incoming, Outgoing, Pause, Send
from slipway.client.failures import BY_HTTP_STATUS, make_error
from slipway.client.retry import Circumstances
from slipway.errors import InvalidInput, InvalidSpec, SlipwayError
from slipway.spec.serve import NAME

T = TypeVar("T")

API: Final = "/api/v1"
JSON: Final = "application/json"
_REQUEST = "urn:slipway:request:"


class Do(msgspec.Struct):
    """Something slow on this machine, such as hashing a file; what it returns comes back as the outcome. An asyncio
    client does it in a thread."""

    work: Callable[[], Any]


class Done(msgspec.Struct):
    """What a Do has returned, or raised."""

    value: Any = None
    error: BaseException | None = None


AdminTalk = Generator[Send | Pause | Do, Heard, T]
Query = Mapping[str, "str | int | float | bool | Sequence[str] | None"]


def perform(at: Circumstances, work: Callable[[], T]) -> AdminTalk[T]:
    """What `work` returns, or raises, with the clock of `at` set again after it."""
    heard = yield Do(work)
    at.now = heard.now
    done = heard.outcome
    assert isinstance(done, Done)
    if done.error is not None:
        raise done.error
    result: T = done.value
    return result


class _ProblemBody(msgspec.Struct):
    detail: str = ""
    title: str = ""
    code: str = ""
    instance: str = ""
    errors: list[str] = []


class AdminProtocol:
    """`prefix`: where the server lives behind a proxy, '' for nowhere special."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def failure(self, incoming: Incoming) -> SlipwayError | None:
        if 200 <= incoming.status < 300:
            return None
        try:
            said = msgspec.json.decode(incoming.body, type=_ProblemBody)
        except (msgspec.DecodeError, UnicodeDecodeError):  # a proxy's page, or no slipway at all
            said = _ProblemBody(detail=incoming.body[:300].decode(errors="replace").strip())
        message = said.detail or said.title or f"the server answered with HTTP status {incoming.status}"
        if said.code == InvalidSpec.code:
            return InvalidSpec(message, problems=tuple(said.errors))
        if said.errors and said.errors != [message]:
            message = "\n  ".join([message, *said.errors])
        return make_error(
            said.code,
            message,
            fallback=BY_HTTP_STATUS.get(incoming.status),
            headers=incoming.headers,
            correlation=said.instance.removeprefix(_REQUEST) if said.instance.startswith(_REQUEST) else "",
        )

    def with_timeout(self, outgoing: Outgoing, timeout_s: float) -> Outgoing:  # noqa: ARG002
        """The management API has no deadlines: what was asked for is done, whoever waits for it."""
        return outgoing

    def outgoing(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Outgoing:
        """`body`: whatever msgspec writes as JSON, None for none. `query`: None and '' are left out."""
        sent = dict(headers or {})
        content = b""
        if body is not None:
            content = msgspec.json.encode(body)
            sent["content-type"] = JSON
        return Outgoing(self._prefix + path + _query(query or {}), content, method, sent)


def _query(values: Query) -> str:
    given: list[tuple[str, str]] = []
    for key, value in values.items():
        if value is None or value == "" or value is False:
            continue
        if isinstance(value, str | int | float):
            given.append((key, "true" if value is True else str(value)))
        else:
            given += [(key, one) for one in value]
    return "?" + urlencode(given, quote_via=quote) if given else ""


def part(kind: str, name: str) -> str:
    """`name` as a segment of a path. Raises InvalidInput for what can name nothing: '..' would be another resource."""
    if not NAME.match(name):
        raise InvalidInput(
            f"{name!r} cannot name a {kind}: letters, digits, '.', '_' and '-' only, 128 at most, starting with a "
            "letter or digit"
        )
    return name


def read_json(kind: type[T]) -> Callable[[Incoming], T]:
    """Fields that this client does not know are left aside: the server may be newer."""
    decoder = msgspec.json.Decoder(kind)

    def read(incoming: Incoming) -> T:
        try:
            return decoder.decode(incoming.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SlipwayError(f"the answer is not that of a Slipway management API: {error}") from None

    return read


def read_text(incoming: Incoming) -> str:
    return incoming.body.decode(errors="replace")


def read_nothing(incoming: Incoming) -> None:  # noqa: ARG001
    return None
