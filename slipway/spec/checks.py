"""What no single field can tell: fields that contradict each other. Each check gives the field that would have to
change, and what to say of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from slipway.spec.access import Issuer
from slipway.spec.deployment import (
    AllowRule,
    AutoscaleMetric,
    BatchingRules,
    DeploymentSpec,
    Replicas,
    RequestLimits,
)
from slipway.spec.model_source import read_source
from slipway.spec.serve import Tls
from slipway.spec.server import Ports, ServerConfig

Found = Iterator[tuple[str, str]]


def _replicas(of: Replicas) -> Found:
    if of.max and of.max < of.min:
        yield "max", f"is {of.max}, less than min, which is {of.min}; write at least {of.min}, or 0 for as many as min"


def _batching(of: BatchingRules) -> Found:
    if of.slo_ms and of.max_delay_ms >= of.slo_ms:
        yield "max_delay_ms", f"is {of.max_delay_ms:g}, all of slo_ms, which is {of.slo_ms:g}; write far less"


def _allow_rule(of: AllowRule) -> Found:
    given = [field for field in of.__struct_fields__ if getattr(of, field) is not None]
    if len(given) != 1:
        said = f"has {' and '.join(given)}" if given else "has none of key, user, certificate and jwt"
        yield "", f"{said}; write exactly one, and another entry for whoever else may"


def _metric(of: AutoscaleMetric) -> Found:
    if of.metric in ("cpu", "memory") and of.target > 100:
        yield "target", f"is {of.target:g} percent of {of.metric}; write 100 at most"


def _limits(of: RequestLimits) -> Found:
    if of.burst and not of.requests_per_s:
        yield "burst", "does nothing without requests_per_s; give both"


def _deployment(of: DeploymentSpec) -> Found:
    metrics = [one.metric for one in of.autoscaling]
    for twice in sorted({one for one in metrics if metrics.count(one) > 1}):
        yield "autoscaling", f"has {twice} more than once; keep one"
    if _holds_password(of.model):
        yield "model", "has a password in its URL; the server reads such from its own environment, never from specs"
    for name, source in of.files.items():
        if _holds_password(source):
            yield "files", f"has a password in the URL of {name!r}; the server reads such from its own environment"
    if of.digest and read_source(of.model).kind == "module":
        yield "digest", "is of an artifact, but the model is code that is imported; remove it, or give a file"


def _ports(of: Ports) -> Found:
    fixed = [port for port in (of.http, of.grpc, of.admin) if port > 0]
    if len(set(fixed)) != len(fixed):
        yield "", f"has one port for two doors ({of.http}, {of.grpc}, {of.admin}); give each its own"


def _tls(of: Tls) -> Found:
    if of.client != "none" and not of.client_ca:
        yield "client", f"is {of.client}, but no client_ca says whose certificates to believe; give the PEM file"
    if of.client == "none" and of.client_ca:
        yield "client_ca", "does nothing while client is none; write client: optional or required"


def _issuer(of: Issuer) -> Found:
    if not of.algorithms:
        yield "algorithms", "is empty, so no token could be believed; name at least one, such as RS256"
    shared = [one for one in of.algorithms if one.startswith("HS")]
    if shared and len(shared) != len(of.algorithms):
        yield (
            "algorithms",
            "has both shared secrets (HS…) and public keys, so that a public key could pass for a secret; write two "
            "issuers, or one kind",
        )


def _server(of: ServerConfig) -> Found:
    if of.auth.certificates and (of.tls is None or not of.tls.client_ca):
        yield "auth", "has certificates, but tls.client_ca does not say whose to believe; give the PEM file"


def warnings_of(spec: DeploymentSpec) -> list[str]:
    """What is allowed, and perhaps not meant."""
    found = []
    if spec.autoscaling or spec.replicas.max > spec.replicas.min:
        found.append(
            f"autoscaling is kept and not followed yet: what runs is replicas.min, which is {spec.replicas.min}"
        )
    if spec.auth.public and spec.auth.allow:
        found.append("auth.allow changes nothing while auth.public lets everybody in")
    if spec.sandbox.trust_pickle:
        found.append("sandbox.trust_pickle lets the model's file run any code when it is loaded")
    if not spec.sandbox.enabled:
        found.append("sandbox.enabled is false: the model's code can read and write what the server can")
    return found


def _holds_password(url: str) -> bool:
    try:
        return "://" in url and urlsplit(url).password is not None
    except ValueError:
        return False


CHECKS: dict[type, Callable[[Any], Found]] = {
    Replicas: _replicas,
    BatchingRules: _batching,
    AllowRule: _allow_rule,
    AutoscaleMetric: _metric,
    RequestLimits: _limits,
    DeploymentSpec: _deployment,
    Ports: _ports,
    Tls: _tls,
    Issuer: _issuer,
    ServerConfig: _server,
}
