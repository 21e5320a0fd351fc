"""`predict --data`: a table of many images, equal to the network's own outputs, whole after interruptions, with damaged images flagged."""

import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pyarrow.parquet as parquet
import pytest
import tensorflow as tf
from photographs import REAL_PHOTOGRAPHS, tiles, write_folder
from PIL import Image
from test_training import ENVIRONMENT, ROOT

import keras_widerresnet as kw
from keras_widerresnet.cli import main
from keras_widerresnet.data.sources.tfrecord import write_tfrecords
from keras_widerresnet.errors import InputError
from keras_widerresnet.tasks.classification import bulk
from keras_widerresnet.tasks.classification.config import PredictionConfig
from keras_widerresnet.tasks.classification.data import load_data
from keras_widerresnet.tasks.classification.table import Table

SIZE = 32
NAMES = ("cat", "dog", "owl")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A small network with random statistics, so that images differ in their outputs; and its file."""
    keras.utils.set_random_seed(3)
    model = kw.WiderResNet("32-0-1-1-1-0-0-0", width=0.0625, classes=3, input_shape=(None, None, 3))
    generator = np.random.default_rng(5)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([weight + generator.uniform(0, 0.3, weight.shape) for weight in layer.get_weights()])
    path = tmp_path_factory.mktemp("network") / "mine.keras"
    model.save(path)
    (path.parent / "names.txt").write_text("\n".join(NAMES))
    return model, path


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder of photographs at several depths, among other things."""
    root = tmp_path_factory.mktemp("photographs")
    (root / "a" / "b").mkdir(parents=True)
    (root / ".hidden").mkdir()
    for number, encoded in enumerate(REAL_PHOTOGRAPHS.values()):
        (root / ("a/b" if number % 2 else "a") / f"{number}.jpg").write_bytes(encoded)
    for number, tile in enumerate(tiles(7, SIZE)):
        Image.fromarray(tile).save(root / f"tile {number}.png")
    (root / ".hidden" / "0.jpg").write_bytes(REAL_PHOTOGRAPHS["china"])
    (root / "notes.txt").write_text("not an image")
    return root


def predicted(tmp_path, network, data, **options):
    _, path = network
    given = {"weights": str(path), "class_names": str(path.parent / "names.txt"), "crop_size": SIZE, "scales": (SIZE,)}
    config = PredictionConfig(data=str(data), output=str(tmp_path / "table.parquet"), **{**given, **options})
    found = bulk.predict_data(config)
    return found, parquet.read_table(found.output)


def pil_view(path, scale, size=SIZE):
    """Resized and cropped by PIL, with the offset rounded up."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    factor = scale / min(image.size)
    image = image.resize([max(scale, int(side * factor + 0.5)) for side in image.size], Image.BICUBIC)
    left, top = ((side - size + 1) // 2 for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)), np.float32)


def test_probabilities_are_the_models_averaged_over_pils_views(tmp_path, network, photographs):
    """Two scales, each view also mirrored."""
    model, _ = network
    found, table = predicted(tmp_path, network, f"folder:{photographs}", scales=(SIZE, 40), crop_size=SIZE, flip=True, top=2)
    files = sorted([*photographs.glob("a/**/*.jpg"), *photographs.glob("*.png")], key=str)
    assert table["image"].to_pylist() == [str(file.relative_to(photographs)) for file in files]
    views = np.asarray([[pil_view(file, scale) for scale in (SIZE, 40)] for file in files])
    views = np.concatenate([views, views[:, :, :, ::-1]], axis=1).reshape(-1, SIZE, SIZE, 3)
    expected = model.predict(kw.preprocess_input(views), verbose=0).reshape(len(files), 4, 3).mean(axis=1)
    order = np.argsort(-expected, axis=1)
    near = np.sort(expected, axis=1)
    clear = near[:, 2] - near[:, 1] > 0.02  # PIL's rounding must not decide
    assert clear.sum() >= 5
    highest = np.take_along_axis(expected, order[:, :2], axis=1)
    np.testing.assert_allclose(np.stack(table["top_probabilities"].to_numpy()), highest, atol=0.01)
    given = table["prediction"].to_numpy()
    assert [given[i] for i in np.flatnonzero(clear)] == [NAMES[order[i, 0]] for i in np.flatnonzero(clear)]
    np.testing.assert_array_equal(np.stack(table["top_probabilities"].to_numpy())[:, 0], table["probability"].to_numpy())
    assert (found.images, found.unusable) == (len(files), 0) and table["problem"].null_count == len(files)


def test_pooled_features_are_the_classifiers_input(tmp_path, network, photographs):
    """Features · kernel + bias, by NumPy, give the table's own probabilities."""
    model, _ = network
    _, table = predicted(tmp_path, network, f"folder:{photographs}", features="pooled", top=3)
    kernel, bias = model.get_layer("linear3").get_weights()
    logits = np.stack(table["features"].to_numpy()) @ kernel + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    classes = np.stack(table["top_classes"].to_numpy())
    np.testing.assert_allclose(np.stack(table["top_probabilities"].to_numpy()), np.take_along_axis(expected, classes, 1), atol=1e-5)


