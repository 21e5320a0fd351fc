"""Reads the tensors of `.safetensors` files."""

from __future__ import annotations

import math
import pathlib
import struct

import numpy as np
from safetensors import SafetensorError, safe_open

from keras_widerresnet.errors import InputError, first_line
from keras_widerresnet.weights.torch_pickle import BFLOAT16, Storage, Tensor

_DTYPES = {
    "F64": "f8", "F32": "f4", "F16": "f2", "BF16": BFLOAT16, "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_LENGTH = struct.Struct("<Q")


def read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns name -> values of the tensors in a `.safetensors` file: memory-mapped and read-only; bfloat16 becomes float32, exactly.

    The library reads and checks the header: tensors follow one another without gaps, up to the end of the file. Its NumPy interface neither
    knows bfloat16 nor maps files, so that the values are mapped here.

    Raises:
        InputError: if the file cannot be read, is damaged, or contains another type of numbers.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        with path.open("rb") as file:
            (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        begin = _LENGTH.size + length
        with safe_open(path, framework="np") as file:
            for name in file.offset_keys():
                described = file.get_slice(name)
                shape, code = tuple(described.get_shape()), described.get_dtype()
                if code not in _DTYPES:
                    raise InputError(f"{str(path)!r} contains {name!r} of type {code}. Known types: {', '.join(_DTYPES)}")
                storage = Storage(path, _DTYPES[code], math.prod(shape), begin)
                strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
                arrays[name] = Tensor(storage, 0, shape, strides).array()
                begin += storage.count * storage.stored.itemsize
    except InputError:
        raise
    except (SafetensorError, ValueError, OverflowError, MemoryError, struct.error) as error:
        raise InputError(f"{str(path)!r} is damaged or not a .safetensors file: {first_line(error)[:200]}") from None
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}") from None
    return arrays
