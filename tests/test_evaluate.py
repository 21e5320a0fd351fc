"""`scripts/evaluate.py`: what the network sees, averaged probabilities, error rates, files; against PIL, NumPy and scikit-learn."""

import csv
import json
import math
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from photographs import PHOTOGRAPHS, write_folder
from PIL import Image
from sklearn.metrics import recall_score, top_k_accuracy_score

import keras_widerresnet as kw
from keras_widerresnet.models import ModelOptions, find_source
from keras_widerresnet.protocols import ClassificationProtocol
from keras_widerresnet.tasks.classification.config import EvaluationConfig
from keras_widerresnet.tasks.classification.data import load_data
from keras_widerresnet.tasks.classification.evaluation import ErrorRate, evaluate, mean_probabilities, published_results, true_class_places
from keras_widerresnet.tasks.classification.network import Classifier, load_classifier
from keras_widerresnet.tasks.classification.views import views
from keras_widerresnet.weights.registry import PRETRAINED

ROOT = pathlib.Path(__file__).parent.parent
CLASSES = tuple(f"class{k}" for k in range(7))


def pil_resized(image, scale):
    width, height = image.size
    shorter = min(width, height)
    return image.resize([max(scale, int(side * scale / shorter + 0.5)) for side in (width, height)], Image.Resampling.BICUBIC)


def pil_windows(image, size, crops):
    """Left and top of each window, by the definitions of the release and of AlexNet."""
    width, height = image.size
    right, bottom = width - size, height - size
    middle = ((right + 1) // 2, (bottom + 1) // 2)
    if crops == "center":
        return [middle]
    if crops == "ten":
        return [(0, 0), (right, 0), (0, bottom), (right, bottom), middle]
    if width >= height:
        return [(0, middle[1]), middle, (right, middle[1])]
    return [(middle[0], 0), middle, (middle[0], bottom)]


def pil_views(image, scale, size, crops, flip):
    resized = pil_resized(image, scale)
    cut = [np.asarray(resized.crop((left, top, left + size, top + size))) for left, top in pil_windows(resized, size, crops)]
    return np.stack(cut + [view[:, ::-1] for view in cut if flip or crops == "ten"]).astype(np.float32)


@pytest.mark.parametrize("crops", ["center", "three", "ten"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("shape", "scale", "size"), [((101, 150), 40, 40), ((151, 90), 41, 32), ((64, 64), 64, 50)])
def test_views_are_pils(crops, flip, shape, scale, size):
    image = PHOTOGRAPHS[0][: shape[0], : shape[1]]
    ours = np.asarray(views(tf.constant(image), scale, size, crops, flip))
    theirs = pil_views(Image.fromarray(image), scale, size, crops, flip)
    assert ours.shape == theirs.shape == (ClassificationProtocol((scale,), size, crops, flip).count, size, size, 3)
    difference = np.abs(ours - theirs)
    assert difference.mean() < 1 and np.quantile(difference, 0.999) <= 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small network of seven classes, as .keras, .weights.h5 and SavedModel, and a folder of images."""
    root = tmp_path_factory.mktemp("evaluate")
    write_folder(root / "set", CLASSES, count=10, suffix=".png")
    keras.utils.set_random_seed(0)
    network = kw.WiderResNet("28-0-1-1-1-1-1-1", width=0.0625, classes=len(CLASSES), input_shape=(None, None, 3))
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):  # of random weights all outputs would be alike
            layer.moving_variance.assign(layer.moving_variance * 0.3)
    network.save(root / "net.keras")
    network.save_weights(root / "net.weights.h5")
    network.export(str(root / "saved"), verbose=False)
    return root, network


def evaluated(root, output_dir, **options):
    """`evaluate` of the trained network on the folder of images, where the options name no others."""
    given = {"weights": str(root / "net.keras"), "data": f"folder:{root / 'set'}", "output_dir": str(output_dir)}
    return evaluate(EvaluationConfig(**(given | options)))


@pytest.fixture(scope="module")
def at_24(trained, tmp_path_factory):
    """The evaluation of the trained network on centre crops of its images' own size, and its folder."""
    output_dir = tmp_path_factory.mktemp("at 24") / "out"
    return evaluated(trained[0], output_dir, scales=(24,)), output_dir


def expected_probabilities(network, root, settings):
    """PIL and NumPy alone around Keras' predict: the mean over every view at every scale."""
    data = load_data(f"folder:{root / 'set'}")
    images = []
    for index in range(data.test.size):
        with Image.open(data.test.name_of(index)) as opened:
            images.append(opened.convert("RGB"))
    means = []
    for setting in settings:
        seen = np.stack([pil_views(image, *setting) for image in images])
        probabilities = network.predict(kw.preprocess_input(seen.reshape(-1, *seen.shape[2:])), verbose=0)
        means.append(probabilities.reshape(*seen.shape[:2], -1).mean(axis=1))
    return np.mean(means, axis=0), data.test.labels


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({"scales": (24,)}, [(24, 24, "center", False)]),
        ({"scales": (24, 32), "flip": True}, [(24, 24, "center", True), (32, 32, "center", True)]),
        ({"scales": (32,), "crop_size": 24, "crops": "ten"}, [(32, 24, "ten", False)]),
        ({"scales": (30,), "crop_size": 26, "crops": "three"}, [(30, 26, "three", False)]),
    ],
)
def test_probabilities_are_averaged_over_all_views(trained, tmp_path, options, settings):
    root, network = trained
    found = evaluated(root, tmp_path / "out", batch_size=13, **options)
    probabilities, labels = expected_probabilities(network, root, settings)
    rows = read_csv(tmp_path / "out" / "predictions.csv")
    ours = np.array([float(row["probability of predicted"]) for row in rows])
    np.testing.assert_allclose(ours, probabilities.max(axis=1), atol=0.01)  # PIL's pixels differ by one level here and there
    agree = np.mean([row["predicted"] == CLASSES[k] for row, k in zip(rows, probabilities.argmax(axis=1), strict=True)])
    assert agree >= 0.9
    assert found.images == len(labels) == 14


