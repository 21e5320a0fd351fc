"""PyTorch's and `.safetensors` files, as that software wrote them, and hostile ones: nothing but tensors is read, and nothing is run."""

import io
import os
import pathlib
import pickle
import struct
import sys
import tracemalloc
import zipfile

import keras  # noqa: F401
import numpy as np
import pytest
import refparams
import safetensors.numpy

import keras_widerresnet as kw
from keras_widerresnet.errors import InputError
from keras_widerresnet.weights import read_original
from keras_widerresnet.weights.state_dict import find_state
from keras_widerresnet.weights.torch_file import MAGIC_NUMBER, PROTOCOL_VERSION, as_arrays, read_torch
from keras_widerresnet.weights.torch_pickle import MOST_OPCODES, Tensor

FILES = pathlib.Path(__file__).parent / "data" / "torch_files"
FORMATS = ("zip", "legacy")
MB = 1 << 20


@pytest.fixture(autouse=True)
def without_pytorch(monkeypatch):
    for name in ("torch", "torch._utils"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture(scope="module")
def saved():
    """The values that PyTorch gave for the files, see tests/data/torch/write.py."""
    with np.load(FILES / "expected.npz") as arrays:
        return dict(arrays)


def is_mapped(array):
    """Whether an array is a view of a memory-mapped file."""
    while array is not None and not isinstance(array, np.memmap):
        array = getattr(array, "base", None)
    return array is not None


def read(path):
    content = read_torch(path)
    return content, as_arrays(find_state(content, lambda value: isinstance(value, Tensor), path), path)


# Files by PyTorch


@pytest.mark.parametrize("kind", FORMATS)
def test_values_are_those_that_pytorch_saved(kind, saved):
    content, arrays = read(FILES / f"checkpoint_{kind}.pth")
    assert list(arrays) == list(saved)
    for name, array in arrays.items():
        assert array.dtype == saved[name].dtype and array.shape == saved[name].shape, name
        np.testing.assert_array_equal(array, saved[name], err_msg=name)
    assert content["epoch"] == 3 and content["images"] == 2**40 and content["labels"] == {1, 2, 3}
    assert content["kinds"][2:] == [(2, 3), None, True, (1, 2, 3, 4)]
    assert content["scheduler"]["milestones"] == {30: 1, 60: 1} and content["optimizer"]["state"][0].keys() >= {"exp_avg"}


@pytest.mark.parametrize("kind", FORMATS)
def test_values_are_mapped_and_not_copied(kind):
    _, arrays = read(FILES / f"checkpoint_{kind}.pth")
    assert arrays["shared.again"] is arrays["shared.whole"]
    for name, array in arrays.items():
        assert is_mapped(array) == ("bfloat16" not in name and array.size > 0), name
        assert not is_mapped(array) or not array.flags.writeable


def test_a_safetensors_file_has_the_same_values(saved):
    from keras_widerresnet.weights.safetensors_file import read_safetensors

    arrays = read_safetensors(FILES / "checkpoint.safetensors")
    assert arrays.keys() == saved.keys()
    for name, array in arrays.items():
        assert array.dtype == saved[name].dtype
        np.testing.assert_array_equal(array, saved[name], err_msg=name)


@pytest.mark.parametrize("name", ["psa_zip.pth", "psa_legacy.pth", "psa.safetensors"])
def test_a_network_is_built_from_each_kind_of_file(name):
    """Its weights are the reference parameters, seed 5, rounded to the nearest bfloat16."""
    network = kw.WiderResNet("28-0-1-0-0-0-0-0", weights=FILES / name, include_top=False, width=0.0625, input_shape=(32, 32, 3))
    for layer, suffixes in (("res2a_branch2a", ("weight",)), ("bn7", ("gamma", "beta", "moving_mean", "moving_var"))):
        for suffix, weight in zip(suffixes, network.get_layer(layer).get_weights(), strict=True):
            shape = weight.shape if weight.ndim == 1 else (weight.shape[3], weight.shape[2], *weight.shape[:2])
            bits = refparams.array(f"{layer}_{suffix}", shape, seed=5).view(np.uint32)
            rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32)
            np.testing.assert_array_equal(weight, rounded if rounded.ndim == 1 else rounded.transpose(2, 3, 1, 0))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_pickled_module_is_refused_by_name(kind):
    with pytest.raises(InputError, match=r"contains a __main__\.Network, which is more than tensors.*save the network's state_dict"):
        read_original(FILES / f"module_{kind}.pth")


