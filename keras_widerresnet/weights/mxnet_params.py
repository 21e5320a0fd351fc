"""Reads and writes MXNet's `.params` files without MXNet.

Source: the MXNet NDArray file format, versions 0 (2016-17) to 3. All numbers are little endian. A file contains arrays, then their names:
u64 0x112, u64 0, u64 count, the arrays, u64 count, and per name a u64 length and its bytes. An array consists of a header and its values:

    version 0   u32 dimensions, u32 per dimension
    version 1   u32 0xF993FAC8, u32 dimensions, i64 per dimension
    version 2   u32 0xF993FAC9, i32 storage type (0: dense), then as version 1
    version 3   u32 0xF993FACA, then as version 2
    all         i32 device type, i32 device id, i32 dtype, the values in C order
"""

from __future__ import annotations

import io
import math
import os
import pathlib
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_widerresnet.errors import InputError
from keras_widerresnet.files import replacing

LIST_MAGIC = 0x112
VERSION_MAGICS = {1: 0xF993FAC8, 2: 0xF993FAC9, 3: 0xF993FACA}
DENSE_STORAGE = 0
CPU_DEVICE = (1, 0)
DTYPES = tuple(np.dtype(code) for code in ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8"))  # in the order of MXNet's codes
PREFIXES = ("arg:", "aux:")
PREFIX_LENGTH = 4
MAX_DIMENSIONS = 32  # supported by every NumPy release
MAX_ARRAYS = 100_000  # with the next line, bounds Python's memory overhead for a hostile file
MAX_NAME_BYTES = 4096
MIN_ARRAY_BYTES = 21  # version 0 with one uint8
MIN_NAME_BYTES = 8 + PREFIX_LENGTH + 1


def read_params(path: str | pathlib.Path, mapped: bool = False) -> dict[str, np.ndarray]:
    """Reads the arrays of an MXNet `.params` file (MXNet NDArray file format, versions 0 to 3).

    Every size is compared with the bytes left in the file before anything is read or allocated, so a damaged or hostile file takes no more
    memory than its size. Arrays of size zero are rejected: up to version 2 they mean "no array", and no parameter is empty.

    Args:
        path: the file.
        mapped: whether to return read-only, memory-mapped arrays, which are read when they are used, instead of copies in memory.

    Returns:
        Name with its `arg:` or `aux:` prefix -> array of the dtype in the file, in the file's order.

    Raises:
        InputError: if the file does not exist, is damaged or of another kind; the message states the byte offset.
    """
    path = pathlib.Path(path)
    try:
        if not path.is_file():
            raise InputError(f"No parameter file at {str(path)!r}. Expected an MXNet .params file")
        with path.open("rb") as file:
            return _read_list(_Reader(path, file, mapped))
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}") from None


def write_params(path: str | pathlib.Path, arrays: Mapping[str, np.ndarray], version: int = 2) -> None:
    """Writes an MXNet `.params` file (MXNet NDArray file format), completely or not at all.

    Args:
        path: the file, replaced if it exists.
        arrays: name with its `arg:` or `aux:` prefix -> array of a dtype in `DTYPES`, of any byte order.
        version: 0 to 3. MXNet 1.x reads 0 to 2, and 3 under NumPy shape semantics; only 3 can store scalars.

    Raises:
        InputError: if the file cannot store a version, name, dtype or shape; nothing is then written.
    """
    if version not in (0, *VERSION_MAGICS):
        raise InputError(f"`version` must be 0, 1, 2 or 3. Received: {version!r}")
    if len(arrays) > MAX_ARRAYS:
        raise InputError(f"A .params file can store at most {MAX_ARRAYS} arrays. Received: {len(arrays)}")
    headers = [_array_header(name, array, version) for name, array in arrays.items()]
    names = [name.encode() for name in arrays]
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<QQQ", LIST_MAGIC, 0, len(headers)))
        for header, array in zip(headers, arrays.values(), strict=True):
            file.write(header)
            file.write(np.asarray(array, array.dtype.newbyteorder("<"), order="C").data)
        file.write(struct.pack("<Q", len(names)))
        for name in names:
            file.write(struct.pack("<Q", len(name)) + name)


class _Reader:
    """An open file; its sizes are checked against the bytes left before they are used."""

    def __init__(self, path: pathlib.Path, file: io.BufferedReader, mapped: bool):
        self.path = path
        self.mapped = mapped
        self.file = file
        self.offset = 0
        self.size = os.fstat(file.fileno()).st_size

    @property
    def left(self) -> int:
        return self.size - self.offset

    def error(self, offset: int, expected: str, found: Any) -> InputError:
        place = f"{str(self.path)!r} is damaged or not an MXNet .params file: at byte offset {offset}"
        return InputError(f"{place} expected {expected}, found {found}")

    def require(self, size: int, what: str) -> None:
        if size > self.left:
            raise self.error(self.offset, f"{what} in {size} bytes", f"{self.left} bytes before the end of the file")

    def fill(self, buffer: bytearray | memoryview, size: int, what: str) -> None:
        """Reads `size` bytes into `buffer`, which must have exactly that length."""
        received = self.file.readinto(buffer)
        if received != size:  # the file has shrunk since it was opened
            raise self.error(self.offset, f"{what} in {size} bytes", f"{received} bytes")
        self.offset += size

    def map(self, shape: tuple[int, ...], dtype: np.dtype, size: int) -> np.ndarray:
        """Returns the next `size` bytes as a memory-mapped array, and skips them."""
        array = np.memmap(self.file, dtype, "r", self.offset, shape)
        self.offset += size
        self.file.seek(self.offset)
        return array

    def take(self, size: int, what: str) -> bytearray:
        self.require(size, what)
        data = bytearray(size)
        self.fill(data, size, what)
        return data

    def integers(self, layout: str, what: str) -> tuple[int, ...]:
        """Reads little-endian integers, in the notation of `struct`."""
        return struct.unpack(f"<{layout}", self.take(struct.calcsize(f"<{layout}"), what))

    def integer(self, layout: str, what: str, lowest: int, highest: int) -> int:
        """Reads one integer, which must lie between `lowest` and `highest`."""
        offset = self.offset
        (value,) = self.integers(layout, what)
        if not lowest <= value <= highest:
            bounds = f"{lowest} ({lowest:#x})" if lowest == highest else f"{lowest} to {highest}"
            raise self.error(offset, f"{what}, {bounds}", f"{value} ({value:#x})")
        return value


