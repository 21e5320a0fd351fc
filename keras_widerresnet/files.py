"""Atomic writing: an output is either complete or absent."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import pathlib
import platform
import re
import shutil
import zlib
from collections.abc import Iterator, Set

from keras_widerresnet.errors import InputError

VECTOR_SUFFIXES = (".png", ".svg")  # of pictures that are written in both formats


_UNFINISHED, _REMOVED = "unfinished", "removed"
_HIDDEN = re.compile(rf"\.(?:{_UNFINISHED}|{_REMOVED})-(\d+)-([0-9a-f]{{8}})-.+", re.DOTALL)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK_FULL_TEXTS = ("No space left", "Disk quota exceeded", "File too large")


@contextlib.contextmanager
def replacing(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`, which is renamed to `path` at the end, or removed if writing fails.

    The caller creates a file or a folder there. Leftovers of killed processes in the same folder are removed first.
    The temporary name keeps the suffixes, from which Keras and Matplotlib infer the format.
    """
    path = pathlib.Path(path)
    _remove_leftovers(path)
    temporary = _hidden(_UNFINISHED, path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        _remove_now(temporary)


def check_room(path: pathlib.Path, size: int) -> None:
    """Raises `OSError` if the disk has no room for a new file of `size` bytes.

    For writers that do not handle a full disk: the HDF5 library crashes the process.
    """
    try:
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            elif shutil.disk_usage(path.parent).free < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        path.unlink(missing_ok=True)


def remove(path: pathlib.Path) -> None:
    """Removes a file or folder atomically: it is first renamed to a hidden name, then deleted."""
    _remove_leftovers(path)
    hidden = _hidden(_REMOVED, path)
    os.replace(path, hidden)
    _remove_now(hidden)


def is_leftover(path: pathlib.Path) -> bool:
    """Whether `path` has the hidden name of an output that is being written or removed, or whose process was killed meanwhile."""
    return _HIDDEN.fullmatch(path.name) is not None


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception of Python's or TensorFlow's file operations reports a full disk."""
    return getattr(error, "errno", None) in _DISK_FULL or any(text in str(error) for text in _DISK_FULL_TEXTS)


def reason(error: BaseException) -> str:
    """Returns the reason why a file could not be written, in one line."""
    if is_disk_full(error):
        return "the disk is full"
    strerror = getattr(error, "strerror", None)
    return strerror or str(error).partition("\n")[0]


def _hidden(word: str, path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f".{word}-{os.getpid()}-{_machine()}-{path.name}")


@functools.cache
def _machine() -> str:
    """Returns an identifier of the machine, and on Linux of the container, in which process ids are unique."""
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        namespace = 0
    return f"{zlib.crc32(f'{platform.node()} {namespace}'.encode()):08x}"


def _remove_leftovers(path: pathlib.Path) -> None:
    """Removes leftovers of dead processes of this machine beside an output; those of other machines may still be in use."""
    with contextlib.suppress(OSError):  # no such folder yet, or an entry that another process or user owns
        for entry in list(path.parent.iterdir()):
            match = _HIDDEN.fullmatch(entry.name)
            if match and match[2] == _machine() and not _is_alive(int(match[1])):
                _remove_now(entry)


def _is_alive(process: int) -> bool:
    if os.name != "posix":
        return True  # on other systems the call below would end the process
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's process, or not a valid process id
        return True
    return True


def _remove_now(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_absent(path: str | pathlib.Path, overwrite: bool) -> None:
    """Raises `InputError` if an output file exists and must not be replaced."""
    if pathlib.Path(path).exists() and not overwrite:
        raise InputError(f"{str(path)!r} exists; --overwrite replaces it")


def is_absent(folder: pathlib.Path) -> bool:
    """Whether a folder does not exist, or contains only leftovers of killed processes."""
    return not folder.exists() or (folder.is_dir() and all(is_leftover(entry) for entry in folder.iterdir()))


def check_output(output_dir: pathlib.Path, overwrite: bool, files: Set[str], optional: Set[str] = frozenset()) -> None:
    """Checks that an evaluation may write to a folder.

    Args:
        output_dir: the folder to write to.
        overwrite: whether an earlier evaluation may be replaced.
        files: names of all files that such an evaluation writes.
        optional: names of further files that it may write.

    Raises:
        InputError: if the folder exists and is not such an evaluation, or is one that must not be replaced.
    """
    if is_absent(output_dir):
        return
    # Any other files in it would be lost.
    if not output_dir.is_dir() or {entry.name for entry in output_dir.iterdir()} - optional != files:
        raise InputError(f"{str(output_dir)!r} exists and is not an evaluation ({', '.join(sorted(files))}): choose another --output_dir")
    if not overwrite:
        raise InputError(f"{str(output_dir)!r} exists; --overwrite replaces it")


@contextlib.contextmanager
def created(output_dir: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a new folder, which replaces `output_dir` at the end, or is removed if writing fails.

    It is created at once, so that a location without write access is reported before hours of evaluation.

    Raises:
        InputError: if it cannot be created.
    """
    with replacing(output_dir) as folder:
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise InputError(f"{str(output_dir)!r} cannot be written: {reason(error)}") from None
        yield folder
        if output_dir.exists():
            remove(output_dir)