# Files made here, of opcodes


def number(value):
    return b"J" + struct.pack("<i", value)


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def storage(key="0", count=6, kind="FloatStorage"):
    return b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + number(count) + b"tQ"


def tensor(shape=(2, 3), strides=(3, 1), offset=0, of=None):
    sizes = [b"(" + b"".join(map(number, numbers)) + b"t" for numbers in (shape, strides)]
    start = b"ctorch._utils\n_rebuild_tensor_v2\n("
    return start + (storage() if of is None else of) + number(offset) + sizes[0] + sizes[1] + b"\x89ccollections\nOrderedDict\n)RtR"


def state(**tensors):
    """The pickle of a dict of tensors: `values=...` becomes `values.x`."""
    return b"\x80\x02}(" + b"".join(text(f"{name}.x") + content for name, content in tensors.items()) + b"u."


def zipped(content, values=None, order=None, method=zipfile.ZIP_STORED, **members):
    output = io.BytesIO()
    values = np.arange(6, dtype="<f4").tobytes() if values is None else values
    with zipfile.ZipFile(output, "w", method) as archive:
        archive.writestr("net/data.pkl", content)
        archive.writestr("net/data/0", values)
        if order:
            archive.writestr("net/byteorder", order)
        for name, data in members.items():
            archive.writestr(f"net/{name}", data)
    return output.getvalue()


