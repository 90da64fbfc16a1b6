from __future__ import annotations

import pytest

from slipway.cli.environment import check_environment
from slipway.errors import SetupError


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("SLIPWAY_PORT", "eighty", "SLIPWAY_PORT='eighty', but --port takes a whole number"),
        ("SLIPWAY_SLO_MS", "fast", "--slo-ms takes a number"),
        ("SLIPWAY_LOG_JSON", "maybe", "--log-json takes true or false"),
        ("SLIPWAY_REPLICSA", "2", "did you mean SLIPWAY_REPLICAS?"),
    ],
)
def test_what_cannot_be_is_named_with_what_would_be_right(variable: str, value: str, words: str) -> None:
    with pytest.raises(SetupError) as caught:
        check_environment({variable: value})
    assert words in caught.value.message


def test_the_rest_of_the_environment_is_none_of_our_business() -> None:
    check_environment(
        {
            "PATH": "/bin",
            "SLIPWAY_PORT": "0",
            "SLIPWAY_LOG_JSON": "TRUE",
            "SLIPWAY_SLO_MS": "2.5",
            "SLIPWAY_ADMIN": "http://127.0.0.1:1",
            "SLIPWAY_SERVICE_PORT": "tcp://10.0.0.1:8080",
            "SLIPWAY_PORT_8080_TCP": "tcp://10.0.0.1:8080",
            "SLIPWAY_COLOUR_OF_THE_DOOR": "red",
        }
    )