def test_error_rates_and_recalls_are_scikit_learns(at_24):
    found, output_dir = at_24
    rows = read_csv(output_dir / "predictions.csv")
    labels, predicted = ([CLASSES.index(row[key]) for row in rows] for key in ("class", "predicted"))
    assert found.top1.error == pytest.approx(np.mean(np.not_equal(labels, predicted)))
    recalls = [float(row["top-1 recall"]) for row in read_csv(output_dir / "per_class.csv")]
    np.testing.assert_allclose(recalls, recall_score(labels, predicted, average=None, labels=range(7)), atol=1e-6)
    saved = json.loads((output_dir / "results.json").read_text())
    assert saved["images"] == 14 and saved["top1_error"] == pytest.approx(found.top1.error)
    assert "No published result applies" in (output_dir / "report.md").read_text()


def test_places_give_scikit_learns_top_k():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(12), 200)
    labels = rng.integers(0, 12, 200)
    places = true_class_places(labels, probabilities)
    for k in (1, 5):
        assert (places < k).mean() == pytest.approx(top_k_accuracy_score(labels, probabilities, k=k, labels=range(12)))


@pytest.mark.parametrize(("wrong", "images"), [(0, 10), (3, 14), (9600, 50_000), (10, 10)])
def test_interval_is_wilsons(wrong, images):
    z, p = 1.959963984540054, wrong / images
    centre = (p + z**2 / (2 * images)) / (1 + z**2 / images)
    half = z / (1 + z**2 / images) * math.sqrt(p * (1 - p) / images + z**2 / (4 * images**2))
    rate = ErrorRate.of(wrong, images)
    assert (rate.error, rate.low, rate.high) == pytest.approx((p, max(0, centre - half), min(1, centre + half)), abs=1e-9)


def test_every_kind_of_file_gives_the_same(trained, at_24, tmp_path):
    root, _ = trained
    _, output_dir = at_24
    expected = [float(row["probability of predicted"]) for row in read_csv(output_dir / "predictions.csv")]
    for kind, weights, model in (
        ("h5", "net.weights.h5", {"model": "28-0-1-1-1-1-1-1", "width": 0.0625}),
        ("saved", "saved", {}),
    ):
        evaluated(root, tmp_path / kind, weights=str(root / weights), scales=(24,), **model)
        found = [float(row["probability of predicted"]) for row in read_csv(tmp_path / kind / "predictions.csv")]
        np.testing.assert_allclose(found, expected, atol=2e-6)