def legacy(content, values=None, keys=("0",), count=6, little_endian=True):
    facts = {"protocol_version": PROTOCOL_VERSION, "little_endian": little_endian, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    start = b"".join(pickle.dumps(one, 2) for one in (MAGIC_NUMBER, PROTOCOL_VERSION, facts))
    data = struct.pack("<q", count) + (np.arange(6, dtype="<f4").tobytes() if values is None else values)
    return start + content + pickle.dumps(list(keys), 2) + (data if keys else b"")


def made(tmp_path, data):
    (tmp_path / "net.pth").write_bytes(data)
    return tmp_path / "net.pth"


@pytest.mark.parametrize("wrap", [zipped, legacy])
def test_views_of_a_storage(wrap, tmp_path):
    views = {"whole": tensor(), "turned": tensor((3, 2), (1, 3)), "last": tensor((1, 3), (3, 1), 3), "every": tensor((3,), (2,), 1)}
    _, arrays = read(made(tmp_path, wrap(state(**views))))
    whole = np.arange(6, dtype=np.float32).reshape(2, 3)
    for name, expected in (("whole", whole), ("turned", whole.T), ("last", whole[1:]), ("every", whole.ravel()[1::2])):
        np.testing.assert_array_equal(arrays[f"{name}.x"], expected)


def test_every_bfloat16_number_becomes_the_float32_of_the_same_value(tmp_path):
    """Its bits are the upper half of that number's."""
    bits = np.arange(1 << 16, dtype="<u2")
    content = state(values=tensor((1 << 16,), (1,), of=storage(count=1 << 16, kind="BFloat16Storage")))
    _, arrays = read(made(tmp_path, zipped(content, bits.tobytes())))
    assert arrays["values.x"].dtype == np.float32
    np.testing.assert_array_equal(arrays["values.x"].view(np.uint32), bits.astype(np.uint32) << 16)


@pytest.mark.parametrize("order", ["little", "big"])
def test_big_endian_values(order, tmp_path):
    values = np.arange(6, dtype="<f4" if order == "little" else ">f4").tobytes()
    halves = np.asarray([0x3F80], "<u2" if order == "little" else ">u2").tobytes()
    content = state(values=tensor(), one=tensor((1,), (1,), of=storage("1", 1, "BFloat16Storage")))
    _, arrays = read(made(tmp_path, zipped(content, values, order, **{"data/1": halves})))
    np.testing.assert_array_equal(arrays["values.x"], np.arange(6).reshape(2, 3))
    assert arrays["values.x"].dtype.isnative and arrays["one.x"].item() == 1
    with pytest.raises(InputError, match=r"was written on a big-endian machine by PyTorch before 1\.6"):
        read(made(tmp_path, legacy(state(values=tensor()), little_endian=False)))


def test_files_by_python_2_and_parts_of_storages(tmp_path):
    """Strings of bytes, whole numbers as text, an ordered dict of pairs, and a storage that is a part of another."""
    part = storage()[:-2] + b"(" + text("1") + number(2) + number(4) + b"ttQ"
    pairs = b"](](U\x03a.b" + tensor((4,), (1,), of=part) + b"e](U\x01nI12345678901234\nee"
    content, arrays = read(made(tmp_path, legacy(b"\x80\x02ccollections\nOrderedDict\n" + pairs + b"\x85R.")))
    assert content["n"] == 12345678901234
    np.testing.assert_array_equal(arrays["a.b"], [2, 3, 4, 5])


# Hostile pickles


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self.called = function, arguments

    def __reduce__(self):
        return self.called


class Restored:
    """Pickled as an object whose state is set by a method."""

    def __init__(self, path=None):
        self.path = path

    def __getstate__(self):
        return str(self.path)

    def __setstate__(self, path):
        pathlib.Path(path).touch()


def hostile(sentinel):
    """Name -> a pickle that writes a file where Python's own reader loads it, and the global that the message names."""
    command = f"touch {sentinel}"
    nested = pickle.dumps(Call(os.system, command), 2)
    return {
        "system": (pickle.dumps({"a.b": Call(os.system, command)}, 2), f"{os.system.__module__}[.]system"),
        "system, protocol 4": (pickle.dumps({"a.b": Call(os.system, command)}, 4), f"{os.system.__module__}[.]system"),
        "eval": (pickle.dumps({"a.b": Call(eval, f"open({str(sentinel)!r}, 'w')")}, 2), "__builtin__[.]eval"),
        "loads": (pickle.dumps(Call(pickle.loads, nested), 2), "_?pickle[.]loads"),
        "set state": (pickle.dumps({"a.b": Restored(sentinel)}, 2), f"{__name__}[.]Restored"),
        "an attribute": (pickle.dumps(Call(getattr, Call(pathlib.Path, str(sentinel)), "touch"), 2), "__builtin__[.]getattr"),
    }


@pytest.mark.parametrize("wrap", [zipped, legacy])
@pytest.mark.parametrize("name", hostile("unused"))
def test_what_a_pickle_names_is_not_run(name, wrap, tmp_path):
    sentinel = tmp_path / "sentinel"
    content, named = hostile(sentinel)[name]
    with pytest.raises(InputError, match=f"contains a {named}, which is more than tensors"):
        read_original(made(tmp_path, wrap(content)))
    assert not sentinel.exists()
    loaded = pickle.loads(content)  # Python's own reader does what the pickle says
    assert sentinel.exists() or callable(loaded)


@pytest.mark.parametrize("wrap", [zipped, legacy])
@pytest.mark.parametrize(
    "content",
    {
        "instance": b"(U\x04trueios\nsystem\n.",
        "object": b"(cos\nsystem\nU\x04trueo.",
        "a call of what is no function": b"\x80\x02ctorch\nfloat32\n)R.",
        "a call of a string": b"\x80\x02U\x04true)R.",
        "a new object": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
        "attributes of a dict": b"\x80\x02}}b.",
        "attributes of a list": b"\x80\x02]}b.",
        "an extension": b"\x80\x02\x82\x01.",
        "a persistent id that is a function": b"\x80\x02ccollections\nOrderedDict\nQ.",
        "a name with dots": b"\x80\x02ccollections\nOrderedDict.__init__\n)R.",
        "bytes to load": b"\x80\x02ctorch.storage\n_load_from_bytes\nU\x01a\x85R.",
        "no end": b"\x80\x02}",
        "an empty stack": b"\x80\x02.",
    }.items(),
    ids=lambda item: item[0],
)
def test_other_pickles_that_pytorch_does_not_write(content, wrap, tmp_path):
    with pytest.raises(InputError, match=r"is damaged or not a PyTorch file|which is more than tensors"):
        read_original(made(tmp_path, wrap(content[1])))


def test_a_name_of_several_lines_is_told_in_one(tmp_path):
    content = b"\x80\x04" + b"\x8c\x05a\nb\x1bc" + b"\x8c\x01d" + b"\x93."
    with pytest.raises(InputError, match=r"contains a a\\nb\\x1bc\.d, which is more than tensors") as caught:
        read_original(made(tmp_path, zipped(content)))
    assert "\n" not in str(caught.value)


def test_attributes_of_a_state_dict_are_dropped(tmp_path):
    """PyTorch's `_metadata`; `__class__` has no effect either."""
    attributes = b"}(U\x09__class__U\x01aU\x06updateNub"
    content = b"\x80\x02ccollections\nOrderedDict\n)R(" + text("a.b") + tensor() + b"u" + attributes + b"."
    read_content, arrays = read(made(tmp_path, zipped(content)))
    assert isinstance(read_content, dict) and read_content.__dict__ == {} and list(arrays) == ["a.b"]


@pytest.mark.parametrize("wrap", [zipped, legacy])
@pytest.mark.parametrize(
    "view",
    {
        "past the end": tensor((2, 3), (3, 1), 1),
        "a stride too long": tensor((2, 3), (4, 1)),
        "a negative stride": tensor((2, 3), (-3, 1), 3),
        "a negative offset": tensor((2, 3), (3, 1), -1),
        "a negative length": tensor((-2, -3), (3, 1)),
        "more values than are stored": tensor((1 << 30,), (0,)),
        "a product that overflows": tensor((1 << 30, 1 << 30, 1 << 30), (0, 0, 0)),
        "an empty one of impossible size": tensor((0, *[1 << 30] * 4), (0,) * 5),
        "too few strides": tensor((2, 3), (3,)),
        "too many dimensions": tensor((1,) * 65, (1,) * 65),
        "a boolean length": tensor().replace(number(2), b"\x88"),
        "a length with a fraction": tensor().replace(number(2), b"G" + struct.pack(">d", 2)),
        "a long length": tensor().replace(number(2), b"\x8a\x09" + b"\xff" * 8 + b"\0"),
        "no tuple": tensor().replace(b"(" + number(2) + number(3) + b"t", b"K\x06"),
        "no storage": tensor(of=b"K\x01"),
        "more values than the file has": tensor((7,), (1,), of=storage(count=7)),
        "as many values as there can be": tensor((1,), (1,), of=storage(count=0).replace(number(0), b"\x8a\x08" + b"\xff" * 7 + b"\x7f")),
        "an unknown key": tensor(of=storage("1")),
        "a key that leads elsewhere": tensor(of=storage("../data.pkl")),
        "an unknown type": tensor(of=storage().replace(b"ctorch\nFloatStorage\n", b"ctorch\nfloat32\n")),
    }.items(),
    ids=lambda item: item[0],
)
def test_views_that_do_not_lie_in_their_storage_are_refused(view, wrap, tmp_path):
    with pytest.raises(InputError, match="is damaged or not a PyTorch file"):
        read_original(made(tmp_path, wrap(state(values=view[1]))))


def shared(levels, count):
    """A dict whose values are all the same dict, and so on."""
    content = b"\x80\x02}q\x00"
    for level in range(1, levels):
        keys = b"".join(text(str(key)) + b"h" + bytes([level - 1]) for key in range(count))
        content += b"}q" + bytes([level]) + b"(" + keys + b"u"
    return content + b"."


BOMBS = {
    "a memo of 2 billion entries": b"\x80\x02}r\xff\xff\xff\x7f.",
    "a text of 4 GB": b"\x80\x02X\xff\xff\xff\xff.",
    "a text of 2^63 bytes": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "bytes of 2^63": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "a number of 2 GB": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "a frame of 2^63 bytes": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.",
    "a line without an end": b"\x80\x02c" + b"a" * MB,
    "digits": b"\x80\x02I" + b"1" * MB + b"\n.",
    "copies of the last value": b"\x80\x02}" + b"2" * MB + b".",
    "more steps than any file has": b"\x80\x02" + b"N" * (MOST_OPCODES + 1) + b".",
    "a key of nested tuples": b"\x80\x02})" + b"\x85" * 100_000 + b"Ns.",
    "an element of nested tuples": b"\x80\x02c__builtin__\nset\n](" + b")" + b"\x85" * 100_000 + b"e\x85R.",
    "nested lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "nested dicts": b"\x80\x02" + b"}K\x01" * 100_000 + b"N" + b"s" * 100_000 + b".",
    "a list in many ordered dicts": b"\x80\x02](" + b"".join(b"K\x01" + number(i) + b"\x86" for i in range(20_000)) + b"eq\x00"
    + b"ccollections\nOrderedDict\nh\x00\x85R" * 20_000 + b".",
    "many arguments": b"\x80\x02(" + b"N" * 50_000 + b"tq\x00" + b"c_codecs\nencode\nh\x00R" * 20_000 + b".",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "a dict in itself": b"\x80\x02}q\x00" + text("a.b") + b"h\x00s.",
    "one dict in a million places": shared(5, 100),
}  # fmt: skip


