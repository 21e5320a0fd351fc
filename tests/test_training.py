"""Whole runs of `scripts/train.py`: in processes of their own where they are killed, repeatable or on several devices, else here."""

import csv
import dataclasses
import itertools
import json
import logging
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import types

import keras
import numpy as np
import pytest
from photographs import write_folder
from PIL import Image

import keras_widerresnet as kw
from keras_widerresnet.cli import main, process
from keras_widerresnet.cli.command import parsed
from keras_widerresnet.cli.train import COMMAND
from keras_widerresnet.data.validation import with_validation
from keras_widerresnet.errors import InputError
from keras_widerresnet.tasks.classification import batches
from keras_widerresnet.tasks.classification.data import load_data
from keras_widerresnet.tasks.classification.task import Classification
from keras_widerresnet.training.run import train

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


class Unreported(Classification):
    """Without tables and pictures, which take longer than a few steps of training."""

    def write_report(self, run):
        pass


def trained_here(output_dir, *flags, task=Unreported):
    """The same in the test's own process."""
    return train(parsed(COMMAND, [f"--output_dir={output_dir}", *flags]), task)


def refused(capsys, monkeypatch, *arguments, code=2):
    """The one line with which the console command ends, in the test's own process."""
    monkeypatch.setenv("GLIBC_TUNABLES", process.HUGE_PAGES)  # otherwise the process would start anew
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == code
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"keras-widerresnet {arguments[0]}: ")]
    return line


def metrics(output_dir):
    with open(output_dir / "metrics.csv", newline="") as file:
        return [{key: float(value) for key, value in row.items() if key != "images_per_second"} for row in csv.DictReader(file)]


def accuracy(model, split):
    """Of a .keras file on a split of the digits."""
    seen = batches.test_batches(split, classes=10, crop_size=16, batch_size=90).map(lambda images, labels, weights: images)
    probabilities = keras.models.load_model(model, compile=False).predict(seen, verbose=0)[: split.size]
    return (probabilities.argmax(axis=1) == split.labels).mean()


RUN = (*QUICK, "--validation=none", "--epochs=4", "--dropout=0.2", "--deterministic", "--resume")


def undisturbed(tmp_path_factory):
    """The directory of `RUN`, trained once for all files of tests that compare with it."""
    output_dir = tmp_path_factory.getbasetemp() / "undisturbed run"
    if not (output_dir / "report.md").exists():
        trained(output_dir, *RUN)
    return output_dir


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    return undisturbed(tmp_path_factory)


def test_run_directory(whole_run):
    assert {path.name for path in whole_run.iterdir()} == {
        "flags.txt", "versions.json", "run.json", "metrics.csv", "tensorboard", "checkpoints", "best.keras", "final.keras",
        "predictions.csv", "curves.png", "confusion_matrix.png", "worst_mistakes.png", "report.md",
    }  # fmt: skip
    versions = json.loads((whole_run / "versions.json").read_text())
    assert versions["keras"] == keras.__version__
    assert any((whole_run / "tensorboard").rglob("events*"))
    for picture in whole_run.glob("*.png"):
        assert np.asarray(Image.open(picture).convert("L")).std() > 5  # something is drawn
    assert {Image.open(picture).format for picture in whole_run.glob("*.png")} == {"PNG"}
    links = re.findall(r"\]\((.*?)\)", (whole_run / "report.md").read_text())
    assert links and all((whole_run / link).is_file() for link in links)


def test_report_agrees_with_the_saved_model(whole_run):
    """The accuracy of the report, of predictions.csv, of the last row of metrics.csv and of final.keras evaluated anew."""
    data = load_data("digits")
    with open(whole_run / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["class"]) for row in rows] == list(data.test.labels)
    found = accuracy(whole_run / "final.keras", data.test)
    assert np.isclose(np.mean([row["class"] == row["predicted"] for row in rows]), found)
    assert np.isclose(metrics(whole_run)[-1]["val_accuracy"], found, atol=1e-6)
    assert f"{found:.2%}" in (whole_run / "report.md").read_text()
    best = max(row["val_accuracy"] for row in metrics(whole_run))
    assert np.isclose(accuracy(whole_run / "best.keras", data.test), best, atol=1e-6)


