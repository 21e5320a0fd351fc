"""Damaged input for every reader: what it is made of, what reads it, and a run of so many seconds that counts.

`python tests/fuzzing.py NAME SECONDS` tries one reader in a process of its own, so that one that dies is seen too, and prints a line of
JSON. Only an `InputError`, an answer, or what the reader's own contract says besides (TensorFlow's `InvalidArgumentError` inside a graph,
a flagged row) may come out, in less than `MOST_SECONDS` and `MOST_BYTES` of additional memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import io
import json
import os
import pathlib
import random
import re
import shutil
import struct
import sys
import tempfile
import threading
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable, Iterator

import h5py
import hypothesis
import keras
import numpy as np
import requests
import safetensors.numpy
import scipy.io
import tensorflow as tf
import test_mxnet_params
from absl import flags
from hypothesis import strategies as st
from PIL import Image
from serving_server import Served, rest_handler

import keras_widerresnet as kw
from keras_widerresnet.cli import train
from keras_widerresnet.cli.command import parsed
from keras_widerresnet.data.images import NOT_DECODED, decode_rgb, decode_window
from keras_widerresnet.data.masks import decode_mask, mask_problem
from keras_widerresnet.data.problems import UNREADABLE
from keras_widerresnet.data.sources.arrays import idx
from keras_widerresnet.data.sources.tfrecord import tfrecords
from keras_widerresnet.errors import InputError
from keras_widerresnet.label_maps import LABEL_MAPS
from keras_widerresnet.loading import load_keras_file
from keras_widerresnet.models import find_source
from keras_widerresnet.runs import Run
from keras_widerresnet.serving import connect
from keras_widerresnet.weights.keras_file import read_keras_weights
from keras_widerresnet.weights.original import read_original

ROOT = pathlib.Path(__file__).parent.parent
DIGITS = ROOT / "saved_models" / "digits"
OLD_RUN = ROOT / "tests" / "data" / "run_of_0.1.0"
MOST_SECONDS, MOST_BYTES = 10.0, 2 << 30
READ, REFUSED = "read", "refused"


@dataclasses.dataclass(frozen=True)
class Target:
    """A reader.

    Args:
        inputs: strategy of what it is given.
        open: a context manager of a function that reads one input, and returns `READ` or `REFUSED`; anything that it raises is a finding.
        needs: a module without which it is left out.
        examples: how many are tried in a short look.
    """

    inputs: Callable[[], st.SearchStrategy]
    open: Callable[[], contextlib.AbstractContextManager[Callable]]
    needs: str = ""
    examples: int = 100


# What damages bytes


EDITS = ("flip", "set", "field", "truncate", "insert", "remove", "splice", "repeat")


@st.composite
def damaged(draw, files: list[bytes], within: tuple[Callable[[bytes], tuple[bytes, Callable[[bytes], bytes]]], ...] = ()):
    """One of some files after up to four edits, near its beginning or end as often as elsewhere; or one of them as another's.

    `within` holds functions from a file to what is in it, compressed or under a checksum, and a function that puts it back.
    """
    data, put_back = draw(st.sampled_from(files)), bytes
    way = draw(st.integers(0, len(within)))
    if way:
        data, put_back = within[way - 1](data)
    data = bytearray(data)
    for edit in draw(
        st.lists(st.tuples(st.sampled_from(EDITS), st.integers(0, 4095), st.integers(0, 255), st.integers(0, 255)), max_size=4)
    ):
        _edit(data, files, *edit)
    return put_back(bytes(data))


def _edit(data: bytearray, files: list[bytes], edit: str, where: int, first: int, second: int) -> None:
    if where < 1024:
        place = min(where // 4, len(data))
    elif where < 1536:
        place = max(len(data) - (where - 1024), 0)
    else:
        place = (where - 1536) * len(data) // 2560
    if edit == "flip" and place < len(data):
        data[place] ^= 1 << first % 8
    elif edit == "set" and place < len(data):
        data[place] = first
    elif edit == "field":
        size, order = (1, 2, 4, 8)[first % 4], ("little", "big")[first // 4 % 2]
        extremes = test_mxnet_params.EXTREMES
        data[place : place + size] = (extremes[second % len(extremes)] % 2 ** (8 * size)).to_bytes(size, order)
    elif edit == "truncate":
        del data[place:]
    elif edit == "insert":
        data[place:place] = random.Random(second).randbytes(1 + first % 16)
    elif edit == "remove":
        del data[place : place + 1 + first]
    elif edit == "splice":
        other = files[first % len(files)]
        start = second * len(other) // 256
        data[place : place + 64] = other[start : start + 64]
    elif edit == "repeat":
        data[place:place] = data[place : place + first] * (1 + second % 8)


def png_chunks(data: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
    """A PNG whose checksums are right again after an edit, so that damage comes further than to them."""

    def repaired(edited: bytes) -> bytes:
        out, place = bytearray(edited), 8
        while place + 12 <= len(out):
            end = place + 8 + int.from_bytes(out[place : place + 4], "big")
            if end + 4 > len(out):
                break
            out[end : end + 4] = zlib.crc32(out[place + 4 : end]).to_bytes(4, "big")
            place = end + 4
        return bytes(out)

    return data, repaired


def gzipped(data: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
    return (gzip.decompress(data), lambda edited: gzip.compress(edited, 1)) if data[:2] == b"\x1f\x8b" else (data, bytes)


def zip_member(name: str) -> Callable[[bytes], tuple[bytes, Callable[[bytes], bytes]]]:
    """One file in a ZIP archive, such as a `.keras` file, with its checksum right again."""

    def within(data: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {member: archive.read(member) for member in archive.namelist()}

        def put_back(edited: bytes) -> bytes:
            output = io.BytesIO()
            with zipfile.ZipFile(output, "w") as archive:
                for member, content in {**members, name: edited}.items():
                    archive.writestr(member, content)
            return output.getvalue()

        return members[name], put_back

    return within


def tfrecord_content(data: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
    """The first record of a TFRecord file, with its length and checksums right again."""
    (length,) = struct.unpack("<Q", data[:8])

    def put_back(edited: bytes) -> bytes:
        with tempfile.NamedTemporaryFile() as file:
            with tf.io.TFRecordWriter(file.name) as writer:
                writer.write(edited)
            return pathlib.Path(file.name).read_bytes() + data[8 + 4 + length + 4 :]

    return data[12 : 12 + length], put_back


# Files to damage


def image_files() -> list[bytes]:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (24, 20, 3), np.uint8)
    image, files = Image.fromarray(pixels), []
    kinds = [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("GIF", {}), ("WEBP", {}), ("BMP", {}), ("TIFF", {})]
    for mode, (kind, options) in [*(("RGB", kind) for kind in kinds), ("L", kinds[0]), ("CMYK", kinds[0])] + [
        (mode, kinds[2]) for mode in ("1", "L", "LA", "P", "RGBA", "I;16")
    ]:
        output = io.BytesIO()
        shown = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
        shown.save(output, kind, **options)
        files.append(output.getvalue())
    return files


def mask_files() -> list[bytes]:
    values = np.random.default_rng(0).integers(0, 11, (12, 10), np.uint8)
    files = []
    for mode, bits in (("L", 8), ("P", 8), ("P", 4), ("P", 1), ("1", 1), ("RGB", 8), ("LA", 8)):
        output = io.BytesIO()
        image = Image.fromarray(values % min(2**bits, 11))
        if mode == "P":
            image = image.convert("P")
            image.putpalette(bytes(range(48)))
        elif mode != "L":
            image = image.convert(mode)
        image.save(output, "PNG", **({"bits": bits} if mode == "P" else {}))
        files.append(output.getvalue())
    for is_compressed in (False, True):  # as SBD's
        output = io.BytesIO()
        scipy.io.savemat(output, {"GTcls": {"Segmentation": values}}, do_compression=is_compressed)
        files.append(output.getvalue())
    return files


def record_files() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "records"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for label, encoded in enumerate(image_files()[:3]):
                feature = {
                    "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded])),
                    "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
        return [path.read_bytes()]


def idx_files() -> list[bytes]:
    images = bytes((0, 0, 8, 3)) + struct.pack(">3I", 4, 5, 6) + bytes(range(120))
    labels = bytes((0, 0, 8, 1)) + struct.pack(">I", 4) + bytes(range(4))
    return [images, labels, gzip.compress(images), gzip.compress(labels)]


def h5_files() -> list[bytes]:
    """In resnet38d-tf's layout, with chunks and compression beside what it has."""
    output = io.BytesIO()
    with h5py.File(output, "w") as file:
        file["s0/g0/cv/kernel:0"] = np.ones((3, 3, 3, 4), np.float32)
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            file[f"s1/g0/b0/bn/s1/g0/b0/bn/{name}:0"] = np.ones(4, np.float32)
        file.create_dataset("s1/g0/b1/cv/kernel:0", data=np.ones((1, 1, 4, 8), np.float32), chunks=True, compression="gzip")
        file["logits/kernel:0"] = np.ones((1, 1, 8, 5), np.float64)
        file.attrs["note"] = "text"
    return [output.getvalue()]


