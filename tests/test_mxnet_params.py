"""MXNet's parameter files: reference files, bytes built by hand, every kind of damage, and random mutations."""

from __future__ import annotations

import collections
import os
import pathlib
import random
import re
import struct
import time
import tracemalloc

import numpy as np
import pytest
import refparams

from keras_widerresnet.errors import InputError
from keras_widerresnet.weights import mxnet_params
from keras_widerresnet.weights.mxnet_params import DTYPES, read_params, write_params

DATA = pathlib.Path(__file__).parent / "data"
TINY = {version: DATA / f"tiny_{version}.params" for version in ("v0", "v1", "v2", "v3", "f16")}
SHAPES = {
    "arg:conv1a_weight": (8, 3, 3, 3),
    "arg:bn2a_branch2a_gamma": (8,),
    "arg:bn2a_branch2a_beta": (8,),
    "aux:bn2a_branch2a_moving_mean": (8,),
    "aux:bn2a_branch2a_moving_var": (8,),
    "arg:linear5_weight": (5, 8),
    "arg:linear5_bias": (5,),
}
MAGICS = [struct.pack("<I", magic) for magic in (0xF993FAC8, 0xF993FAC9, 0xF993FACA)]
EXTREMES = [0, 1, 0x7F, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
FIXED_MEMORY = 64 * 1024  # a file buffer, a message and a few Python objects


def header(version: int, shape: tuple[int, ...], dtype: int = 0, storage: int = 0, dimensions: int | None = None, device=(1, 0)) -> bytes:
    """An array's bytes before its values, written out here so that the reader is not checked by the writer alone."""
    dimensions = len(shape) if dimensions is None else dimensions
    data = MAGICS[version - 1] if version else b""
    data += struct.pack("<i", storage) if version >= 2 else b""
    data += struct.pack("<I", dimensions) + b"".join(struct.pack("<q" if version else "<I", length) for length in shape)
    return data + struct.pack("<iii", *device, dtype)


def listing(arrays: list[bytes], names: list[bytes], magic=0x112, reserved=0, arrays_count=None, names_count=None, end=b"") -> bytes:
    data = struct.pack("<QQQ", magic, reserved, len(arrays) if arrays_count is None else arrays_count) + b"".join(arrays)
    data += struct.pack("<Q", len(names) if names_count is None else names_count)
    return data + b"".join(struct.pack("<Q", len(name)) + name for name in names) + end


ONE = header(2, (2,)) + struct.pack("<2f", 1.5, -2.0)
GOOD = listing([ONE], [b"arg:a"])


def read_bytes(folder: pathlib.Path, data: bytes) -> dict[str, np.ndarray]:
    path = folder / "given.params"
    path.write_bytes(data)
    return read_params(path)


@pytest.mark.parametrize("version", TINY)
def test_reference_files_hold_the_reference_arrays(version):
    arrays = read_params(TINY[version])
    assert {name: array.shape for name, array in arrays.items()} == SHAPES
    assert list(arrays) == list(SHAPES)
    for name, array in arrays.items():
        expected = refparams.array(name.removeprefix("arg:").removeprefix("aux:"), array.shape, seed=3)
        expected = expected.astype(np.float16 if version == "f16" else np.float32)
        assert array.dtype == expected.dtype
        assert array.flags.owndata and array.flags.writeable
        np.testing.assert_array_equal(array, expected)


def test_bytes_built_by_hand_with_every_header_version_in_one_file(tmp_path):
    arrays = [
        header(0, (2, 1)) + struct.pack("<2f", 0.5, -3.0),
        header(1, (3,), dtype=4) + struct.pack("<3i", 1, -2, 3),
        header(2, (1, 2), dtype=1, device=(2, 7)) + struct.pack("<2d", 1e300, -0.0),
        header(3, (), dtype=6) + struct.pack("<q", -(2**40)),
        header(3, (1,), dtype=2) + struct.pack("<e", 0.25),
        header(2, (4,), dtype=3) + bytes((0, 1, 254, 255)),
        header(0, (1, 1, 2), dtype=5) + struct.pack("<2b", -128, 127),
    ]
    names = ["arg:a", "arg:b", "aux:c", "arg:scalar", "arg:é", "aux:a", "arg:b b"]
    found = read_bytes(tmp_path, listing(arrays, [name.encode() for name in names]))
    expected = [
        np.array([[0.5], [-3]], np.float32),
        np.array([1, -2, 3], np.int32),
        np.array([[1e300, -0.0]]),
        np.array(-(2**40), np.int64),
        np.array([0.25], np.float16),
        np.array([0, 1, 254, 255], np.uint8),
        np.array([[[-128, 127]]], np.int8),
    ]
    assert list(found) == names
    for array, wanted in zip(found.values(), expected, strict=True):
        assert (array.dtype, array.shape, array.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes())


@pytest.mark.parametrize("version", TINY)
def test_mapped_arrays_are_those_read(version):
    path = TINY[version]
    mapped, read = read_params(path, mapped=True), read_params(path)
    assert list(mapped) == list(read)
    for name, array in read.items():
        assert mapped[name].dtype == array.dtype and not mapped[name].flags.writeable
        np.testing.assert_array_equal(mapped[name], array)


def test_empty_list_and_a_path_given_as_text(tmp_path):
    assert read_bytes(tmp_path, listing([], [])) == {}
    assert list(read_params(str(TINY["v2"]))) == list(SHAPES)


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_written_arrays_are_read_back(tmp_path, version):
    generator = np.random.default_rng(version)
    arrays = {}
    for dtype in DTYPES:
        for shape in [(1,), (7,), (2, 3), (2, 1, 3, 4), (1,) * 32]:
            arrays[f"arg:{dtype.name}_{len(shape)}_{shape[0]}"] = (100 * generator.standard_normal(shape)).astype(dtype)
    values = generator.standard_normal((3, 4, 5))
    arrays |= {
        "aux:transposed": values.T,
        "aux:strided": values[::2, :, ::-1],
        "aux:big_endian": values.astype(">f4"),
        "arg:ünï": values[0],
    }
    arrays["arg:read_only"] = np.broadcast_to(np.float32(3), (2, 2))
    if version == 3:
        arrays["arg:scalar"] = np.array(2.5, np.float16)
    path = tmp_path / "written.params"
    path.write_text("replaced")
    write_params(path, arrays, version)
    found = read_params(path)
    assert list(found) == list(arrays)
    for name, array in found.items():
        assert array.dtype == arrays[name].dtype.newbyteorder("=")
        assert array.shape == arrays[name].shape
        np.testing.assert_array_equal(array, arrays[name])
    assert [entry.name for entry in tmp_path.iterdir()] == ["written.params"]


@pytest.mark.parametrize("version", TINY)
def test_writer_gives_the_bytes_of_the_reference_files(tmp_path, version):
    write_params(tmp_path / "again.params", read_params(TINY[version]), 2 if version == "f16" else int(version[1]))
    assert (tmp_path / "again.params").read_bytes() == TINY[version].read_bytes()


NUMBERS = np.zeros(2, np.float32)


@pytest.mark.parametrize(
    "arrays, version, words",
    [
        ({"arg:a": NUMBERS}, 4, "version"),
        ({"arg:a": NUMBERS}, -1, "version"),
        ({"a": NUMBERS}, 2, "arg:"),
        ({"arg:": NUMBERS}, 2, "arg:"),
        ({"arg:" + "a" * 5000: NUMBERS}, 2, "4096"),
        ({"arg:a": NUMBERS.astype(bool)}, 2, "bool"),
        ({"arg:a": NUMBERS.astype(complex)}, 2, "complex"),
        ({"arg:a": NUMBERS.astype(object)}, 2, "object"),
        ({"arg:a": np.float32(1)}, 2, "1 to 32 dimensions"),
        ({"arg:a": NUMBERS[:0]}, 3, "shape"),
        ({"arg:a": np.broadcast_to(np.uint8(0), (2**32,))}, 0, "shape"),
        ({"arg:a": NUMBERS.reshape((1,) * 32 + (2,))}, 2, "32 dimensions"),
        (dict.fromkeys((f"arg:{k}" for k in range(100_001)), NUMBERS), 2, "100000"),
    ],
)
def test_writer_refuses_what_the_reader_would(tmp_path, arrays, version, words):
    if any(array.ndim > 32 for array in arrays.values()) and np.lib.NumpyVersion(np.__version__) < "2.0.0":
        pytest.skip("this NumPy has no such array")
    with pytest.raises(InputError, match=words):
        write_params(tmp_path / "unwritten.params", arrays, version)
    assert not list(tmp_path.iterdir())


A_NAME = [b"arg:a"]
AFTER_ARRAY = 24 + len(ONE)  # the offset of the name count in a file of one array
DAMAGE = {
    "empty file": (b"", 0, "magic"),
    "shorter than a number": (GOOD[:5], 0, "magic"),
    "truncated count": (GOOD[:20], 16, "number of arrays"),
    "truncated header": (listing([], [], arrays_count=1) + ONE[:3] + bytes(40), 24, "header"),
    "truncated shape": (listing([header(2, (9,) * 5, dimensions=32)], A_NAME), 36, "shape"),
    "truncated values": (listing([header(2, (12,)) + bytes(4)], A_NAME), 56, "values"),
    "truncated names": (GOOD[: AFTER_ARRAY + 4], AFTER_ARRAY, "names"),
    "truncated name length": (GOOD[: AFTER_ARRAY + 12], AFTER_ARRAY + 8, "length"),
    "truncated name": (GOOD[:-1], AFTER_ARRAY + 16, "4 bytes before the end of the file"),
    "wrong magic": (listing([ONE], A_NAME, magic=0x113), 0, "magic"),
    "another kind of file": (b"PK\x03\x04" + bytes(100), 0, "magic"),
    "reserved number": (listing([ONE], A_NAME, reserved=1), 8, "reserved"),
    "count of one too many": (listing([ONE], A_NAME, arrays_count=2), 16, "fits"),
    "count of 2^64-1": (listing([ONE], A_NAME, arrays_count=2**64 - 1), 16, "fits"),
    "count above the limit": (listing([], [], arrays_count=100_001) + bytes(100_001 * 40), 16, "100000"),
    "unknown header": (listing([struct.pack("<I", 0xF993FACB) + ONE[4:]], A_NAME), 24, "0xf993fac9"),
    "33 dimensions, v0": (listing([header(0, (1,) * 33) + bytes(4)], A_NAME), 24, "1 to 32 dimensions"),
    "33 dimensions, v2": (listing([header(2, (1,) * 33) + bytes(4)], A_NAME), 32, "dimensions"),
    "-1 dimensions, v3": (listing([header(3, (1,), dimensions=2**32 - 1) + bytes(4)], A_NAME), 32, "dimensions"),
    "no dimensions, v0": (listing([header(0, ()) + bytes(16)], A_NAME), 24, "1 to 32 dimensions"),
    "no dimensions, v1": (listing([header(1, ()) + bytes(16)], A_NAME), 28, "1 to 32"),
    "no dimensions, v2": (listing([header(2, ()) + bytes(16)], A_NAME), 32, "1 to 32"),
    "huge shape, v0": (listing([header(0, (2**32 - 1,) * 32)], A_NAME), 24 + 4 + 128 + 12, "values"),
    "huge shape, v2": (listing([header(2, (2**62,))], A_NAME), 56, "values"),
    "product of 2^64": (listing([header(2, (2**32, 2**32)) + bytes(4)], A_NAME), 64, "values"),
    "product of 2^64+1 elements": (listing([header(1, (274177, 67280421310721), dtype=3) + bytes(9)], A_NAME), 24 + 24 + 12, "values"),
    "bytes beyond 2^64": (listing([header(2, (2**62 + 1,)) + bytes(4)], A_NAME), 56, "values"),
    "negative dimension": (listing([header(2, (-1,)) + bytes(8)], A_NAME), 36, "positive"),
    "two negative dimensions": (listing([header(2, (-1, -2)) + bytes(8)], A_NAME), 36, "positive"),
    "zero dimension": (listing([header(3, (0, 2**62)) + bytes(8)], A_NAME), 36, "positive"),
    "sparse rows": (listing([header(2, (2,), storage=1) + bytes(8)], A_NAME), 28, "dense"),
    "sparse, undefined": (listing([header(3, (2,), storage=-1) + bytes(8)], A_NAME), 28, "dense"),
    "dtype 7": (listing([header(2, (2,), dtype=7) + bytes(8)], A_NAME), 52, "dtype"),
    "dtype -1": (listing([header(2, (2,), dtype=-1) + bytes(8)], A_NAME), 52, "dtype"),
    "fewer names": (listing([ONE, ONE], A_NAME), 24 + 2 * len(ONE), "names"),
    "more names": (listing([ONE], [b"arg:a", b"arg:b"]), AFTER_ARRAY, "names"),
    "no names": (listing([ONE], [], end=bytes(20)), AFTER_ARRAY, "names"),
    "2^64-1 names": (listing([ONE], A_NAME, names_count=2**64 - 1), AFTER_ARRAY, "names"),
    "duplicate names": (listing([ONE, ONE], [b"arg:a", b"arg:a"]), 24 + 2 * len(ONE) + 8 + 13, "again"),
    "name not in UTF-8": (listing([ONE], [b"arg:\xff"]), AFTER_ARRAY + 16 + 4, "UTF-8"),
    "name without a prefix": (listing([ONE], [b"weight"]), AFTER_ARRAY + 16, "arg:"),
    "name with another prefix": (listing([ONE], [b"aug:weight"]), AFTER_ARRAY + 16, "arg:"),
    "name of a prefix only": (listing([ONE], [b"arg:"], end=b"a"), AFTER_ARRAY + 8, "length"),
    "name of no bytes": (listing([ONE], [b""], end=bytes(8)), AFTER_ARRAY + 8, "length"),
    "name of 2^63 bytes": (listing([ONE], [], names_count=1) + struct.pack("<Q", 2**63) + bytes(8), AFTER_ARRAY + 8, "length"),
    "name of 4097 bytes": (listing([ONE], [b"arg:" + b"a" * 4093]), AFTER_ARRAY + 8, "4096"),
    "bytes after the end": (GOOD + b"\0", len(GOOD), "end of the file"),
    "another file after the end": (GOOD + GOOD, len(GOOD), "end of the file"),
}


@pytest.mark.parametrize("data, offset, words", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_told_with_its_place(tmp_path, data, offset, words):
    start = time.perf_counter()
    with pytest.raises(InputError) as told:
        read_bytes(tmp_path, data)
    assert time.perf_counter() - start < 1
    message = str(told.value)
    assert "given.params" in message
    assert f"byte offset {offset} expected" in message
    assert words in message
    assert len(message) < 5000


def test_the_undamaged_file_is_read(tmp_path):
    np.testing.assert_array_equal(read_bytes(tmp_path, GOOD)["arg:a"], np.array([1.5, -2], np.float32))


@pytest.mark.parametrize("version", TINY)
def test_every_truncation_is_told(tmp_path, version):
    data = TINY[version].read_bytes()
    for length in range(len(data)):
        with pytest.raises(InputError, match=r"given\.params.*byte offset"):
            read_bytes(tmp_path, data[:length])


def test_what_is_no_file_is_told(tmp_path):
    os.mkfifo(tmp_path / "pipe.params")
    for path in (tmp_path, tmp_path / "absent.params", tmp_path / "pipe.params", tmp_path / ("long" * 100), tmp_path / "nul\0.params"):
        with pytest.raises(InputError, match=re.escape(repr(str(path))[1:-1])):
            read_params(path)


def test_a_huge_shape_costs_neither_time_nor_memory(tmp_path):
    path = tmp_path / "huge.params"
    path.write_bytes(listing([header(2, (2**20, 2**19)) + bytes(4096)], A_NAME))
    start = time.perf_counter()
    outcome, peak = traced(path)
    assert outcome is None
    assert peak < FIXED_MEMORY
    assert time.perf_counter() - start < 1


def test_memory_is_that_of_the_arrays(tmp_path):
    path = tmp_path / "large.params"
    write_params(path, {f"arg:{k}": np.full((256, 1024), k, np.float32) for k in range(8)})
    arrays, peak = traced(path)
    assert all((array == k).all() for k, array in enumerate(arrays.values()))
    assert peak < path.stat().st_size + FIXED_MEMORY


def test_memory_that_is_not_there_is_told(tmp_path, monkeypatch):
    def refuse(*_):
        raise MemoryError

    monkeypatch.setattr(mxnet_params.np, "empty", refuse)
    with pytest.raises(InputError, match=r"byte offset 56 expected .* fit in memory"):
        read_bytes(tmp_path, GOOD)


def test_a_file_that_shrinks_meanwhile_is_told(tmp_path, monkeypatch):
    empty = np.empty

    def shrink(shape, dtype):
        os.truncate(tmp_path / "given.params", 100)
        return empty(shape, dtype)

    monkeypatch.setattr(mxnet_params.np, "empty", shrink)
    with pytest.raises(InputError, match="byte offset 56 expected"):
        read_bytes(tmp_path, listing([header(2, (10**6,)) + bytes(4 * 10**6)], A_NAME))


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "kept.params"
    path.write_bytes(GOOD)

    def fail(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(mxnet_params.np, "asarray", fail)
    with pytest.raises(OSError, match="no space"):
        write_params(path, {"arg:a": NUMBERS})
    assert path.read_bytes() == GOOD
    assert len(list(tmp_path.iterdir())) == 1


def traced(path: pathlib.Path, mapped: bool = False) -> tuple[dict[str, np.ndarray] | None, int]:
    """What reading gives (None: an InputError that names the file), and the most memory it took; any other exception passes."""
    started = not tracemalloc.is_tracing()
    if started:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        try:
            outcome = read_params(path, mapped)
        except InputError as error:
            assert path.name in str(error) and "byte offset" in str(error)
            outcome = None
        return outcome, tracemalloc.get_traced_memory()[1] - before
    finally:
        if started:
            tracemalloc.stop()


def mutated(generator: random.Random, files: list[bytes]) -> bytes:
    """A reference file after one to three changes, half of them near the headers and names at its ends or at a magic number."""
    data = bytearray(generator.choice(files))
    for _ in range(generator.randint(1, 3)):
        magics = [match.start() for match in re.finditer(rb"\xfa\x93\xf9", bytes(data))]
        near = [generator.randrange(96), len(data) - generator.randrange(400)]
        near += [generator.choice(magics) + generator.randrange(-2, 48)] if magics else []
        place = generator.choice(near) if generator.random() < 0.5 else generator.randrange(len(data) + 1)
        place = min(max(place, 0), len(data))
        change = generator.choice(["flip", "field", "field", "field", "truncate", "insert", "remove", "splice", "magic"])
        if change == "flip" and place < len(data):
            data[place] ^= 1 << generator.randrange(8)
        elif change == "field":
            size = generator.choice([4, 8])
            place -= place % 4 if generator.random() < 0.7 else 0
            data[place : place + size] = (generator.choice(EXTREMES) % 2 ** (8 * size)).to_bytes(size, "little")
        elif change == "truncate":
            del data[place:]
        elif change == "insert":
            data[place:place] = generator.randbytes(generator.randint(1, 16))
        elif change == "remove":
            del data[place : place + generator.randint(1, 16)]
        elif change == "splice":
            other = generator.choice(files)
            start = generator.choice([place, generator.randrange(len(other))])
            length = generator.randint(4, 64)
            data[place : place + length] = other[start : start + length]
        elif change == "magic":
            place = max(generator.choice(magics) - 1, 0) if magics else 24
            data[place : place + 4] = generator.choice([*MAGICS, *(struct.pack("<I", k) for k in range(6))])
    return bytes(data)


def read_mutations(folder: pathlib.Path, count: int, mapped: bool) -> collections.Counter[str]:
    """Reads `count` mutated files; each gives arrays no larger than the file or an InputError, in bounded memory."""
    generator = random.Random(20161130)
    files = [path.read_bytes() for path in TINY.values()]
    path = folder / "mutated.params"
    outcomes = collections.Counter()
    tracemalloc.start()
    try:
        for index in range(count):
            data = mutated(generator, files)
            path.write_bytes(data)
            arrays, peak = traced(path, mapped)
            assert peak <= 4 * len(data) + FIXED_MEMORY, f"mutation {index} took {peak} bytes"
            outcomes["arrays" if arrays is not None else "InputError"] += 1
            if arrays is not None:
                assert sum(array.nbytes for array in arrays.values()) <= len(data)
                assert all(array.flags.owndata != mapped and name.startswith(("arg:", "aux:")) for name, array in arrays.items())
    finally:
        tracemalloc.stop()
    return outcomes


@pytest.mark.parametrize("mapped", [False, True])
def test_mutated_files_give_arrays_or_an_input_error(tmp_path, mapped):
    outcomes = read_mutations(tmp_path, 2_000, mapped)
    assert min(outcomes["arrays"], outcomes["InputError"]) > 100, outcomes


@pytest.mark.slow
@pytest.mark.parametrize("mapped", [False, True])
def test_a_hundred_thousand_mutated_files(tmp_path, mapped):
    outcomes = read_mutations(tmp_path, 100_000, mapped)
    print(dict(outcomes))
    assert min(outcomes["arrays"], outcomes["InputError"]) > 5_000, outcomes
