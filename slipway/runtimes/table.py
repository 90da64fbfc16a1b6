"""The runtimes by name, as strings: nothing of a framework is imported until a worker has chosen it."""

from __future__ import annotations

import os
from difflib import get_close_matches
from importlib import import_module
from typing import NamedTuple, cast

from slipway.errors import LoadFailure, MissingExtra, SetupError, SlipwayError
from slipway.infer.runtime import Load, LoadOptions, Runtime


class Entry(NamedTuple):
    """`load`: `module:function`. `extra`: what pip installs for it. `packages`: what that brings, by import name.

    `environment`: what the framework shall find when it is imported, where the user has not said otherwise.
    """

    load: str
    extra: str = ""
    packages: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


RUNTIMES: dict[str, Entry] = {
    "onnx": Entry("slipway.runtimes.onnx:load", "onnx", ("onnxruntime",)),
    "sklearn": Entry(
        "slipway.runtimes.sklearn:load",
        "sklearn",
        ("sklearn", "pandas", "skops", "joblib", "scipy"),
        (("JOBLIB_MULTIPROCESSING", "0"),),  # replicas are the processes; a sandbox has no semaphores to share
    ),
    "python": Entry("slipway.runtimes.python:load"),
}


def load_runtime(name: str, path: str, options: LoadOptions) -> Runtime:
    """Import the runtime `name` and load `path` with it.

    Raises SetupError for an unknown name, MissingExtra with the pip command, UnsafeModel, and LoadFailure for
    everything else that keeps the model from being loaded.
    """
    entry = RUNTIMES.get(name)
    if entry is None:
        near = get_close_matches(name, RUNTIMES, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ";"
        raise SetupError(f"there is no runtime {name!r}{hint} known are {', '.join(RUNTIMES)}")
    module, _, function = entry.load.partition(":")
    for variable, value in entry.environment:
        os.environ.setdefault(variable, value)
    try:
        load = cast("Load", getattr(import_module(module), function))
        return load(path, options)
    except (SlipwayError, MemoryError):
        raise
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in entry.packages:
            raise missing_extra(name, missing) from error
        raise LoadFailure(f"cannot load {path!r} with the {name} runtime: {error}") from error
    except Exception as error:
        raise LoadFailure(f"cannot load {path!r} with the {name} runtime: {type(error).__name__}: {error}") from error


def missing_extra(name: str, package: str) -> MissingExtra:
    """The error that says which pip command brings `package`."""
    extra = RUNTIMES[name].extra
    return MissingExtra(
        f"the {name} runtime needs the package {package!r}, which is not installed: pip install 'slipway[{extra}]'"
    )
