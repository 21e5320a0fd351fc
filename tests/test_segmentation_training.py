"""Whole runs of `scripts/train_segmentation.py`; what it shares with classification is tested there."""

import csv
import json
import logging
import subprocess
import sys

import keras
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix
from test_training import ENVIRONMENT, ROOT, metrics, refused

from keras_widerresnet import WideResNetA1
from keras_widerresnet.cli.command import parsed
from keras_widerresnet.cli.train_segmentation import COMMAND
from keras_widerresnet.data.validation import with_validation
from keras_widerresnet.enlarge import enlarge
from keras_widerresnet.preprocessing import preprocess_input
from keras_widerresnet.tasks.segmentation import batches
from keras_widerresnet.tasks.segmentation.config import EvaluationConfig, SegmentationConfig
from keras_widerresnet.tasks.segmentation.data import load_segmentation_data
from keras_widerresnet.tasks.segmentation.evaluation import evaluate_segmentation
from keras_widerresnet.tasks.segmentation.loss import image_losses
from keras_widerresnet.tasks.segmentation.task import Segmentation
from keras_widerresnet.training.run import train

SHAPES = f"--flagfile={ROOT / 'scripts' / 'flags' / 'shapes.flags'}"
# Too short and narrow to learn anything.
BRIEF = (SHAPES, "--width=0.0625", "--epochs=2", "--steps_per_epoch=4", "--batch_size=4", "--crop_size=48")


class Unreported(Segmentation):
    """Without tables and pictures."""

    def write_report(self, run):
        pass


