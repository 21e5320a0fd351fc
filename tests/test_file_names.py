"""What others wrote: names of any bytes and of two lines, lists of every kind, damaged archives, folders that cannot be written."""

import csv
import errno
import gzip
import json
import os
import shutil
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from photographs import write_folder
from test_segmentation_data import write_image, write_mask
from test_training import NETWORK, refused, trained_here

from keras_widerresnet.data.names import CLASSIFICATION, parse_name
from keras_widerresnet.data.sources import tfrecord
from keras_widerresnet.data.sources.folder import folder
from keras_widerresnet.errors import InputError
from keras_widerresnet.loading import class_names
from keras_widerresnet.models import SAVED_MODEL, Facts, Source, find_source
from keras_widerresnet.protocols import SegmentationProtocol
from keras_widerresnet.tasks.classification import figures
from keras_widerresnet.tasks.classification.data import load_data
from keras_widerresnet.tasks.classification.task import Classification
from keras_widerresnet.tasks.segmentation.data import load_segmentation_data
from keras_widerresnet.tasks.segmentation.evaluation import score_test_split
from keras_widerresnet.texts import check_class_names, printable, read_class_names, read_lines

LATIN = os.fsdecode(b"caf\xe9")  # é in Latin-1


# ---- bytes that are no UTF-8


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (LATIN, r"caf\xe9"),
        ("café, 猫 🐈", "café, 猫 🐈"),
        ("a\nb\t\x1b[31m", r"a\nb\t\x1b[31m"),
        ("a\u2028b\x85c", r"a\u2028b\x85c"),
        ("\ud800", r"\ud800"),
        (os.fsdecode(b"\xff\xfe.jpg"), r"\xff\xfe.jpg"),
    ],
)
def test_any_name_in_one_line(name, shown):
    assert printable(name) == shown
    shown.encode()


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
@pytest.mark.parametrize("verify", [True, False])
def test_images_of_any_name(tmp_path, cache_bytes, verify):
    root = write_folder(tmp_path / "set")
    (root / "cat" / LATIN).mkdir()
    names = [f"{LATIN}.jpg", f"{LATIN}/1.jpg", "a\nb.jpg", "猫.jpg", "$\\x$.jpg"]
    for k, name in enumerate(names):
        (root / "cat" / f"{k}.jpg").rename(root / "cat" / name)
    data = folder(str(root), verify=verify, cache_bytes=cache_bytes)
    expected = {printable(root / "cat" / name): (root / "cat" / name).read_bytes() for name in names}
    seen = {split.name_of(k): raw.numpy() for split in (data.train, data.test) for k, (raw, _) in enumerate(split.ordered())}
    assert {name: raw for name, raw in seen.items() if "/cat/" in name} == expected


