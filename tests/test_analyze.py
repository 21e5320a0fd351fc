"""From saved networks to a report: the numbers in it are those of the measurements, and a run's states come in their order."""

import csv
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

import keras_widerresnet as kw
from keras_widerresnet.analysis.analyze import analyze
from keras_widerresnet.analysis.chain import residual_chain
from keras_widerresnet.analysis.config import FILES, OPTIONAL, AnalysisConfig
from keras_widerresnet.analysis.effective_depth import effective_depth
from keras_widerresnet.analysis.measure import sampled_images
from keras_widerresnet.analysis.paths import gradient_per_path_length
from keras_widerresnet.analysis.snapshots import snapshots
from keras_widerresnet.errors import InputError
from keras_widerresnet.tasks.classification.data import load_data

SETTINGS = {"images": 2, "path_images": 2, "path_samples": 2, "lesion_images": 300, "lesion_samples": 2}
DIGITS_RUN = pathlib.Path(__file__).parent.parent / "saved_models" / "digits" / "run"


def analyzed(models, output, **settings):
    return analyze(AnalysisConfig(models=tuple(models), data="digits", output_dir=str(output), **settings))


@pytest.fixture(scope="module")
def network():
    return kw.WiderResNet("8-2-1-0-0-0-0-0", width=0.01, classes=10)


@pytest.fixture(scope="module")
def run_dir(network, tmp_path_factory):
    """What a run of three epochs of five steps leaves, as far as an analysis reads it."""
    folder = tmp_path_factory.mktemp("runs") / "a-run"
    folder.mkdir()
    (folder / "flags.txt").write_text("--steps_per_epoch=0\n--seed=0\n")
    (folder / "metrics.csv").write_text("epoch,val_accuracy\n0,0.5\n1,0.4\n2,0.3\n")
    bias, step = network.layers[-1].bias, tf.Variable(0, dtype=tf.int64)
    before = bias.numpy()
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(model=network, step=step), str(folder / "checkpoints"), max_to_keep=2)
    for epoch in (1, 2, 3):
        bias.assign(np.full(10, epoch))
        step.assign(5 * epoch)
        manager.save()
        if epoch == 1:
            network.save(folder / "best.keras")
    bias.assign(np.full(10, 30))
    network.save(folder / "final.keras")
    bias.assign(before)
    return folder


def test_states_of_a_run_come_in_order(run_dir):
    found = snapshots([str(run_dir), str(run_dir / "best.keras")])
    names = ["a-run, epoch 1 (best)", "a-run, epoch 2 (checkpoint)", "a-run, epoch 3 (final)", "best"]
    assert [state.name for state in found] == names
    assert [state.load().layers[-1].bias.numpy()[0] for state in found] == [1, 2, 30, 1]


def test_report(network, tmp_path):
    network.save(tmp_path / "one.keras")
    network.save(tmp_path / "two.keras")
    output = tmp_path / "analysis"
    models = [str(tmp_path / name) for name in ("one.keras", "two.keras")]
    assert analyzed(models, output, **SETTINGS) == output / "report.md"
    assert {path.name for path in output.iterdir()} == FILES | OPTIONAL
    data = load_data("digits")
    images, labels = sampled_images(data.train, 2, 8, 0)
    depth = effective_depth(network, images, labels)
    results = json.loads((output / "results.json").read_text())
    assert results["effective_depth"] == [depth.depth] * 2 and results["units_effective_depth"] == list(depth.units)
    with (output / "gradient_shares.csv").open() as file:
        shares = np.array([row[1:] for row in list(csv.reader(file))[1:]], float)
    np.testing.assert_allclose(shares, depth.shares, rtol=1e-4, atol=1e-6)
    paths = gradient_per_path_length(residual_chain(network), images, labels, samples=2)
    with (output / "path_lengths.csv").open() as file:
        np.testing.assert_allclose([float(row["gradient by one path"]) for row in csv.DictReader(file)], paths.one_path, rtol=1e-4)
    test_images, test_labels = sampled_images(data.test, 300, 8, 0)
    wrong = (network.predict(test_images, verbose=0).argmax(axis=1) != test_labels).mean()
    assert results["error"] == pytest.approx(wrong)
    assert depth.over_deepened() in (output / "report.md").read_text()
    with pytest.raises(InputError, match="--overwrite"):
        analyzed(models, output, **SETTINGS)


def test_sampled_images_are_distinct_and_drawn_by_the_seed():
    test = load_data("digits").test
    images, labels = sampled_images(test, 1000, 8, 0)
    assert sorted(labels.tolist()) == sorted(test.labels.tolist())  # all of them, once each
    again, other = (sampled_images(test, 10, 8, seed)[0] for seed in (0, 1))
    np.testing.assert_array_equal(images[:10], again)
    assert (again != other).any()


def test_refusals(network, run_dir, tmp_path: pathlib.Path):
    with pytest.raises(InputError, match="neither"):
        snapshots([str(tmp_path)])
    with pytest.raises(InputError, match="10 classes"):
        path = tmp_path / "four.keras"
        kw.WiderResNet("8-1-0-0-0-0-0-0", width=0.01, classes=4).save(path)
        analyzed([str(path)], tmp_path / "out", **SETTINGS)
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="crop_size"):
        analyzed([str(run_dir)], tmp_path / "out", crop_size=9)
    with pytest.raises(InputError, match="is not a model"):
        snapshots([str(run_dir / "metrics.csv")])


def test_digits_where_every_unit_begins_a_stage(tmp_path):
    """The README's own network: no unit within a stage; the report counts the images that there are."""
    report = analyzed([str(DIGITS_RUN)], tmp_path / "out", images=1, path_images=0, lesion_images=1000, lesion_samples=1).read_text()
    assert "within a stage" not in report and "the first unit of a stage" in report and "of 360 test images" in report


def test_runs_of_segmentation_are_refused(tmp_path):
    (tmp_path / "flags.txt").write_text("--classifier_convs=2\n")
    with pytest.raises(InputError, match="is a segmentation run"):
        snapshots([str(tmp_path)])
