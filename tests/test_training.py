"""Whole runs of `scripts/train.py`, each in a process of its own."""

import csv
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from photographs import write_folder
from PIL import Image

from keras_widerresnet.data import load_data, pipeline

ROOT = pathlib.Path(__file__).parent.parent
NETWORK = ("--structure=28-0-1-1-1-1-1-1", "--width=0.0625", "--crop_size=16")
QUICK = ("--data=digits", *NETWORK, "--crop=padded", "--color_jitter=0", "--lighting=0", "--noflip", "--batch_size=64")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}


def command(output_dir, *flags):
    return [sys.executable, str(ROOT / "scripts" / "train.py"), f"--output_dir={output_dir}", *flags]


def run(output_dir, *flags, environment=ENVIRONMENT):
    return subprocess.run(command(output_dir, *flags), env=environment, capture_output=True, text=True)


def trained(output_dir, *flags, environment=ENVIRONMENT):
    result = run(output_dir, *flags, environment=environment)
    assert result.returncode == 0, result.stderr[-3000:]
    return result


def metrics(output_dir):
    with open(output_dir / "metrics.csv", newline="") as file:
        return [{key: float(value) for key, value in row.items() if key != "images_per_second"} for row in csv.DictReader(file)]


RUN = (*QUICK, "--epochs=4", "--dropout=0.2", "--deterministic", "--resume")


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("whole") / "run"
    trained(output_dir, *RUN)
    return output_dir


def test_run_directory(whole_run):
    assert {path.name for path in whole_run.iterdir()} == {
        "flags.txt", "versions.json", "metrics.csv", "tensorboard", "checkpoints", "best.keras", "final.keras", "predictions.csv",
        "curves.png", "confusion_matrix.png", "worst_mistakes.png", "report.md",
    }  # fmt: skip
    versions = json.loads((whole_run / "versions.json").read_text())
    assert versions["keras"] == keras.__version__
    assert any((whole_run / "tensorboard").rglob("events*"))
    for picture in whole_run.glob("*.png"):
        assert np.asarray(Image.open(picture).convert("L")).std() > 5  # something is drawn
    assert {Image.open(picture).format for picture in whole_run.glob("*.png")} == {"PNG"}


def test_report_agrees_with_the_saved_model(whole_run):
    """The accuracy of the report, of predictions.csv, of the last row of metrics.csv and of final.keras evaluated anew."""
    data = load_data("digits")
    model = keras.models.load_model(whole_run / "final.keras", compile=False)
    batches = pipeline.test_batches(data.test, classes=10, crop_size=16, batch_size=90).map(lambda images, labels, weights: images)
    predicted = model.predict(batches, verbose=0).argmax(axis=1)
    accuracy = (predicted == data.test.labels).mean()
    with open(whole_run / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["predicted"]) for row in rows] == list(predicted)
    assert np.isclose(metrics(whole_run)[-1]["val_accuracy"], accuracy, atol=1e-6)
    assert f"{accuracy:.2%}" in (whole_run / "report.md").read_text()
    best = max(row["val_accuracy"] for row in metrics(whole_run))
    model = keras.models.load_model(whole_run / "best.keras", compile=False)
    predicted = model.predict(batches, verbose=0).argmax(axis=1)
    assert np.isclose((predicted == data.test.labels).mean(), best, atol=1e-6)


def test_learning_rate_falls_linearly_to_its_floor(whole_run):
    rates = [row["learning_rate"] for row in metrics(whole_run)]
    np.testing.assert_allclose(rates, [0.075, 0.05, 0.025, 1e-6], rtol=1e-4)


def test_killed_run_resumes_to_the_same_metrics(whole_run, tmp_path):
    """`kill -9` at a random step after the first epoch, then the same command again."""
    output_dir = tmp_path / "run"
    seed = random.SystemRandom().randrange(1000)
    print("seed of the moment of the kill:", seed)
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(command(output_dir, *RUN), env=ENVIRONMENT, stdout=log, stderr=log)
    deadline = time.time() + 300
    while not list((output_dir / "checkpoints").glob("*.index")) and time.time() < deadline:
        assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
        time.sleep(0.05)
    time.sleep(random.Random(seed).uniform(0, 2.5))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (output_dir / "report.md").exists()
    resumed = trained(output_dir, *RUN)
    assert "Resumed from" in resumed.stderr
    assert metrics(output_dir) == metrics(whole_run)
    assert (output_dir / "predictions.csv").read_text() == (whole_run / "predictions.csv").read_text()


