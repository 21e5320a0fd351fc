"""Runs that are unfinished, of another task, or damaged: one line that names the file, from every command that reads a run."""

import fractions
import json
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_compare_runs import write_run
from test_readme import ROOT

import keras_widerresnet as kw
from keras_widerresnet import runs
from keras_widerresnet.cli import main, process
from keras_widerresnet.data.sources import tfrecord
from keras_widerresnet.data.split import ShardedSplit
from keras_widerresnet.errors import InputError
from keras_widerresnet.export.fold import EdgePaddedMaxPool, FusedBatchNormalization, inference_network
from keras_widerresnet.models import ModelOptions
from keras_widerresnet.runs import Run
from keras_widerresnet.structures import find_structure
from keras_widerresnet.tasks.classification.comparison import compare_runs
from keras_widerresnet.tasks.classification.config import ComparisonConfig, TrainingConfig
from keras_widerresnet.tasks.classification.data import load_data
from keras_widerresnet.tasks.classification.network import load_classifier
from keras_widerresnet.tasks.classification.report import _report
from keras_widerresnet.tasks.segmentation.config import SegmentationConfig
from research.config import StudyConfig
from research.plan import cost, points, sizes_of

STRUCTURE = "28-0-1-1-0-0-0-0"
FLAGS = ["--data=digits", f"--structure={STRUCTURE}", "--width=0.0625", "--epochs=2", "--validation=none"]
COMMANDS = ("compare-runs", "analyze", "predict", "evaluate", "export", "train")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a finished run of classification leaves, as far as commands read it."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    config = TrainingConfig(output_dir=str(folder), data="digits", structure=STRUCTURE, width=0.0625, epochs=2, validation="none")
    facts = {"task": "classification", "class_names": list("0123456789"), "protocol": {"scales": [28]}}
    run = runs.prepare(config, facts)
    network = kw.WiderResNet(STRUCTURE, width=0.0625, classes=10)
    network.save(folder / "final.keras")
    network.save(folder / "best.keras")
    (folder / "metrics.csv").write_text("epoch,val_accuracy\n0,0.5\n1,0.6\n")
    manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(model=network, step=tf.Variable(2, dtype=tf.int64)), str(folder / "checkpoints"), 2
    )
    manager.save()
    run.keep_results([("top-1 accuracy", "60.00%")])
    run.write_report("# A report\n")
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    return pathlib.Path(shutil.copytree(whole, tmp_path / "run"))


def arguments(command, run, out, image):
    return {
        "compare-runs": [str(run)],
        "analyze": [str(run), "--data=digits", f"--output_dir={out}", "--images=1", "--path_images=0", "--lesion_images=0"],
        "predict": [str(image), f"--weights={run}"],
        "evaluate": [f"--weights={run}", "--data=digits", f"--output_dir={out}"],
        "export": [f"--weights={run}", f"--output={out}", "--nowarmup"],
        "train": [*FLAGS, f"--output_dir={run}", "--resume"],
    }[command]


def said(command, run, tmp_path, capsys, monkeypatch):
    """The one line with which a command refuses a run; empty if it takes it."""
    monkeypatch.setenv("GLIBC_TUNABLES", process.HUGE_PAGES)
    image = tmp_path / "image.png"
    keras.utils.save_img(image, np.zeros((28, 28, 3)), scale=False)
    capsys.readouterr()
    try:
        main([command, *arguments(command, run, tmp_path / "out", image)])
    except SystemExit as stopped:
        assert stopped.code == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("keras-widerresnet ")]
        assert not (tmp_path / "out").exists()
        return line
    return ""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_whole_run_is_taken(command, copy, tmp_path, capsys, monkeypatch):
    assert said(command, copy, tmp_path, capsys, monkeypatch) == ""


