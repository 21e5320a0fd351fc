import gzip
import io
import struct
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from photographs import PHOTOGRAPHS, tiles, write_folder
from PIL import Image
from sklearn.datasets import load_digits

from keras_widerresnet.data.images import decode_rgb, decode_window
from keras_widerresnet.data.names import CLASSIFICATION, SEGMENTATION, describe, parse_name
from keras_widerresnet.data.sources.arrays import array_split
from keras_widerresnet.data.sources.folder import folder
from keras_widerresnet.data.sources.tfds import tfds_images
from keras_widerresnet.data.split import ShardedSplit, Share
from keras_widerresnet.errors import InputError
from keras_widerresnet.tasks.classification.data import load_data


def write_idx(path, array, type_code=8):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, type_code, array.ndim, *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def examples(dataset, count):
    return [tuple(np.asarray(part) for part in example) for example in dataset.take(count)]


def test_digits_are_scikit_learns_with_a_fifth_held_out():
    data = load_data("digits")
    assert (data.train.size, data.test.size, data.classes) == (1437, 360, 10)
    pixels = {
        (image[..., 0].tobytes(), int(label)) for split in (data.train, data.test) for image, label in examples(split.ordered(), 2000)
    }
    bunch = load_digits()
    assert pixels == {(np.round(x * 255 / 16).astype(np.uint8).tobytes(), int(y)) for x, y in zip(bunch.images, bunch.target, strict=True)}
    shares = np.bincount(data.test.labels) / np.bincount(bunch.target)
    assert np.all(np.abs(shares - 0.2) < 0.01)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files(tmp_path, suffix):
    rng = np.random.default_rng(0)
    images = {"train": rng.integers(0, 256, (7, 4, 5)), "t10k": rng.integers(0, 256, (3, 4, 5))}
    labels = {"train": np.array([0, 1, 2, 2, 1, 0, 2]), "t10k": np.array([2, 1, 0])}
    for part in images:
        write_idx(tmp_path / f"{part}-images-idx3-ubyte{suffix}", images[part])
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte{suffix}", labels[part])
    data = load_data(f"idx:{tmp_path}")
    assert data.class_names == ("0", "1", "2")
    for image, (read, label), truth in zip(images["train"], examples(data.train.ordered(), 7), labels["train"], strict=True):
        np.testing.assert_array_equal(read, np.repeat(image[..., None], 3, axis=-1))
        assert label == truth


def test_damaged_idx_files(tmp_path):
    with pytest.raises(ValueError, match="No train-images"):
        load_data(f"idx:{tmp_path}")
    for part in ("train", "t10k"):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", np.zeros((4, 2, 2)))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.zeros(4))
    path = tmp_path / "train-images-idx3-ubyte"
    good = path.read_bytes()
    for bad, message in (
        (good[:-1], "truncated"),
        (good[:9], "truncated|cannot be"),
        (b"", "not an IDX"),
        (b"\0\0\x0d\x03" + good[4:], "not an IDX"),
    ):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=message):
            load_data(f"idx:{tmp_path}")
    path.write_bytes(good)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(5))
    with pytest.raises(ValueError, match=r"4 images.*5 labels"):
        load_data(f"idx:{tmp_path}")


def test_fake_images():
    data = load_data("fake:48")
    image, label = examples(data.train.ordered(), 1)[0]
    assert image.shape == (48, 48, 3) and image.dtype == np.uint8 and 0 <= label < data.classes == 10


@pytest.mark.parametrize("name", ["cifar", "folder:", "digits:2", "fake:big", "tfds:", ""])
def test_unknown_data_set_names_the_known_ones(name):
    with pytest.raises(ValueError, match="digits, folder:PATH, idx:PATH, tfds:NAME, tfrecord:PATH, fake"):
        load_data(name)


