"""Reads the tensors in PyTorch's files without PyTorch, and without running anything that a file contains.

Source: the formats of `torch.save`. Since PyTorch 1.6 a file is a ZIP archive of uncompressed members: `NAME/data.pkl`, a pickle in which
each storage has a key, `NAME/data/KEY`, the values of that storage, and in later versions `NAME/byteorder`. The earlier format is a
sequence of pickles (a magic number, a version, facts about the machine, the content, a list of the storages' keys), after which each
storage follows as its number of values (i64) and the values.
"""

from __future__ import annotations

import io
import os
import pathlib
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from keras_widerresnet.errors import InputError, first_line
from keras_widerresnet.weights.torch_pickle import Machine, Storage, Tensor, storage_of

MAGIC_NUMBER, PROTOCOL_VERSION = 0x1950A86A20F9469CFC6C, 1001
MOST_PICKLE_BYTES = 64 << 20  # bounds memory for a hostile file; a large training checkpoint has less than 1 MB
MOST_OVERLAP = 4  # tensors may share values, but not make a file larger than this factor
_ZIP_HEADER = struct.Struct("<4s22xHH")
# What the standard library and NumPy raise for damaged files.
_DAMAGED = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OverflowError, RecursionError, MemoryError),
    *(NotImplementedError, struct.error, zipfile.BadZipFile),
)


def read_torch(path: pathlib.Path) -> Any:
    """Returns the content of a PyTorch file of either format.

    Memory and time are bounded by the size of the file: a pickle may have so many bytes and opcodes, and views are checked against the
    length of their storage. Values are read when `Tensor.array` is called.

    Args:
        path: the file.

    Returns:
        What was saved, of dicts, lists, tuples, sets, numbers, strings and `Tensor`; whatever else a training checkpoint may contain
        (devices, dtypes, NumPy's scalars) has lost its value.

    Raises:
        InputError: if the file cannot be read, is damaged, or contains other objects than these; the message names the first one.
    """
    try:
        with path.open("rb") as file:
            return _read_archive(path, file) if file.read(2) == b"PK" else _read_legacy(path, file)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}") from None
    except _DAMAGED as error:
        raise InputError(f"{str(path)!r} is damaged or not a PyTorch file: {first_line(error)[:200]}") from None


