"""A run that version 0.1.0 began, stopped by SIGTERM after two of its three epochs: it goes on, and its network can be used."""

import csv
import importlib.util
import json
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from test_training import ENVIRONMENT, QUICK, accuracy, metrics, refused, trained

from keras_widerresnet import runs
from keras_widerresnet.cli import main, process, train
from keras_widerresnet.cli.command import parsed
from keras_widerresnet.tasks.classification.data import load_data

DATA = pathlib.Path(__file__).parent / "data"
OLD_RUN, WHOLE_METRICS = DATA / "run_of_0.1.0", DATA / "run_of_0.1.0_whole_metrics.csv"
FLAGS = (*QUICK, "--structure=28-0-1-1-0-0-0-0", "--width=0.125", "--epochs=3", "--dropout=0.2", "--deterministic")


@pytest.fixture(autouse=True)
def weights_that_change(monkeypatch):
    """Prediction holds its network's weights frozen, for the whole process, which other tests go on with."""
    monkeypatch.setattr(process, "hold_weights_frozen", lambda: None)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    output_dir = shutil.copytree(OLD_RUN, tmp_path_factory.mktemp("old") / "run")
    assert "Resumed from" in trained(output_dir, *FLAGS, "--resume").stderr
    return output_dir


WITH_KERAS_BATCH_NORM = """
import keras
from keras_widerresnet import units
from keras_widerresnet.cli import train
from keras_widerresnet.cli.command import run_script

units.BatchNormalization = keras.layers.BatchNormalization
run_script(train.COMMAND)
"""


def test_ends_as_the_old_version_would_have(tmp_path):
    """The whole run's rows are of version 0.1.0, whose batch norm was Keras' own and so is that of the rest here; old rows stay."""
    output_dir = shutil.copytree(OLD_RUN, tmp_path / "run")
    rest = [sys.executable, "-c", WITH_KERAS_BATCH_NORM, f"--output_dir={output_dir}", *FLAGS, "--resume"]
    subprocess.run(rest, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert_ends_as(metrics(output_dir), rel=1e-3)


def test_ends_nearly_so_with_the_fused_batch_norm(resumed):
    """An epoch of training multiplies the difference in rounding."""
    assert_ends_as(metrics(resumed), rel=1e-2)


def assert_ends_as(rows, rel):
    with WHOLE_METRICS.open(newline="") as file:
        whole = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert rows[:2] == metrics(OLD_RUN) and len(rows) == len(whole) == 3
    for key in ("loss", "val_loss", "val_accuracy"):
        assert rows[2][key] == pytest.approx(whole[2][key], rel=rel), key


def test_goes_on_to_be_scored_on_the_test_images(resumed):
    """As it was before there was --validation: no training image is held out."""
    data = load_data("digits")
    assert (resumed / "flags.txt").read_text() == (OLD_RUN / "flags.txt").read_text()
    assert "chosen on the test images" in (resumed / "report.md").read_text()
    facts = json.loads((resumed / "run.json").read_text())
    assert facts["validated_on"] == "the test images" and facts["class_names"] == list(data.class_names)
    assert (facts["training_images"], facts["validation_images"]) == (data.train.size, data.test.size)
    assert np.isclose(accuracy(resumed / "final.keras", data.test), metrics(resumed)[-1]["val_accuracy"], atol=1e-6)


def test_predicts(resumed, tmp_path, capsys):
    """The first test image, as predictions.csv has it."""
    Image.fromarray(np.asarray(load_data("digits").test.image(0))).save(tmp_path / "digit.png")
    main(["predict", str(tmp_path / "digit.png"), f"--weights={resumed}", "--top=1"])
    found = re.search(r"^(\d) +([\d.]+)%", capsys.readouterr().out, re.M)
    with open(resumed / "predictions.csv", newline="") as file:
        row = next(csv.DictReader(file))
    assert found[1] == row["predicted"]
    assert float(found[2]) == pytest.approx(100 * float(row["probability of predicted"]), abs=0.02)


def test_is_exported(resumed, tmp_path, capsys):
    main(["export", f"--weights={resumed}", f"--output={tmp_path / 'digits'}", "--nowarmup"])
    version = tmp_path / "digits" / "1"
    assert f"Version: {version}" in capsys.readouterr().out
    assert (version / "assets" / "labels.txt").read_text().split() == list("0123456789")
    assert "serving_default" in tf.saved_model.load(str(version)).signatures


def with_the_modern_recipe(tmp_path):
    """The old run as if it had been started with keras-cv's layers, the only ones of then; and the arguments that go on with it."""
    output_dir, modern = shutil.copytree(OLD_RUN, tmp_path / "run"), ("--rand_augment=2", "--mixup=0.2")
    said = (output_dir / "flags.txt").read_text()
    (output_dir / "flags.txt").write_text(said.replace("--rand_augment=0", modern[0]).replace("--mixup=0.0", modern[1]))
    return ["--resume", f"--output_dir={output_dir}", *FLAGS, *modern]


@pytest.mark.parametrize("said", [(), ("--augmentations=keras_cv",)])
def test_goes_on_with_keras_cv_where_it_was_trained_with_it(tmp_path, said):
    arguments = with_the_modern_recipe(tmp_path)
    config, _ = runs.may_start(parsed(train.COMMAND, [*arguments, *said]))
    assert (config.augmentations, config.rand_augment, config.mixup) == ("keras_cv", 2, 0.2)
    assert config.augmentation().needs_keras_cv
    new = parsed(train.COMMAND, [*arguments, *said, "--noresume", f"--output_dir={tmp_path / 'new'}"])
    assert runs.may_start(new)[0].augmentations == (said[0].split("=")[1] if said else "keras")


def test_that_keras_cv_is_missing_is_told_before_an_old_run_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    line = refused(capsys, monkeypatch, "train", *with_the_modern_recipe(tmp_path))
    assert "needs keras_cv" in line and "keras_widerresnet[augment]" in line


def test_erasing_is_refused_for_an_old_run(tmp_path, capsys, monkeypatch):
    line = refused(capsys, monkeypatch, "train", *with_the_modern_recipe(tmp_path), "--random_erasing=0.1")
    assert line.endswith("Changed: --random_erasing=0.1")


@pytest.mark.parametrize("flag", ["--validation=0.2", "--learning_rate=0.2", "--epochs=4"])
def test_other_flags_are_refused(tmp_path, capsys, monkeypatch, flag):
    output_dir = shutil.copytree(OLD_RUN, tmp_path / "run")
    line = refused(capsys, monkeypatch, "train", f"--output_dir={output_dir}", *FLAGS, "--resume", flag)
    assert line.endswith(f"--resume needs the same ones. Changed: {flag}")
    for path in OLD_RUN.rglob("*.*"):
        assert (output_dir / path.relative_to(OLD_RUN)).read_bytes() == path.read_bytes()
