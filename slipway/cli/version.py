"""`slipway version`: what a bug report should say."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

from slipway.cli.calls import Form, Output, written

PACKAGES = ("slipway", "onnxruntime", "scikit-learn", "numpy", "uvloop", "grpcio", "pygrpc-native")


def versions() -> list[tuple[str, str]]:
    found = [("python", platform.python_version())]
    for package in PACKAGES:
        try:
            found.append((package, installed(package)))
        except PackageNotFoundError:
            found.append((package, "not installed"))
    return found


def version(output: Output = Form.table) -> None:
    """The versions of Slipway, of Python, and of the runtimes that are installed: what a bug report should say.

    \b
    slipway version
    slipway version -o json
    """
    found = versions()
    if output is Form.table:
        print("\n".join(f"{name:14} {number}" for name, number in found))
    else:
        print(written(dict(found), output))
