"""Keeps what replicas write within bounds: a file that has grown large becomes the one before, and begins anew."""

from __future__ import annotations

import contextlib
import logging
import shutil
from pathlib import Path

MAX_BYTES = 10 * 2**20

logger = logging.getLogger(__name__)


def rotate(folder: Path, *, max_bytes: int = MAX_BYTES) -> list[Path]:
    """Copy and truncate each `*.log` under `folder` that is over `max_bytes`; which they were.

    Replicas append with O_APPEND, so after the cut they go on at the beginning. What one writes between copy and cut is
    lost, at most some lines; to reopen a file on a signal is more than a model's own code can be asked for.
    """
    rotated = []
    for path in folder.glob("**/*.log"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size <= max_bytes:
                continue
            try:
                shutil.copyfile(path, path.with_suffix(".log.1"))
            except OSError as error:  # a full disk, most likely: then room matters more than old lines
                logger.warning("%s could not be kept: %s", path, error.strerror)
            with path.open("r+b") as file:
                file.truncate(0)
            rotated.append(path)
    return rotated