# What is read differs with the format, what is evaluated does not.
@pytest.mark.parametrize(
    ("name", "wrap"), [*((name, zipped) for name in BOMBS), *((name, legacy) for name in BOMBS if " of " in name or "line" in name)]
)
def test_what_would_take_much_memory_or_time_is_refused(name, wrap, tmp_path):
    path = made(tmp_path, wrap(BOMBS[name]))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"is damaged or not a PyTorch file|is not a PyTorch state dict|more than .* entries"):
            read_original(path)
        assert tracemalloc.get_traced_memory()[1] < 128 * MB
    finally:
        tracemalloc.stop()


def test_compressed_archives_are_refused(tmp_path):
    """A member of 64 KB that claims 64 MB."""
    bomb = zipped(state(values=tensor((1 << 24,), (1,), of=storage(count=1 << 24))), bytes(64 * MB), method=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    with pytest.raises(InputError, match=r"net/data/0 is compressed|net/data\.pkl is compressed"):
        read_original(made(tmp_path, bomb))
    data = bytearray(zipped(state(values=tensor())))
    entry = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    data[entry + 20 : entry + 28] = struct.pack("<II", 1 << 30, 1 << 30)
    with pytest.raises(InputError, match="has no content in the file"):
        read_original(made(tmp_path, bytes(data)))


def test_values_are_not_made_many_times_as_large_as_the_file(tmp_path):
    """Hundreds of views of the same numbers, each of which would be converted to float32."""
    values = np.zeros(20_000, "<u2").tobytes()
    views = {f"v{i}": tensor((10_000,), (1,), i, storage(count=20_000, kind="BFloat16Storage")) for i in range(1000)}
    with pytest.raises(InputError, match=r"is damaged: 20,000,000 bytes of tensors in 1 storages, in a file of"):
        read_original(made(tmp_path, zipped(state(**views), values)))


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"constants.pkl": b"", "code/net.py": b""}, "is a TorchScript program"),
        ({"byteorder": b"middle"}, "byte order b'middle'"),
    ],
)
def test_other_archives(members, words, tmp_path):
    with pytest.raises(InputError, match=words):
        read_original(made(tmp_path, zipped(state(values=tensor()), **members)))


