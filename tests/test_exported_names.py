"""The public names, frozen: who adds or removes one says so here."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.metadata import version

import pytest

import slipway

PUBLIC = {
    "slipway": ["Admin", "AsyncAdmin", "AsyncClient", "Client", "Model", "__version__"],
    "slipway.client": ["Admin", "AsyncAdmin", "AsyncClient", "Client", "Prediction", "Retry"],
}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names(module: str) -> None:
    found = import_module(module)
    assert sorted(found.__all__) == PUBLIC[module]
    for name in PUBLIC[module]:
        assert getattr(found, name) is not None
    assert set(PUBLIC[module]) <= set(dir(found))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Clint'"):
        slipway.Clint  # noqa: B018


def test_one_version_everywhere() -> None:
    assert slipway.__version__ == version("slipway")
    said = subprocess.run([sys.executable, "-m", "slipway", "version"], capture_output=True, text=True, check=True)
    assert slipway.__version__ in said.stdout.split()


def test_the_model_class_costs_no_client() -> None:
    code = "import slipway, sys; slipway.Model; print('slipway.client' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
