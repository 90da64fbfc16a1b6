"""Certificates of the public doors: read strictly, read again when they change, and never a broken pair instead of a
good one.

One context is made once and stays with its listening socket. Each handshake is turned to the newest certificates as it
begins (by OpenSSL's servername callback, which comes with or without a name), so connections that stand are not
touched, and a client authority that was taken away is gone for the next handshake.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any, NamedTuple

from slipway.errors import SetupError
from slipway.spec.serve import Tls

log = logging.getLogger(__name__)
MAX_NAME_CHARS = 64
"""Of a common name, by X.520."""
_CLIENT = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class Pems(NamedTuple):
    """The files as they are now. `client_ca` '' where none is declared."""

    certificate: bytes
    key: bytes
    client_ca: bytes


class TlsFiles:
    """The files of one door. `context` is for the server's side of a socket: hand it to asyncio or to uvicorn.
    `number` grows with each set of files that was taken over; `pems` are those. `required`: no client without a
    certificate.

    Raises SetupError for files that are missing, no PEM, encrypted, or do not belong together.
    """

    def __init__(self, tls: Tls, *, protocols: tuple[str, ...] = ("http/1.1",)) -> None:
        self._tls = tls
        self._protocols = protocols
        self._paths = [Path(path) for path in (tls.certificate, tls.key, tls.client_ca) if path]
        check_tls(tls)
        self._looked = self._look()
        self.number = 1
        self.required = tls.client == "required"
        self.pems = self._read()
        self.context = self._newest = self._load()
        self.context.sni_callback = self._turn

    def refresh(self) -> bool:
        """Look whether the files have changed; True where new ones were taken over. What is broken is said in the log
        once, and the old ones stay."""
        looked = self._look()
        if looked == self._looked:
            return False
        self._looked = looked
        try:
            pems = self._read()
            newest = self._load()
        except SetupError as error:
            log.error("the certificates have changed and cannot be used; the old ones stay: %s", error.message)
            return False
        if pems == self.pems:
            return False
        self._newest, self.pems = newest, pems
        self.number += 1
        log.info("the certificates have changed; new connections get %s", self._tls.certificate)
        return True

    def _turn(self, connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest

    def _look(self) -> list[tuple[int, ...]]:
        """What changes with a file: also where a link is turned to another, as Kubernetes and certbot do."""
        found: list[tuple[int, ...]] = []
        for path in self._paths:
            try:
                facts = path.stat()
            except OSError:
                found.append(())
            else:
                found.append((facts.st_mtime_ns, facts.st_size, facts.st_ino, facts.st_dev))
        return found

    def _read(self) -> Pems:
        contents = []
        for path in self._paths:
            try:
                contents.append(path.read_bytes())
            except OSError as error:
                raise SetupError(f"tls: cannot read {path}: {error.strerror or error}") from None
        return Pems(contents[0], contents[1], contents[2] if len(contents) > 2 else b"")

    def _load(self) -> ssl.SSLContext:
        tls = self._tls
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_alpn_protocols(list(self._protocols))
        try:
            context.load_cert_chain(tls.certificate, tls.key, password=_no_password)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise SetupError(
                f"tls: {tls.certificate} and {tls.key} cannot be used: {_words(error)}; "
                "they are a chain of certificates in PEM, the server's first, and its private key, not encrypted"
            ) from None
        if tls.client_ca:
            try:
                context.load_verify_locations(cafile=tls.client_ca)
            except (ssl.SSLError, OSError) as error:
                raise SetupError(
                    f"tls: client_ca {tls.client_ca} cannot be used: {_words(error)}; it is certificates in PEM"
                ) from None
            # A session that is resumed is not verified again: an authority that was taken away would live on in it.
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        context.verify_mode = _CLIENT[tls.client]
        return context


def check_tls(tls: Tls) -> None:
    """Raise SetupError for what cannot be as it is declared."""
    if tls.client not in _CLIENT:
        raise SetupError(f"tls.client is {tls.client!r}; it is none, optional or required")
    for field in ("certificate", "key"):
        if not getattr(tls, field):
            raise SetupError(f"tls.{field} is missing; it is the path of a PEM file")
    if tls.client != "none" and not tls.client_ca:
        raise SetupError(f"tls.client is {tls.client!r}, but tls.client_ca does not say whose certificates to believe")
    if tls.client == "none" and tls.client_ca:
        raise SetupError("tls.client_ca is given, but tls.client is none; say optional or required")


def common_name(certificate: dict[str, Any]) -> str:
    """The one common name in the subject of a certificate, as `getpeercert` gives it; '' where there is none, where
    there are several, and where it is no plain name."""
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    return plain_name(names)


def plain_name(names: list[str]) -> str:
    if len(names) != 1 or not names[0].isprintable() or not 0 < len(names[0]) <= MAX_NAME_CHARS:
        return ""
    return names[0]


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)
