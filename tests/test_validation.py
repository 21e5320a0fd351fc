"""Validation images: held out of the training images, a part of their own, or the test images."""

import collections
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from photographs import tiles, write_folder
from test_data import tiny_shards
from test_segmentation_data import PARTS, camvid_like, values, write_image, write_mask

from keras_widerresnet.data.names import held_out_share
from keras_widerresnet.data.pairs import SegmentationData, SegmentationSplit
from keras_widerresnet.data.sources import tfrecord
from keras_widerresnet.data.sources.arrays import array_split
from keras_widerresnet.data.sources.folder import folder
from keras_widerresnet.data.sources.tfds import tfds_images
from keras_widerresnet.data.split import ImageData, Share
from keras_widerresnet.data.validation import with_validation
from keras_widerresnet.label_maps import numbered
from keras_widerresnet.tasks.classification.data import load_data
from keras_widerresnet.tasks.segmentation.data import load_segmentation_data

COUNTS = (20, 7, 13)  # images of each class
SIZE = sum(COUNTS)


def numbers(split):
    """The images of the sets below in stored order: each has its number in its pixels."""
    return [number_of(raw) for raw, _ in split.ordered()]


def number_of(raw):
    return int(raw) if raw.dtype == tf.string else int(np.asarray(raw).ravel()[0])


def indexed():
    """40 images of three classes, mixed."""
    images = np.arange(SIZE, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(3), COUNTS))
    return dataclasses.replace(array_split(images, labels), name_of="image {}".format)


def pairs():
    images = tf.range(SIZE, dtype=tf.int32)
    return SegmentationSplit([f"image {k}" for k in range(SIZE)], lambda index: (images[index], -images[index]), numbered("", ("a",)))


KINDS = ("indexed", "pairs", "sharded, 1 file", "sharded, 3 files")


@pytest.fixture(params=KINDS)
def data(request, tmp_path):
    """A set whose training images are numbered 0..39, and whose test images are others."""
    if request.param == "pairs":
        return SegmentationData("pairs", numbered("", ("a",)), pairs(), "the test split")
    if request.param == "indexed":
        return ImageData("indexed", ("a", "b", "c"), indexed(), "the test split")
    lengths = [SIZE] if "1 file" in request.param else [13, 22, 5]
    split = dataclasses.replace(tiny_shards(tmp_path, lengths), buffer=8, name_of="image {}".format)
    return ImageData("sharded", ("a",), split, "the test split")


# ---- held out


@pytest.mark.parametrize("choice", ["0.1", "0.25", "0.5", "auto"])
def test_training_never_sees_a_held_out_image(data, choice):
    reduced, words = with_validation(data, choice, seed=3)
    train, validation = numbers(reduced.train), numbers(reduced.validation)
    assert len(set(train) & set(validation)) == 0
    assert sorted(train + validation) == list(range(SIZE))
    assert (reduced.train.size, reduced.validation.size) == (len(train), len(validation))
    percent = {"0.1": "10", "0.25": "25", "0.5": "50", "auto": "10"}[choice]
    assert words == f"{percent} % of the training images, held out"
    assert reduced.test is data.test
    seen = [number_of(example[1]) for example in reduced.train.shuffled(7, batch_size=2).take(5 * len(train))]
    assert not set(seen) & set(validation)