def test_learning_rate_falls_linearly_to_its_floor(whole_run):
    rates = [row["learning_rate"] for row in metrics(whole_run)]
    np.testing.assert_allclose(rates, [0.075, 0.05, 0.025, 1e-6], rtol=1e-4)


class TestImagesAtTheEnd(Classification):
    """Until the report is written there is nothing of the test images but their number."""

    __test__ = False

    def __init__(self, config):
        super().__init__(config)
        self.kept = self.data.test
        self.data = dataclasses.replace(self.data, test=types.SimpleNamespace(size=self.kept.size))

    def write_report(self, run):
        self.data = dataclasses.replace(self.data, test=self.kept)
        super().write_report(run)


def test_epochs_are_scored_on_held_out_images(tmp_path):
    """Without a word of --validation: training reads no test image, and the best epoch is chosen on a tenth of the training images."""
    trained_here(tmp_path / "run", *QUICK, "--epochs=3", "--seed=7", task=TestImagesAtTheEnd)
    data, words = with_validation(load_data("digits"), "auto", seed=7)
    scores = [row["val_accuracy"] for row in metrics(tmp_path / "run")]
    assert np.isclose(accuracy(tmp_path / "run" / "final.keras", data.validation), scores[-1], atol=1e-6)
    assert np.isclose(accuracy(tmp_path / "run" / "best.keras", data.validation), max(scores), atol=1e-6)
    report = (tmp_path / "run" / "report.md").read_text()
    assert f"{accuracy(tmp_path / 'run' / 'final.keras', data.test):.2%}" in report
    assert words == "10 % of the training images, held out" and f"chosen on {words}" in report
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["class_names"] == list("0123456789") and facts["validated_on"] == words
    assert (facts["training_images"], facts["validation_images"]) == (data.train.size, data.validation.size)
    assert facts["training_images"] + facts["validation_images"] == load_data("digits").train.size


def test_killed_run_resumes_to_the_same_metrics(whole_run, tmp_path):
    """A finished run's own flag file, `kill -9` at a random step after the first epoch, then the same command again."""
    output_dir, flags = tmp_path / "run", (f"--flagfile={whole_run / 'flags.txt'}", "--resume")
    seed = random.SystemRandom().randrange(1000)
    print("seed of the moment of the kill:", seed)
    with open(tmp_path / "log", "wb") as log:
        started = subprocess.Popen(command(output_dir, *flags), env=ENVIRONMENT, stdout=log, stderr=log)
    deadline = time.time() + 300
    while not list((output_dir / "checkpoints").glob("*.index")) and time.time() < deadline:
        assert started.poll() is None, (tmp_path / "log").read_text()[-3000:]
        time.sleep(0.05)
    time.sleep(random.Random(seed).uniform(0, 2.5))
    started.send_signal(signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL
    assert not (output_dir / "report.md").exists()
    resumed = trained(output_dir, *flags)
    assert "Resumed from" in resumed.stderr
    assert metrics(output_dir) == metrics(whole_run)
    assert (output_dir / "predictions.csv").read_text() == (whole_run / "predictions.csv").read_text()


def test_damaged_checkpoints_are_passed_over(whole_run, tmp_path):
    """The one before the last takes its place; where there is none, the run says so."""
    output_dir = shutil.copytree(whole_run, tmp_path / "run")
    for name in ("report.md", "final.keras"):
        (output_dir / name).unlink()
    *_, before, last = sorted(output_dir.glob("checkpoints/*.data-*"), key=lambda path: int(path.name.split("-")[1].split(".")[0]))
    last.write_bytes(last.read_bytes()[:100])
    resumed = trained(output_dir, f"--flagfile={whole_run / 'flags.txt'}", "--resume")
    assert f"{last.stem} is damaged" in resumed.stderr and f"Resumed from {before.with_suffix('')}" in resumed.stderr
    assert metrics(output_dir) == metrics(whole_run)
    (output_dir / "report.md").unlink()
    for data in output_dir.glob("checkpoints/*.data-*"):
        data.write_bytes(b"")
    with pytest.raises(InputError, match=r"No checkpoint can be read, --overwrite starts anew: .*ckpt-"):
        trained_here(output_dir, *RUN, "--resume")


def test_flags_of_the_run_repeat_it(whole_run):
    again = parsed(COMMAND, [f"--flagfile={whole_run / 'flags.txt'}", f"--output_dir={whole_run}", "--resume"])
    assert again == parsed(COMMAND, [*RUN, f"--output_dir={whole_run}"])


def test_finished_run_is_left_alone(whole_run, caplog):
    caplog.set_level(logging.INFO, logger="keras_widerresnet")
    before = {path: path.stat().st_mtime_ns for path in whole_run.rglob("*")}
    assert trained_here(whole_run, *RUN) == whole_run / "report.md"
    assert "is already finished" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in whole_run.rglob("*")} == before


