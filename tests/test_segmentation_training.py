"""Whole runs of `scripts/train_segmentation.py`, each in a process of its own; what it shares with classification is tested there."""

import csv
import json
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix
from test_training import ENVIRONMENT, ROOT

from keras_widerresnet import WideResNetA1
from keras_widerresnet.data.segmentation import load_segmentation_data
from keras_widerresnet.enlarge import enlarge
from keras_widerresnet.preprocessing import preprocess_input
from keras_widerresnet.training.config import SegmentationConfig
from keras_widerresnet.training.segmentation import image_losses
from keras_widerresnet.training.task import make_task

SHAPES = f"--flagfile={ROOT / 'scripts' / 'flags' / 'shapes.flags'}"
# Too short and narrow to learn anything.
BRIEF = (SHAPES, "--width=0.0625", "--epochs=2", "--steps_per_epoch=4", "--batch_size=4", "--crop_size=48")


def command(output_dir, *flags):
    # After the flag file, whose directory it replaces.
    return [sys.executable, str(ROOT / "scripts" / "train_segmentation.py"), *flags, f"--output_dir={output_dir}"]


def run(output_dir, *flags):
    return subprocess.run(command(output_dir, *flags), env=ENVIRONMENT, capture_output=True, text=True)


def trained(output_dir, *flags):
    result = run(output_dir, *flags)
    assert result.returncode == 0, result.stderr[-3000:]
    return result


def metrics(output_dir):
    with open(output_dir / "metrics.csv", newline="") as file:
        return [{key: float(value) for key, value in row.items() if key != "images_per_second"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def shapes_run(tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("shapes") / "run"
    trained(output_dir, SHAPES)
    return output_dir


def test_learns_shapes(shapes_run):
    """Exact masks, at every pixel: a mean IoU of 0.8 at least, in under two minutes on two idle cores."""
    results = json.loads((shapes_run / "results.json").read_text())
    assert results["mean_iou"] >= 0.8
    assert f"{results['mean_iou']:.2%}" in (shapes_run / "report.md").read_text()
    assert {path.name for path in shapes_run.iterdir()} == {
        "flags.txt", "versions.json", "metrics.csv", "tensorboard", "checkpoints", "best.keras", "final.keras", "results.json",
        "per_class.csv", "curves.png", "class_iou.png", "overlays.png", "report.md",
    }  # fmt: skip


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
    right = matrix.diagonal()
    ious = right / (matrix.sum(axis=0) + matrix.sum(axis=1) - right)
    with open(shapes_run / "per_class.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["pixels"]) for row in rows] == matrix.sum(axis=1).tolist()
    np.testing.assert_allclose([float(row["IoU"]) for row in rows], ious, atol=2e-4)  # a pixel or two may tie


def test_stopped_run_resumes_to_the_same_metrics(tmp_path):
    """SIGTERM in the middle of an epoch: the confusion matrix goes on too."""
    flags = (*BRIEF, "--epochs=3", "--steps_per_epoch=12", "--deterministic", "--resume")
    trained(tmp_path / "whole", *flags)
    log = tmp_path / "log"
    with open(log, "wb") as file:
        process = subprocess.Popen(command(tmp_path / "run", *flags), env=ENVIRONMENT, stdout=file, stderr=file)
    deadline = time.time() + 300
    while "epoch 1/3  loss" not in log.read_text() and time.time() < deadline:
        assert process.poll() is None, log.read_text()[-3000:]
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143, log.read_text()[-3000:]
    assert "Resumed from" in trained(tmp_path / "run", *flags).stderr
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")


def test_two_replicas_train_as_one(tmp_path):
    """The bootstrapped loss is that of the whole batch, with statistics over the whole batch."""
    flags = (*BRIEF, "--epochs=1", "--sync_batch_norm", "--learning_rate=0.001")
    trained(tmp_path / "one", *flags)
    trained(tmp_path / "two", *flags, "--logical_devices=2")
    one, two = (metrics(tmp_path / name)[0] for name in ("one", "two"))
    for key in ("loss", "val_loss", "pixel_accuracy", "val_pixel_accuracy"):
        assert two[key] == pytest.approx(one[key], rel=2e-3), key


def test_tunes_a_classification_network_with_its_statistics(tmp_path):
    """From weights of another task: the backbone is taken, the head starts anew, and frozen batch norm keeps every mean and variance."""
    source = WideResNetA1(width=0.0625, classes=7)
    rng = np.random.default_rng(0)
    for layer in source.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    source.save_weights(tmp_path / "source.weights.h5")
    flags = (*BRIEF, "--structure=A1", "--frozen_batch_norm", "--dropout_b6=0.3", f"--weights={tmp_path / 'source.weights.h5'}")
    result = trained(tmp_path / "run", *flags, "--epochs=1", "--steps_per_epoch=2", "--learning_rate=0.001", "--jit_compile")
    assert "has no linear5 of this shape: that layer starts anew" in result.stderr
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
        ({"frozen_batch_norm": True}, "give --nofrozen_batch_norm"),
        ({"output_stride": 4}, r"must be one of \(8, 16, 32\)"),
        ({"threshold": 1.5}, "--threshold must be between 0 and 1"),
        ({"min_kept": 0}, "`min_kept` must be a positive whole number"),
        ({"scale_low": 2.0}, "two numbers, 0 < lowest <= highest"),
        ({"data": "folders:/nowhere"}, "Unknown segmentation data set"),
        ({"data": "voc:/nowhere"}, "No folder JPEGImages in '/nowhere'"),
        ({"test_steps": 3}, "`test_steps` must be a divisor of the output stride, 8"),
        ({"schedule": "constant", "warmup_epochs": 1.0}, "--schedule=constant has no warm-up"),
    ],
)
def test_bad_settings(options, words):
    with pytest.raises(ValueError, match=words):
        make_task(SegmentationConfig(**{"output_dir": "unused", "data": "shapes", "frozen_batch_norm": False, **options}))


@pytest.mark.parametrize(("flag", "words"), [("--frozen_batch_norm", "give --nofrozen"), ("--output_stride=32", "None or one of (16, 8)")])
def test_bad_input_gives_one_line_and_exit_code_2(tmp_path, flag, words):
    result = run(tmp_path / "run", *BRIEF, flag)
    lines = [line for line in result.stderr.splitlines() if line.startswith("train_segmentation.py: ")]
    assert result.returncode == 2 and len(lines) == 1 and words in lines[0], result.stderr[-2000:]
    assert "Traceback" not in result.stderr and not (tmp_path / "run").exists()