def test_bad_images_of_any_name_are_named(tmp_path):
    root = write_folder(tmp_path / "set")
    (root / "cat" / f"{LATIN}.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    with pytest.raises(InputError, match=r"1 of 11 images cannot be used; .*set/cat/caf\\xe9\.jpg cannot be decoded"):
        folder(str(root))
    assert [printable(name) for name in folder(str(root), verify=False).find_unreadable()] == [str(root / "cat" / "caf\\xe9.jpg")]
    data = folder(str(root), skip_corrupt=True)
    assert data.train.size + data.test.size == 10


def test_a_whole_run_on_images_of_any_name(tmp_path):
    root = write_folder(tmp_path / "set", ("cat", "dog $\\x$"), count=10)
    for file in list(root.rglob("*.jpg")):
        file.rename(file.with_name(f"{LATIN}\n{file.name}"))
    trained_here(
        tmp_path / "run",
        f"--data=folder:{root}",
        *NETWORK,
        "--batch_size=4",
        "--epochs=1",
        "--steps_per_epoch=1",
        task=Classification,
    )
    assert (tmp_path / "run" / "report.md").is_file()
    with (tmp_path / "run" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 and all(row["image"].startswith(f"{root}/{row['class']}/caf\\xe9\\n") for row in rows)


def test_pairs_of_any_name(tmp_path):
    for k, name in enumerate((LATIN, "猫")):
        for part in ("train", "test"):
            write_image(tmp_path / part / f"{k}.png", k)
            (tmp_path / part / f"{k}.png").rename(tmp_path / part / f"{name}.png")
            write_mask(tmp_path / f"{part}annot" / f"{name}.png", np.arange(600, dtype=np.uint8).reshape(20, 30) % 2)
    for cache_bytes in (0, 1 << 20):
        data = load_segmentation_data(f"pairs:{tmp_path},classes=2", cache_bytes=cache_bytes)
        assert [data.test.name_of(k) for k in range(2)] == ["caf\\xe9", "猫"]
        assert data.test.mask(0).shape == (20, 30)
    (tmp_path / "out").mkdir()

    def network(images):
        return np.zeros((len(images), images.shape[1] // 8, images.shape[2] // 8, 2), np.float32)

    score_test_split(network, data, SegmentationProtocol(), 8, tmp_path / "out", masks=True, shown=2)
    assert {file.name for file in (tmp_path / "out" / "predictions").iterdir()} == {"caf\\xe9.png", "猫.png"}
    (tmp_path / "trainannot" / f"{LATIN}.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"trainannot/caf\\xe9\.png is not a PNG"):
        load_segmentation_data(f"pairs:{tmp_path},classes=2")


def test_a_path_of_other_bytes_is_refused_in_one_line(tmp_path, capsys, monkeypatch):
    root = write_folder(tmp_path / LATIN)
    with pytest.raises(InputError, match=r"The path '.*/caf\\xe9' is not valid UTF-8: rename its folders, or give a link to it"):
        parse_name(f"folder:{root}", CLASSIFICATION)
    (tmp_path / "link").symlink_to(root)
    assert load_data(f"folder:{tmp_path / 'link'}").train.size == 8
    line = refused(capsys, monkeypatch, "train", f"--output_dir={tmp_path / 'run'}", f"--data=folder:{root}")
    assert "caf\\xe9' is not valid UTF-8" in line


# ---- names of classes


BAD_NAMES = [
    ("a\nb", r"'a\\nb' .* contains a line break"),
    ("a\rb", r"'a\\rb' .* contains a line break"),
    ("a\tb", r"'a\\tb' .* contains a line break or another control character"),
    ("a\u2028b", r"'a\\u2028b' .* contains a line break"),
    ("a\x85b", r"'a\\x85b' .* contains a line break"),
    ("a\x0bb", r"'a\\x0bb' .* contains a line break"),
    ("\x1b[31mred", r"'\\x1b\[31mred' .* contains a line break"),
    (" a", "' a' .* begins or ends with white space"),
    ("a ", "'a ' .* begins or ends with white space"),
    ("a\xa0", "begins or ends with white space"),
    (LATIN, r"'caf\\xe9' .* contains bytes that are not UTF-8"),
]


@pytest.mark.parametrize(("name", "message"), BAD_NAMES)
def test_class_folders_of_bad_names(tmp_path, name, message):
    root = write_folder(tmp_path, ("b", "c"))
    (root / "b").rename(root / name)
    with pytest.raises(InputError, match=message):
        folder(str(root))
    with pytest.raises(InputError, match=message):
        parse_name(f"folder:{root}", CLASSIFICATION)


@pytest.mark.parametrize(("name", "message"), [*BAD_NAMES[:-1], ("", "'' .* is empty"), ("  ", "is empty"), (7, "7 .* is not text")])
def test_bad_names_of_runs_and_indices(tmp_path, name, message):
    source = Source("run", SAVED_MODEL, tmp_path, Facts(class_names=("b", name), classes=2))
    with pytest.raises(InputError, match=rf"{message}"):
        class_names(source, 2, "", lambda data: ())
    for part in ("train", "validation"):
        with tf.io.TFRecordWriter(str(tmp_path / f"{part}-0")) as writer:
            for label in (0, 1):
                writer.write(tfrecord._record(b"", label))
    index = {"classes": ["b", name], "first_label": 0, "records": {"train-0": 2, "validation-0": 2}}
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=message):
        load_data(f"tfrecord:{tmp_path}")


@pytest.mark.parametrize("content", [b"a\nb c\n", b"a\r\nb c\r\n", b"\xef\xbb\xbfa\nb c", b"a\rb c"])
def test_files_of_class_names(tmp_path, content, monkeypatch):
    (tmp_path / "names.txt").write_bytes(content)
    assert read_class_names(tmp_path / "names.txt") == ("a", "b c")
    monkeypatch.setenv("HOME", str(tmp_path))
    source = Source("run", SAVED_MODEL, tmp_path, Facts())
    assert class_names(source, 2, "~/names.txt", lambda data: ()) == ("a", "b c")
    with pytest.raises(InputError, match="The network has 3 classes, and there are 2 class names"):
        class_names(source, 3, str(tmp_path / "names.txt"), lambda data: ())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\n\nb\n", r"The class name '' \(class 1\) is empty; .*names\.txt, which must have one class name per line"),
        (b"a\nb\n\n", "class 2.* is empty"),
        (b"a\n b\n", "' b' .* begins or ends with white space"),
        (b"a\nb\tc\n", r"'b\\tc' .* another control character"),
        (b"a\ncaf\xe9\n", r"is not UTF-8 text: line 2 is 'caf\\xe9'\. Save it as UTF-8"),
        ("a\nb\n".encode("utf-16"), r"is not UTF-8 text \(perhaps UTF-16\)"),
        (b"a\0b\n", "is not UTF-8 text"),
    ],
)
@pytest.mark.parametrize("command", ["predict", "export"])
def test_bad_files_of_class_names_are_found_at_once(tmp_path, content, message, command, capsys, monkeypatch):
    file = tmp_path / "names.txt"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_class_names(file)
    write_folder(tmp_path, ("a",), count=1)
    flags = {"predict": [str(tmp_path / "a" / "0.jpg")], "export": [f"--output={tmp_path / 'out'}"]}[command]
    line = refused(capsys, monkeypatch, command, *flags, "--weights=imagenet-a1", f"--class_names={file}")
    assert "names.txt" in line


def test_labels_of_an_export_are_lines_and_nothing_else(tmp_path):
    (tmp_path / "1" / "assets").mkdir(parents=True)
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"")
    (tmp_path / "1" / "assets" / "labels.txt").write_text("a\u2028b\nc\n", encoding="utf-8")
    source = find_source(str(tmp_path))
    assert source.facts.class_names == ("a\u2028b", "c")
    with pytest.raises(InputError, match=r"'a\\u2028b' .* contains a line break.*, for which --class_names gives others"):
        class_names(source, 2, "", lambda data: ())


def test_good_names_stay():
    names = ("a", "b c", "猫", "naïve", "🐈‍⬛", "a|b", "$5", "a,b", "'a'", "a/b")
    assert check_class_names(names, "") == names


def test_a_dollar_in_a_name_begins_no_formula(tmp_path):
    names = ["$\\x$", "a_$b^$"]
    figures.confusion_matrix(np.array([0, 1]), np.array([0, 1]), names, tmp_path / "matrix.png")
    figures.mistakes_grid([np.zeros((8, 8, 3), np.uint8)], names[:1], tmp_path / "mistakes.png")
    assert (tmp_path / "matrix.png").is_file() and (tmp_path / "mistakes.png").is_file()


# ---- lists


@pytest.fixture
def listed(tmp_path):
    """Two pairs, of which no list is written yet; the test list is there."""
    for k in range(2):
        write_image(tmp_path / "pictures" / f"{k}.jpg", k)
        write_mask(tmp_path / "labels" / f"{k}.png", np.arange(600, dtype=np.uint8).reshape(20, 30) % 2)
    (tmp_path / "test.txt").write_text("pictures/0.jpg labels/0.png\n")
    return tmp_path


PAIRS = "pictures/{0}.jpg labels/{0}.png"
LINES = [PAIRS.format(0), PAIRS.format(1)]


def load(root):
    return load_segmentation_data(f"pairs:{root},classes=2")


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(LINES).encode(),
        b"\xef\xbb\xbf" + "\r\n".join(LINES).encode() + b"\r\n\r\n",
        "\r".join(LINES).encode(),
        b"\n\n  pictures/0.jpg \t labels/0.png  \n" + LINES[1].encode(),
    ],
)
def test_lists_of_all_systems(listed, content):
    (listed / "train.txt").write_bytes(content)
    data = load(listed)
    assert [data.train.name_of(k) for k in range(2)] == ["0", "1"]