def test_starts_from_trained_weights(whole_run, tmp_path, caplog):
    """At rate 0 the accuracy is that of the run it starts from; other halvings take all weights, other classes all but the classifier."""
    caplog.set_level(logging.INFO, logger="keras_widerresnet")
    start = (f"--weights={whole_run / 'final.keras'}", "--epochs=1", "--steps_per_epoch=1", "--batch_size=256", "--learning_rate=0")
    trained_here(tmp_path / "same", *QUICK, *start, "--validation=none")
    # The rate's floor, 1e-6, and one batch in the running averages are all that changes.
    assert abs(metrics(tmp_path / "same")[0]["val_accuracy"] - accuracy(whole_run / "final.keras", load_data("digits").test)) < 0.1
    trained_here(tmp_path / "strided", *QUICK, *start, "--downsampling=stride", "--validation=none")
    trained_here(tmp_path / "other", *QUICK, *start, "--data=fake:16")
    assert "starts anew" not in caplog.text  # ten classes there too
    write_folder(tmp_path / "set", ("one", "two", "three"), count=10)
    trained_here(tmp_path / "three", *QUICK, *start, f"--data=folder:{tmp_path / 'set'}", "--batch_size=24")
    assert "has no linear3 of this shape: that layer is randomly initialised" in caplog.text


def test_learning_rate_grows_with_the_batch_by_the_linear_rule(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="keras_widerresnet")
    flags = ("--reference_batch=256", "--learning_rate=0.4", "--epochs=1", "--steps_per_epoch=2", "--schedule=constant")
    trained_here(tmp_path / "run", *QUICK, *flags)
    assert "learning rate 0.1 for 64 images per step" in caplog.text
    assert metrics(tmp_path / "run")[0]["learning_rate"] == pytest.approx(0.1)


# One process for all numbers of devices: TensorFlow starts with the most.
ON_DEVICES = """
import json, sys
import keras
from keras_widerresnet.cli.command import parsed
from keras_widerresnet.cli.train import COMMAND
from keras_widerresnet.tasks.classification.task import Classification
from keras_widerresnet.training.run import train
from keras_widerresnet.training.strategy import make_strategy

class Unreported(Classification):
    def write_report(self, run):
        pass

make_strategy(logical_devices=2)
for precision, arguments in json.loads(sys.argv[1]):
    keras.config.set_floatx(precision)
    train(parsed(COMMAND, arguments), Unreported)
"""
# At the full rate rounding grows tenfold a step, so that one is shown in float64.
RATES = {"float32": "--learning_rate=0.001", "float64": "--learning_rate=0.1"}


