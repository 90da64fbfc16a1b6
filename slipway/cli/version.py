"""`slipway version`: what a bug report should say."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

PACKAGES = ("slipway", "onnxruntime", "scikit-learn", "numpy", "uvloop", "grpcio", "pygrpc-native")


def versions() -> list[tuple[str, str]]:
    found = [("python", platform.python_version())]
    for package in PACKAGES:
        try:
            found.append((package, installed(package)))
        except PackageNotFoundError:
            found.append((package, "not installed"))
    return found
