"""Client certificates: TLS has verified the chain; what is left is whose it is and what he may do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.auth.policy import matches
from slipway.spec.access import Caller, CertificateRule

MAX_SUBJECT_CHARS = 255


def common_name(certificate: Mapping[str, Any] | None) -> str:
    """Of what `ssl.SSLSocket.getpeercert()` says; '' where there is no certificate, or not exactly one common name that
    can be shown."""
    subject = certificate.get("subject", ()) if certificate else ()
    names = [value for part in subject for name, value in part if name == "commonName"]
    return names[0] if len(names) == 1 and is_subject(names[0]) else ""


def is_subject(name: str) -> bool:
    return 0 < len(name) <= MAX_SUBJECT_CHARS and name.isprintable()


def certificate_caller(subject: str, rules: tuple[CertificateRule, ...]) -> Caller:
    """With the scopes of every rule that fits; with none he is known, and holds nothing."""
    scopes = dict.fromkeys(scope for rule in rules if matches(rule.subject, subject) for scope in rule.scopes)
    return Caller("certificate", subject, f"certificate:{subject}", tuple(scopes))
