"""Every error has an HTTP status and a gRPC code, and they are the ones a client library acts on."""

import grpc
import pytest

from slipway import errors
from slipway.errors import SlipwayError, every_error
from slipway.transports.codes import GRPC_CODE, HTTP_STATUS, grpc_code, http_status

KNOWN_GRPC_CODES = {code.value[0] for code in grpc.StatusCode}


def make(kind: type[SlipwayError]) -> SlipwayError:
    return errors.MethodNotAllowed("no", allow="GET") if kind is errors.MethodNotAllowed else kind("no")


@pytest.mark.parametrize("kind", [kind for kind in every_error() if kind.__module__ == errors.__name__])
def test_every_error_is_listed_with_codes_that_exist(kind: type[SlipwayError]) -> None:
    assert 400 <= HTTP_STATUS[kind] < 600
    assert GRPC_CODE[kind] in KNOWN_GRPC_CODES - {0}
    assert http_status(make(kind)) == HTTP_STATUS[kind]
    assert grpc_code(make(kind)) == GRPC_CODE[kind]


@pytest.mark.parametrize(
    ("error", "http", "code"),
    [
        (errors.InvalidInput("x"), 400, grpc.StatusCode.INVALID_ARGUMENT),
        (errors.NotFound("x"), 404, grpc.StatusCode.NOT_FOUND),
        (errors.Overloaded("x"), 429, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.Draining("x"), 503, grpc.StatusCode.UNAVAILABLE),
        (errors.DeadlineExceeded("x"), 504, grpc.StatusCode.DEADLINE_EXCEEDED),
        (errors.ModelFailure("x"), 500, grpc.StatusCode.INTERNAL),
        (errors.Unsupported("x"), 501, grpc.StatusCode.UNIMPLEMENTED),
    ],
)
def test_what_clients_rely_on(error: SlipwayError, http: int, code: grpc.StatusCode) -> None:
    assert (http_status(error), grpc_code(error)) == (http, code.value[0])


def test_an_error_nobody_listed_answers_as_its_parent() -> None:
    class Lukewarm(errors.NotReady):
        code = "lukewarm"

    assert (http_status(Lukewarm("x")), grpc_code(Lukewarm("x"))) == (503, grpc.StatusCode.UNAVAILABLE.value[0])