def test_finished_run_is_left_alone(whole_run):
    before = {path: path.stat().st_mtime_ns for path in whole_run.rglob("*")}
    assert "is finished already" in trained(whole_run, *RUN).stderr
    assert {path: path.stat().st_mtime_ns for path in whole_run.rglob("*")} == before


def test_flags_of_the_run_repeat_it(whole_run, tmp_path):
    trained(tmp_path / "again", f"--flagfile={whole_run / 'flags.txt'}")
    assert metrics(tmp_path / "again") == metrics(whole_run)


def test_starts_from_trained_weights(whole_run, tmp_path):
    """At rate 0 the accuracy is that of the run it starts from; other halvings take all weights, other classes all but the classifier."""
    start = (f"--weights={whole_run / 'final.keras'}", "--epochs=1", "--steps_per_epoch=1", "--batch_size=256", "--learning_rate=0")
    with open(whole_run / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    accuracy = np.mean([row["class"] == row["predicted"] for row in rows])
    trained(tmp_path / "same", *QUICK, *start)
    # The rate's floor, 1e-6, and one batch in the running averages are all that changes.
    assert abs(metrics(tmp_path / "same")[0]["val_accuracy"] - accuracy) < 0.1
    strided = trained(tmp_path / "strided", *QUICK, *start, "--downsampling=stride")
    assert "starts anew" not in strided.stderr
    other = trained(tmp_path / "other", *QUICK, *start, "--data=fake:16", "--noverify_images")
    assert "starts anew" not in other.stderr  # ten classes there too
    write_folder(tmp_path / "set", ("one", "two", "three"), count=10)
    three = trained(tmp_path / "three", *QUICK, *start, f"--data=folder:{tmp_path / 'set'}", "--batch_size=24")
    assert "has no linear3 of this shape: that layer starts anew" in three.stderr


def test_learning_rate_grows_with_the_batch_by_the_linear_rule(tmp_path):
    result = trained(tmp_path / "run", *QUICK, "--reference_batch=256", "--learning_rate=0.4", "--epochs=1", "--steps_per_epoch=1")
    assert "learning rate 0.1 for 64 images a step" in result.stderr


def step_losses(tmp_path, devices, *flags, environment=ENVIRONMENT):
    """Losses of five steps over `devices` CPU devices: an epoch of one step each."""
    output_dir = tmp_path / f"{devices} devices"
    steps = (*NETWORK, "--crop=padded", "--batch_size=32", "--steps_per_epoch=1", "--epochs=5", f"--logical_devices={devices}")
    trained(output_dir, f"--data=folder:{tmp_path / 'set'}", *steps, *flags, environment=environment)
    return [(row["loss"], row["val_loss"]) for row in metrics(output_dir)]


@pytest.mark.parametrize(("precision", "rate", "tolerance"), [("float32", 0.001, 1e-4), ("float64", 0.1, 1e-9)])
def test_two_devices_give_the_losses_of_one(tmp_path, precision, rate, tolerance):
    """With synchronised batch norm, step by step. At the full rate rounding grows tenfold a step, so that one is shown in float64."""
    write_folder(tmp_path / "set", ("one", "two", "three"), count=20, suffix=".png")
    (tmp_path / "keras.json").write_text(json.dumps({"floatx": precision}))
    environment = {**ENVIRONMENT, "KERAS_HOME": str(tmp_path)}
    flags = (f"--learning_rate={rate}", "--sync_batch_norm")
    one, two = (step_losses(tmp_path, devices, *flags, environment=environment) for devices in (1, 2))
    np.testing.assert_allclose(two, one, atol=tolerance, rtol=tolerance)


def test_two_devices_without_synchronisation_differ(tmp_path):
    """The test above can fail: unsynchronised statistics give other losses."""
    write_folder(tmp_path / "set", ("one", "two", "three"), count=20, suffix=".png")
    one, two = (step_losses(tmp_path, devices, "--learning_rate=0.01") for devices in (1, 2))
    assert np.abs(np.subtract(one, two)).max() > 1e-3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--structure=224-0-3-x-6-3-1-1",), "S-n1-n2-n3-n4-n5-n6-n7"),
        (("--data=cifar",), "Unknown data set 'cifar'"),
        (("--data=folder:EMPTY",), "has no class folders"),
        (("--data=folder:CORRUPT",), "a/bad.jpg does not decode"),
        (("--data=folder:GREY",), "a/grey.png is not RGB"),
        (("--weights=WEIGHTS", "--width=0.125"), "do not fit 'wider_resnet_28_0_1_1_1_1_1_1'"),
        (("--mixed_precision=int8",), "bfloat16"),
        (("--warmup_epochs=90",), "--warmup_epochs must be fewer than the 90 epochs"),
        (("--strategy=multi_worker",), "needs TF_CONFIG on every machine"),
        (("--label_smoothing=2",), "--label_smoothing must be between 0 and 1"),
        (("--accumulate_steps=3",), "multiple of the 1 replicas times --accumulate_steps=3"),
        (("--epochs=0",), "--epochs must be at least 1"),
        (("--epochs=many",), "--epochs"),
        (("--crop=corner",), "center"),
        (("--no_such_flag",), "no_such_flag"),
        (("stray",), "options are flags"),
        (("--flagfile=missing.flags",), "missing.flags"),
        (("--overwrite", "--resume"), "contradict"),
        (("--batch_size=63", "--logical_devices=2"), "multiple of the 2 replicas"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(tmp_path, flags, message):
    import keras_widerresnet as kw

    (tmp_path / "EMPTY").mkdir()
    for kind in ("CORRUPT", "GREY"):
        for name in "ab":
            (tmp_path / kind / name).mkdir(parents=True)
            for index in range(3):
                Image.new("RGB", (20, 20), (index, 0, 0)).save(tmp_path / kind / name / f"{index}.png")
    (tmp_path / "CORRUPT" / "a" / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 truncated")
    Image.new("L", (20, 20)).save(tmp_path / "GREY" / "a" / "grey.png")
    weights = tmp_path / "seven.weights.h5"
    if any("WEIGHTS" in flag for flag in flags):
        kw.WiderResNet("28-0-1-1-1-1-1-1", input_shape=(16, 16, 3), width=0.0625, classes=10).save_weights(weights)
    named = [re.sub("EMPTY|CORRUPT|GREY", lambda match: str(tmp_path / match[0]), flag).replace("WEIGHTS", str(weights)) for flag in flags]
    result = run(tmp_path / "run", *QUICK, *named)
    assert result.returncode == 2, result.stderr[-2000:]
    assert "Traceback" not in result.stderr
    line = next(line for line in result.stderr.splitlines() if line.startswith("train.py: "))
    assert message in line
    assert not (tmp_path / "run").exists()  # nothing is left behind


def test_existing_directory_needs_a_word(whole_run, tmp_path):
    refused = run(whole_run, *QUICK)
    assert refused.returncode == 2 and "--resume goes on with that run, --overwrite replaces it" in refused.stderr
    changed = run(whole_run, *RUN, "--learning_rate=0.2")
    assert changed.returncode == 2 and "--learning_rate=0.2" in changed.stderr
    (tmp_path / "precious.txt").write_text("mine")
    foreign = run(tmp_path, *QUICK, "--overwrite")
    assert foreign.returncode == 2 and "not a run directory" in foreign.stderr
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_overwrite_replaces_a_run(tmp_path):
    output_dir = tmp_path / "run"
    trained(output_dir, *QUICK, "--epochs=1", "--steps_per_epoch=1")
    trained(output_dir, *QUICK, "--epochs=2", "--steps_per_epoch=1", "--overwrite")
    assert len(metrics(output_dir)) == 2