@pytest.fixture(scope="module")
def shapes_run(tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("shapes") / "run"
    command = [sys.executable, str(ROOT / "scripts" / "train_segmentation.py"), SHAPES, f"--output_dir={output_dir}"]
    result = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return output_dir


def test_learns_shapes(shapes_run):
    """Exact masks, at every pixel: a mean IoU of 0.8 at least, in under two minutes on two idle cores."""
    results = json.loads((shapes_run / "results.json").read_text())
    assert results["mean_iou"] >= 0.8
    assert f"{results['mean_iou']:.2%}" in (shapes_run / "report.md").read_text()
    assert {path.name for path in shapes_run.iterdir()} == {
        "flags.txt", "versions.json", "run.json", "metrics.csv", "tensorboard", "checkpoints", "best.keras", "final.keras",
        "results.json", "per_class.csv", "curves.png", "class_iou.png", "overlays.png", "report.md",
    }  # fmt: skip


def iou_of(matrix):
    right = matrix.diagonal()
    return right / (matrix.sum(axis=0) + matrix.sum(axis=1) - right)


def test_scores_are_the_saved_models(shapes_run):
    """An independent count: predictions of final.keras and of its mirror image, softmax, mean, bicubic, arg-max; scikit-learn."""
    data, model = load_segmentation_data("shapes"), keras.models.load_model(shapes_run / "final.keras", compile=False)
    images = preprocess_input(np.stack([data.test.image(k) for k in range(data.test.size)]))
    # Mirrored, the pixel of cell i is 95 - (8 i + 4): one pixel to the right makes it a cell's.
    mirrored = np.pad(images[:, :, ::-1], ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1]
    plain, other = (keras.ops.softmax(model.predict(batch, verbose=0)) for batch in (images, mirrored))
    predicted = np.asarray(enlarge((plain + other[:, :, ::-1]) / 2, 8)).argmax(axis=-1)
    truth = np.stack([data.test.mask(k) for k in range(data.test.size)])
    matrix = confusion_matrix(truth.ravel(), predicted.ravel(), labels=range(5))
    with open(shapes_run / "per_class.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["pixels"]) for row in rows] == matrix.sum(axis=1).tolist()
    np.testing.assert_allclose([float(row["IoU"]) for row in rows], iou_of(matrix), atol=2e-4)  # a pixel or two may tie


def test_run_is_evaluated_by_its_own_protocol(shapes_run, tmp_path):
    """Named as a run, with no flag about testing: the scores of its report."""
    config = EvaluationConfig(weights=str(shapes_run), data="shapes", output_dir=str(tmp_path / "out"), masks=False, shown=1)
    found = evaluate_segmentation(config)
    results = json.loads((shapes_run / "results.json").read_text())
    assert (found.settings["sizes"], found.settings["flip"]) == ((96,), True)
    assert found.scored.scores["mean_iou"] == pytest.approx(results["mean_iou"], abs=1e-6)


def test_epochs_are_scored_on_held_out_images(shapes_run):
    """The mean IoU of the last epoch, at the cells, is that of final.keras on a tenth of the training images."""
    data, words = with_validation(load_segmentation_data("shapes"), "auto", seed=0)
    model = keras.models.load_model(shapes_run / "final.keras", compile=False)
    matrix = np.zeros((5, 5), int)
    for images, masks, _ in batches.test_batches(data.validation, origin_size=96, stride=8, batch_size=1):
        matrix += confusion_matrix(np.ravel(masks), model.predict_on_batch(np.asarray(images)).argmax(axis=-1).ravel(), labels=range(5))
    assert metrics(shapes_run)[-1]["val_mean_iou"] == pytest.approx(iou_of(matrix).mean(), abs=1e-3)
    assert words == "10 % of the training images, held out" and f"chosen on {words}" in (shapes_run / "report.md").read_text()
    facts = json.loads((shapes_run / "run.json").read_text())
    assert facts["class_names"] == list(data.class_names)
    assert (facts["training_images"], facts["validation_images"]) == (data.train.size, data.validation.size)


# One process for all runs that are repeatable or on two devices, without their reports: TensorFlow starts once.
RUNS = """
import json, os, signal, sys
from keras_widerresnet.cli.command import parsed
from keras_widerresnet.cli.train_segmentation import COMMAND
from keras_widerresnet.errors import RunStopped
from keras_widerresnet.runs import Run
from keras_widerresnet.tasks.segmentation.task import Segmentation
from keras_widerresnet.training.run import train
from keras_widerresnet.training.steps import Steps
from keras_widerresnet.training.strategy import make_strategy

class Unreported(Segmentation):
    def write_report(self, run):
        pass

def terminated_after_18_steps(steps, iterator):
    loss = train_step(steps, iterator)
    if int(steps.done.numpy()) == 18:
        os.kill(os.getpid(), signal.SIGTERM)
    return loss

make_strategy(logical_devices=2)
root, flags, devices_flags = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
train(parsed(COMMAND, [*flags, f"--output_dir={root}/whole"]), Unreported)
stopped = parsed(COMMAND, [*flags, f"--output_dir={root}/stopped"])
train_step, Steps.train = Steps.train, terminated_after_18_steps
try:
    train(stopped, Unreported)
except RunStopped as error:
    with open(f"{root}/stopped.json", "w") as file:
        json.dump({"code": error.exit_code, "words": str(error), "rows": len(Run.at(stopped.output_dir).metrics())}, file)
Steps.train = train_step
train(stopped, Unreported)
for devices in (1, 2):
    train(parsed(COMMAND, [*devices_flags, f"--output_dir={root}/{devices}", f"--logical_devices={devices}"]), Unreported)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of `RUNS`."""
    root = tmp_path_factory.mktemp("runs")
    flags = (*BRIEF, "--epochs=2", "--steps_per_epoch=12", "--deterministic", "--resume")
    devices_flags = (*BRIEF, "--epochs=1", "--sync_batch_norm", "--learning_rate=0.001")
    command = [sys.executable, "-c", RUNS, str(root), json.dumps(flags), json.dumps(devices_flags)]
    result = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return root


def test_stopped_run_resumes_to_the_same_metrics(runs):
    """SIGTERM in the middle of an epoch: the confusion matrix goes on too."""
    stopped = json.loads((runs / "stopped.json").read_text())
    assert (stopped["code"], stopped["rows"]) == (143, 1) and "Stopped by SIGTERM after step 17" in stopped["words"]
    assert metrics(runs / "stopped") == metrics(runs / "whole")


def test_two_replicas_train_as_one(runs):
    """The bootstrapped loss is that of the whole batch, with statistics over the whole batch."""
    one, two = (metrics(runs / str(devices))[0] for devices in (1, 2))
    for key in ("loss", "val_loss", "pixel_accuracy", "val_pixel_accuracy"):
        assert two[key] == pytest.approx(one[key], rel=2e-3), key


def test_tunes_a_classification_network_with_its_statistics(tmp_path, caplog):
    """From weights of another task: the backbone is taken, the head starts anew, and frozen batch norm keeps every mean and variance."""
    caplog.set_level(logging.INFO, logger="keras_widerresnet")
    keras.utils.set_random_seed(0)
    source = WideResNetA1(width=0.0625, classes=7)
    rng = np.random.default_rng(0)
    for layer in source.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.8, 1.2, weight.shape) for weight in layer.get_weights()])
    source.save_weights(tmp_path / "source.weights.h5")
    flags = (*BRIEF, "--structure=A1", "--frozen_batch_norm", "--dropout_b6=0.3", f"--weights={tmp_path / 'source.weights.h5'}")
    brief = ("--epochs=1", "--steps_per_epoch=2", "--learning_rate=0.001", "--jit_compile", f"--output_dir={tmp_path / 'run'}")
    train(parsed(COMMAND, [*flags, *brief]), Unreported)
    assert "has no linear5 of this shape: that layer is randomly initialised" in caplog.text
    tuned = keras.models.load_model(tmp_path / "run" / "final.keras", compile=False)
    changed = 0
    for layer in source.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            before, after = layer.get_weights(), tuned.get_layer(layer.name).get_weights()
            np.testing.assert_array_equal(after[2:], before[2:])
            changed += np.abs(after[0] - before[0]).max() > 0
    assert changed > 20  # scales are learned all the same


