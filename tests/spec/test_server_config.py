from __future__ import annotations

import json

import pytest

from slipway.errors import InvalidSpec
from slipway.spec.access import CertificateRule, Issuer
from slipway.spec.reading import read_server_config
from slipway.spec.serve import Doors, Tls
from slipway.spec.server import Authentication, DoorLimits, Logs, Ports, ServerConfig

KEYS = {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "1"}]}


def issuer(text: str) -> Issuer:
    (found,) = read_server_config(f"auth: {{jwt: [{{issuer: me, {text}}}]}}").auth.jwt
    return found


def problem(text: str) -> str:
    with pytest.raises(InvalidSpec) as caught:
        read_server_config(text, file="s.yaml")
    (only,) = caught.value.problems
    return only


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}"])
def test_nothing_is_all_defaults(text: str) -> None:
    assert read_server_config(text) == ServerConfig()


def test_a_whole_configuration() -> None:
    text = """
    host: 0.0.0.0
    ports: {http: 80, grpc: -1, admin: 0}
    gateways: 4
    database: postgresql://slipway@db/slipway
    limits: {max_body_mb: 10}
    cors_origins: ["https://example.org"]
    tls: {certificate: a.pem, key: b.pem, client_ca: c.pem, client: optional}
    auth:
      required: true
      jwt:
        - issuer: https://login.example.org
          audience: slipway
          algorithms: [ES256, EdDSA]
          jwks: https://login.example.org/jwks.json
          scopes: ["predict:*"]
      certificates: [{subject: "edge-*", scopes: ["predict:iris"]}]
    logs: {json: true, level: debug}
    """
    assert read_server_config(text) == ServerConfig(
        host="0.0.0.0",
        ports=Ports(80, -1, 0),
        gateways=4,
        database="postgresql://slipway@db/slipway",
        limits=DoorLimits(max_body_mb=10),
        cors_origins=("https://example.org",),
        tls=Tls("a.pem", "b.pem", "c.pem", "optional"),
        auth=Authentication(
            required=True,
            jwt=(
                Issuer(
                    "https://login.example.org",
                    audience=("slipway",),
                    algorithms=("ES256", "EdDSA"),
                    jwks_source="https://login.example.org/jwks.json",
                    scopes=("predict:*",),
                ),
            ),
            certificates=(CertificateRule("edge-*", ("predict:iris",)),),
        ),
        logs=Logs(json=True, level="debug"),
    )


def test_keys_come_from_afar_or_are_there() -> None:
    assert issuer("jwks: /etc/keys.json").jwks_source == "/etc/keys.json"
    assert issuer("jwks: /etc/keys.json").jwks == ""
    for written in (KEYS, KEYS["keys"], KEYS["keys"][0]):
        found = issuer(f"algorithms: HS256, jwks: {json.dumps(written)}")
        assert json.loads(found.jwks) == KEYS
        assert found.jwks_source == found.jwks


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port: 80", "s.yaml:1:1: a server has no 'port'; did you mean 'ports'?"),
        ("ports: {http: 70000}", "s.yaml:1:15: ports.http is 70000; write a whole number from -1 to 65535"),
        ("ports: {http: 8081}", "s.yaml:1:8: ports has one port for two doors (8081, 8081, 8082); give each its own"),
        ("grpc_door: rust", "s.yaml:1:12: grpc_door is 'rust'; it is one of auto, native, grpcio"),
        ("logs: {level: warn}", "s.yaml:1:15: logs.level is 'warn'; did you mean warning? It is one of"),
        ("database: mydb", "s.yaml:1:11: database is not that; write a URL such as"),
        ("cors_origins: [example.org]", "s.yaml:1:16: cors_origins[0] is 'example.org'; write * or an origin"),
        ("tls: {certificate: a, key: b, client: required}", "s.yaml:1:39: tls.client is required, but no client_ca"),
        ("tls: {certificate: a, key: b, client_ca: c}", "s.yaml:1:42: tls.client_ca does nothing while client is none"),
        ("tls: {certificate: a}", "s.yaml:1:6: tls has no key; it has to be given"),
        (
            "auth: {certificates: [{subject: a, scopes: [admin]}]}",
            "s.yaml:1:7: auth has certificates, but tls.client_ca",
        ),
        ("auth: {jwt: [{issuer: a}]}", "s.yaml:1:14: auth.jwt[0] has no jwks; it has to be given"),
        (
            "auth: {jwt: [{issuer: a, jwks: b, algorithms: none}]}",
            "s.yaml:1:47: auth.jwt[0].algorithms is 'none'; it is",
        ),
        ("auth: {jwt: [{issuer: a, jwks: b, algorithms: []}]}", "s.yaml:1:47: auth.jwt[0].algorithms is empty, so no"),
        (
            "auth: {jwt: [{issuer: a, jwks: b, algorithms: [HS256, RS256]}]}",
            "s.yaml:1:47: auth.jwt[0].algorithms has both",
        ),
        ("auth: {jwt: [{issuer: a, jwks: {keys: []}}]}", "s.yaml:1:32: auth.jwt[0].jwks is no key set; write a URL"),
        ("auth: {jwt: [{issuer: a, jwks: b, jwks_source: c}]}", "s.yaml:1:35: auth.jwt[0] has no 'jwks_source'"),
        (
            "auth: {jwt: [{issuer: a, jwks: b, scopes: [root]}]}",
            "s.yaml:1:44: auth.jwt[0].scopes[0] is 'root'; write adm",
        ),
        ("auth: {required: yes}", "s.yaml:1:18: auth.required is yes; did you mean true, without quotes?"),
        ("host: a\n---\nhost: b", "s.yaml:3:1: is a second document; a server has one configuration"),
        ("- a", "s.yaml:1:1: this is a list; write a mapping of host, ports"),
    ],
)
def test_mistakes(text: str, said: str) -> None:
    assert problem(text).startswith(said)


def test_secrets_of_a_configuration_are_never_repeated() -> None:
    for text in (
        "database: hunter2",
        "database: [hunter2]",
        "auth: {jwt: [{issuer: a, jwks: {keys: [{k: hunter2}]}}]}",
    ):
        assert "hunter2" not in problem(text)


def test_defaults_are_those_of_the_doors() -> None:
    config, doors = ServerConfig(), Doors()
    assert (config.ports.http, config.ports.grpc, config.ports.admin) == (
        doors.http_port,
        doors.grpc_port,
        doors.admin_port,
    )
    assert (config.host, config.grpc_door) == (doors.host, doors.grpc_door)
    assert config.limits.max_body_mb * 2**20 == doors.max_body_bytes
    assert config.limits.max_head_kb * 2**10 == doors.max_head_bytes
