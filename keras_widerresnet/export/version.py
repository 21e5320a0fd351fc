"""Versions for TF Serving: numbered folders that are either complete or absent."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator

from keras_widerresnet.errors import InputError
from keras_widerresnet.files import is_disk_full, reason, remove, replacing


def versions(base: pathlib.Path) -> list[int]:
    """Returns the version numbers in a model's folder, ascending; other entries are ignored, as by TF Serving."""
    entries = base.iterdir() if base.is_dir() else ()
    return sorted(int(entry.name) for entry in entries if entry.name.isdecimal() and entry.is_dir())


def version_path(output: str | pathlib.Path, *, overwrite: bool = False) -> pathlib.Path:
    """Returns the folder of the version that `new_version` would create.

    Raises:
        InputError: if it exists and must not be replaced.
    """
    output = pathlib.Path(output)
    if output.name.isdecimal() and int(output.name) > 0:
        base, path = output.parent, output
    else:
        base, path = output, output / str(max(versions(output), default=0) + 1)
    if path.exists() and not overwrite:
        raise InputError(f"{str(path)!r} exists; --overwrite replaces it, --output={base} creates the next version")
    return path


@contextlib.contextmanager
def new_version(output: str | pathlib.Path, *, overwrite: bool = False) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    """Yields an empty folder to fill, under a hidden name that servers ignore, and renames it to its number at the end.

    Args:
        output: `NAME` for the next version in that folder, or `NAME/N` for version N.
        overwrite: whether to replace an existing version N; a polling server sees the old version, none, or the new one.

    Yields:
        The folder to fill, and its final path. If filling it fails, nothing is left behind.

    Raises:
        InputError: if the version exists and must not be replaced, or the folder cannot be created.
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
    except Exception as error:  # TensorFlow has its own exceptions for file errors
        if not isinstance(error, OSError) and not is_disk_full(error):
            raise
        raise InputError(f"{str(path)!r} cannot be written: {reason(error)}") from None
    finally:
        if is_new and base.is_dir() and not any(base.iterdir()):
            base.rmdir()


def remove_old(path: pathlib.Path, keep: int) -> list[int]:
    """Removes all versions except the last `keep` (0 keeps all) and the new one, `path`; returns the removed numbers."""
    old = [number for number in versions(path.parent)[:-keep] if str(number) != path.name] if keep else []
    for number in old:
        remove(path.parent / str(number))
    return old