# File, what is in it, words of the line, and the commands that read it.
DAMAGED = [
    ("flags.txt", b"\xff\xfe\x00", "flags.txt' is damaged: 'utf-8'", COMMANDS),
    ("flags.txt", b"--data=digits\n--struc", "flags.txt' is damaged: line 2 must be --name=value. Received: '--struc'", COMMANDS),
    ("flags.txt", b"", "flags.txt' is damaged: it has no line --", ("compare-runs", "analyze")),
    ("flags.txt", b"--structure=A9\n", "flags.txt' is damaged: A structure is written", ("compare-runs", "predict", "export")),
    ("flags.txt", b"--structure=A\n--width=wide\n", "--width must be a finite number. Received: 'wide'", ("compare-runs", "evaluate")),
    ("flags.txt", b"--steps_per_epoch=x\n", "--steps_per_epoch must be a finite number. Received: 'x'", ("analyze",)),
    ("flags.txt", f"--structure={STRUCTURE}\n--width=nan\n".encode(), "--width must be a finite number", ("compare-runs", "evaluate")),
    ("run.json", b"{", "run.json' is damaged: ", COMMANDS[:5]),
    ("run.json", b"\x80", "run.json' is damaged: 'utf-8'", COMMANDS[:5]),
    ("run.json", b"[]", "run.json' is damaged: it does not contain a JSON object", COMMANDS[:5]),
    ("run.json", b'{"task": "detection"}', "'task' must be 'classification' or 'segmentation'", COMMANDS[:5]),
    ("run.json", b'{"class_names": "0123456789"}', "'class_names' must be a list of strings", COMMANDS[:5]),
    ("run.json", b'{"protocol": {"colour": 1}}', "'protocol' is not a classification protocol", ("predict", "evaluate", "export")),
    ("run.json", b'{"results": [1]}', "'results' must be pairs of strings", COMMANDS[:5]),
    ("metrics.csv", b"", "metrics.csv' is damaged: it is empty", ("compare-runs", "analyze")),
    ("metrics.csv", b"epoch,val_accuracy\n", "metrics.csv' contains no epochs", ("compare-runs",)),
    ("metrics.csv", b"epoch,val_accuracy\n", "does not contain a saved network yet", ("analyze",)),
    ("metrics.csv", b"epoch,val_accuracy\n0,nan\n1,0.5\n", "val_accuracy in line 2 is nan", ("compare-runs", "analyze")),
    ("metrics.csv", b"epoch,val_accuracy\n0,0.5\n1,inf\n", "val_accuracy in line 3 is inf", ("compare-runs", "analyze")),
    ("metrics.csv", b"epoch,val_accuracy\n0,0.5\n1\n", "line 3 must have one number for each of epoch, val", ("compare-runs", "analyze")),
    ("metrics.csv", b"epoch,val_accuracy\n0,0.5,7\n", "line 2 must have one number for each", ("compare-runs", "analyze")),
    ("metrics.csv", b"epoch,val_accuracy\n0,high\n", "line 2 must have one number for each", ("compare-runs", "analyze")),
    ("metrics.csv", b"epoch,loss\n0,0.5\n", "it has no column 'val_accuracy'; its columns are epoch, loss", ("compare-runs", "analyze")),
    ("metrics.csv", b"epoch,epoch\n0,0.5\n", "a column name is repeated", ("compare-runs", "analyze")),
    ("metrics.csv", b"epoch,val_accuracy\n\xff,1\n", "metrics.csv' is damaged: 'utf-8'", ("compare-runs", "analyze")),
    ("final.keras", b"PK", "final.keras' cannot be loaded as a Keras model", ("analyze", "predict", "evaluate", "export")),
    ("checkpoints/checkpoint", b"\xff", "checkpoints' is damaged", ("analyze",)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "content", "words", "command"),
    [(file, content, words, command) for file, content, words, commands in DAMAGED for command in commands],
)
def test_damage_is_one_line_that_names_the_file(file, content, words, command, copy, tmp_path, capsys, monkeypatch):
    (copy / file).write_bytes(content)
    line = said(command, copy, tmp_path, capsys, monkeypatch)
    assert words in line and str(copy) in line, line


@pytest.mark.parametrize("command", ["compare-runs", "analyze", "predict", "evaluate", "export"])
def test_an_unfinished_run(command, copy, tmp_path, capsys, monkeypatch):
    for name in ("report.md", "final.keras", "best.keras"):
        (copy / name).unlink()
    line = said(command, copy, tmp_path, capsys, monkeypatch)
    words = {"compare-runs": "is not the directory of a finished run (no report.md)", "analyze": "does not contain a saved network yet"}
    assert words.get(command, "has no final network yet: continue the run with its original command and --resume") in line


@pytest.mark.parametrize("command", ["compare-runs", "analyze", "predict", "evaluate"])
@pytest.mark.parametrize("is_old", [False, True])
def test_a_run_of_segmentation(command, is_old, copy, tmp_path, capsys, monkeypatch):
    """Also of versions that kept no facts, where a flag tells."""
    flags = (copy / "flags.txt").read_text()
    if is_old:
        (copy / "flags.txt").write_text(flags + "--classifier_convs=2\n")
        (copy / "run.json").unlink()
    else:
        (copy / "run.json").write_text('{"task": "segmentation"}')
    (copy / "metrics.csv").write_text("epoch,val_mean_iou\n0,0.5\n")
    line = said(command, copy, tmp_path, capsys, monkeypatch)
    assert "is a segmentation run" in line or "is a segmentation network" in line