@pytest.fixture(scope="module")
def step_losses(tmp_path_factory):
    """(precision, devices, synchronised) -> losses of five steps over so many CPU devices: an epoch of one step each."""
    root = tmp_path_factory.mktemp("devices")
    data = f"--data=folder:{write_folder(root / 'set', ('one', 'two', 'three'), count=20, suffix='.png')}"
    network = ("--structure=28-0-1-1-0-0-0-1", "--width=0.0625", "--crop_size=16")
    steps = (data, "--validation=none", *network, "--crop=padded", "--batch_size=32", "--steps_per_epoch=1", "--epochs=5")
    cases = [*itertools.product(RATES, (1, 2), (True,)), ("float32", 2, False)]
    runs = {case: root / "-".join(map(str, case)) for case in cases}
    calls = [
        (
            precision,
            [f"--output_dir={path}", *steps, RATES[precision], f"--logical_devices={devices}", f"--sync_batch_norm={synchronised}"],
        )
        for (precision, devices, synchronised), path in runs.items()
    ]
    result = subprocess.run([sys.executable, "-c", ON_DEVICES, json.dumps(calls)], env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return {key: [(row["loss"], row["val_loss"]) for row in metrics(path)] for key, path in runs.items()}


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("float64", 1e-9)])
def test_two_devices_give_the_losses_of_one(step_losses, precision, tolerance):
    """With synchronised batch norm, step by step."""
    np.testing.assert_allclose(step_losses[precision, 2, True], step_losses[precision, 1, True], atol=tolerance, rtol=tolerance)


def test_two_devices_without_synchronisation_differ(step_losses):
    """The test above can fail: unsynchronised statistics give other losses."""
    assert np.abs(np.subtract(step_losses["float32", 1, True], step_losses["float32", 2, False])).max() > 1e-3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--structure=224-0-3-x-6-3-1-1",), "S-n1-n2-n3-n4-n5-n6-n7"),
        (("--data=cifar",), "Unknown data set 'cifar'"),
        (("--data=folder:EMPTY",), "has no class folders"),
        (("--data=folder:CORRUPT",), "a/bad.jpg cannot be decoded"),
        (("--data=folder:GREY",), "a/grey.png is not RGB"),
        (("--weights=WEIGHTS", "--width=0.125"), "do not fit 'wider_resnet_28_0_1_1_1_1_1_1'"),
        (("--mixed_precision=int8",), "bfloat16"),
        (("--warmup_epochs=90",), "--warmup_epochs must be fewer than the 90 epochs"),
        (("--strategy=multi_worker",), "needs TF_CONFIG on every machine"),
        (("--alternating_flip", "--noflip"), "--alternating_flip says when images are mirrored"),
        (("--label_smoothing=2",), "--label_smoothing must be between 0 and 1"),
        (("--accumulate_steps=3",), "multiple of the 1 replicas times --accumulate_steps=3"),
        (("--epochs=0",), "--epochs must be at least 1"),
        (("--epochs=many",), "--epochs"),
        (("--crop=corner",), "center"),
        (("--validation=1.5",), "--validation must be a share of the training images between 0 and 1"),
        (("--no_such_flag",), "no_such_flag"),
        (("stray",), "options must be flags"),
        (("--flagfile=missing.flags",), "missing.flags"),
        (("--overwrite", "--resume"), "exclude each other"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(tmp_path, capsys, monkeypatch, flags, message):
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
    assert message in refused(capsys, monkeypatch, "train", f"--output_dir={tmp_path / 'run'}", *QUICK, *named)
    assert not (tmp_path / "run").exists()  # nothing is left behind


def test_script_ends_with_one_line_too(tmp_path):
    result = run(tmp_path / "run", *QUICK, "--batch_size=63", "--logical_devices=2")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("train.py: ")]
    assert "multiple of the 2 replicas" in line
    assert not (tmp_path / "run").exists()


def test_existing_directory_needs_a_word(whole_run, tmp_path, capsys, monkeypatch):
    line = refused(capsys, monkeypatch, "train", f"--output_dir={whole_run}", *QUICK)
    assert "--resume continues that run, --overwrite replaces it" in line
    line = refused(capsys, monkeypatch, "train", f"--output_dir={whole_run}", *RUN, "--learning_rate=0.2")
    assert line.endswith("--resume needs the same ones. Changed: --learning_rate=0.2")
    (tmp_path / "precious.txt").write_text("mine")
    assert "not a run directory" in refused(capsys, monkeypatch, "train", f"--output_dir={tmp_path}", *QUICK, "--overwrite")
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_overwrite_replaces_a_run(tmp_path):
    output_dir = tmp_path / "run"
    trained_here(output_dir, *QUICK, "--epochs=1", "--steps_per_epoch=1")
    trained_here(output_dir, *QUICK, "--epochs=2", "--steps_per_epoch=1", "--overwrite")
    assert len(metrics(output_dir)) == 2
