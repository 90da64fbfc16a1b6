"""What a failure of the model is called, what the client is told of it, and what it may need to be allowed."""

from __future__ import annotations

import os
from collections.abc import Iterator

from slipway.errors import ModelFailure, SlipwayError
from slipway.worker.sandbox import SandboxPlan, may_read

MAX_MESSAGE = 2_000
"""Characters of a model's own words that travel to a client; the log has them all."""


def code_of(error: BaseException) -> str:
    return error.code if isinstance(error, SlipwayError) else ModelFailure.code


def words_of(error: BaseException, plan: SandboxPlan) -> str:
    """The error's message, and where the sandbox was in its way, the option that lets it through."""
    if isinstance(error, SlipwayError):
        words = error.message
    elif isinstance(error, SystemExit):
        words = f"the model's code called sys.exit({error.code!r})"
    else:
        words = f"{type(error).__name__}: {error}"
    if len(words) > MAX_MESSAGE:
        words = f"{words[:MAX_MESSAGE]}… ({len(words) - MAX_MESSAGE} more characters in the log)"
    return words + _allowance(error, plan)


def ran_out_of_memory(error: BaseException) -> bool:
    """A MemoryError anywhere in the error's history: whoever wrapped it has not made the memory come back."""
    return any(isinstance(cause, MemoryError) for cause in _history(error))


def _allowance(error: BaseException, plan: SandboxPlan) -> str:
    if not plan.on:
        return ""
    for cause in _history(error):
        if isinstance(cause, PermissionError) and isinstance(cause.filename, str | bytes):
            path = os.path.abspath(os.fsdecode(cause.filename))  # noqa: PTH100 (of a string that may be no file)
            return _hint(path, plan)
        if isinstance(cause, ModuleNotFoundError) and plan.narrowed:
            name = f"{plan.narrowed}/{(cause.name or '').partition('.')[0]}"
            for path in (name, f"{name}.py"):
                if os.path.exists(path):  # noqa: PTH110
                    return (
                        f" (the sandbox opens no more of {plan.narrowed} than the model; give the model a folder of "
                        f"its own, or --allow-read {path})"
                    )
    return ""


def _hint(path: str, plan: SandboxPlan) -> str:
    if not os.path.exists(path):  # noqa: PTH110
        folder = os.path.dirname(path)  # noqa: PTH120
        if not os.access(folder, os.W_OK):
            return ""  # not the sandbox: any process of this user is refused
        return (
            f" (the sandbox lets a model write to its scratch folder, $TMPDIR, only; --allow-write {folder} adds this)"
        )
    if may_read(plan, path):
        return f" (the sandbox lets a model read this, not write it; --allow-write {path} does)"
    if not os.access(path, os.R_OK):
        return ""
    return f" (the sandbox keeps this from the model; --allow-read {path} lets it read it)"


def _history(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
