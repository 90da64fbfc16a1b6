"""The URL that a client is given: which protocol, where, and how it is encrypted."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from slipway.errors import SetupError

DEFAULT_PORTS = {"http": 80, "https": 443, "grpc": 8081, "grpcs": 443}


class Address(NamedTuple):
    """`url`: for messages. `path`: where the server lives behind a proxy, '' for nowhere special."""

    url: str
    scheme: str
    host: str
    port: int
    path: str

    @property
    def is_grpc(self) -> bool:
        return self.scheme in ("grpc", "grpcs")

    @property
    def is_encrypted(self) -> bool:
        return self.scheme in ("https", "grpcs")

    @property
    def target(self) -> str:
        """host:port"""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def read_address(url: str) -> Address:
    """Raises SetupError for what is not a URL that a client can call."""
    right = "a URL such as http://127.0.0.1:8080 or grpc://127.0.0.1:8081"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SetupError(f"{url!r} is not {right}: {error}") from None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise SetupError(f"{url!r} is not {right} (https and grpcs are encrypted)")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise SetupError(f"{parts.scheme}://{parts.hostname} has more than host, port and path; it takes {right}")
    if port is None:
        port = DEFAULT_PORTS[parts.scheme]
    path = parts.path.rstrip("/")
    if path and parts.scheme in ("grpc", "grpcs"):
        raise SetupError(f"{url!r} has a path, and gRPC has none: {right}")
    address = Address("", parts.scheme, parts.hostname, port, path)
    return address._replace(url=f"{parts.scheme}://{address.target}{path}")


def tls_context(address: Address, ca_file: str | None, *, pinned: str = "") -> ssl.SSLContext | None:
    """None where nothing is encrypted. `ca_file`: certificates to trust instead of the system's. `pinned`: a PEM file
    whose first certificate is the one that the server has to show, whatever name is in it and whoever signed it; where
    `ca_file` is given that counts. Raises SetupError."""
    if not address.is_encrypted:
        return None
    try:
        if pinned and not ca_file:
            return _pinning(Path(pinned).read_text())
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(ca_file or pinned, error) from error


def _pinning(pem: str) -> ssl.SSLContext:
    """Only the first: those behind it have signed other certificates too."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    first = begin + pem.partition(begin)[2].partition(end)[0] + end
    context = ssl.create_default_context(cadata=first)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def read_certificates(ca_file: str | None) -> bytes | None:
    """What is in `ca_file`, None for the system's own. Raises SetupError."""
    try:
        return None if ca_file is None else Path(ca_file).read_bytes()
    except OSError as error:
        raise _unreadable(ca_file, error) from error


def _unreadable(ca_file: str | None, error: Exception) -> SetupError:
    return SetupError(f"cannot read ca_file {ca_file}: {getattr(error, 'strerror', None) or error}")