def test_lists_of_whole_paths(listed, monkeypatch):
    monkeypatch.setenv("HOME", str(listed))
    (listed / "train.txt").write_text(f"{listed}/pictures/0.jpg {listed}/labels/0.png\n~/pictures/1.jpg ~/labels/1.png\n")
    assert load(listed).train.size == 2
    (listed / "train.txt").write_text("~nobody_of_that_name/1.jpg labels/1.png\n")
    with pytest.raises(InputError, match=r"lists 1 files that do not exist: .*~nobody_of_that_name/1\.jpg"):
        load(listed)


def test_lists_of_other_bytes(listed):
    """As the names on disk are, they are found; in another encoding the file that is not there is named."""
    (listed / "pictures" / "1.jpg").rename(listed / "pictures" / f"{LATIN}.jpg")
    (listed / "train.txt").write_bytes(b"pictures/caf\xe9.jpg labels/1.png\n")
    assert load(listed).train.name_of(0) == "caf\\xe9"
    (listed / "train.txt").write_bytes("pictures/café.jpg labels/1.png\n".encode())
    with pytest.raises(InputError, match=r"lists 1 files that do not exist: .*café\.jpg"):
        load(listed)
    (listed / "train.txt").write_bytes("\n".join(LINES).encode("utf-16"))
    with pytest.raises(InputError, match=r"The list of images .*train\.txt is not UTF-8 text \(perhaps UTF-16\): save it as UTF-8"):
        load(listed)