def test_a_pass_holds_every_image_that_is_left_once_from_any_step(data):
    train = with_validation(data, "0.25", seed=3)[0].train
    left = sorted(numbers(train))

    def order(step, count, seed=5):
        return [(int(position), number_of(raw)) for position, raw, _ in train.shuffled(seed, batch_size=1, step=step).take(count)]

    two_passes = order(0, 2 * train.size)
    assert [position for position, _ in two_passes] == list(range(2 * train.size))
    assert sorted(number for _, number in two_passes[: train.size]) == left
    assert sorted(number for _, number in two_passes[train.size :]) == left
    assert two_passes[: train.size] != two_passes[train.size :]
    for step in (1, train.size // 2, train.size, train.size + 3):
        assert order(step, 2 * train.size - step) == two_passes[step:]
    assert order(0, train.size, seed=6) != two_passes[: train.size]


def test_images_keep_their_names_and_labels(data):
    label_of = dict(zip(range(SIZE), data.train.labels, strict=True)) if isinstance(data, ImageData) else {}
    reduced, _ = with_validation(data, "0.25", seed=3)
    for split in (reduced.train, reduced.validation):
        stored = numbers(split)
        assert [split.name_of(k) for k in range(split.size)] == [f"image {number}" for number in stored]
        if label_of:
            assert list(split.labels) == [label_of[number] for number in stored] == [int(label) for _, label in split.ordered()]


def test_single_images_are_those_of_the_reduced_split():
    reduced, _ = with_validation(ImageData("", ("a", "b", "c"), indexed(), None), "0.25", seed=3)
    for split in (reduced.train, reduced.validation):
        assert [int(split.image(k)[0, 0, 0]) for k in range(split.size)] == numbers(split)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.25, 0.5, 0.77])
def test_every_class_gives_its_share(share):
    data = ImageData("", ("a", "b", "c"), indexed(), None)
    validation = with_validation(data, str(share), seed=0)[0].validation
    np.testing.assert_array_equal(np.bincount(validation.labels, minlength=3), [max(1, round(count * share)) for count in COUNTS])


@pytest.mark.parametrize("make", [indexed, pairs])
def test_the_seed_draws(make):
    split = make()
    data = SegmentationData("", split.labels, split, None) if make is pairs else ImageData("", ("a", "b", "c"), split, None)
    drawn = [numbers(with_validation(data, "0.25", seed)[0].validation) for seed in range(30)]
    assert drawn[3] == numbers(with_validation(data, "0.25", 3)[0].validation)
    assert len({tuple(one) for one in drawn}) == 30
    often = collections.Counter(number for one in drawn for number in one)
    assert set(often) == set(range(SIZE))  # each is drawn by some seed


def test_one_image_of_each_class_at_least_is_held_out():
    small = array_split(np.arange(7, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8), np.array([0, 1, 1, 1, 2, 2, 0]))
    reduced, _ = with_validation(ImageData("", ("a", "b", "c"), small, None), "auto", seed=0)
    assert (reduced.train.size, reduced.validation.size, sorted(reduced.validation.labels)) == (4, 3, [0, 1, 2])
    one = with_validation(SegmentationData("", numbered("", ("a",)), pairs(), None), "0.001", seed=0)[0]
    assert (one.train.size, one.validation.size) == (SIZE - 1, 1)


