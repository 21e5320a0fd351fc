"""How files of weights are recognised: by their first bytes, and by the ends of their names."""

from __future__ import annotations

import pathlib

KERAS_SUFFIXES = (".weights.h5", ".keras")
ORIGINAL_SUFFIXES = (".params", ".pth", ".pt", ".tar", ".safetensors", ".h5")
MXNET = b"\x12\x01\0\0\0\0\0\0"
HDF5 = b"\x89HDF\r\n\x1a\n"
TORCH = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # zip archives, and the pickles of PyTorch before 1.6
_SAFETENSORS_END = b"\0\0\0\0{"  # a length below 4 GiB in 8 bytes, and the JSON of that length
LENGTH = 9


def first_bytes(path: pathlib.Path) -> bytes:
    """Returns the first bytes of a file, which identify its kind.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        return file.read(LENGTH)


def is_safetensors(start: bytes) -> bool:
    """Whether the first bytes are those of a `.safetensors` file; asked before the other kinds, as its length may look like theirs."""
    return start.endswith(_SAFETENSORS_END) and len(start) == LENGTH


def is_original(path: pathlib.Path) -> bool:
    """Whether a file begins like an original checkpoint."""
    start = first_bytes(path)
    return is_safetensors(start) or start.startswith((MXNET, HDF5, *TORCH))