def test_lists_with_repeated_entries(listed, caplog):
    (listed / "train.txt").write_text("\n".join([*LINES, LINES[0], LINES[0]]))
    assert load(listed).train.size == 2
    (once, shared) = [record.message for record in caplog.records]
    assert once == f"{listed / 'train.txt'} lists 1 images more than once; each is used once: {listed / 'pictures' / '0.jpg'}"
    assert shared == f"1 test images are also training images: {listed / 'pictures' / '0.jpg'}"
    (listed / "train.txt").write_text("\n".join([*LINES, "pictures/0.jpg labels/1.png"]))
    with pytest.raises(InputError, match=r"lists 1 images with two different masks: .*pictures/0\.jpg"):
        load(listed)


def test_what_is_no_file_in_a_list(listed):
    os.mkfifo(listed / "pipe.png")
    (listed / "broken.jpg").symlink_to("nowhere.jpg")
    for line, message in {
        "pictures labels/1.png": r"pictures is a folder",
        "broken.jpg labels/1.png": r"broken\.jpg is a broken link to nowhere\.jpg",
        "pictures/1.jpg pipe.png": r"pipe\.png is a pipe, not a file",
        "/dev/null labels/1.png": r"/dev/null is a device, not a file",
    }.items():
        (listed / "train.txt").write_text(f"{line}\n")
        with pytest.raises(InputError, match=rf"train\.txt lists 1 files that cannot be used: .*{message}"):
            load(listed)


def test_lists_of_voc(tmp_path):
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\r\na\r\n")
    (lists / "val.txt").write_bytes(b"c\r\n")
    for k, name in enumerate("abc"):
        write_image(tmp_path / "JPEGImages" / f"{name}.jpg", k)
        write_mask(tmp_path / "SegmentationClass" / f"{name}.png", np.zeros((20, 30), np.uint8))
    data = load_segmentation_data(f"voc:{tmp_path}")
    assert [data.train.name_of(k) for k in range(data.train.size)] == ["a", "b"]
    (tmp_path / "JPEGImages" / "b.jpg").unlink()
    (tmp_path / "JPEGImages" / "b.jpg").mkdir()
    with pytest.raises(InputError, match=r"b\.jpg is a folder"):
        load_segmentation_data(f"voc:{tmp_path}")


def test_read_lines_says_what_it_cannot_read(tmp_path):
    for path, message in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(InputError, match=f"The list {path} cannot be read: {message}"):
            read_lines(path, "list")
    (tmp_path / "empty").write_bytes(b"")
    assert read_lines(tmp_path / "empty", "list") == []


# ---- IDX files