def test_published_row_stands_beside_a_thousand_classes(tmp_path):
    network = kw.WiderResNet("A", width=0.0625, classes=1000, input_shape=(32, 32, 3))
    network.save(tmp_path / "a.keras")
    images = tmp_path / "set"
    for part in ("train", "val"):
        write_folder(images / part, tuple(f"n{k:08d}" for k in range(1000)), count=1)
    evaluated(tmp_path, tmp_path / "out", weights=str(tmp_path / "a.keras"), data=f"folder:{images}", model="A")
    report = (tmp_path / "out" / "report.md").read_text()
    assert "19.2 " in report and "4.73" in report and "official release" in report and "ILSVRC 2012 val (50,000 images)" in report


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": (24,), "crop_size": 32}, "cannot be cut from an image whose shorter side is 24"),
        ({"scales": (0,)}, r"--scales must be at least 1\. Received: 0"),
        ({"scales": (24, 24)}, "Scales must be different"),
        ({"scales": (24,), "crops": "nine"}, r"--crops must be one of center, three, ten\. Received: 'nine'"),
        ({"scales": (24,), "data": "digits"}, "has 7 outputs, but 'digits' has 10 classes"),
        ({"weights": "missing.keras"}, "No model found at 'missing.keras'"),
        ({}, "give --scales"),
    ],
)
def test_bad_input_is_named_and_nothing_is_left(trained, tmp_path, options, message):
    root, _ = trained
    with pytest.raises(ValueError, match=message):
        evaluated(root, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_segmentation_networks_are_refused(tmp_path):
    kw.WideResNetFCN("28-0-1-1-1-1-1-1", classes=7, width=0.0625, input_shape=(32, 32, 3), output_stride=None).save(tmp_path / "fcn.keras")
    with pytest.raises(ValueError, match="not a classification network"):
        evaluated(tmp_path, tmp_path / "out", weights=str(tmp_path / "fcn.keras"), data="digits")


def test_results_are_not_overwritten_unasked(trained, tmp_path):
    root, _ = trained
    flags = [f"--weights={root / 'net.keras'}", f"--data=folder:{root / 'set'}", "--scales=24"]

    def script(output_dir, *more):
        command = [sys.executable, str(ROOT / "scripts" / "evaluate.py"), *flags, f"--output_dir={output_dir}", *more]
        return subprocess.run(command, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True)

    done = script(tmp_path / "out")
    assert done.returncode == 0 and "Report: " in done.stdout, done.stderr[-2000:]
    refused = script(tmp_path / "out")
    assert refused.returncode == 2 and "--overwrite replaces it" in refused.stderr and "Traceback" not in refused.stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("mine")
    foreign = script(tmp_path / "mine", "--overwrite")
    assert foreign.returncode == 2 and foreign.stderr.startswith("evaluate.py: ") and "is not an evaluation" in foreign.stderr
    assert (tmp_path / "mine" / "precious.txt").read_text() == "mine"


def test_windows_without_a_resize_are_exact():
    """On odd sizes: offsets of the middle rounded up, ten crops in the order corners, centre, then their mirror images."""
    image = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)

    def cut(*corners, of=image):
        return np.stack([of[top : top + 6, left : left + 6] for top, left in corners])

    ten = cut((0, 0), (0, 8), (3, 0), (3, 8), (2, 4))
    np.testing.assert_array_equal(views(image, 9, 6), cut((2, 4)))
    np.testing.assert_array_equal(views(image, 9, 6, "three"), cut((2, 0), (2, 4), (2, 8)))
    upright = image.transpose(1, 0, 2)
    np.testing.assert_array_equal(views(upright, 9, 6, "three"), cut((0, 2), (4, 2), (8, 2), of=upright))
    for flip in (False, True):
        np.testing.assert_array_equal(views(image, 9, 6, "ten", flip), np.concatenate([ten, ten[:, :, ::-1]]))
    even = image[:, :13]  # the middle crop lies in the middle of the mirror image too
    np.testing.assert_array_equal(views(even, 9, crops="three", flip=True)[3:], views(even[:, ::-1], 9, crops="three")[::-1])


@pytest.mark.parametrize("setting", [(24, 24, "center", True), (24, 19, "ten", False), (24, 20, "three", True)])
def test_averages_over_exact_views_are_exact(trained, setting):
    """The set's images are 24 pixels wide: nothing is resized, so nothing but the averaging can differ."""
    root, network = trained
    scale, size, crops, flip = setting
    data = load_data(f"folder:{root / 'set'}")
    ours, labels, are_logits = mean_probabilities(
        load_classifier(ModelOptions(weights=str(root / "net.keras"))),
        data,
        ClassificationProtocol((scale,), size, crops, flip),
        batch_size=13,
    )
    expected, expected_labels = expected_probabilities(network, root, [setting])
    assert np.ptp(expected, axis=0).max() > 0.01 and not are_logits
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    np.testing.assert_array_equal(labels, expected_labels)