@pytest.mark.parametrize(
    ("share", "lengths"), [("0.1", (13, 22, 5)), ("0.29", (100,)), ("0.3", (9, 11)), ("0.9", (7, 1)), ("0.57", (99, 100))]
)
def test_records_are_spread_evenly_over_each_file(tmp_path, share, lengths):
    """By the definition in whole numbers of hundredths, in which floating point would be off by one for 0.29 and 0.57 of 100."""
    hundredths = round(100 * float(share))
    split = tiny_shards(tmp_path, list(lengths))
    reduced, _ = with_validation(ImageData("", ("a",), split, None), share, seed=0)
    starts = np.cumsum([0, *lengths])
    held_out = [
        [start + i for i in range(length) if (i + 1) * hundredths // 100 > i * hundredths // 100]
        for start, length in zip(starts, lengths, strict=False)
    ]
    assert [len(one) for one in held_out] == [length * hundredths // 100 for length in lengths]
    assert numbers(reduced.validation) == [number for one in held_out for number in one]
    assert list(reduced.validation.lengths) == [len(one) for one in held_out if one]
    assert list(reduced.train.lengths) == [length - len(one) for length, one in zip(lengths, held_out, strict=True)]


def test_files_without_a_held_out_record_are_not_read(tmp_path):
    split = tiny_shards(tmp_path, [20, 4, 10])
    validation = with_validation(ImageData("", ("a",), split, None), "0.1", seed=0)[0].validation
    (tmp_path / "1").unlink()
    assert numbers(validation) == [9, 19, 33]


def test_workers_share_what_is_left(tmp_path):
    split = tiny_shards(tmp_path, [13, 22, 5])
    train = with_validation(ImageData("", ("a",), split, None), "0.25", seed=0)[0].train
    seen = []
    for k in range(3):
        size = train.lengths[k]
        read = [int(label) for _, _, label in train.shuffled(5, batch_size=3, share=Share(k, 3)).take(2 * size)]
        assert sorted(read[:size]) == sorted(read[size:])
        resumed = [int(label) for _, _, label in train.shuffled(5, batch_size=3, step=size + 1, share=Share(k, 3)).take(size - 1)]
        assert resumed == read[size + 1 :]
        seen += read[:size]
    assert sorted(seen) == numbers(train)


def test_held_out_twice(tmp_path):
    """What is left can be divided again."""
    split = dataclasses.replace(tiny_shards(tmp_path, [13, 22, 5]), name_of="image {}".format)
    once = with_validation(ImageData("", ("a",), split, None), "0.25", seed=0)[0]
    twice = with_validation(once, "0.25", seed=0)[0]
    assert sorted(numbers(once.validation) + numbers(twice.validation) + numbers(twice.train)) == list(range(SIZE))
    assert [twice.train.name_of(k) for k in range(twice.train.size)] == [f"image {number}" for number in numbers(twice.train)]


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_held_out_files(tmp_path, cache_bytes):
    write_folder(tmp_path, count=10)
    data = folder(str(tmp_path), cache_bytes=cache_bytes)
    reduced, _ = with_validation(data, "0.25", seed=0)
    before = {data.train.name_of(k): raw.numpy() for k, (raw, _) in enumerate(data.train.ordered())}
    after = [(split.name_of(k), raw.numpy()) for split in (reduced.train, reduced.validation) for k, (raw, _) in enumerate(split.ordered())]
    assert dict(after) == before and len(after) == len(before) == len({raw for _, raw in after}) == 16
    (tmp_path / "cat" / "0.jpg").write_bytes(b"")
    assert list(reduced.find_unreadable()) == [str(tmp_path / "cat" / "0.jpg")]


# ---- the test images, or images of their own


def test_none_takes_the_test_images(data):
    reduced, words = with_validation(data, "none", seed=0)
    assert (reduced.train, reduced.validation, reduced.test, words) == (data.train, data.test, data.test, "the test images")


@pytest.mark.parametrize("own", ["val", "validation"])
def test_folder_with_three_parts(tmp_path, own):
    for part, count in (("train", 5), ("test", 4), (own, 3), ("extra", 2)):
        write_folder(tmp_path / part, count=count)
    data = folder(str(tmp_path))
    assert (data.train.size, data.test.size, data.validation.size) == (10, 8, 6)
    validated, words = with_validation(data, "auto", seed=0)
    assert (validated.train, validated.validation, words) == (data.train, data.validation, "its validation images")
    assert {data.validation.name_of(k).split("/")[-3] for k in range(6)} == {own}
    assert with_validation(data, "0.2", seed=0)[0].validation.size == 2

    validated, words = with_validation(data, "extra", seed=0)
    assert (validated.train, words) == (data.train, "its part 'extra'")
    assert [validated.validation.name_of(k) for k in range(4)] == [
        str(tmp_path / "extra" / c / f"{k}.jpg") for c in ("cat", "dog") for k in (0, 1)
    ]
    for part in (own, "extra"):
        (tmp_path / part / "dog" / "1.jpg").write_bytes(b"")
    assert list(validated.find_unreadable()) == [str(tmp_path / part / "dog" / "1.jpg") for part in (own, "extra")]
    with pytest.raises(ValueError, match=rf"1 of 6 images cannot be used.*{own}/dog/1\.jpg"):
        folder(str(tmp_path))
    write_folder(tmp_path / own, ("emu",))
    with pytest.raises(ValueError, match=rf"{own} and .*train have different class folders: \['emu'\]"):
        folder(str(tmp_path), verify=False)


def test_bad_parts_of_a_folder(tmp_path):
    for part in ("train", "val", "extra"):
        write_folder(tmp_path / part)
    data = folder(str(tmp_path))
    assert data.validation is None  # `val` is the test part
    (tmp_path / "extra" / "dog" / "1.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 of 10 images cannot be used.*extra/dog/1\.jpg"):
        with_validation(data, "extra", seed=0)
    (tmp_path / "extra" / "dog").rename(tmp_path / "extra" / "wolf")
    with pytest.raises(ValueError, match=r"different class folders: \['dog', 'wolf'\]"):
        with_validation(data, "extra", seed=0)
    for name in ("holdout", "train", str(tmp_path / "extra")):
        with pytest.raises(ValueError, match=r"has no part .* other than its training images. Its folders: extra, train, val"):
            with_validation(data, name, seed=0)


def test_tfds_splits_by_name(tmp_path):
    data = tfds_images("tile_images", data_dir=str(tmp_path))
    validated, words = with_validation(data, "test", seed=0)
    assert (words, validated.train, data.validation) == ("its part 'test'", data.train, None)
    assert [raw.numpy() for raw, _ in validated.validation.ordered()] == [raw.numpy() for raw, _ in data.test.ordered()]
    for name in ("holdout", "train", "train[:3]"):
        with pytest.raises(ValueError, match=r"tfds:tile_images has no split .* other than its training images. Its other splits: test"):
            with_validation(data, name, seed=0)
    reduced, _ = with_validation(data, "0.25", seed=0)
    stored, left, held = ([raw.numpy() for raw, _ in split.ordered()] for split in (data.train, reduced.train, reduced.validation))
    assert len(held) == 2 and sorted(left + held) == sorted(stored)


def write_shards(root, part, labels, files=1):
    for file in range(files):
        with tf.io.TFRecordWriter(str(root / f"{part}-{file:05d}-of-{files:05d}")) as writer:
            for number, label in enumerate(labels):
                writer.write(tfrecord._record(f"{part} {file} {number}".encode(), label))


def test_tfrecord_parts_by_name(tmp_path):
    write_shards(tmp_path, "train", (1, 2, 3))
    write_shards(tmp_path, "validation", (3, 1))
    write_shards(tmp_path, "test", (2,))
    data = load_data(f"tfrecord:{tmp_path}")
    assert data.validation is None and list(data.test.labels) == [2, 0]  # `validation` is the test part
    write_shards(tmp_path, "mine", (2, 2), files=2)
    write_shards(tmp_path, "wrong", (2, 7))
    validated, words = with_validation(data, "mine", seed=0)
    assert (validated.validation.size, list(validated.validation.labels), words) == (4, [1, 1, 1, 1], "its part 'mine'")
    stored = [raw.numpy() for file in validated.validation.files for raw in validated.validation.unchecked(file)]
    assert stored == [b"mine 0 0", b"mine 0 1", b"mine 1 0", b"mine 1 1"]
    assert list(with_validation(data, "test", seed=0)[0].validation.labels) == [1]
    for name, message in (
        ("none_such", r"No TFRecord shards none_such-\*"),
        ("*", r"No TFRecord shards \*-\*"),
        ("train", "contain training images"),
        ("wrong", r"contain labels that belong to no class: \[2, 7\]"),
    ):
        with pytest.raises(ValueError, match=message):
            with_validation(data, name, seed=0)


def test_pairs_with_three_parts(tmp_path):
    labels = numbered("", ("",) * 11, (11, 255))
    root = camvid_like(tmp_path, labels)
    for k in range(4):
        write_image(root / "val" / f"{k}.jpg", 10 + k)
        write_mask(root / "valannot" / f"{k}.png", values(labels, 10 + k))
    name = f"pairs:{root},classes=11,ignore=11"
    data = load_segmentation_data(name)
    assert (data.train.size, data.test.size, data.validation.size) == (PARTS["train"], PARTS["test"], 4)
    validated, words = with_validation(data, "auto", seed=0)
    assert (validated.train, validated.validation, words) == (data.train, data.validation, "its validation images")
    named, words = with_validation(data, "val", seed=0)
    assert words == "its part 'val'"
    for split in (data.validation, named.validation):
        for k in range(4):
            np.testing.assert_array_equal(split.mask(k), labels.to_train()[values(labels, 10 + k)])
    assert load_segmentation_data(f"{name},test=val").validation is None
    assert load_segmentation_data(f"{name},train=val").validation is None
    with pytest.raises(ValueError, match="3 images of the part 'train' are also training images"):
        with_validation(data, "train", seed=0)
    with pytest.raises(ValueError, match="No 'holdout' part"):
        with_validation(data, "holdout", seed=0)
    (root / "valannot" / "1.png").write_bytes(b"")
    with pytest.raises(ValueError, match=rf"1 of 9 pairs of image and mask cannot be used: {root / 'valannot' / '1.png'}"):
        load_segmentation_data(name)
    with pytest.raises(ValueError, match="1 of 4 pairs"):
        data.part("val")
    assert list(data.find_unreadable()) == [str(root / "valannot" / "1.png")]


def test_held_out_pairs_keep_their_masks(tmp_path):
    labels = numbered("", ("a", "b"))
    root = camvid_like(tmp_path, labels)
    for cache_bytes in (0, 1 << 20):
        data = load_segmentation_data(f"pairs:{root},classes=2", cache_bytes=cache_bytes)
        assert data.validation is None
        reduced, _ = with_validation(data, "auto", seed=0)
        assert (reduced.train.size, reduced.validation.size) == (2, 1)
        for split in (reduced.train, reduced.validation):
            for k in range(split.size):
                original = int(split.name_of(k))
                np.testing.assert_array_equal(split.mask(k), values(labels, original))
                np.testing.assert_array_equal(split.image(k), data.train.image(original))


@pytest.mark.parametrize("name", ["digits", "fake:16"])
def test_sets_without_parts(name):
    data = load_data(name)
    assert data.validation is None
    with pytest.raises(ValueError, match=r"has no named parts.*'holdout'"):
        with_validation(data, "holdout", seed=0)


def test_other_sets_without_parts(tmp_path):
    write_folder(tmp_path)
    for data in (folder(str(tmp_path)), load_segmentation_data("shapes")):
        assert data.validation is None
        with pytest.raises(ValueError, match="has no named parts"):
            with_validation(data, "test", seed=0)


# ---- errors


def test_too_few_images(tmp_path):
    one = array_split(np.array(tiles(1)), np.zeros(1))
    with pytest.raises(ValueError, match=r"10 % of 1 training images cannot .*no images would be left for training\. .*--validation=none"):
        with_validation(ImageData("", ("a",), one, None), "auto", seed=0)
    mixed = array_split(np.array(tiles(5)), np.array([0, 0, 0, 0, 1]))
    with pytest.raises(ValueError, match=r"80 % of 5 .*no images of 1 of the 2 classes \(the smallest has 1\).*--validation=none"):
        with_validation(ImageData("", ("a", "b"), mixed, None), "0.8", seed=0)
    pair = SegmentationSplit(["one"], lambda index: (index, index), numbered("", ("a",)))
    with pytest.raises(ValueError, match=r"no images would be left for training\. .*--validation=none"):
        with_validation(SegmentationData("", pair.labels, pair, None), "0.5", seed=0)
    shards = ImageData("", ("a",), tiny_shards(tmp_path, [9, 9, 4]), None)
    with pytest.raises(ValueError, match=r"10 % of 22 .*⌊n · 0\.1⌋ images of each file of n images, 0 in total\. .*--validation=none"):
        with_validation(shards, "auto", seed=0)
    for share in ("0.00000001", "0.99999999"):
        with pytest.raises(ValueError, match="cannot be held out"):
            with_validation(shards, share, seed=0)


@pytest.mark.parametrize("choice", ["0", "1", "-0.1", "1.5", "nan", "inf", "1e400"])
def test_shares_are_between_0_and_1(choice):
    with pytest.raises(ValueError, match=r"a share of the training images between 0 and 1, such as 0\.1\. Received: "):
        held_out_share(choice)
    with pytest.raises(ValueError, match="between 0 and 1"):
        with_validation(load_data("digits"), choice, seed=0)


def test_words_are_no_shares():
    assert [held_out_share(choice) for choice in ("0.25", "auto", "none", "val")] == [0.25, None, None, None]