def as_arrays(state: Mapping[str, Tensor], path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the values of tensors by name, see `Tensor.array`; tensors that are the same view are the same array.

    Raises:
        InputError: if the file cannot be read any more, or its tensors share so many values that they are far larger than the file.
    """
    views = {id(tensor.storage): tensor.storage for tensor in state.values()}
    unique = {(id(tensor.storage), tensor.offset, tensor.shape, tensor.strides): tensor for tensor in state.values()}
    try:
        total, size = sum(tensor.bytes for tensor in unique.values()), path.stat().st_size
        if total > MOST_OVERLAP * size:
            raise InputError(f"{str(path)!r} is damaged: {total:,} bytes of tensors in {len(views)} storages, in a file of {size:,} bytes")
        arrays = {key: tensor.array() for key, tensor in unique.items()}
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}") from None
    return {name: arrays[id(tensor.storage), tensor.offset, tensor.shape, tensor.strides] for name, tensor in state.items()}


# The two formats


def _read_archive(path: pathlib.Path, file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
    folders = [name.removesuffix("data.pkl") for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(folders) != 1:
        raise InputError(f"{str(path)!r} is a ZIP archive, but not one that torch.save wrote: it contains {len(folders)} data.pkl, not 1")
    (folder,) = folders
    if f"{folder}constants.pkl" in members:
        raise InputError(f"{str(path)!r} is a TorchScript program: load it with torch.jit.load, and save its state_dict() with torch.save")
    size = os.fstat(file.fileno()).st_size

    def content(name: str, most: int) -> bytes:
        begin, length = _place(file, members[name], size)
        if length > most:
            raise ValueError(f"{name} has {length:,} bytes, more than {most:,}")
        file.seek(begin)
        return file.read(length)

    order = content(f"{folder}byteorder", 16) if f"{folder}byteorder" in members else b"little"
    if order not in (b"little", b"big"):
        raise ValueError(f"byte order {order!r}")

    def storage(identity: Any) -> Storage:
        dtype, key, count, part = storage_of(identity)
        if part is not None:
            raise ValueError("a part of a storage")
        found = Storage(path, dtype, count, order="<" if order == b"little" else ">")
        found.begin, length = _place(file, members[f"{folder}data/{key}"], size)
        if count * found.stored.itemsize > length:
            raise ValueError(f"storage {key!r} of {count:,} values in {length:,} bytes")
        return found

    return Machine(path, _once(storage)).run(io.BytesIO(content(f"{folder}data.pkl", MOST_PICKLE_BYTES)))


def _place(file: BinaryIO, member: zipfile.ZipInfo, size: int) -> tuple[int, int]:
    """Returns the byte offset and the length of an uncompressed member's content, which lies within the file."""
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        raise ValueError(f"{member.filename} is compressed or encrypted, which torch.save never does")
    file.seek(max(member.header_offset, 0))
    signature, name_length, extra_length = _ZIP_HEADER.unpack(file.read(_ZIP_HEADER.size))
    begin = member.header_offset + _ZIP_HEADER.size + name_length + extra_length
    if signature != b"PK\x03\x04" or member.header_offset < 0 or begin + member.file_size > size:
        raise ValueError(f"{member.filename} has no content in the file")
    return begin, member.file_size


def _read_legacy(path: pathlib.Path, file: BinaryIO) -> Any:
    file.seek(0)
    size = os.fstat(file.fileno()).st_size
    storages: dict[str, Storage] = {}

    def storage(identity: Any) -> Storage:
        dtype, key, count, part = storage_of(identity)
        found = storages.setdefault(key, Storage(path, dtype, count))
        if (found.dtype, found.count) != (dtype, count):
            raise ValueError(f"storage {key!r} is used in two ways")
        if part is None:
            return found
        _, shift, length = part
        if not (type(shift) is type(length) is int and 0 <= shift <= shift + length <= count):
            raise ValueError(f"a part of storage {key!r} that does not lie within it")
        return Storage(path, dtype, length, root=found, shift=shift)

    def refuse(identity: Any) -> Storage:
        raise ValueError("a storage outside the content")

    magic, version, machine = (Machine(path, refuse).run(_Window(file)) for _ in range(3))
    if magic != MAGIC_NUMBER or version != PROTOCOL_VERSION:
        raise InputError(f"{str(path)!r} is a pickle, but not one that torch.save wrote")
    if isinstance(machine, dict) and machine.get("little_endian") is False:
        raise InputError(f"{str(path)!r} was written on a big-endian machine by PyTorch before 1.6: save it again with a later version")
    content = Machine(path, _once(storage)).run(_Window(file))
    for key in Machine(path, refuse).run(_Window(file)):
        found = storages[key]
        (count,) = struct.unpack("<q", file.read(8))
        found.begin = file.tell()
        if count != found.count or found.begin + count * found.stored.itemsize > size:
            raise ValueError(f"storage {key!r} of {found.count:,} values is incomplete")
        file.seek(found.begin + count * found.stored.itemsize)
    if missing := [key for key, found in storages.items() if found.begin is None]:
        raise ValueError(f"{len(missing)} storages are missing")
    return content


class _Window:
    """The next bytes of a file, as many as a pickle may have; no read allocates more than that."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._left = MOST_PICKLE_BYTES

    def _counted(self, data: bytes) -> bytes:
        self._left -= len(data)
        return data

    def read(self, size: int) -> bytes:
        return self._counted(self._file.read(min(size, self._left)))

    def readline(self) -> bytes:
        return self._counted(self._file.readline(self._left))


def _once(storage: Callable[[Any], Storage]) -> Callable[[Any], Storage]:
    """Returns a function that gives the storage of equal persistent ids as one object, so that tied weights are known as such."""
    made: dict[tuple, Storage] = {}

    def found(identity: Any) -> Storage:
        dtype, key, count, part = storage_of(identity)
        if part is not None:
            return storage(identity)
        if (dtype, key, count) not in made:
            made[dtype, key, count] = storage(identity)
        return made[dtype, key, count]

    return found