def _read_list(reader: _Reader) -> dict[str, np.ndarray]:
    reader.integer("Q", "the magic number of an array list", LIST_MAGIC, LIST_MAGIC)
    reader.integer("Q", "the reserved number", 0, 0)
    most = min(MAX_ARRAYS, max(reader.left - 16, 0) // (MIN_ARRAY_BYTES + MIN_NAME_BYTES))
    count = reader.integer("Q", "a number of arrays that fits in the file", 0, most)
    arrays = [_read_array(reader) for _ in range(count)]
    reader.integer("Q", "as many names as arrays", count, count)
    named: dict[str, np.ndarray] = {}
    for array in arrays:
        offset = reader.offset
        name = _read_name(reader)
        if name in named:
            raise reader.error(offset, "a unique name for every array", f"{name!r} again")
        named[name] = array
    if reader.left:
        raise reader.error(reader.offset, "the end of the file", f"{reader.left} more bytes")
    return named


def _read_array(reader: _Reader) -> np.ndarray:
    start = reader.offset
    (first,) = reader.integers("I", "an array header")
    version = next((version for version, magic in VERSION_MAGICS.items() if magic == first), 0)
    if version >= 2:
        reader.integer("i", "the storage type of a dense array", DENSE_STORAGE, DENSE_STORAGE)
    if version:
        dimensions = reader.integer("I", "a number of dimensions", 0 if version == 3 else 1, MAX_DIMENSIONS)
    elif 1 <= first <= MAX_DIMENSIONS:
        dimensions = first
    else:
        magics = ", ".join(f"{magic:#x}" for magic in VERSION_MAGICS.values())
        raise reader.error(start, f"an array header, {magics} or 1 to {MAX_DIMENSIONS} dimensions", f"{first} ({first:#x})")
    shape_offset = reader.offset
    shape = reader.integers(f"{dimensions}{'q' if version else 'I'}", f"the shape of an array of {dimensions} dimensions")
    if any(length < 1 for length in shape):
        raise reader.error(shape_offset, "a shape of positive numbers", shape)
    reader.integers("2i", "the device type and id")
    dtype = DTYPES[reader.integer("i", "a dtype code", 0, len(DTYPES) - 1)]
    size = math.prod(shape) * dtype.itemsize  # Python's integers cannot overflow
    what = f"{dtype} values of shape {shape}"
    reader.require(size, what)
    if reader.mapped and shape:
        return reader.map(shape, dtype, size)
    try:
        array = np.empty(shape, dtype)
    except MemoryError:
        raise reader.error(reader.offset, f"{what} that fit in memory", f"{size} bytes") from None
    reader.fill(array.data, size, what)
    return array


def _read_name(reader: _Reader) -> str:
    length = reader.integer("Q", "the length of a name", PREFIX_LENGTH + 1, MAX_NAME_BYTES)
    offset = reader.offset
    data = reader.take(length, "a name")
    try:
        name = data.decode()
    except UnicodeDecodeError as error:
        raise reader.error(offset + error.start, "a name in UTF-8", f"byte {data[error.start]:#x}") from None
    if not name.startswith(PREFIXES):
        raise reader.error(offset, f"a name that begins with {' or '.join(PREFIXES)}", repr(name))
    return name


def _array_header(name: str, array: np.ndarray, version: int) -> bytes:
    """Returns the header of an array, after checking that `read_params` accepts its name, shape and dtype."""
    if not name.startswith(PREFIXES) or not PREFIX_LENGTH < len(name.encode()) <= MAX_NAME_BYTES:
        raise InputError(f"Names must begin with {' or '.join(PREFIXES)} and have at most {MAX_NAME_BYTES} bytes. Received: {name!r}")
    dtype = array.dtype.newbyteorder("<")
    if dtype not in DTYPES:
        raise InputError(f"{name}: .params files can store {', '.join(known.name for known in DTYPES)}. Received: {array.dtype}")
    lowest, longest = (0, 2**63 - 1) if version == 3 else (1, 2**32 - 1 if version == 0 else 2**63 - 1)
    if not lowest <= array.ndim <= MAX_DIMENSIONS or not all(1 <= length <= longest for length in array.shape):
        limits = f"{lowest} to {MAX_DIMENSIONS} dimensions of 1 to {longest}"
        raise InputError(f"{name}: arrays of version {version} must have {limits}. Received: shape {array.shape}")
    header = struct.pack("<I", VERSION_MAGICS[version]) if version else b""
    header += struct.pack("<i", DENSE_STORAGE) if version >= 2 else b""
    header += struct.pack(f"<I{array.ndim}{'q' if version else 'I'}", array.ndim, *array.shape)
    return header + struct.pack("<3i", *CPU_DEVICE, DTYPES.index(dtype))