def test_losses_in_testing_are_each_images_mean():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(3, 4, 5, 6)).astype(np.float32), rng.integers(0, 6, (3, 4, 5)).astype(np.int32)
    labels[0, :2], labels[2] = 255, 255
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    expected = [
        -np.mean([np.log(p[label]) for p, label in zip(ps.reshape(-1, 6), ls.ravel(), strict=True) if label != 255] or [0])
        for ps, ls in zip(probabilities, labels, strict=True)
    ]
    np.testing.assert_allclose(image_losses(labels, logits), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"frozen_batch_norm": True}, "add --nofrozen_batch_norm"),
        ({"output_stride": 4}, "--output_stride must be one of 8, 16, 32"),
        ({"threshold": 1.5}, "--threshold must be between 0 and 1"),
        ({"min_kept": 0}, "--min_kept must be at least 1"),
        ({"scale_low": 2.0}, "--scale_low must be above 0 and at most --scale_high"),
        ({"data": "folders:/nowhere"}, "Unknown segmentation data set"),
        ({"data": "voc:/nowhere"}, "No folder at '/nowhere'"),
        ({"test_steps": 3}, "test_steps.* must be a divisor of the output stride, 8"),
        ({"schedule": "constant", "warmup_epochs": 1.0}, "--schedule=constant has no warm-up"),
    ],
)
def test_bad_settings(options, words):
    with pytest.raises(ValueError, match=words):
        Segmentation(SegmentationConfig(**{"output_dir": "unused", "data": "shapes", "frozen_batch_norm": False, **options}))


@pytest.mark.parametrize(("flag", "words"), [("--frozen_batch_norm", "add --nofrozen"), ("--output_stride=32", "None or one of (16, 8)")])
def test_bad_input_gives_one_line_and_exit_code_2(tmp_path, capsys, monkeypatch, flag, words):
    assert words in refused(capsys, monkeypatch, "train-segmentation", *BRIEF, flag, f"--output_dir={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()