def test_names_tell_the_kind_and_what_it_takes(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_name("digits", CLASSIFICATION) == ("digits", "")
    assert parse_name("fake", CLASSIFICATION) == ("fake", "") and parse_name("fake:32", CLASSIFICATION) == ("fake", "32")
    assert parse_name("tfds:cifar10/3.0.2:x", CLASSIFICATION) == ("tfds", "cifar10/3.0.2:x")
    (tmp_path / "a,train=b").mkdir()
    assert parse_name("idx:~/a,train=b", CLASSIFICATION) == ("idx", f"{tmp_path}/a,train=b")  # no options to cut off
    (tmp_path / "a").mkdir()
    assert parse_name("voc:~/a,train=b", SEGMENTATION) == ("voc", f"{tmp_path}/a,train=b")
    assert describe(CLASSIFICATION) == "digits, folder:PATH, idx:PATH, tfds:NAME, tfrecord:PATH, fake or fake:SIZE"
    assert describe(SEGMENTATION) == (
        "voc:PATH, sbd:PATH, cityscapes:PATH, camvid:PATH, ade20k:PATH, pascal_context:PATH, pairs:PATH,classes=N or "
        "pairs:PATH,names=sky+road+… (each with train=PART, test=PART to select other parts; voc: also accepts sbd=PATH; "
        "pairs: also accepts ignore=VALUE, and VALUE=NAME in names=), or shapes"
    )


@pytest.mark.parametrize(
    ("kinds", "name", "message"),
    [
        (CLASSIFICATION, "cifar", "^Unknown data set 'cifar'; a data set is one of: digits, folder:PATH"),
        (CLASSIFICATION, "floder:x", r"fake or fake:SIZE\. Did you mean 'folder'\?$"),
        (CLASSIFICATION, "fake:0", "^Unknown data set 'fake:0'"),
        (CLASSIFICATION, "tfrecord:no/such", "^No folder at 'no/such'; tfrecord: needs the path of a folder$"),
        (SEGMENTATION, "cityscape:x", r"^Unknown segmentation data set 'cityscape:x'; .*or shapes\. Did you mean 'cityscapes'\?$"),
        (SEGMENTATION, "voc:no/such,train=trainval", "^No folder at 'no/such'; voc: needs the path of a folder$"),
    ],
)
def test_names_that_cannot_be(kinds, name, message):
    with pytest.raises(InputError, match=message):
        parse_name(name, kinds)


def test_names_are_checked_without_numeric_libraries():
    """What `--help` and a wrong name need is there at once."""
    code = (
        "import sys; from keras_widerresnet.data.names import SEGMENTATION, describe; describe(SEGMENTATION); "
        "print(sorted({'tensorflow', 'keras', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_folder_decodes_as_pil_and_holds_out_a_fifth(tmp_path, suffix):
    data = folder(str(write_folder(tmp_path / "set", suffix=suffix)))
    assert (data.train.size, data.test.size, data.class_names) == (8, 2, ("cat", "dog"))
    files = [data.train.name_of(i) for i in range(8)] + [data.test.name_of(i) for i in range(2)]
    assert len(set(files)) == 10
    for index, (image, label) in enumerate(examples(data.train.ordered(), 8)):
        file = data.train.name_of(index)
        np.testing.assert_array_equal(decode_rgb(tf.constant(image.item())), np.asarray(Image.open(file)))
        assert f"/{data.class_names[label]}/" in file


def test_folder_with_its_own_split(tmp_path):
    write_folder(tmp_path / "train", count=4)
    write_folder(tmp_path / "val", count=3)
    data = folder(str(tmp_path))
    assert (data.train.size, data.test.size) == (8, 6)
    (tmp_path / "val" / "dog").rename(tmp_path / "val" / "wolf")
    with pytest.raises(ValueError, match=r"different class folders: \['dog', 'wolf'\]"):
        folder(str(tmp_path))


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(ValueError, match="No folder at"):
        folder(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="has no class folders"):
        folder(str(tmp_path))
    write_folder(tmp_path)
    (tmp_path / "emu").mkdir()
    with pytest.raises(ValueError, match="emu' contains no images"):
        folder(str(tmp_path))


def test_corrupt_files_are_named_or_left_out(tmp_path):
    write_folder(tmp_path)
    broken = tmp_path / "cat" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    (tmp_path / "dog" / "empty.jpg").write_bytes(b"")
    (tmp_path / "dog" / "text.png").write_text("not an image")
    with pytest.raises(ValueError, match=r"3 of 12 images.*--skip_corrupt.*cat/3.jpg cannot be decoded.*empty.jpg.*text.png"):
        folder(str(tmp_path))
    data = folder(str(tmp_path), skip_corrupt=True)
    assert data.train.size + data.test.size == 9
    unverified = folder(str(tmp_path), verify=False)
    assert len(unverified.find_unreadable()) == 3


def test_other_than_rgb_is_named_or_converted(tmp_path):
    write_folder(tmp_path)
    grey = Image.fromarray(tiles(1)[0]).convert("L")
    grey.save(tmp_path / "cat" / "grey.png")
    grey.convert("RGBA").save(tmp_path / "dog" / "alpha.png")
    with pytest.raises(ValueError, match=r"grey.png is not RGB but grey \(--convert_rgb.*alpha.png is not RGB but RGB with alpha"):
        folder(str(tmp_path))
    data = folder(str(tmp_path), convert_rgb=True)
    assert data.train.size + data.test.size == 12
    for split in (data.train, data.test):
        for index, (image, _) in enumerate(examples(split.ordered(), 12)):
            ours = decode_rgb(tf.constant(image.item()))
            np.testing.assert_array_equal(ours, np.asarray(Image.open(split.name_of(index)).convert("RGB")))


class TileImages(tfds.core.GeneratorBasedBuilder):
    """A small TFDS data set made from photographs."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(24, 24, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=["left", "right"]),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, _):
        return {"train": self._generate_examples(range(9)), "test": self._generate_examples(range(9, 13))}

    def _generate_examples(self, indices):
        all_tiles = tiles(13)
        for index in indices:
            yield index, {"image": all_tiles[index], "label": index % 2}


def test_tfds_by_name(tmp_path):
    data = tfds_images("tile_images", data_dir=str(tmp_path))
    assert (data.train.size, data.test.size, data.class_names) == (9, 4, ("left", "right"))
    known = {tile.tobytes(): index % 2 for index, tile in enumerate(tiles(13))}
    for split in (data.train, data.test):
        read = examples(split.ordered(), 20)
        assert len(read) == split.size
        assert all(known[np.asarray(decode_rgb(tf.constant(image.item()))).tobytes()] == label for image, label in read)
        np.testing.assert_array_equal(split.labels, [label for _, label in read])
        np.testing.assert_array_equal(split.image(2), decode_rgb(tf.constant(read[2][0].item())))


def test_unknown_tfds_name():
    with pytest.raises(ValueError, match="TensorFlow Datasets has no data set 'no_such_set'"):
        load_data("tfds:no_such_set")


def tiny_shards(folder, lengths):
    """A split over TFRecord files of so many records, the numbers from 0 on."""
    numbers = iter(range(sum(lengths)))
    for file, length in enumerate(lengths):
        with tf.io.TFRecordWriter(str(folder / f"{file}")) as writer:
            for _ in range(length):
                writer.write(str(next(numbers)).encode())
    files = [str(folder / f"{file}") for file in range(len(lengths))]
    return ShardedSplit(files, lengths, lambda record: (record, tf.strings.to_number(record, tf.int32)))


@pytest.fixture(params=["indexed", "sharded"])
def eleven(request, tmp_path):
    if request.param == "indexed":
        return array_split(np.zeros((11, 2, 2), np.uint8), np.arange(11))
    return tiny_shards(tmp_path, [4, 4, 3])


def test_shuffled_order(eleven):
    """Every pass holds every example once, in an order of its own; any step can be started from; a seed fixes it all."""

    def labels(start, count, seed=5):
        return [int(label) for _, _, label in eleven.shuffled(seed, batch_size=1, step=start).take(count)]

    order = labels(0, 44)
    passes = [order[i : i + 11] for i in range(0, 44, 11)]
    assert all(sorted(one) == list(range(11)) for one in passes)
    assert len({tuple(one) for one in passes}) == 4
    for start in (1, 10, 11, 25):
        assert labels(start, 44 - start) == order[start:]
        assert int(next(iter(eleven.shuffled(5, batch_size=1, step=start)))[0]) == start
    assert labels(0, 11, seed=6) != order[:11]


def test_two_workers_read_the_rows_of_one(tmp_path):
    """Of indexed images: together the very batches, in their rows. Of shards: files of their own, which together hold everything."""
    indexed = array_split(np.zeros((11, 2, 2), np.uint8), np.arange(11))
    whole = [(int(p), int(label)) for p, _, label in indexed.shuffled(5, batch_size=4, step=3).take(12)]
    halves = [
        [(int(p), int(label)) for p, _, label in indexed.shuffled(5, batch_size=4, step=3, share=Share(k, 2)).take(6)] for k in (0, 1)
    ]
    assert [row for step in range(3) for half in halves for row in half[2 * step : 2 * step + 2]] == whole

    sharded = tiny_shards(tmp_path, [4, 4, 3, 5])
    seen = []
    for k, size in ((0, 7), (1, 9)):
        read = [(int(p), int(label)) for p, _, label in sharded.shuffled(5, batch_size=2, share=Share(k, 2)).take(2 * size)]
        assert [p for p, _ in read] == [2 * q + k for q in range(2 * size)]
        assert sorted(label for _, label in read[:size]) == sorted(label for _, label in read[size:])
        seen += [label for _, label in read[:size]]
        resumed = [(int(p), int(label)) for p, _, label in sharded.shuffled(5, batch_size=2, step=size + 2, share=Share(k, 2)).take(4)]
        assert resumed == read[size + 2 : size + 6]
    assert sorted(seen) == list(range(16))
    with pytest.raises(ValueError, match="4 shards are too few for 5 workers"):
        sharded.shuffled(5, batch_size=10, share=Share(4, 5))


def test_order_does_not_depend_on_the_global_seed(tmp_path):
    """Also with a global seed of 0, which TensorFlow's own shuffle cannot combine with a seed that is a tensor."""
    split = tiny_shards(tmp_path, [4, 4])
    orders = []
    for seed in (0, 7):
        tf.random.set_seed(seed)
        orders.append([int(label) for _, _, label in split.shuffled(5, batch_size=1).take(16)])
    assert orders[0] == orders[1]


def test_passes_before_are_not_read(tmp_path):
    """A resumed run does not read through what it has seen: with the files gone, the first passes cost nothing."""
    split = tiny_shards(tmp_path, [4, 4])
    stream = split.shuffled(5, batch_size=1, step=8 * 1_000_000 + 3)
    assert int(next(iter(stream))[0]) == 8_000_003


def odd_files():
    """The kinds that are in the real set: CMYK, grey, and a PNG under a JPEG's name."""
    photograph = Image.fromarray(PHOTOGRAPHS[1][:90, :120])
    for name, mode, kind in (
        ("cmyk.JPEG", "CMYK", "JPEG"),
        ("grey.JPEG", "L", "JPEG"),
        ("png.JPEG", "RGB", "PNG"),
        ("plain.JPEG", "RGB", "JPEG"),
    ):
        buffer = io.BytesIO()
        photograph.convert(mode).save(buffer, kind, **({"quality": 92} if kind == "JPEG" else {}))
        yield name, buffer.getvalue()


@pytest.mark.parametrize(("name", "encoded"), list(odd_files()))
def test_odd_files_of_the_real_set_are_read_as_pil_reads_them(name, encoded):
    with Image.open(io.BytesIO(encoded)) as opened:
        theirs = np.asarray(opened.convert("RGB"), int)
    ours = np.asarray(decode_rgb(tf.constant(encoded)), int)
    assert np.abs(ours - theirs).max() <= 1
    window = np.asarray(decode_window(tf.constant(encoded), lambda size: tf.constant([11, 7, 50, 81])), int)
    difference = np.abs(window - ours[11:61, 7:88])
    assert difference.max() <= 4 and difference.mean() < 0.01


def test_folder_with_the_odd_files(tmp_path):
    for index, (name, encoded) in enumerate(odd_files()):
        for label in "ab":
            (tmp_path / label).mkdir(exist_ok=True)
            (tmp_path / label / f"{index}{name}").write_bytes(encoded)
    data = folder(str(tmp_path), convert_rgb=True)
    for index in range(data.train.size):
        with Image.open(data.train.name_of(index)) as opened:
            assert np.abs(np.asarray(data.train.image(index), int) - np.asarray(opened.convert("RGB"), int)).max() <= 1


def test_what_training_cannot_decode_does_not_pass_verification(tmp_path):
    """TensorFlow's decoders take some formats besides JPEG and PNG, and of some all pictures; ours take these two, by their content."""
    write_folder(tmp_path)
    for kind in ("GIF", "BMP", "WEBP"):
        Image.fromarray(tiles(1)[0]).save(tmp_path / "cat" / f"{kind}.jpg", kind)
    with pytest.raises(ValueError, match=r"3 of 13 images.*BMP.jpg is an image in BMP format, not JPEG or PNG"):
        folder(str(tmp_path))
    data = folder(str(tmp_path), skip_corrupt=True)
    for split in (data.train, data.test):
        assert all(decode_rgb(raw).shape == (24, 24, 3) for raw, _ in split.ordered())


def test_small_sets_are_held_in_memory(tmp_path):
    root = str(write_folder(tmp_path / "set"))
    held, read = folder(root), folder(root, cache_bytes=0)
    expected = [bytes(image) for image, _ in read.train.ordered().as_numpy_iterator()]
    for file in (tmp_path / "set").rglob("*.jpg"):
        file.unlink()
    assert [bytes(image) for image, _ in held.train.ordered().as_numpy_iterator()] == expected
    with pytest.raises(tf.errors.NotFoundError):
        next(iter(read.train.ordered()))
