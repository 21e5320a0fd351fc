"""Outputs that are complete or absent."""

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

VECTOR_SUFFIXES = (".png", ".svg")  # of pictures that are written both ways


_UNFINISHED, _REMOVED = "unfinished", "removed"
_HIDDEN = re.compile(rf"\.(?:{_UNFINISHED}|{_REMOVED})-(\d+)-([0-9a-f]{{8}})-.+", re.DOTALL)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK_FULL_TEXTS = ("No space left", "Disk quota exceeded", "File too large")


@contextlib.contextmanager
def replacing(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary name beside `path` to write to, moved to `path` at the end and removed if writing fails.

    The caller makes a file or a folder of it. What processes that were killed left in the same folder is removed first.
    The temporary name keeps the suffixes, by which Keras and Matplotlib choose the format.
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
    """Raises `OSError` if there is no room on the disk for a new file of so many bytes.

    For writers that do not survive a full disk: HDF5's library then ends the process.
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
    """Takes a file or folder away at once, by a hidden name, before its files go one by one."""
    _remove_leftovers(path)
    hidden = _hidden(_REMOVED, path)
    os.replace(path, hidden)
    _remove_now(hidden)


def is_leftover(path: pathlib.Path) -> bool:
    """Whether something has the hidden name of an output that is being written or removed, or was when its process was killed."""
    return _HIDDEN.fullmatch(path.name) is not None


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception, of Python's or of TensorFlow's files, says that no more can be written."""
    return getattr(error, "errno", None) in _DISK_FULL or any(text in str(error) for text in _DISK_FULL_TEXTS)


def reason(error: BaseException) -> str:
    """Why a file could not be written, in one line."""
    if is_disk_full(error):
        return "the disk is full"
    strerror = getattr(error, "strerror", None)
    return strerror or str(error).partition("\n")[0]


def _hidden(word: str, path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f".{word}-{os.getpid()}-{_machine()}-{path.name}")


@functools.cache
def _machine() -> str:
    """What a process number is of: a machine, and on Linux a container on it."""
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        namespace = 0
    return f"{zlib.crc32(f'{platform.node()} {namespace}'.encode()):08x}"


def _remove_leftovers(path: pathlib.Path) -> None:
    """Removes what dead processes of this machine left beside an output; what those of others left may still be written."""
    with contextlib.suppress(OSError):  # no such folder yet; or another process removes the same, or it is another user's
        for entry in list(path.parent.iterdir()):
            match = _HIDDEN.fullmatch(entry.name)
            if match and match[2] == _machine() and not _is_alive(int(match[1])):
                _remove_now(entry)


def _is_alive(process: int) -> bool:
    if os.name != "posix":
        return True  # elsewhere the call below ends the process
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's, or no number of a process
        return True
    return True


def _remove_now(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_absent(path: str | pathlib.Path, overwrite: bool) -> None:
    """Raises `InputError` if a file that is to be written is there and may not be replaced."""
    if pathlib.Path(path).exists() and not overwrite:
        raise InputError(f"{str(path)!r} exists; --overwrite replaces it")


def is_absent(folder: pathlib.Path) -> bool:
    """Whether a folder is not there, or holds nothing but what a killed process left."""
    return not folder.exists() or (folder.is_dir() and all(is_leftover(entry) for entry in folder.iterdir()))


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
    if is_absent(output_dir):
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
            raise InputError(f"{str(output_dir)!r} cannot be written: {reason(error)}") from None
        yield folder
        if output_dir.exists():
            remove(output_dir)