def test_a_stages_map_is_the_feature_extractors(tmp_path, network, photographs):
    model, _ = network
    _, table = predicted(tmp_path, network, f"folder:{photographs}", features="stage3")
    small = sorted(photographs.glob("*.png"))
    views = np.stack([np.asarray(Image.open(path), np.float32) for path in small])
    expected = kw.feature_extractor(model).predict(kw.preprocess_input(views), verbose=0)["stage3"]
    maps = table["features"].combine_chunks().to_numpy_ndarray()[-len(small) :]
    assert maps.shape[1:] == expected.shape[1:] and maps.shape[0] == 7
    np.testing.assert_allclose(maps, expected, atol=1e-4)


@pytest.mark.parametrize("stop", [1, 2])
def test_an_interrupted_prediction_goes_on_and_gives_the_same_bytes(tmp_path, network, photographs, monkeypatch, caplog, stop):
    data = f"folder:{photographs}"
    (tmp_path / "whole").mkdir()
    options = {"shard_size": 4, "batch_size": 4, "features": "pooled"}
    whole, _ = predicted(tmp_path / "whole", network, data, **options)
    add = Table.add

    def interrupted(self, rows):
        if self.parts == stop:
            raise KeyboardInterrupt
        add(self, rows)

    with monkeypatch.context() as patched:
        patched.setattr(Table, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            predicted(tmp_path, network, data, **options)
    assert not (tmp_path / "table.parquet").exists() and len(list(tmp_path.glob("table.parquet.parts/part-*.parquet"))) == stop
    with caplog.at_level("INFO"):
        found, _ = predicted(tmp_path, network, data, **options)
    assert f"Continuing after {4 * stop} of 13 images" in caplog.text
    assert found.predicted == 13 - 4 * stop and found.images == 13
    assert found.output.read_bytes() == whole.output.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name != "whole"] == ["table.parquet"]


def test_parts_of_another_prediction_are_not_continued(tmp_path, network, photographs, monkeypatch):
    data = f"folder:{photographs}"
    monkeypatch.setattr(Table, "finish", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        predicted(tmp_path, network, data, top=1)
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"belongs to another prediction \(top: 1, now 2\); --overwrite starts anew"):
        predicted(tmp_path, network, data, top=2)
    _, table = predicted(tmp_path, network, data, top=2, overwrite=True)
    assert table["top_classes"].type.list_size == 2
    with pytest.raises(InputError, match="exists; --overwrite replaces it"):
        predicted(tmp_path, network, data)


