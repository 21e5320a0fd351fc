import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from photographs import write_folder
from test_training import ENVIRONMENT, ROOT

from keras_widerresnet.data.sources import tfrecord as tfrecords
from keras_widerresnet.errors import InputError
from keras_widerresnet.tasks.classification.data import load_data


def content(split):
    return sorted((np.asarray(raw).tobytes() if raw.dtype != tf.string else raw.numpy(), int(label)) for raw, label in split.ordered())


@pytest.fixture
def written(tmp_path):
    write_folder(tmp_path / "set", ("cat", "dog", "emu"), count=10)
    data = load_data(f"folder:{tmp_path / 'set'}")
    tfrecords.write_tfrecords(data, tmp_path / "shards", train_shards=5, test_shards=2)
    return data, tmp_path / "shards"


def test_folder_comes_back_byte_for_byte(written):
    data, shards = written
    back = load_data(f"tfrecord:{shards}")
    assert back.class_names == data.class_names == ("cat", "dog", "emu")
    assert content(back.train) == content(data.train) and content(back.test) == content(data.test)
    assert (back.train.size, back.test.size) == (24, 6)
    assert sorted(back.train.lengths) == [4, 5, 5, 5, 5] and len(back.test.files) == 2
    labels = back.train.labels
    np.testing.assert_array_equal(np.sort(labels), np.repeat([0, 1, 2], 8))
    assert not np.array_equal(labels, np.sort(labels))  # in a random order
    np.testing.assert_array_equal(back.test.labels, data.test.labels)


def test_arrays_come_back_exactly(tmp_path):
    data = load_data("digits")
    tfrecords.write_tfrecords(data, tmp_path / "shards", train_shards=2, test_shards=1)
    back = load_data(f"tfrecord:{tmp_path / 'shards'}")
    for index in (0, 7):
        np.testing.assert_array_equal(back.test.image(index), data.test.image(index))
    assert back.train.size == data.train.size


def test_without_an_index_the_records_are_counted(written):
    data, shards = written
    before = json.loads((shards / "index.json").read_text())
    (shards / "index.json").unlink()
    back = load_data(f"tfrecord:{shards}")
    assert content(back.train) == content(data.train)
    after = json.loads((shards / "index.json").read_text())
    assert after["records"] == before["records"] and after["classes"] == ["0", "1", "2"]


def test_an_image_that_is_none_ends_the_writing_with_its_name(tmp_path):
    """Unverified data: what cannot be read is found while the shards are written, of which none is left."""
    write_folder(tmp_path / "set", ("cat", "dog"), count=5)
    (tmp_path / "set" / "dog" / "1.jpg").write_bytes(b"not an image")
    data = load_data(f"folder:{tmp_path / 'set'}", verify=False)
    with pytest.raises(InputError, match=r"cannot be read: .*dog/1\.jpg is in an unknown format"):
        tfrecords.write_tfrecords(data, tmp_path / "shards", train_shards=1, test_shards=1)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_labels_from_one_are_tensorflows_own(tmp_path):
    """The shards of TensorFlow's ImageNet scripts: labels 1..N, 0 being the background."""
    for part, labels in (("train", (1, 2, 3)), ("validation", (3, 1))):
        with tf.io.TFRecordWriter(str(tmp_path / f"{part}-00000-of-00001")) as writer:
            for label in labels:
                writer.write(tfrecords._record(b"bytes", label))
    back = load_data(f"tfrecord:{tmp_path}")
    assert list(back.train.labels) == [0, 1, 2] and list(back.test.labels) == [2, 0] and back.classes == 3


def test_damage_is_named(written):
    _, shards = written
    index = shards / "index.json"
    good = index.read_text()
    index.write_text("{")
    with pytest.raises(ValueError, match=r"index.json is damaged: delete it"):
        load_data(f"tfrecord:{shards}")
    index.write_text(good)
    (shards / "train-extra").write_bytes(b"")
    with pytest.raises(ValueError, match=r"does not list train-extra: delete the index"):
        load_data(f"tfrecord:{shards}")
    index.unlink()
    (shards / "train-extra").write_bytes(b"no record at all")
    with pytest.raises(ValueError, match=r"train-extra is not a TFRecord file"):
        load_data(f"tfrecord:{shards}")
    assert not index.exists()
    with tf.io.TFRecordWriter(str(shards / "train-extra")) as writer:
        writer.write(tf.train.Example().SerializeToString())
    with pytest.raises(ValueError, match=r"train-extra is not a TFRecord file with image/encoded"):
        load_data(f"tfrecord:{shards}")
    with pytest.raises(ValueError, match=r"No folder at '.*none'"):
        load_data(f"tfrecord:{shards / 'none'}")
    (shards / "none").mkdir()
    with pytest.raises(ValueError, match=r"No TFRecord shards train-\*"):
        load_data(f"tfrecord:{shards / 'none'}")


def test_nothing_is_overwritten_unasked_and_nothing_half_written(written, monkeypatch):
    data, shards = written
    sizes = {"train_shards": 1, "test_shards": 1}
    with pytest.raises(ValueError, match="already exists; --overwrite"):
        tfrecords.write_tfrecords(data, shards, **sizes)
    tfrecords.write_tfrecords(data, shards, **sizes, overwrite=True)
    assert len(list(shards.glob("train-*"))) == 1
    foreign = shards.parent / "set"
    with pytest.raises(ValueError, match="only a folder of shards"):
        tfrecords.write_tfrecords(data, foreign, **sizes, overwrite=True)
    with pytest.raises(ValueError, match=r"number of shards must be between 1 and 24,"):
        tfrecords.write_tfrecords(data, shards.parent / "new", train_shards=25, test_shards=1)
    before = {path: path.read_bytes() for path in shards.iterdir()}
    monkeypatch.setattr(tfrecords, "_write_index", lambda *_: (_ for _ in ()).throw(OSError("No space left on device")))
    with pytest.raises(OSError, match="No space"):
        tfrecords.write_tfrecords(data, shards, **sizes, overwrite=True)
    assert {path: path.read_bytes() for path in shards.iterdir()} == before
    assert {path.name for path in shards.parent.iterdir()} == {"set", "shards"}


def test_script(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "write_tfrecords.py"), "--data=digits", f"--output={tmp_path / 'shards'}"]
    done = subprocess.run([*command, "--train_shards=4", "--test_shards=2"], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0 and "Shards: " in done.stdout, done.stderr[-2000:]
    assert load_data(f"tfrecord:{tmp_path / 'shards'}").train.size == 1437
    again = subprocess.run([*command, "--train_shards=4", "--test_shards=2"], env=ENVIRONMENT, capture_output=True, text=True)
    assert again.returncode == 2 and "Traceback" not in again.stderr
