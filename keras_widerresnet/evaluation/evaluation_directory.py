"""The directory of an evaluation: made whole or not at all, and what is written into it."""

from __future__ import annotations

import contextlib
import csv
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Sequence, Set

from tabulate import tabulate

from keras_widerresnet.errors import InputError
from keras_widerresnet.files import replacing


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


def write_csv(path: pathlib.Path, headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(headers)
        writer.writerows(rows)


def markdown_table(rows: Iterable[Sequence[object]], headers: Sequence[str]) -> str:
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def settings_table(settings: dict[str, object]) -> str:
    """Settings in words, one a line."""
    return markdown_table([(key.replace("_", " "), _in_words(value)) for key, value in settings.items()], ("setting", ""))


def _in_words(value: object) -> str:
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
