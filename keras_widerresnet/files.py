"""Outputs that are complete or absent."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator, Set

from keras_widerresnet.errors import InputError

VECTOR_SUFFIXES = (".png", ".svg")  # of pictures that are written both ways


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


def check_absent(path: str | pathlib.Path, overwrite: bool) -> None:
    """Raises `InputError` if a file that is to be written is there and may not be replaced."""
    if pathlib.Path(path).exists() and not overwrite:
        raise InputError(f"{str(path)!r} exists; --overwrite replaces it")


def check_output(output_dir: pathlib.Path, overwrite: bool, files: Set[str], optional: Set[str] = frozenset()) -> None:
    """Refuses a folder that is not to be touched.

    Args:
        output_dir: the folder that an evaluation is to make.
        overwrite: whether an earlier evaluation may be replaced.
        files: names of all that such an evaluation leaves.
        optional: names of what it may leave besides.

    Raises:
        InputError: if there is something that is no such evaluation, or one that may not be replaced.
    """
    if not output_dir.exists() or (output_dir.is_dir() and not any(output_dir.iterdir())):
        return
    # Whatever else lies in it would be lost.
    if not output_dir.is_dir() or {entry.name for entry in output_dir.iterdir()} - optional != files:
        raise InputError(f"{str(output_dir)!r} exists and is not an evaluation ({', '.join(sorted(files))}): choose another --output_dir")
    if not overwrite:
        raise InputError(f"{str(output_dir)!r} exists; --overwrite replaces it")


@contextlib.contextmanager
def created(output_dir: pathlib.Path) -> Iterator[pathlib.Path]:
    """A new folder to write to, moved to `output_dir` at the end, in place of what is there, and removed if writing fails.

    It is made at once: one that cannot be written is found before the hours of evaluation.

    Raises:
        InputError: if it cannot be made.
    """
    with replacing(output_dir) as folder:
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise InputError(f"{str(output_dir)!r} cannot be written: {error.strerror}") from None
        yield folder
        if output_dir.exists():
            shutil.rmtree(output_dir)