def small_network() -> keras.Model:
    return kw.WiderResNet("28-0-1-0-0-0-0-0", width=0.0625, classes=10, input_shape=(16, 16, 3))


def saved(suffix: str) -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / f"net{suffix}"
        (small_network().save_weights if suffix == ".weights.h5" else small_network().save)(path)
        return [path.read_bytes()]


# What reads them


@contextlib.contextmanager
def file_reader(name: str, read: Callable[[pathlib.Path], object]) -> Iterator[Callable[[bytes], str]]:
    """A reader of one file in a folder of its own, whose only exception is an `InputError` of one line that names it."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / name

        def tried(data: bytes) -> str:
            path.write_bytes(data)
            try:
                read(path)
            except InputError as error:
                assert str(error).strip(), "an empty message"
                return REFUSED
            return READ

        yield tried


@contextlib.contextmanager
def images() -> Iterator[Callable[[bytes], str]]:
    spec = [tf.TensorSpec([], tf.string)]

    @tf.function(input_signature=spec)
    def whole(raw):
        return decode_rgb(raw)

    @tf.function(input_signature=spec)
    def window(raw):
        return decode_window(raw, lambda size: tf.concat([size // 4, size - size // 2], axis=0))

    def tried(data: bytes) -> str:
        outcomes = set()
        for decode in (whole, window):
            try:
                image = decode(data)
                assert image.dtype == tf.uint8 and image.shape.rank == 3 and image.shape[-1] == 3, image.shape
                outcomes.add(READ)
            except tf.errors.InvalidArgumentError:
                outcomes.add(REFUSED)
        return READ if READ in outcomes else REFUSED

    yield tried


@contextlib.contextmanager
def served_images() -> Iterator[Callable[[bytes], str]]:
    signature = tf.saved_model.load(str(DIGITS / "1")).signatures["serving_default"]
    good = image_files()[2]
    alone = {name: array.numpy() for name, array in signature(image_bytes=tf.constant([good])).items()}

    def tried(data: bytes) -> str:
        rows = {name: array.numpy() for name, array in signature(image_bytes=tf.constant([good, data, good])).items()}
        for row in (0, 2):
            for name, expected in alone.items():
                same = np.array_equal if expected.dtype == object else lambda a, b: np.allclose(a, b, atol=1e-6)
                assert same(rows[name][row], expected[0]), f"row {row}, {name}"
        if rows["valid"][1]:
            assert np.isfinite(rows["probabilities"][1]).all()
            return READ
        assert (rows["indices"][1] == -1).all() and not rows["probabilities"][1].any()
        return REFUSED

    yield tried


@contextlib.contextmanager
def masks() -> Iterator[Callable[[bytes], str]]:
    labels = LABEL_MAPS["voc"]
    decode = tf.function(lambda raw: decode_mask(raw, labels), input_signature=[tf.TensorSpec([], tf.string)])

    def tried(data: bytes) -> str:
        problem = mask_problem(data, labels)
        try:
            ids = decode(data).numpy()
        except NOT_DECODED:
            assert problem, "passes, and does not decode"
            return REFUSED
        assert not problem, f"decodes, and does not pass: {problem}"
        assert ids.ndim == 2 and set(np.unique(ids)) <= {*range(labels.classes), 255}
        return READ

    yield tried


@contextlib.contextmanager
def tfrecord_folders() -> Iterator[Callable]:
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        (good,) = record_files()
        index = {"classes": ["a", "b", "c"], "first_label": 0, "records": {"train-0": 3, "validation-0": 3}}

        def tried(given: tuple[str, bytes]) -> str:
            name, data = given
            shutil.rmtree(root)
            root.mkdir()
            for shard in ("train-0", "validation-0"):
                (root / shard).write_bytes(good)
            if name == "train-0 with an index":
                (root / "index.json").write_text(json.dumps(index))
            (root / name.split()[0]).write_bytes(data)
            try:
                read = tfrecords(str(root))
            except InputError:
                return REFUSED
            try:
                for split in (read.train, read.test):
                    for raw, label in split.ordered():
                        decode_rgb(raw)
                        assert name.endswith("index") or 0 <= int(label) < read.classes
            except UNREADABLE:
                return REFUSED
            return READ

        yield tried


def tfrecord_inputs() -> st.SearchStrategy:
    files = record_files()
    index = json.dumps({"classes": ["a", "b", "c"], "first_label": 0, "records": {"train-0": 3, "validation-0": 3}}).encode()
    shards = st.tuples(st.sampled_from(["train-0", "validation-0", "train-0 with an index"]), damaged(files, (tfrecord_content,)))
    return shards | st.tuples(st.just("index.json"), damaged([index]) | as_json())


@contextlib.contextmanager
def idx_folders() -> Iterator[Callable]:
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        good = idx_files()

        def tried(given: tuple[int, bytes]) -> str:
            which, data = given
            shutil.rmtree(root)
            root.mkdir()
            for number, name in enumerate(("train-images", "train-labels", "t10k-images", "t10k-labels")):
                content = data if number == which else good[number % 2]
                is_gzip = content[:2] == bytes((31, 139)) or (number == which and len(data) % 2)
                (root / f"{name}{'.gz' if is_gzip else ''}").write_bytes(content)
            try:
                read = idx(str(root))
            except InputError:
                return REFUSED
            for split in (read.train, read.test):
                for index in range(min(split.size, 2)):
                    assert split.image(index).shape[-1] == 3
                assert split.labels.max(initial=0) < read.classes
            return READ

        yield tried


def keras_files(path: pathlib.Path) -> None:
    for read in (read_keras_weights, load_keras_file):
        read(path)


def sidecars(path: pathlib.Path) -> None:
    path.with_name("net.weights.h5").write_bytes(b"")
    source = find_source(str(path.with_name("net.weights.h5")))
    _ = source.structure, source.width(), source.pool_padding()


@contextlib.contextmanager
def run_directories() -> Iterator[Callable]:
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)

        def tried(given: tuple[str, bytes]) -> str:
            for name, content in run_files().items():
                (root / name).write_bytes(given[1] if name == given[0] else content)
            (root / "final.keras").write_bytes(b"")
            run = Run.at(root)
            try:
                _ = run.flags, run.facts, run.task, run.class_names, run.protocol, run.metrics(), run.results()
                find_source(str(root))
            except InputError as error:
                assert str(root) in str(error)
                return REFUSED
            return READ

        yield tried


def run_files() -> dict[str, bytes]:
    facts = {
        "task": "classification", "data": "digits", "class_names": list("0123456789"), "training_images": 1437,
        "protocol": {"scales": [16]}, "results": [["test images", "360"]],
    }  # fmt: skip
    kept = {name: (OLD_RUN / name).read_bytes() for name in ("flags.txt", "metrics.csv", "versions.json")}
    report = (DIGITS / "run" / "report.md").read_bytes()
    return {**kept, "run.json": json.dumps(facts).encode(), "report.md": report}


def run_inputs() -> st.SearchStrategy:
    return st.one_of(
        *(st.tuples(st.just(name), damaged([content])) for name, content in run_files().items()),
        st.tuples(st.just("run.json"), as_json()),
    )


@contextlib.contextmanager
def flag_files() -> Iterator[Callable[[bytes], str]]:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "own.flags"

        def tried(data: bytes) -> str:
            path.write_bytes(data)
            try:
                parsed(train.COMMAND, ["--output_dir=unused", "--data=digits", f"--flagfile={path}"])
            except (InputError, flags.Error):
                return REFUSED
            return READ

        yield tried


@contextlib.contextmanager
def rest_answers() -> Iterator[Callable]:
    """Answers of a server, to our client."""
    client = connect("127.0.0.1:1", "digits", retries=0)
    response = requests.Response()
    client._session.request = lambda *_, **__: response

    def tried(given: tuple[int, bytes]) -> str:
        response.status_code, response._content = given
        try:
            answers = client.predict([b"one", b"two"])
            assert len(answers) == 2
        except InputError:
            return REFUSED
        with contextlib.suppress(InputError):
            client.check_ready()
        return READ

    yield tried


ANSWER = {
    "predictions": [
        {"valid": True, "indices": [1, 2], "classes": ["one", "two"], "probabilities": [0.75, 0.25]},
        {"valid": False, "indices": [-1, -1], "classes": ["", ""], "probabilities": [0.0, 0.0]},
    ]
}
READY = {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]}


def rest_answer_inputs() -> st.SearchStrategy:
    texts = [json.dumps(one).encode() for one in (ANSWER, READY, {"error": "no"})]
    return st.tuples(st.sampled_from([200, 200, 200, 400, 404, 500]), damaged(texts) | as_json(["predictions", "model_version_status"]))


def as_json(keys: list[str] | None = None) -> st.SearchStrategy:
    """JSON of any form, as bytes; objects have the keys of our files and answers more often than others."""
    names = st.sampled_from(
        [*(keys or []), "error", "classes", "records", "valid", "indices", "probabilities", "task", "protocol", "results"]
    )
    simple = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    values = st.recursive(simple, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8)
    return values.map(lambda value: json.dumps(value).encode())


@contextlib.contextmanager
def rest_requests() -> Iterator[Callable[[bytes], str]]:
    """Requests to the test server; an answer with a status is all that may come."""
    import http.server

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), rest_handler(Served(DIGITS, "digits")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    session = requests.Session()
    session.trust_env = False
    address = f"http://127.0.0.1:{server.server_port}/v1/models/digits:predict"

    def tried(data: bytes) -> str:
        response = session.post(address, data=data, timeout=60)
        content = response.json()
        assert response.status_code in (200, 400), response.status_code
        assert ("error" in content) == (response.status_code == 400)
        return READ if response.status_code == 200 else REFUSED

    try:
        yield tried
    finally:
        server.shutdown()
        server.server_close()


def rest_request_inputs() -> st.SearchStrategy:
    import base64

    encoded = [{"b64": base64.b64encode(one).decode()} for one in (*image_files()[:3], b"no image")]
    bodies = [{"instances": encoded}, {"inputs": {"image_bytes": encoded}}, {"instances": [{"image_bytes": encoded[0]}]}]
    bodies.append({"signature_name": "tensor", "instances": [np.zeros((16, 16, 3)).tolist()]})
    return damaged([json.dumps(body).encode() for body in bodies]) | as_json(
        ["instances", "inputs", "signature_name", "b64", "image_bytes"]
    )


@contextlib.contextmanager
def grpc_requests() -> Iterator[Callable[[bytes], str]]:
    """Serialised requests to the test server over gRPC; a status is all that may come, and none that says that the server failed."""
    import grpc
    from serving_server import grpc_server

    server, port = grpc_server(Served(DIGITS, "digits"))
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    ask = channel.unary_unary("/tensorflow.serving.PredictionService/Predict", request_serializer=bytes, response_deserializer=bytes)

    def tried(data: bytes) -> str:
        try:
            ask(data, timeout=60)
        except grpc.RpcError as error:
            # INTERNAL: the bytes are no message of the protocol, which gRPC itself says.
            known = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INTERNAL)
            assert error.code() in known, f"{error.code()} {error.details()}"
            return REFUSED
        return READ

    try:
        yield tried
    finally:
        channel.close()
        server.stop(None)


def grpc_request_inputs() -> st.SearchStrategy:
    from tensorflow_serving.apis import predict_pb2

    made = []
    for images in ([image_files()[2]], image_files()[:4], [b""]):
        request = predict_pb2.PredictRequest(inputs={"image_bytes": tf.make_tensor_proto(images, tf.string)})
        request.model_spec.name, request.model_spec.signature_name = "digits", "serving_default"
        made.append(request.SerializeToString())
    return damaged(made)


def stored(pattern: str) -> list[bytes]:
    """Files that PyTorch and safetensors wrote, see tests/data/README.md."""
    return [path.read_bytes() for path in sorted((ROOT / "tests" / "data" / "torch_files").glob(pattern))]


def safetensors_files() -> list[bytes]:
    """With the names of InPlace-ABN's and NVIDIA's networks."""
    files = []
    for norm in ("bn1", "bn1.0"):
        names = ["mod1.conv1.weight", "mod7.block1.convs.conv3.weight", "classifier.fc.weight", "classifier.fc.bias"]
        names += [f"mod2.block1.{norm}.{suffix}" for suffix in ("weight", "bias", "running_mean", "running_var")]
        files.append(safetensors.numpy.save({f"module.{name}": np.ones(4, np.float32) for name in names}))
    return files


def torch_pickle(data: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
    """The pickle in an archive of PyTorch's; what stands behind it moves on with it."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
    return zip_member(name)(data)


