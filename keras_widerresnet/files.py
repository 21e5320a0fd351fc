"""Outputs that are complete or absent."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary name beside `path` to write to, moved to `path` at the end and removed if writing fails.

    The caller makes a file or a folder of it.
    The temporary name keeps the suffixes, by which Keras and Matplotlib choose the format.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".unfinished-{os.getpid()}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)