def idx_bytes(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


IMAGES, LABELS = np.arange(4 * 6 * 6).reshape(4, 6, 6), np.array([0, 1, 1, 0])


def write_idx_set(root, ending=".gz", pack=gzip.compress):
    for part in ("train", "t10k"):
        (root / f"{part}-images-idx3-ubyte{ending}").write_bytes(pack(idx_bytes(IMAGES)))
        (root / f"{part}-labels-idx1-ubyte{ending}").write_bytes(pack(idx_bytes(LABELS)))
    return root


def damaged_archives():
    good = gzip.compress(idx_bytes(IMAGES), mtime=0)
    yield "cut", good[:-12]
    yield "cut in the header", good[:8]
    yield "a bit in the middle", good[:40] + bytes([good[40] ^ 0x10]) + good[41:]
    yield "wrong checksum", good[:-8] + b"\0\0\0\0" + good[-4:]
    yield "wrong length", good[:-4] + b"\0\0\0\1"
    yield "rubbish behind", good + b"rubbish"
    yield "no deflate", good[:10] + b"\xff" * 60
    yield "method", good[:2] + b"\7" + good[3:]
    yield "magic alone", good[:2]
    yield "another packer's", b"\x1f\x9d" + good[2:]
    yield "zlib", zlib.compress(idx_bytes(IMAGES))
    yield "empty", b""
    yield "empty archive", gzip.compress(b"")


@pytest.mark.parametrize("kind", list(dict(damaged_archives())))
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"])
def test_damaged_archives_are_named(tmp_path, kind, name):
    write_idx_set(tmp_path)
    (tmp_path / name).write_bytes(dict(damaged_archives())[kind])
    with pytest.raises(InputError, match=name):
        load_data(f"idx:{tmp_path}")


def test_every_flipped_byte_of_an_archive_is_named_or_harmless(tmp_path):
    write_idx_set(tmp_path)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    good = file.read_bytes()
    for position in range(len(good)):
        file.write_bytes(good[:position] + bytes([good[position] ^ 0xFF]) + good[position + 1 :])
        try:
            image = load_data(f"idx:{tmp_path}").train.image(3)
        except InputError as error:
            assert file.name in str(error)
        else:
            np.testing.assert_array_equal(image[..., 0], IMAGES[3])  # time and system, say


@pytest.mark.parametrize(("ending", "pack"), [("", bytes), (".gz", gzip.compress), ("", gzip.compress), (".gz", bytes)])
def test_the_bytes_tell_an_archive(tmp_path, ending, pack):
    data = load_data(f"idx:{write_idx_set(tmp_path, ending, pack)}")
    np.testing.assert_array_equal(data.train.image(2)[..., 1], IMAGES[2])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (idx_bytes(IMAGES), idx_bytes(LABELS)[:-1], r"train-labels.* truncated or damaged: its header states \(4,\), it contains 3 values"),
        (idx_bytes(IMAGES), idx_bytes(LABELS) + b"\0", r"states \(4,\), it contains more than 4 values"),
        (idx_bytes(IMAGES)[:-20], idx_bytes(LABELS), r"its header states \(4, 6, 6\), it contains 124 values"),
        (idx_bytes(IMAGES)[:9], idx_bytes(LABELS), "its header states nothing, it contains 0 values"),
        (
            struct.pack(">BBBB3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1),
            idx_bytes(LABELS),
            r"train-images.*(be read|contains 0)",
        ),
        (idx_bytes(IMAGES[:0]), idx_bytes(LABELS[:0]), r"contains no pixels: its shape is \(0, 6, 6\)"),
        (idx_bytes(IMAGES[:, :0]), idx_bytes(LABELS), r"contains no pixels: its shape is \(4, 0, 6\)"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_headers_that_lie(tmp_path, images, labels, message, pack):
    write_idx_set(tmp_path, "")
    (tmp_path / "train-images-idx3-ubyte").write_bytes(pack(images))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(pack(labels))
    with pytest.raises(InputError, match=message):
        load_data(f"idx:{tmp_path}")


def test_an_archive_is_unpacked_no_further_than_its_header_says(tmp_path):
    write_idx_set(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(LABELS) + bytes(1 << 28)))
    with pytest.raises(InputError, match="it contains more than 4 values"):
        load_data(f"idx:{tmp_path}")


def test_which_idx_file(tmp_path):
    write_idx_set(tmp_path)
    for junk in ("._train-images-idx3-ubyte.gz", "train-images-idx3-ubyte.gz.part"):
        (tmp_path / junk).write_bytes(b"junk")
    assert load_data(f"idx:{tmp_path}").train.size == 4
    (tmp_path / "train-images-idx3-ubyte.gz").rename(tmp_path / "train-images-copy.gz")
    with pytest.raises(
        InputError, match=r"2 files in .* could be train-images-idx3-ubyte: train-images-copy\.gz; train-images-idx3-ubyte\.gz\.p"
    ):
        load_data(f"idx:{tmp_path}")
    (tmp_path / "train-images-idx3-ubyte.gz.part").unlink()
    assert load_data(f"idx:{tmp_path}").train.size == 4
    (tmp_path / "train-images-copy.gz").unlink()
    (tmp_path / "train-images-copy.gz").mkdir()
    with pytest.raises(InputError, match=r"train-images-copy\.gz is a folder"):
        load_data(f"idx:{tmp_path}")


def test_one_class_of_idx_files(tmp_path):
    write_idx_set(tmp_path)
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx_bytes(0 * LABELS))
    with pytest.raises(InputError, match=r"idx:.* has 1 class: '0'\. Classification needs at least two classes"):
        load_data(f"idx:{tmp_path}")


# ---- TFRecord shards


def write_shards(root, labels=(0, 1, 2), names=("train-00000-of-00001", "validation-00000-of-00001")):
    for name in names:
        with tf.io.TFRecordWriter(str(root / name)) as writer:
            for label in labels:
                writer.write(tfrecord._record(b"", label))
    return root


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_is_counted_each_time(tmp_path, number, monkeypatch, caplog):
    write_shards(tmp_path)

    def refuse(path):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(tfrecord, "replacing", refuse)
    data = load_data(f"tfrecord:{tmp_path}")
    assert (data.train.size, data.class_names) == (3, ("0", "1", "2"))
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / 'index.json'} cannot be written ({os.strerror(number)}): the records will be counted again each time"
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"train-00000-of-00001", "validation-00000-of-00001"}
    monkeypatch.undo()
    caplog.clear()
    load_data(f"tfrecord:{tmp_path}")
    assert (tmp_path / "index.json").is_file() and not caplog.records


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"7",
        b'{"classes": 2, "first_label": 0, "records": {}}',
        b'{"classes": ["a", "b"], "first_label": "0", "records": {}}',
        b'{"classes": ["a", "b"], "first_label": 0, "records": []}',
        b'{"classes": ["a", "b"], "first_label": 0, "records": {"train-0": "3"}}',
        b'{"classes": ["a", "b"], "first_label": 0, "records": {"train-0": -3}}',
        b'{"classes": ["caf\xe9", "b"], "first_label": 0, "records": {}}',
        b"\xff\xfe{\0}\0",
    ],
)
def test_a_damaged_index_is_named(tmp_path, content):
    write_shards(tmp_path)
    (tmp_path / "index.json").write_bytes(content)
    with pytest.raises(InputError, match=r"index\.json is damaged: delete it to have it rebuilt"):
        load_data(f"tfrecord:{tmp_path}")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((), "contain no records"),
        ((0, 0), "has 1 class: '0'"),
        ((0, 10**9), r"go up to 1,000,000,000: for more than 100,000 classes write an index\.json"),
        ((-1, 0), "must start at 0 or 1"),
    ],
)
def test_labels_of_no_set(tmp_path, labels, message):
    write_shards(tmp_path, labels)
    with pytest.raises(InputError, match=message):
        load_data(f"tfrecord:{tmp_path}")