def test_images_that_cannot_be_used_are_rows_with_the_reason(tmp_path, network):
    root = tmp_path / "images"
    root.mkdir()
    good = REAL_PHOTOGRAPHS["cat odd"]
    (root / "0.jpg").write_bytes(good)
    (root / "1 cut.jpg").write_bytes(good[: len(good) // 3])
    (root / "2 empty.png").write_bytes(b"")
    buffer = io.BytesIO()
    Image.open(io.BytesIO(good)).save(buffer, "WEBP")
    (root / "3 webp.jpg").write_bytes(buffer.getvalue())
    (root / "4 broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    Image.new("RGB", (300, 300)).save(root / "5 large.png")
    (root / "6.jpg").write_bytes(good)
    found, table = predicted(tmp_path, network, f"folder:{root}", max_pixels=140_000 - 1, features="pooled")
    assert len(good) and 297 * 451 < 140_000
    problems = dict(zip(table["image"].to_pylist(), table["problem"].to_pylist(), strict=True))
    assert problems["0.jpg"] is None and problems["6.jpg"] is None and problems["5 large.png"] is None
    assert "cannot be decoded" in problems["1 cut.jpg"] and problems["2 empty.png"] == "is empty"
    assert "WEBP" in problems["3 webp.jpg"] and "is a broken link" in problems["4 broken.jpg"]
    rows = table.to_pylist()
    assert found.unusable == 4
    for row in rows:
        values = [row[name] for name in ("prediction", "probability", "top_classes", "top_probabilities", "features")]
        assert all((value is None) == (row["problem"] is not None) for value in values)
    same = [row for row in rows if row["image"] in ("0.jpg", "6.jpg")]
    assert same[0]["top_probabilities"] == pytest.approx(same[1]["top_probabilities"], abs=1e-6)
    _, table = predicted(tmp_path, network, f"folder:{root}", max_pixels=80_000, overwrite=True)
    assert "has 300×300 pixels, more than 80,000" in table["problem"].to_pylist()[5]


def test_records_have_labels_and_damaged_ones_are_rows_too(tmp_path, network):
    """One of the images is cut off; the order is the stored one."""
    write_folder(tmp_path / "set" / "train", NAMES, count=2)
    write_folder(tmp_path / "set" / "test", NAMES, count=4)
    (tmp_path / "set" / "test" / "dog" / "1.jpg").write_bytes(REAL_PHOTOGRAPHS["china"][:20_000])
    data = load_data(f"folder:{tmp_path / 'set'}", verify=False)
    write_tfrecords(data, tmp_path / "shards", train_shards=1, test_shards=3)
    found, table = predicted(tmp_path, network, f"tfrecord:{tmp_path / 'shards'}", shard_size=5, batch_size=5)
    stored = load_data(f"tfrecord:{tmp_path / 'shards'}").test
    assert table["label"].to_pylist() == [NAMES[label] for label in stored.labels]
    assert found.unusable == 1 and found.images == 12
    (bad,) = np.flatnonzero([problem is not None for problem in table["problem"].to_pylist()])
    assert table["label"].to_pylist()[bad] == "dog" and "cannot be decoded" in table["problem"].to_pylist()[bad]
    assert table["image"].to_pylist()[bad] == stored.name_of(int(bad))


def test_two_devices_give_what_one_gives(tmp_path, network, photographs):
    """In a process of its own, whose CPU is divided into two devices; 13 images in batches of 4, and of 3 rounded up to 4."""
    code = f"""
import numpy as np
import pyarrow.parquet as parquet
from keras_widerresnet.training.strategy import make_strategy
two = make_strategy("mirrored", 2)
from keras_widerresnet.tasks.classification import bulk
from keras_widerresnet.tasks.classification.config import PredictionConfig
seen = []
bulk.make_strategy = lambda name: seen.append(two if name == "mirrored" else make_strategy(name)) or seen[-1]
for name in ("mirrored", "one_device"):
    bulk.predict_data(PredictionConfig(data="folder:{photographs}", weights="{network[1]}", crop_size={SIZE}, scales=({SIZE},),
        strategy=name, batch_size=3, features="pooled", output=f"{tmp_path}/{{name}}.parquet"))
assert [strategy.num_replicas_in_sync for strategy in seen] == [2, 1]
one, two = (parquet.read_table(f"{tmp_path}/{{name}}.parquet") for name in ("one_device", "mirrored"))
assert one["image"] == two["image"] and len(one) == 13
for name in ("top_probabilities", "features"):
    np.testing.assert_allclose(np.stack(one[name].to_numpy()), np.stack(two[name].to_numpy()), atol=1e-6)
"""
    ran = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_a_saved_model_predicts_too_but_has_no_features(tmp_path, capsys):
    saved = ROOT / "saved_models" / "digits" / "1"
    main(["predict", "--data=digits", f"--weights={saved}", f"--output={tmp_path / 'table.parquet'}"])
    assert "Predicted 360 images" in (printed := capsys.readouterr().out) and f"Table: {tmp_path / 'table.parquet'}" in printed
    table = parquet.read_table(tmp_path / "table.parquet")
    right = np.mean(table["label"].to_numpy() == table["prediction"].to_numpy())
    assert right > 0.99  # its card says 99.4 %
    settings = json.loads(table.schema.metadata[bulk.METADATA_KEY])
    assert settings["class_names"] == list("0123456789") and settings["versions"]["tensorflow"] == tf.__version__
    with pytest.raises(SystemExit, match="2"):
        main(["predict", "--data=digits", f"--weights={saved}", f"--output={tmp_path / '2.parquet'}", "--features=pooled"])
    assert "is a SavedModel, whose features cannot be reached" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["table.parquet"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a.jpg", "--data=digits", "--output=t.parquet"), "give either at least one IMAGE or --data. Received: both"),
        (("--data=digits",), "--output must be a .parquet file. Received: ''"),
        (("--data=digits", "--output=t.csv"), "--output must be a .parquet file. Received: 't.csv'"),
        (("--data=digits", "--output=t.parquet", "--server=localhost:8501"), "--data needs a local network"),
        (("a.jpg", "--features=pooled"), "need --data"),
        (("a.jpg", "--scales=32,64"), "need --data"),
        (("--data=digits", "--output=t.parquet", "--features=stage3", "--flip"), "--features=stage3 needs a single view"),
        (("--data=folder:nowhere", "--output=t.parquet"), "No folder at 'nowhere'"),
        (("--data=folder:{empty}", "--output=t.parquet"), "contains no images"),
        (("--data=digits", "--output=t.parquet", "--features=stage7"), "has no units in stage7; it has stage2"),
        (("--data=digits", "--output={empty}/none/t.parquet"), None),
    ],
)
def test_bad_input_gives_one_message(tmp_path, capsys, arguments, words):
    (tmp_path / "empty").mkdir()
    filled = [argument.format(empty=tmp_path / "empty") for argument in arguments]
    weights = ROOT / "saved_models" / "digits" / "run"
    command = ["predict", *filled, f"--weights={weights}"]
    if words is None:
        main(command)  # folders above the table are made
        assert (tmp_path / "empty" / "none" / "t.parquet").is_file()
        return
    with pytest.raises(SystemExit, match="2"):
        main(command)
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_ten_thousand_images_killed_at_random_and_resumed(tmp_path):
    """SIGKILL at five moments; then the command ends by itself, with the bytes of one that was never killed."""
    root = tmp_path / "images"
    for number in range(10_000):
        folder = root / f"{number // 1000}"
        folder.mkdir(parents=True, exist_ok=True)
        tile = np.roll(tiles(8, SIZE)[number % 8], number // 8, axis=1)
        Image.fromarray(tile).save(folder / f"{number:05d}.jpg", quality=90)
    command = [sys.executable, str(ROOT / "scripts" / "predict.py"), f"--data=folder:{root}", "--shard_size=512", "--batch_size=64"]
    command += [f"--weights={ROOT / 'saved_models' / 'digits' / 'run'}", "--features=pooled"]
    whole = subprocess.run([*command, f"--output={tmp_path / 'whole.parquet'}"], env=ENVIRONMENT, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    print(whole.stdout)
    output, kills = tmp_path / "killed.parquet", 0
    generator = np.random.default_rng()
    for _ in range(5):
        before = len(list(tmp_path.glob("killed.parquet.parts/part-*")))
        running = subprocess.Popen([*command, f"--output={output}"], env=ENVIRONMENT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while running.poll() is None and len(list(tmp_path.glob("killed.parquet.parts/part-*"))) <= before:
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.5))
        if running.poll() is None:
            os.kill(running.pid, signal.SIGKILL)
            kills += 1
        running.wait()
    ran = subprocess.run([*command, f"--output={output}"], env=ENVIRONMENT, capture_output=True, text=True)
    assert ran.returncode == 0 or "exists" in ran.stderr, ran.stderr
    print(ran.stdout, kills)
    assert kills >= 3 and output.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not pathlib.Path(f"{output}.parts").exists()


def test_outputs_of_a_sigmoid_are_kept_as_they_are(tmp_path, network, photographs):
    """Each class by itself, as psa's classifier has them: their sum is not 1, and no softmax is taken."""
    model, _ = network
    alone = kw.WiderResNet("32-0-1-1-1-0-0-0", width=0.0625, classes=3, input_shape=(None, None, 3), classifier_activation="sigmoid")
    alone.set_weights(model.get_weights())
    alone.save(tmp_path / "sigmoid.keras")
    _, table = predicted(tmp_path, network, f"folder:{photographs}", weights=str(tmp_path / "sigmoid.keras"), top=3)
    views = np.stack([np.asarray(Image.open(file), np.float32) for file in sorted(photographs.glob("*.png"))])
    expected = -np.sort(-alone.predict(kw.preprocess_input(views), verbose=0), axis=1)
    np.testing.assert_allclose(np.stack(table["top_probabilities"].to_numpy())[-7:], expected, atol=1e-5)
    assert np.abs(expected.sum(axis=1) - 1).max() > 0.1