def test_archives_that_are_none_of_pytorch(tmp_path):
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        archive.writestr("a/data.pkl", b"")
        archive.writestr("b/data.pkl", b"")
    with pytest.raises(InputError, match=r"contains 2 data\.pkl, not 1"):
        read_original(made(tmp_path, output.getvalue()))
    for data in (b"PK\x03\x04 and more", b"\x80\x02}.", pickle.dumps({"a": 1}, 4), legacy(state(values=tensor()))[:-1]):
        with pytest.raises(InputError, match=r"is damaged or not a PyTorch file|is a pickle, but not one that torch\.save wrote"):
            read_original(made(tmp_path, data))


def test_a_safetensors_file_is_told_from_others(tmp_path):
    """By its content: its length of 640 begins like a pickle."""
    path = tmp_path / "net.bin"
    arrays = {"conv1a.weight": np.ones((8, 3, 3, 3), np.float32)}
    data = safetensors.numpy.save(arrays)
    (length,) = struct.unpack("<Q", data[:8])
    path.write_bytes(struct.pack("<Q", 640) + data[8 : 8 + length].ljust(640) + data[8 + length :])
    assert path.read_bytes().startswith(b"\x80\x02")
    found = read_original(path)
    assert found.kind == "psa" and is_mapped(found.parameters["conv1a_weight"])
    np.testing.assert_array_equal(found.parameters["conv1a_weight"], arrays["conv1a.weight"])
    for damage in (path.read_bytes()[:-1], path.read_bytes().replace(b"F32", b"F99"), struct.pack("<Q", 1 << 31) + b"{}"):
        path.write_bytes(damage)
        with pytest.raises(InputError, match=r"is damaged or not a \.safetensors file"):
            read_original(path)
    path.write_bytes(safetensors.numpy.save({"a.b": np.ones(2, np.uint64)}))
    with pytest.raises(InputError, match=r"contains 'a\.b' of type U64\. Known types: F64, F32, F16, BF16"):
        read_original(path)
