"""The first bytes of each kind of original file."""

from __future__ import annotations

import pathlib

MXNET = b"\x12\x01\0\0\0\0\0\0"
HDF5 = b"\x89HDF\r\n\x1a\n"
TORCH = (b"PK\x03\x04", b"\x80\x02")  # zip archives, and the pickles of PyTorch before 1.6
LENGTH = 8


def first_bytes(path: pathlib.Path) -> bytes:
    """Returns the first bytes of a file, which identify its kind.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        return file.read(LENGTH)


def is_original(path: pathlib.Path) -> bool:
    """Whether a file begins like an original checkpoint."""
    return first_bytes(path).startswith((MXNET, HDF5, *TORCH))