def test_shards_that_are_not_there_and_what_is_no_shard(tmp_path, caplog):
    write_shards(tmp_path, names=("train-00000-of-00003", "train-00002-of-00003", "valid-00000-of-00001"))
    (tmp_path / "._train-00001-of-00003").write_bytes(b"junk")
    (tmp_path / "train-notes").mkdir()
    assert load_data(f"tfrecord:{tmp_path}").train.size == 6
    assert [record.message for record in caplog.records] == [
        f"1 shards of the series of train-00000-of-00003 are missing in {tmp_path}: only those present are used"
    ]
    (tmp_path / "train-00001-of-00003").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"1 shards in .* cannot be read: train-00001-of-00003 is a broken link to nowhere"):
        load_data(f"tfrecord:{tmp_path}")


def test_a_tilde_is_the_home_folder_in_every_source(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(write_shards(tmp_path), tmp_path / "shards", ignore=lambda folder, names: {name for name in names if "-" not in name})
    assert load_data("tfrecord:~/shards").train.size == 3
    assert tfrecord.tfrecords("~/shards").train.size == 3
    (tmp_path / "idx").mkdir()
    write_idx_set(tmp_path / "idx")
    assert load_data("idx:~/idx").train.size == 4


def test_a_tilde_of_nobody_is_a_name_like_any_other(tmp_path):
    nobody = "~nobody_of_that_name/x"
    for load in (folder, tfrecord.tfrecords, load_data, read_class_names):
        with pytest.raises(InputError, match=nobody):
            load(f"folder:{nobody}" if load is load_data else nobody)
    source = Source("run", SAVED_MODEL, tmp_path, Facts())
    with pytest.raises(InputError, match=f"No file of class names at '{nobody}'"):
        class_names(source, 2, nobody, lambda data: ())
