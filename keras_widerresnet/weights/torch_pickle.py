"""Evaluates the pickles in PyTorch's files: tensors and plain values, and nothing that a file could run.

A pickle is a program. Python's own reader runs whatever it names; here `pickletools.genops` decodes the opcodes, and `Machine` evaluates
those that PyTorch writes on a stack of plain values. A name such as `os.system` never becomes an object: it is looked up in a closed table.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_widerresnet.errors import InputError

BFLOAT16 = "bfloat16"
# Bounds time and memory for a hostile pickle; a checkpoint of 300 tensors with its optimizer has 50,000 opcodes.
MOST_OPCODES = 500_000
MOST_DIMENSIONS = 32  # supported by every NumPy release
MOST_KEY_LENGTH = 64  # of a storage; PyTorch's are decimal numbers
_DTYPES = {
    "Float": "f4", "Double": "f8", "Half": "f2", "BFloat16": BFLOAT16, "Long": "i8", "Int": "i4", "Short": "i2", "Char": "i1", "Byte": "u1",
    "Bool": "?",
}  # fmt: skip


@dataclasses.dataclass
class Storage:
    """The values that tensors are views of.

    Args:
        path: the file.
        dtype: NumPy's code, or `BFLOAT16`.
        count: number of values.
        begin: byte offset in the file; None until it is known.
        order: `"<"` or `">"`, the order of bytes.
        root: another storage, of which this is the part from value `shift` on; files of PyTorch before 0.4 have such parts.
    """

    path: pathlib.Path
    dtype: str
    count: int
    begin: int | None = None
    order: str = "<"
    root: Storage | None = None
    shift: int = 0

    @property
    def stored(self) -> np.dtype:
        """The dtype of the values as stored; bfloat16 is stored as the upper half of a float32."""
        return np.dtype(f"{self.order}{'u2' if self.dtype == BFLOAT16 else self.dtype}")

    def position(self, index: int) -> int:
        """Returns the byte offset of a value in the file."""
        begin = self.begin if self.root is None else self.root.begin
        if begin is None:
            raise ValueError("a storage without values")
        return begin + (self.shift + index) * self.stored.itemsize


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A view of a storage, checked to lie within it; offset and strides are in values."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self):
        if not isinstance(self.storage, Storage) or len(self.shape) != len(self.strides) or len(self.shape) > MOST_DIMENSIONS:
            raise ValueError("a tensor without a valid storage, shape and strides")
        numbers = (self.offset, *self.shape, *self.strides)
        if not all(type(number) is int and 0 <= number < 1 << 48 for number in numbers):
            raise ValueError(f"a tensor of shape {self.shape} with strides {self.strides} and offset {self.offset}")
        lengths = math.prod(max(length, 1) for length in self.shape)  # NumPy bounds it for empty arrays too
        if lengths >= 1 << 48 or math.prod(self.shape) > self.storage.count or self.offset + self.extent > self.storage.count:
            raise ValueError(f"a tensor of shape {self.shape} with strides {self.strides} in a storage of {self.storage.count:,} values")

    @property
    def extent(self) -> int:
        """The number of values from the first to the last one."""
        if 0 in self.shape:
            return 0
        return 1 + sum((length - 1) * stride for length, stride in zip(self.shape, self.strides, strict=True))

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.storage.stored.itemsize

    def array(self) -> np.ndarray:
        """Returns the values: memory-mapped and read-only, or a copy in native byte order; bfloat16 becomes float32, exactly.

        Raises:
            OSError: if the file cannot be read any more.
        """
        dtype = self.storage.stored
        if not self.extent:
            return np.zeros(self.shape, np.float32 if self.storage.dtype == BFLOAT16 else dtype.newbyteorder("="))
        mapped = np.memmap(self.storage.path, dtype, "r", self.storage.position(self.offset), (self.extent,))
        strides = [stride * dtype.itemsize for stride in self.strides]
        view = np.lib.stride_tricks.as_strided(mapped, self.shape, strides, writeable=False)
        if self.storage.dtype == BFLOAT16:
            return (view.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return view if dtype.isnative else view.astype(dtype.newbyteorder("="))


def storage_of(identity: Any) -> tuple[str, str, int, Any]:
    """Returns dtype code, key, number of values and viewed part (None: all) that a storage's persistent id states."""
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
        raise ValueError("a persistent id that is no storage's")
    _, storage_type, key, _, count, part = (*identity, None)[:6]
    if not isinstance(storage_type, _Global) or not storage_type.dtype or not isinstance(key, str) or len(key) > MOST_KEY_LENGTH:
        raise ValueError("a storage of an unknown kind")
    if type(count) is not int or not 0 <= count < 1 << 48:
        raise ValueError(f"a storage of {count} values")
    return storage_type.dtype, key, count, part


# What a pickle may name


@dataclasses.dataclass(frozen=True)
class _Global:
    """A name that a pickle may contain: a function of its arguments, a type of storages, or nothing that matters."""

    name: str
    make: Callable[..., Any] | None = None
    dtype: str = ""


class _OrderedDict(dict):
    """A state dict; its attributes (PyTorch's `_metadata`) are dropped."""


class _Inert:
    """A value that no weight depends on."""


_INERT = _Inert()


