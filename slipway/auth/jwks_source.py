"""Where an issuer's key set comes from, and when to look again. The controller owns one for each issuer.

`due` decides and reads no clock; `refresh` does the work and belongs into a thread. A source that fails leaves the
last good set in force: an issuer that is down must not lock out those who hold its tokens.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from slipway.auth.jwks import MAX_SET_BYTES, parse_key_set
from slipway.auth.tokens import may_hold_secrets
from slipway.errors import InvalidSpec, SlipwayError, Unavailable
from slipway.spec.access import Issuer

SHORTEST_S = 60.0
LONGEST_S = 24 * 3600.0
USUAL_S = 3600.0
"""Where the source says nothing of how long its answer holds."""
FILE_S = 2.0
RETRY_S = (5.0, 300.0)
ASKED_S = 30.0
"""For a key that nobody knows a set is fetched again, this often at most: anybody can send such a token."""


class Fetched(NamedTuple):
    """`text` None: it has not changed. `fresh_s`: how long it holds, None where the source does not say."""

    text: str | None
    etag: str = ""
    fresh_s: float | None = None


class Fetch(Protocol):
    def __call__(self, url: str, *, etag: str, timeout_s: float) -> Fetched: ...


@dataclass
class Schedule:
    """When to look at a source again. Pure: `now` in seconds on any clock that does not go back."""

    next_at: float = 0.0
    looked_at: float = field(default=-LONGEST_S)
    failures: int = 0

    def due(self, now: float) -> bool:
        return now >= self.next_at

    def succeeded(self, *, now: float, fresh_s: float | None) -> None:
        self.failures = 0
        self.looked_at = now
        self.next_at = now + min(max(USUAL_S if fresh_s is None else fresh_s, SHORTEST_S), LONGEST_S)

    def failed(self, *, now: float) -> None:
        self.failures += 1
        self.looked_at = now
        self.next_at = now + min(RETRY_S[0] * 2.0 ** min(self.failures - 1, 30), RETRY_S[1])

    def asked(self, *, now: float) -> None:
        """A token named a key that is not in the set: look soon."""
        self.next_at = min(self.next_at, max(now, self.looked_at + ASKED_S))


class JwksSource:
    """`text`: the last good set, '' before the first; it belongs into `Issuer.jwks`. `left_out`: a line for each key in
    the source that cannot be used. `problem`: why the last look failed, '' if it did not. `folder`: what a relative
    path is relative to. Raises InvalidSpec for a source of which there can be nothing."""

    def __init__(self, issuer: Issuer, *, folder: Path, timeout_s: float = 10.0, fetch: Fetch | None = None) -> None:
        self.issuer = issuer.issuer
        self.text = ""
        self.left_out: tuple[str, ...] = ()
        self.problem = ""
        self.schedule = Schedule()
        self._source = issuer.jwks_source
        self._secrets = may_hold_secrets(issuer)
        self._folder = folder
        self._timeout_s = timeout_s
        self._fetch = fetch or fetch_url
        self._etag = ""
        self._seen: tuple[int, int, int] | None = None
        self._look: Callable[[], Fetched] = self._choose()

    def due(self, *, now: float) -> bool:
        return self.schedule.due(now)

    def asked(self, *, now: float) -> None:
        """A gateway saw a token of this issuer with an unknown key (AccessSeen.refused: `unknown_kid`)."""
        self.schedule.asked(now=now)

    def refresh(self, *, now: float) -> bool:
        """Look, now; whether `text` has changed. Blocks for `timeout_s` at most, and raises nothing: see `problem`."""
        is_file = self._look == self._read_file
        try:
            found = self._look()
            if found.text is not None:
                self.left_out = parse_key_set(found.text, secrets=self._secrets).left_out
        except SlipwayError as error:
            self.problem = f"keys of issuer {self.issuer!r}: {error.message}"
            self._seen = None
            self.schedule.failed(now=now)
        else:
            self.problem = ""
            self.schedule.succeeded(now=now, fresh_s=found.fresh_s)
        if is_file:
            self.schedule.next_at = now + FILE_S
        if self.problem:
            return False
        if found.text is None:
            return False
        self._etag = found.etag
        if found.text == self.text:
            return False
        self.text = found.text
        return True

    def _choose(self) -> Callable[[], Fetched]:
        source = self._source.strip()
        if source.startswith("{"):
            return lambda: Fetched(source, fresh_s=LONGEST_S)
        scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", source)
        if scheme is None:
            return self._read_file
        if scheme[1].lower() in ("http", "https"):
            return lambda: self._fetch(source, etag=self._etag, timeout_s=self._timeout_s)
        raise InvalidSpec(
            f"jwks of issuer {self.issuer!r}: {scheme[0]} is not fetched; use https://, a path, or the keys"
        )

    def _read_file(self) -> Fetched:
        path = self._folder / Path(self._source).expanduser()
        try:
            facts = path.stat()
            seen = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
            if seen == self._seen:
                return Fetched(None)
            with path.open("rb") as file:
                raw = file.read(MAX_SET_BYTES + 1)
            self._seen = seen
        except (OSError, ValueError) as error:
            raise Unavailable(f"{path}: {getattr(error, 'strerror', None) or error}") from None
        try:
            return Fetched(raw.decode())
        except UnicodeDecodeError:
            raise InvalidSpec(f"{path}: a key set is JSON in UTF-8; this is not") from None


def fetch_url(url: str, *, etag: str, timeout_s: float) -> Fetched:
    """The body behind `url`: http or https, no redirects, bounded in size and in time. Raises Unavailable."""
    import urllib3  # only controllers fetch

    ends_at = time.monotonic() + timeout_s
    headers = {"Accept": "application/jwk-set+json, application/json", "User-Agent": "slipway"}
    if etag:
        headers["If-None-Match"] = etag
    with urllib3.PoolManager(timeout=urllib3.Timeout(total=timeout_s), retries=False) as pool:
        try:
            answer = pool.request(
                "GET", url, headers=headers, redirect=False, preload_content=False, decode_content=False
            )
            with answer:
                return _read_answer(answer, url, ends_at=ends_at)
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(f"{url} could not be fetched: {error}") from None


def _read_answer(answer: object, url: str, *, ends_at: float) -> Fetched:
    import urllib3

    assert isinstance(answer, urllib3.BaseHTTPResponse)
    told = answer.headers.get("ETag", "")[:256]
    fresh_s = fresh_for_s(answer.headers.get("Cache-Control", ""), answer.headers.get("Age", ""))
    if answer.status == 304:
        return Fetched(None, told, fresh_s)
    if 300 <= answer.status < 400:
        where = answer.headers.get("Location", "elsewhere")[:200]
        raise Unavailable(f"{url} redirects to {where}; redirects are not followed, name the final URL")
    if answer.status != 200:
        raise Unavailable(f"{url} answered {answer.status}; 200 with a key set is expected")
    body = bytearray()
    while piece := answer.read1(16 * 1024):
        body += piece
        if len(body) > MAX_SET_BYTES:
            raise Unavailable(f"{url} answered more than {MAX_SET_BYTES // 1024} KiB; no key set is that large")
        if time.monotonic() > ends_at:
            raise Unavailable(f"{url} was too slow in answering")
    try:
        text = body.decode()
        json.loads(text)
    except (ValueError, RecursionError):
        raise Unavailable(f"{url} did not answer JSON") from None
    return Fetched(text, told, fresh_s)


def fresh_for_s(cache_control: str, age: str = "") -> float | None:
    """Seconds for which an answer holds (RFC 9111); None where it does not say."""
    told = cache_control[:512].lower()
    if re.search(r"\bno-(store|cache)\b", told):
        return 0.0
    found = re.search(r"\bmax-age\s*=\s*\"?(\d{1,9})", told)
    if found is None:
        return None
    return max(0.0, float(found[1]) - (float(age) if re.fullmatch(r"[0-9]{1,9}", age) else 0.0))
