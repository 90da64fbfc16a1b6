"""What all connections of an HTTP door share: limits, remembered heads, the date, and the seconds since it opened."""

from __future__ import annotations

from email.utils import formatdate
from typing import Protocol

from slipway.spec.serve import Doors
from slipway.transports.http.head import Head, HeadMemory


class Kept(Protocol):
    """A connection as its door sees it."""

    def sweep(self, tick: int) -> None: ...

    def drain(self) -> None: ...

    def cut(self) -> None: ...


class Doorway:
    """`tick`: seconds since the door opened, in whole numbers; connections note it instead of asking a clock.

    `leaving`: connections beyond the limit, while they are told so. `json_head`: the beginning of nearly every answer,
    up to the number of its bytes.
    """

    def __init__(self, limits: Doors) -> None:
        self.limits = limits
        self.heads = HeadMemory(max_head_bytes=limits.max_head_bytes)
        self.connections: set[Kept] = set()
        self.leaving: set[Kept] = set()
        self.tick = 0
        self.date = ""
        self.json_head = b""
        self.draining = False
        self.set_date()

    def set_date(self) -> None:
        self.date = formatdate(usegmt=True)
        self.json_head = (
            f"HTTP/1.1 200 OK\r\ndate: {self.date}\r\ncontent-type: application/json\r\ncontent-length: "
        ).encode()

    def cors_headers(self, head: Head) -> list[str]:
        """Header lines for a browser of another origin, if the spec lets that origin in."""
        origin = head.headers.get("origin")
        allowed = self.limits.cors_origins
        if not allowed or origin is None:
            return []
        if "*" not in allowed and origin not in allowed:
            return []
        shown = "*" if "*" in allowed else origin
        lines = [f"access-control-allow-origin: {shown}", "vary: origin"]
        lines.append(
            "access-control-expose-headers: inference-header-content-length, x-request-id, retry-after, "
            "ratelimit-limit, ratelimit-remaining, ratelimit-reset, www-authenticate"
        )
        if head.method == "OPTIONS":
            asked = head.headers.get("access-control-request-headers", "content-type")
            lines.append("access-control-allow-methods: GET, POST, HEAD, OPTIONS")
            lines.append(f"access-control-allow-headers: {asked}")
            lines.append("access-control-max-age: 600")
        return lines