def safetensors_header(data: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
    """The header of a `.safetensors` file, with its length right again."""
    (length,) = struct.unpack("<Q", data[:8])
    return data[8 : 8 + length], lambda edited: struct.pack("<Q", len(edited)) + edited + data[8 + length :]


def seeded(files: list[bytes], *within: Callable[[bytes], tuple[bytes, Callable[[bytes], bytes]]]) -> st.SearchStrategy:
    """As `damaged`, with edits that follow from one number: several times as many inputs a second, which do not shrink."""

    def made(seed: int) -> bytes:
        numbers = random.Random(seed)
        data, put_back = numbers.choice(files), bytes
        if (way := numbers.randrange(len(within) + 1)) > 0:
            data, put_back = within[way - 1](data)
        edited = bytearray(data)
        for _ in range(numbers.randint(0, 4)):
            _edit(edited, files, numbers.choice(EDITS), numbers.randrange(4096), numbers.randrange(256), numbers.randrange(256))
        return put_back(bytes(edited))

    return st.integers(0, 2**62).map(made)


def mxnet_inputs() -> st.SearchStrategy:
    files = [path.read_bytes() for path in test_mxnet_params.TINY.values()]
    return st.integers(0, 2**32).map(lambda seed: test_mxnet_params.mutated(random.Random(seed), files))


TARGETS = {
    "images": Target(lambda: damaged(image_files(), (png_chunks,)), images),
    "served images": Target(lambda: damaged(image_files(), (png_chunks,)), served_images),
    "masks": Target(lambda: damaged(mask_files(), (png_chunks,)), masks),
    "TFRecord folders": Target(tfrecord_inputs, tfrecord_folders, examples=25),
    "IDX files": Target(lambda: st.tuples(st.integers(0, 3), damaged(idx_files(), (gzipped,))), idx_folders),
    ".params": Target(mxnet_inputs, lambda: file_reader("net.params", read_original)),
    ".h5": Target(lambda: damaged(h5_files()), lambda: file_reader("net.h5", read_original)),
    ".pth, zip": Target(lambda: seeded(stored("*_zip.pth"), torch_pickle), lambda: file_reader("net.pth", read_original)),
    ".pth, legacy": Target(lambda: seeded(stored("*_legacy.pth")), lambda: file_reader("net.pth", read_original)),
    ".safetensors": Target(
        lambda: seeded([*stored("*.safetensors"), *safetensors_files()], safetensors_header),
        lambda: file_reader("net.safetensors", read_original),
    ),
    ".weights.h5": Target(lambda: damaged(saved(".weights.h5")), lambda: file_reader("net.weights.h5", read_keras_weights)),
    ".keras": Target(
        lambda: damaged(saved(".keras"), (zip_member("config.json"), zip_member("model.weights.h5"))),
        lambda: file_reader("net.keras", keras_files),
        examples=40,
    ),
    "sidecars": Target(
        lambda: damaged([b'{"structure": "A1", "width": 0.5, "classes": 5, "class_names": ["a", "b"]}']) | as_json(),
        lambda: file_reader("net.weights.json", sidecars),
    ),
    "run directories": Target(run_inputs, run_directories),
    "flag files": Target(lambda: damaged([path.read_bytes() for path in sorted((ROOT / "scripts" / "flags").glob("*.flags"))]), flag_files),
    "answers over REST": Target(rest_answer_inputs, rest_answers),
    "requests over REST": Target(rest_request_inputs, rest_requests),
    "requests over gRPC": Target(grpc_request_inputs, grpc_requests, "tensorflow_serving"),
}


# A run


class Memory:
    """What an input takes of this process' memory where it is more than any took before (Linux)."""

    def __init__(self):
        self._highest = self._read("VmHWM")

    def begin(self) -> None:
        self._before = self._read("VmRSS")

    def grown(self) -> int:
        before, self._highest = self._highest, self._read("VmHWM")
        return self._highest - self._before if self._highest > before else 0

    @staticmethod
    def _read(key: str) -> int:
        return int(re.search(rf"{key}:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) << 10


@dataclasses.dataclass
class Found:
    """What a run has found.

    Args:
        inputs: how many were tried.
        refused: how many of them were.
        seconds: the whole run.
        longest: seconds of the slowest input.
        most_bytes: memory that an input took at most.
        findings: what was raised, and where -> its message and the beginning of the smallest input that raises it, in hexadecimal; the
            whole of it is kept beside the last input, see `FUZZ_LAST`.
    """

    inputs: int = 0
    refused: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    most_bytes: int = 0
    findings: dict[str, str] = dataclasses.field(default_factory=dict)


class Finding(Exception):
    """Raised for Hypothesis, which then looks for a smaller input."""


def where(error: BaseException) -> str:
    """An exception, and the last line of ours or else of anybody's that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "keras_widerresnet/" in frame.filename]
    last = (ours or frames)[-1]
    return f"{type(error).__name__} at {pathlib.Path(last.filename).name}:{last.lineno}, {str(error).strip().partition(chr(10))[0][:160]}"


def run(name: str, seconds: float | None, examples: int, seed: int = 0) -> Found:
    """Tries inputs for so many seconds, a number of examples at a time; None: that number, whatever it takes."""
    found, known, lengths, memory = Found(), set(), {}, Memory()
    begin = time.perf_counter()
    last = pathlib.Path(os.environ["FUZZ_LAST"]) if "FUZZ_LAST" in os.environ else None
    with TARGETS[name].open() as read:
        read_inputs = TARGETS[name].inputs()

        def one(given) -> None:
            if seconds is not None and time.perf_counter() - begin > seconds:
                return
            if last:
                last.write_text(repr(given))
            memory.begin()
            started = time.perf_counter()
            try:
                outcome = read(given)
                problem = ""
            except Exception as error:
                outcome, problem = "", where(error)
            taken, grown = time.perf_counter() - started, memory.grown()
            found.inputs += 1
            found.refused += outcome == REFUSED
            found.longest, found.most_bytes = max(found.longest, taken), max(found.most_bytes, grown)
            if taken > MOST_SECONDS or grown > MOST_BYTES:
                found.findings.setdefault(f"{taken:.1f} s, {grown >> 20} MB", _shown(given)[:200])
            kind = problem.partition(",")[0]
            if problem and kind not in known:
                shown = _shown(given)
                if kind not in lengths or len(shown) < lengths[kind]:
                    lengths[kind] = len(shown)
                    found.findings[kind] = f"{problem.partition(',')[2].strip()} <- {shown[:200]}"
                    if last:
                        last.with_name(re.sub(r"\W+", "-", f"{name} {kind}")).write_text(shown)
                raise Finding(kind)

        settings = hypothesis.settings(
            max_examples=examples,
            database=None,
            deadline=None,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
            verbosity=hypothesis.Verbosity.quiet,
        )
        while found.inputs == 0 or (seconds is not None and time.perf_counter() - begin < seconds):
            # What Hypothesis raises at the end is kept already, what comes and goes too.
            with contextlib.suppress(Exception):
                hypothesis.seed(seed)(settings(hypothesis.given(read_inputs)(one)))()
            known = set(found.findings)
            seed += 1
    found.seconds = time.perf_counter() - begin
    return found


def _shown(given) -> str:
    return given.hex() if isinstance(given, bytes) else repr(tuple(one.hex() if isinstance(one, bytes) else one for one in given))


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(run(sys.argv[1], float(sys.argv[2]), 500, int(sys.argv[3]) if len(sys.argv) > 3 else 0))))
