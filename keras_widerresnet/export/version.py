"""Versions as TF Serving wants them: whole-numbered folders that are there whole or not at all."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator

from keras_widerresnet.errors import InputError
from keras_widerresnet.files import is_disk_full, reason, remove, replacing


def versions(base: pathlib.Path) -> list[int]:
    """Numbers of the versions in a model's folder, ascending; other entries are not versions to TF Serving either."""
    entries = base.iterdir() if base.is_dir() else ()
    return sorted(int(entry.name) for entry in entries if entry.name.isdecimal() and entry.is_dir())


def version_path(output: str | pathlib.Path, *, overwrite: bool = False) -> pathlib.Path:
    """The folder of the version that `new_version` makes.

    Raises:
        InputError: if it exists and is not to be replaced.
    """
    output = pathlib.Path(output)
    if output.name.isdecimal() and int(output.name) > 0:
        base, path = output.parent, output
    else:
        base, path = output, output / str(max(versions(output), default=0) + 1)
    if path.exists() and not overwrite:
        raise InputError(f"{str(path)!r} exists; --overwrite replaces it, --output={base} makes the next version")
    return path


@contextlib.contextmanager
def new_version(output: str | pathlib.Path, *, overwrite: bool = False) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    """An empty folder to fill, under a hidden name that a server does not look at, renamed to its number at the end.

    Args:
        output: `NAME` for the next version of that folder, or `NAME/N` for version N.
        overwrite: replace an existing version N; a server that polls meanwhile sees the old one, none, or the new one.

    Yields:
        The folder to fill, and the path that it will have. If filling it fails nothing is left.

    Raises:
        InputError: if the version exists and is not to be replaced, or the folder cannot be made.
    """
    path = version_path(output, overwrite=overwrite)
    base = path.parent
    is_new = not base.exists()
    try:
        with replacing(path) as folder:
            folder.mkdir(parents=True)
            yield folder, path
            if path.exists() and overwrite:
                remove(path)
    except Exception as error:  # TensorFlow has its own for files
        if not isinstance(error, OSError) and not is_disk_full(error):
            raise
        raise InputError(f"{str(path)!r} cannot be written: {reason(error)}") from None
    finally:
        if is_new and base.is_dir() and not any(base.iterdir()):
            base.rmdir()


def remove_old(path: pathlib.Path, keep: int) -> list[int]:
    """Removes all versions but the last `keep` (0: none is removed) and the new one, `path`; returns the numbers of those removed."""
    old = [number for number in versions(path.parent)[:-keep] if str(number) != path.name] if keep else []
    for number in old:
        remove(path.parent / str(number))
    return old