RESUMED = [
    (b"epoch,val_accuracy\n", "it must have one row for each of the 1 completed epochs; --overwrite starts from scratch"),
    (b"", "metrics.csv' is damaged: it is empty"),
    (b"epoch,val_accuracy\n0,nan\n", "val_accuracy in line 2 is nan"),
    (b"epoch,loss\n0,0.3\n", "it has no column 'val_accuracy'"),
    (b"val_accuracy,loss\n0,0.3\n", "it has no column 'epoch'"),
    (b"epoch,val_accuracy\n1,0.5\n", "it must have one row for each of the 1 completed epochs"),
    (b"epoch,val_accuracy\nzero,0.5\n", "line 2 must have one number"),
]


@pytest.mark.parametrize(("content", "words"), RESUMED)
def test_a_run_that_goes_on_with_damaged_metrics(content, words, copy):
    (copy / "metrics.csv").write_bytes(content)
    with pytest.raises(InputError, match=words):
        runs.forget_later_epochs(Run(copy), 1, "accuracy")
    assert (copy / "metrics.csv").read_bytes() == content


def test_later_epochs_are_forgotten(copy):
    assert runs.forget_later_epochs(Run(copy), 1, "accuracy") == 0.5
    assert (copy / "metrics.csv").read_text().split() == ["epoch,val_accuracy", "0,0.5"]
    assert runs.forget_later_epochs(Run(copy), 0, "accuracy") == -1 and not (copy / "metrics.csv").exists()


def test_flag_files_may_have_comments(copy):
    (copy / "flags.txt").write_text("# mine\n\n--width=2\n// more\n--data=folder:a=b\n")
    assert Run(copy).flags == {"width": "2", "data": "folder:a=b"}


def test_comparison_counts_the_network_that_was_trained(tmp_path):
    """Halvings by stride keep a row where pools lose one, and have as many multiply-adds as Keras' layers."""
    options = {"structure": "28-0-1-1-1-1-0-0", "width": 0.0625, "crop_size": 13}
    found = {}
    for name, more in (
        ("stride", {"downsampling": "stride"}),
        ("symmetric", {"pool_padding": "symmetric"}),
        ("valid", {"pool_padding": "valid"}),
    ):
        (row,) = compare_runs(ComparisonConfig(runs=(write_run(tmp_path / name, (0.5,), **options, **more),), classes=10))
        found[name] = float(row["multiply-adds"].split()[0])
        network = kw.WiderResNet("28-0-1-1-1-1-0-0", width=0.0625, classes=10, input_shape=(13, 13, 3), **more)
        assert row["parameters"] == f"{sum(np.prod(weight.shape) for weight in network.trainable_weights) / 1e6:.2f} M"
        assert found[name] == pytest.approx(multiply_adds(network) / 1e6, abs=0.05)
    assert found["valid"] < found["stride"] == found["symmetric"]
    path = write_run(tmp_path / "a", (0.5,), structure="A", downsampling="stride", crop_size=28)
    (row,) = compare_runs(ComparisonConfig(runs=(path,), classes=10))
    assert row["depth"] == 38


def multiply_adds(network):
    """Of Keras' own layers."""
    total = 0
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D):
            total += int(np.prod(layer.kernel.shape)) * int(np.prod(layer.output.shape[1:3]))
        elif isinstance(layer, keras.layers.Dense):
            total += int(np.prod(layer.kernel.shape))
    return total


@pytest.mark.parametrize("options", [{"downsampling": "stride"}, {"pool_padding": "symmetric"}, {"downsampling": "pool", "crop_size": 64}])
def test_the_report_counts_the_network_that_was_trained(options):
    """Model A on small crops: pools that round down leave nothing of them, strides and padded pools do."""
    config = TrainingConfig(output_dir="x", structure="A", width=0.0625, **{"crop_size": 28, **options})
    data, crop = load_data("digits"), config.crop_size
    labels = data.test.labels
    text = _report(config, find_structure("A"), data, crop, labels, labels, [], [])
    build = {name: value for name, value in options.items() if name != "crop_size"}
    network = kw.WideResNetA(width=0.0625, classes=10, input_shape=(crop, crop, 3), **build)
    assert f"{sum(int(np.prod(weight.shape)) for weight in network.trainable_weights):,}" in text
    assert f"{multiply_adds(network) / 1e6:,.1f} M" in text
    halvings = {"stride": "stride, stride", "symmetric": "pool (symmetric), pool (symmetric)", "pool": "pool (ceil), pool (ceil)"}
    assert halvings[options.get("pool_padding") or options["downsampling"]] in text


