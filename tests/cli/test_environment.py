from __future__ import annotations

import pytest

from slipway.cli.environment import check_environment
from slipway.cli.options import ServeOptions
from slipway.cli.up_options import UpOptions
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
        check_environment({variable: value}, ServeOptions)
    assert words in caught.value.message


def test_the_rest_of_the_environment_is_none_of_our_business() -> None:
    check_environment(
        {
            "PATH": "/bin",
            "SLIPWAY_PORT": "0",
            "SLIPWAY_LOG_JSON": "TRUE",
            "SLIPWAY_SLO_MS": "2.5",
            "SLIPWAY_SERVER": "http://127.0.0.1:1",
            "SLIPWAY_SERVICE_PORT": "tcp://10.0.0.1:8080",
            "SLIPWAY_PORT_8080_TCP": "tcp://10.0.0.1:8080",
            "SLIPWAY_COLOUR_OF_THE_DOOR": "red",
        },
        ServeOptions,
    )


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("SLIPWAY_ADMIN_PORT", "x", "--admin-port takes a whole number"),
        ("SLIPWAY_DETACH", "perhaps", "--detach takes true or false"),
        ("SLIPWAY_DATABSE", "sqlite://", "did you mean SLIPWAY_DATABASE?"),
    ],
)
def test_the_options_of_up_are_held_to_the_same(variable: str, value: str, words: str) -> None:
    with pytest.raises(SetupError, match="the environment has") as caught:
        check_environment({variable: value}, UpOptions)
    assert words in caught.value.message
    check_environment({"SLIPWAY_HOST": "0.0.0.0", "SLIPWAY_LOG_JSON": "1", "SLIPWAY_DRAIN_S": "2.5"}, UpOptions)