def test_logits_are_made_probabilities_before_they_are_averaged(trained, tmp_path):
    root, network = trained
    logits = keras.models.clone_model(network)
    logits.layers[-1].activation = keras.activations.linear
    logits.set_weights(network.get_weights())
    logits.save(tmp_path / "logits.keras")
    options = {"scales": (24, 28), "flip": True}
    evaluated(root, tmp_path / "logits", weights=str(tmp_path / "logits.keras"), **options)
    evaluated(root, tmp_path / "probabilities", **options)
    logits, probabilities = (read_csv(tmp_path / name / "predictions.csv") for name in ("logits", "probabilities"))
    for one, other in zip(logits, probabilities, strict=True):
        assert one["predicted"] == other["predicted"]
        assert float(one["probability of predicted"]) == pytest.approx(float(other["probability of predicted"]), abs=2e-6)
    assert "The network returns logits" in (tmp_path / "logits" / "report.md").read_text()
    assert "The network returns logits" not in (tmp_path / "probabilities" / "report.md").read_text()


def test_few_classes_have_no_top_5(tmp_path):
    write_folder(tmp_path / "set")
    kw.WiderResNet("28-0-1-1-1-1-1-1", width=0.0625, classes=2, input_shape=(24, 24, 3)).save(tmp_path / "net.keras")
    found = evaluated(tmp_path, tmp_path / "out")
    assert found.top5 is None and found.settings["scales"] == (24,)
    assert {row["top-5 recall"] for row in read_csv(tmp_path / "out" / "per_class.csv")} == {""}
    with pytest.raises(ValueError, match=r"accepts only images of 24 pixels: give --crop_size=24\. Received: 32"):
        evaluated(tmp_path, tmp_path / "other", scales=(32,))


def test_overwrite_replaces_an_evaluation_alone(trained, tmp_path):
    root, _ = trained
    evaluated(root, tmp_path / "out", scales=(24,))
    evaluated(root, tmp_path / "out", scales=(26,), overwrite=True)
    assert json.loads((tmp_path / "out" / "results.json").read_text())["scales"] == [26]
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not an evaluation"):
        evaluated(root, tmp_path / "out", scales=(24,), overwrite=True)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_per_class_rows(trained, at_24):
    root, network = trained
    _, output_dir = at_24
    probabilities, labels = expected_probabilities(network, root, [(24, 24, "center", False)])
    rows = read_csv(output_dir / "per_class.csv")
    for k, row in enumerate(rows):
        own = probabilities[labels == k]
        among_five = [k in np.argsort(-one)[:5] for one in own]
        wrong = [guess for guess in own.argmax(axis=1) if guess != k]
        assert (row["class"], int(row["images"])) == (CLASSES[k], len(own))
        assert float(row["top-5 recall"]) == pytest.approx(np.mean(among_five))
        assert row["most frequent wrong class"] == (CLASSES[np.bincount(wrong).argmax()] if wrong else "")


def test_damaged_image_is_named_and_nothing_is_left(trained, tmp_path):
    root, _ = trained
    for part in ("train", "val"):
        write_folder(tmp_path / "set" / part, CLASSES, count=1)
    (tmp_path / "set" / "val" / "class3" / "0.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"class3/0\.jpg is in an unknown format"):
        evaluated(root, tmp_path / "out", data=f"folder:{tmp_path / 'set'}", scales=(24,))
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_saved_models_without_an_image_signature_are_refused(tmp_path):
    class Strings(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def lengths(self, text):
            return {"length": tf.strings.length(text)}

    module = Strings()
    tf.saved_model.save(tf.Module(), str(tmp_path / "none"))
    tf.saved_model.save(module, str(tmp_path / "strings"), signatures={"serving_default": module.lengths})
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("none", "Its signatures"),
        ("strings", "Received: inputs"),
        ("empty", "neither a run directory nor a SavedModel"),
    ):
        with pytest.raises(ValueError, match=message):
            load_classifier(ModelOptions(weights=str(tmp_path / name)))


@pytest.mark.parametrize("name", ["imagenet-a", "imagenet-a1", "imagenet-inplace-abn"])
def test_published_numbers_are_the_registrys_and_the_papers(name):
    source = find_source(name)
    rows = published_results(Classifier(lambda pixels: pixels, 1000, None, source, source.structure, width=1.0))
    registered, own = PRETRAINED[name].results, source.structure.published
    assert rows[: len(registered)] == registered
    papers = [(row.top1_error, row.top5_error) for row in rows[len(registered) :] if row.source.startswith("paper")]
    assert papers == ([(own.top1_error, own.top5_error)] if own else [])
    assert not published_results(Classifier(lambda pixels: pixels, 1000, None, source, source.structure, width=0.5))