def test_the_segmentation_report_says_how_resolution_is_halved():
    config = SegmentationConfig(output_dir="x", data="shapes", frozen_batch_norm=False, structure="A2", pool_padding="symmetric")
    words = config.built_structure.halvings_in_words(config.pool_padding, config.output_stride)
    assert words == "pool (symmetric), pool (symmetric), stride"
    assert find_structure("A1").halved_by("pool").halvings_in_words("ceil") == ", ".join(["pool (ceil)"] * 5)


def test_a_saved_network_for_inference_loads(tmp_path):
    """In Keras, and wherever commands take a model."""
    network = kw.WiderResNet("28-0-1-1-1-1-1-1", width=0.0625, classes=4, input_shape=(29, 29, 3), pool_padding="symmetric")
    folded = inference_network(network)
    folded.save(tmp_path / "folded.keras")
    loaded = keras.models.load_model(tmp_path / "folded.keras")
    kinds = {type(layer) for layer in loaded.layers}
    assert {EdgePaddedMaxPool, FusedBatchNormalization} <= kinds
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 29, 29, 3)).astype(np.float32)
    expected = network.predict_on_batch(kw.preprocess_input(pixels))
    np.testing.assert_allclose(loaded.predict_on_batch(kw.preprocess_input(pixels)), expected, atol=1e-5)
    found = load_classifier(ModelOptions(weights=str(tmp_path / "folded.keras")))
    np.testing.assert_allclose(found.predict(pixels), expected, atol=1e-5)


def test_a_saved_network_for_inference_loads_in_a_fresh_process(tmp_path):
    inference_network(kw.WiderResNet("28-0-1-1-0-0-0-0", width=0.0625, classes=4)).save(tmp_path / "folded.keras")
    code = "import keras_widerresnet, keras, sys; print(len(keras.models.load_model(sys.argv[1]).layers))"
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path / "folded.keras")], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0 and int(ran.stdout) > 5, ran.stderr[-2000:]


@pytest.fixture
def shards(tmp_path):
    """Images whose grey value is their index, in files of 3, 0, 4 and 1 records, and how often each file is read."""
    reads = []
    number = iter(range(8))
    files = []
    for shard, length in enumerate((3, 0, 4, 1)):
        files.append(str(tmp_path / f"train-{shard:05d}"))
        with tf.io.TFRecordWriter(files[-1]) as writer:
            for _ in range(length):
                writer.write(tfrecord._record(tf.fill((2, 2, 3), tf.cast(next(number), tf.uint8)), 0))

    def parse(record):
        example = tf.io.parse_single_example(record, {tfrecord.IMAGE: tf.io.FixedLenFeature([], tf.string)})
        return example[tfrecord.IMAGE], tf.constant(0)

    def records(file):
        if isinstance(file, tf.Tensor) and hasattr(file, "numpy"):
            reads.append(file.numpy().decode())
        return tf.data.TFRecordDataset(file)

    return ShardedSplit(files, (3, 0, 4, 1), parse, records=records), reads


def test_an_image_of_shards_is_read_from_its_own_file(shards):
    split, reads = shards
    assert [int(split.image(index)[0, 0, 0]) for index in range(split.size)] == list(range(8))
    assert [pathlib.Path(file).name[-1] for file in reads] == list("00022223")


def test_an_image_of_a_part_of_shards_is_that_of_its_order(shards):
    split, _ = shards
    for part in split.spread(fractions.Fraction(1, 3)):
        in_order = [int(tf.io.decode_image(raw)[0, 0, 0]) for raw, _ in part.ordered()]
        assert [int(part.image(index)[0, 0, 0]) for index in range(part.size)] == in_order


def test_a_study_counts_the_classes_of_its_data(tmp_path, monkeypatch):
    """A classifier of many classes is most of every network of a row: the shallow ones need less of a width to match the deepest."""
    sizes_of.cache_clear()
    assert sizes_of("digits") == (10, 1437)
    config = StudyConfig(
        output_dir=str(tmp_path), data="digits", match="parameters", widths=(0.0625,), depths=(1, 8), seeds=1, deep_epochs=0
    )
    structure = config.built(8)
    kept = {}
    for classes in (10, 20_000):
        monkeypatch.setattr("research.plan.sizes_of", lambda data, classes=classes: (classes, 100))
        kept[classes] = next(point.width for point in points(config) if point.depth == 1)
        network = kw.WiderResNet(structure, width=0.0625, classes=classes)
        assert cost(structure, 0.0625, "parameters", classes) == sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)
    assert kept[20_000] < kept[10]


def test_facts_of_a_run_are_what_was_written(copy):
    facts = json.loads((copy / "run.json").read_text())
    assert Run(copy).facts == facts and Run(copy).results() == [("top-1 accuracy", "60.00%")]