def _tensor(storage: Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> Tensor:
    if not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise ValueError("a tensor whose shape or strides are no tuple")
    return Tensor(storage, offset, shape, strides)


def _parameter(data: Tensor, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise ValueError("a parameter that is no tensor")
    return data


def _ordered(pairs: Any = ()) -> _OrderedDict:
    return _OrderedDict((_key(name), value) for name, value in pairs)


def _inert(*_: Any) -> _Inert:
    return _INERT


_NAMES: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": _ordered,
    "collections Counter": lambda counts=None: _ordered((counts or {}).items()),  # in the state of learning rate schedules
    "builtins set": lambda items=(): {_key(item) for item in items},
    "__builtin__ set": lambda items=(): {_key(item) for item in items},
    "torch Size": tuple,
    "torch device": _inert,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
    "torch._utils _rebuild_parameter_with_state": _parameter,
    "numpy dtype": _inert,
    "numpy.core.multiarray scalar": _inert,
    "numpy._core.multiarray scalar": _inert,
    "_codecs encode": _inert,  # bytes, in protocols before 3
}
_TORCH_DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
_GLOBALS = {
    **{name: _Global(name, make) for name, make in _NAMES.items()},
    **{f"torch {name}Storage": _Global(name, dtype=code) for name, code in _DTYPES.items()},
    **{f"torch {name}": _Global(name) for name in _TORCH_DTYPES},
}


def _key(value: Any) -> Any:
    """Returns a value that may be a key or a set's element: one whose hash takes bounded time and no deep recursion."""
    simple = (str, int, float, bytes, type(None))
    if isinstance(value, simple) or (isinstance(value, tuple) and len(value) < 16 and all(isinstance(item, simple) for item in value)):
        return value
    raise ValueError(f"a key of type {type(value).__name__}")


class Machine:
    """Evaluates a pickle; `storage` returns the storage of a persistent id."""

    def __init__(self, path: pathlib.Path, storage: Callable[[Any], Storage]):
        self._path = path
        self._storage = storage
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks under each mark
        self._memo: dict[int, Any] = {}
        self._copied = 0  # values that calls have copied: a call of three opcodes may copy a list of any length

    def run(self, file: Any) -> Any:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if number >= MOST_OPCODES:
                raise ValueError(f"a pickle of more than {MOST_OPCODES:,} steps")
            name = opcode.name
            if name in _LITERALS:
                self._stack.append(argument)
            elif name in _EMPTY:
                self._stack.append(_EMPTY[name]())
            elif name == "STOP":
                return self._stack.pop()
            elif name in _STEPS:
                _STEPS[name](self, argument)
            else:
                raise ValueError(f"a pickle with {name}, which torch.save does not write")
        raise ValueError("a pickle without an end")

    def _mark(self, _: Any) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _to_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _tuple(self, _: Any) -> None:
        items = self._to_mark()
        self._stack.append(tuple(items))

    def _last(self, count: int) -> tuple[Any, ...]:
        if len(self._stack) < count:
            raise ValueError("a pickle with too few values")
        items = tuple(self._stack[-count:])
        del self._stack[-count:]
        return items

    def _extend(self, items: Any) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, set):
            target.update(map(_key, items))
        else:
            raise ValueError("items of no list or set")

    def _set(self, items: Any) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("items of no dict")
        target.update((_key(key), value) for key, value in zip(items[::2], items[1::2], strict=True))

    def _put(self, index: int | None) -> None:
        self._memo[len(self._memo) if index is None else index] = self._stack[-1]

    def _named(self, module: Any, name: Any) -> None:
        found = _GLOBALS.get(f"{module} {name}")
        if found is None:
            called = repr(f"{str(module)[:100]}.{str(name)[:100]}")[1:-1]  # in one line, whatever it contains
            raise InputError(
                f"{str(self._path)!r} contains a {called}, which is more than tensors and is not loaded: "
                "with the software that wrote the file, save the network's state_dict() alone"
            )
        self._stack.append(found)

    def _reduce(self, _: Any) -> None:
        function, arguments = self._last(2)
        if not isinstance(function, _Global) or function.make is None or not isinstance(arguments, tuple):
            raise ValueError("a call of no function")
        self._copied += len(arguments) + sum(len(one) for one in arguments if isinstance(one, (list, tuple, dict, set)))
        if self._copied > MOST_OPCODES:
            raise ValueError(f"calls with more than {MOST_OPCODES:,} values")
        self._stack.append(function.make(*arguments))

    def _build(self, _: Any) -> None:
        target, _ = self._last(2)
        if not isinstance(target, (_OrderedDict, _Inert)):
            raise ValueError(f"attributes of a {type(target).__name__}")
        self._stack.append(target)


_LITERALS = {
    *("BININT", "BININT1", "BININT2", "INT", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES"),
}
_EMPTY: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set,
}  # fmt: skip
_STEPS: dict[str, Callable[[Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "MARK": Machine._mark,
    "TUPLE": Machine._tuple,
    "TUPLE1": lambda machine, _: machine._stack.append(machine._last(1)),
    "TUPLE2": lambda machine, _: machine._stack.append(machine._last(2)),
    "TUPLE3": lambda machine, _: machine._stack.append(machine._last(3)),
    "APPEND": lambda machine, _: machine._extend(machine._last(1)),
    "APPENDS": lambda machine, _: machine._extend(machine._to_mark()),
    "ADDITEMS": lambda machine, _: machine._extend(machine._to_mark()),
    "SETITEM": lambda machine, _: machine._set(machine._last(2)),
    "SETITEMS": lambda machine, _: machine._set(machine._to_mark()),
    "BINPUT": Machine._put,
    "LONG_BINPUT": Machine._put,
    "MEMOIZE": Machine._put,
    "BINGET": lambda machine, index: machine._stack.append(machine._memo[index]),
    "LONG_BINGET": lambda machine, index: machine._stack.append(machine._memo[index]),
    "GLOBAL": lambda machine, names: machine._named(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine._named(*machine._last(2)),
    "REDUCE": Machine._reduce,
    "BUILD": Machine._build,
    "BINPERSID": lambda machine, _: machine._stack.append(machine._storage(machine._last(1)[0])),
}
