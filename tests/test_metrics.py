"""The scores of segmentation against scikit-learn and the public Cityscapes evaluation, as functions, in `fit`, and on two replicas."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as evaluation
from cityscapesscripts.helpers.labels import id2label, trainId2label
from PIL import Image

from keras_widerresnet.errors import InputError
from keras_widerresnet.tasks.segmentation import metrics
from keras_widerresnet.tasks.segmentation.loss import BootstrappedCrossEntropy, MaskedCrossEntropy
from keras_widerresnet.tasks.segmentation.metrics import ClassIoU, MeanAccuracy, MeanIoU, PixelAccuracy, SegmentationScores

ROOT = pathlib.Path(__file__).parent.parent
CLASSES = 6
NEVER_TRUE, NEVER_PREDICTED, ABSENT = 1, 2, 3


def random_batch(seed, shape=(4, 9, 10)):
    """Labels with ignored pixels, predictions right in about half of them, logits for these; a class only predicted, one only true."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, NEVER_PREDICTED, 4, 5], shape, p=[0.5, 0.2, 0.2, 0.1])
    predicted = np.where(rng.random(shape) < 0.5, labels, rng.choice([0, NEVER_TRUE, 4, 5], shape))
    predicted[predicted == NEVER_PREDICTED] = 0
    logits = rng.normal(size=(*shape, CLASSES))
    logits[..., None, :][np.arange(CLASSES) == predicted[..., None, None]] = 9.0
    labels[rng.random(shape) < 0.2] = 255
    return labels.astype(np.uint8), predicted, logits.astype(np.float32)


def theirs(labels, predicted, weights=None):
    """scikit-learn's matrix, scores and IoU of each class."""
    counted = labels != 255
    arguments = {"y_true": labels[counted], "y_pred": predicted[counted], "sample_weight": None if weights is None else weights[counted]}
    present = np.union1d(labels[counted], predicted[counted])
    iou = np.full(CLASSES, np.nan)
    iou[present] = sklearn.metrics.jaccard_score(**arguments, average=None, labels=present)
    occurring = np.unique(labels[counted])
    recall = sklearn.metrics.recall_score(**arguments, average="macro", labels=occurring)
    result = {"pixel_accuracy": sklearn.metrics.accuracy_score(**arguments), "mean_accuracy": recall, "mean_iou": np.nanmean(iou)}
    return sklearn.metrics.confusion_matrix(**arguments, labels=range(CLASSES)), result, iou


def assert_equal(metric, labels, predicted, weights=None):
    matrix, result, iou = theirs(labels, predicted, weights)
    np.testing.assert_allclose(metric.matrix.numpy(), matrix, rtol=1e-12)
    assert {name: float(value) for name, value in metric.result().items()} == pytest.approx(result, rel=1e-12)
    np.testing.assert_allclose(metric.class_iou(), iou, rtol=1e-12)


def test_scores_are_scikit_learn_s():
    labels, predicted, logits = random_batch(0)
    matrix, result, iou = theirs(labels, predicted)
    assert iou[NEVER_TRUE] == iou[NEVER_PREDICTED] == 0 and np.isnan(iou[ABSENT]) and np.isfinite(iou).sum() == CLASSES - 1
    assert metrics.scores(matrix) == pytest.approx(result, rel=1e-12)
    np.testing.assert_allclose(metrics.class_iou(matrix), iou, rtol=1e-12)
    metric = SegmentationScores(CLASSES)
    metric.update_state(labels, logits)
    assert_equal(metric, labels, predicted)
    assert result["mean_accuracy"] == pytest.approx(balanced_accuracy(labels, predicted), rel=1e-12)


def balanced_accuracy(labels, predicted):
    counted = labels != 255
    with pytest.warns(UserWarning, match="classes not in y_true"):  # NEVER_TRUE
        return sklearn.metrics.balanced_accuracy_score(labels[counted], predicted[counted])


def test_single_numbers_are_those_of_the_dict():
    labels, predicted, logits = random_batch(1)
    _, result, iou = theirs(labels, predicted)
    for single, expected in (
        (PixelAccuracy(CLASSES), result["pixel_accuracy"]),
        (MeanAccuracy(CLASSES), result["mean_accuracy"]),
        (MeanIoU(CLASSES), result["mean_iou"]),
        *((ClassIoU(CLASSES, label), iou[label]) for label in range(CLASSES)),
    ):
        single.update_state(labels, logits)
        assert float(single.result()) == pytest.approx(expected, rel=1e-12, nan_ok=True)
    assert [MeanIoU(3).name, ClassIoU(3, 2).name] == ["mean_iou", "iou_2"]


@pytest.mark.parametrize("per", ["image", "pixel"])
def test_weights(per):
    """Weights of zero are those of the images that fill the last batch."""
    labels, predicted, logits = random_batch(2)
    weights = np.random.default_rng(3).random(labels.shape if per == "pixel" else len(labels))
    weights[0] = 0
    metric = SegmentationScores(CLASSES)
    metric.update_state(labels, logits, sample_weight=weights)
    broadcast = np.broadcast_to(weights.reshape(weights.shape + (1,) * (labels.ndim - weights.ndim)), labels.shape)
    assert_equal(metric, labels, predicted, broadcast)


def test_batches_add_up_until_the_state_is_reset():
    batches = [random_batch(seed, (size, 5, 7)) for seed, size in ((4, 3), (5, 1), (6, 2))]
    metric = SegmentationScores(CLASSES)
    for compiled in (metric.update_state, tf.function(metric.update_state), tf.function(metric.update_state, jit_compile=True)):
        metric.reset_state()
        for labels, _, logits in batches:
            compiled(labels, logits)
        assert_equal(metric, *(np.concatenate([batch[part] for batch in batches]) for part in (0, 1)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_logits_and_labels_of_any_type(dtype):
    labels, predicted, logits = random_batch(7)
    for ignore_label, true in ((255, labels.astype(np.int64)), (255, labels.astype(np.float32)), (-1, labels.astype(np.int8))):
        metric = SegmentationScores(CLASSES, ignore_label)
        metric.update_state(true, tf.cast(logits, dtype))
        assert_equal(metric, labels, predicted)


def test_one_cell_counts_exactly_beyond_float32():
    """17 * 2**20 + 3 pixels; float32 knows no odd numbers there."""
    metric = SegmentationScores(2)
    update = tf.function(metric.update_state)
    labels, logits = np.ones((1, 1024, 1024), np.uint8), np.zeros((1, 1024, 1024, 2), np.float16)
    logits[..., 1] = 1
    for _ in range(17):
        update(labels, logits)
    metric.update_state(labels[:, :1, :3], logits[:, :1, :3])
    metric.update_state(labels[:, :1, :5], -logits[:, :1, :5])
    assert metric.matrix.numpy().tolist() == [[0, 0], [5, 17 * 2**20 + 3]]


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_nothing_counted_gives_nan_and_no_warning():
    metric = SegmentationScores(3)
    metric.update_state(np.full((1, 4, 4), 255, np.uint8), np.zeros((1, 4, 4, 3), np.float32))
    assert np.isnan([float(value) for value in metric.result().values()]).all() and np.isnan(metric.class_iou()).all()
    assert np.isnan(list(metrics.scores(np.zeros((3, 3))).values())).all()


@pytest.mark.parametrize("label", [CLASSES, 254, -1])
def test_a_label_that_is_no_class_shows(label):
    labels, _, logits = random_batch(8)
    labels = labels.astype(int)
    labels[0, 0, 0] = label
    metric = SegmentationScores(CLASSES)
    metric.update_state(labels, logits)
    assert np.isnan([float(value) for value in metric.result().values()]).all()


def test_bad_arguments_are_named():
    labels, _, logits = random_batch(9)
    with pytest.raises(InputError, match=r"an additional last axis of 7 classes. Received: y_true \(4, 9, 10\), y_pred \(4, 9, 10, 6\)"):
        SegmentationScores(7).update_state(labels, logits)
    with pytest.raises(InputError, match="shape of `y_true`"):
        SegmentationScores(CLASSES).update_state(labels[..., None], logits)
    with pytest.raises(InputError, match="`classes` must be a positive whole number"):
        MeanIoU(0)
    with pytest.raises(InputError, match=r"from 0 to 5\. Received: 6"):
        ClassIoU(CLASSES, 6)


def test_metrics_survive_saving():
    for metric in (SegmentationScores(3, 7), PixelAccuracy(3, 7), MeanAccuracy(3, 7, "other"), MeanIoU(3, 7), ClassIoU(3, 2, 7)):
        again = keras.metrics.deserialize(keras.metrics.serialize(metric))
        assert type(again) is type(metric) and again.get_config() == metric.get_config() and again.ignore_label == 7


def small_network(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(CLASSES, 1)])


@pytest.mark.parametrize("options", [{"jit_compile": False}, {"jit_compile": True}, {"run_eagerly": True}], ids=str)
def test_fit_and_evaluate_give_the_scores_of_the_whole_set(options):
    """11 images in batches of 4, so that the mean over batches would be another number."""
    labels, _, _ = random_batch(10, (11, 6, 8))
    images = np.random.default_rng(11).normal(size=(11, 6, 8, 3)).astype(np.float32)
    model = small_network()
    model.compile(
        keras.optimizers.SGD(0.0),  # the network stays, so that the epoch's scores have one meaning
        MaskedCrossEntropy(),
        metrics=[SegmentationScores(CLASSES), ClassIoU(CLASSES, 0)],
        weighted_metrics=[MeanIoU(CLASSES, name="weighted_iou")],
        **options,
    )
    weights = np.linspace(0, 2, 11).astype(np.float32)
    predicted = model.predict(images, verbose=0).argmax(-1)
    _, result, iou = theirs(labels, predicted)
    pixel_weights = np.broadcast_to(weights[:, None, None], labels.shape)
    expected = {**result, "iou_0": iou[0], "weighted_iou": theirs(labels, predicted, pixel_weights)[1]["mean_iou"]}
    history = model.fit(images, labels, sample_weight=weights, batch_size=4, epochs=2, verbose=0).history
    evaluated = model.evaluate(images, labels, sample_weight=weights, batch_size=4, verbose=0, return_dict=True)
    for name, value in expected.items():
        assert [*history[name], evaluated[name]] == pytest.approx([value] * 3, rel=1e-6), name


# Two logical CPU devices have to be there before TensorFlow starts, hence a process of its own.
TWO_REPLICAS = """
import sys
import keras
import numpy as np
import tensorflow as tf
import test_metrics
from keras_widerresnet.tasks.segmentation.loss import BootstrappedCrossEntropy
from keras_widerresnet.tasks.segmentation.metrics import MeanIoU, SegmentationScores
from keras_widerresnet.training.strategy import make_strategy

strategy = make_strategy("mirrored", 2)
labels, _, logits = test_metrics.random_batch(12)
with strategy.scope():
    metric = SegmentationScores(test_metrics.CLASSES)


def share(array):
    return strategy.experimental_distribute_values_from_function(lambda context: tf.constant(array[context.replica_id_in_sync_group :: 2]))


update = tf.function(lambda *arrays: strategy.run(metric.update_state, args=arrays))
update(share(labels), share(logits))
update(share(labels), share(logits))
results = {name: value.numpy() for name, value in metric.result().items()}
results.update(matrix=metric.matrix.numpy(), iou=metric.class_iou())

with strategy.scope():
    model = test_metrics.small_network()
    scores = [SegmentationScores(test_metrics.CLASSES), MeanIoU(test_metrics.CLASSES, name="single")]
    model.compile(keras.optimizers.SGD(0.1), BootstrappedCrossEntropy(0.6, 16), metrics=scores, jit_compile=False)
images = np.random.default_rng(13).normal(size=(*labels.shape, 3)).astype(np.float32)
first_loss = model.fit(images, labels, batch_size=4, verbose=0, shuffle=False).history["loss"][0]
evaluated = model.evaluate(images, labels, batch_size=2, verbose=0, return_dict=True)
predicted = model.predict(images, verbose=0).argmax(-1)
names = {name: value for name, value in evaluated.items() if name != "loss"}
kernel = model.layers[0].kernel.numpy()
np.savez(sys.argv[1], **results, predicted=predicted, first_loss=first_loss, kernel=kernel, **{f"fit/{k}": v for k, v in names.items()})
"""


def test_two_replicas_agree_with_one(tmp_path):
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    subprocess.run([sys.executable, "-c", TWO_REPLICAS, tmp_path / "r.npz"], env={**os.environ, "PYTHONPATH": path}, check=True)
    found = np.load(tmp_path / "r.npz")
    labels, predicted, _ = random_batch(12)
    matrix, result, iou = theirs(labels, predicted)
    np.testing.assert_array_equal(found["matrix"], 2 * matrix)
    assert {name: found[name] for name in result} == pytest.approx(result, rel=1e-12)
    np.testing.assert_allclose(found["iou"], iou, rtol=1e-12)
    # The same `fit` and `evaluate` on one replica, and the scores of what the network of two replicas predicts.
    _, result, _ = theirs(labels, found["predicted"])
    assert {name: found[f"fit/{name}"] for name in result} == pytest.approx(result, rel=1e-6)
    assert found["fit/single"] == pytest.approx(result["mean_iou"], rel=1e-6)
    model = small_network()
    model.compile(keras.optimizers.SGD(0.1), BootstrappedCrossEntropy(0.6, 16))
    images = np.random.default_rng(13).normal(size=(*labels.shape, 3)).astype(np.float32)
    history = model.fit(images, labels, batch_size=4, verbose=0, shuffle=False).history
    assert found["first_loss"] == pytest.approx(history["loss"][0], rel=1e-6)
    np.testing.assert_allclose(found["kernel"], model.layers[0].kernel.numpy(), rtol=1e-5, atol=1e-7)


def test_iou_is_that_of_the_public_cityscapes_evaluation(tmp_path):
    """Three images in the data set's layout, all 34 label ids in the truth, one evaluated class absent, one only predicted."""
    rng = np.random.default_rng(14)
    ids = [label for label in range(34) if label not in (31, 32)]  # no train (16), no motorcycle (17)
    metric = SegmentationScores(19)
    pairs = []
    for city, number in (("ulm", 3), ("ulm", 12), ("bonn", 7)):
        truth = rng.choice(ids, (20, 30)).astype(np.uint8)
        labels = np.vectorize(lambda label: id2label[label].trainId)(truth)
        guessed = rng.integers(0, 17, truth.shape)
        predicted = np.where((labels != 255) & (rng.random(truth.shape) < 0.6), labels, guessed)
        predicted[labels == 255] = 17  # must not count
        metric.update_state(labels[None], np.eye(19, dtype=np.float32)[predicted][None])
        stem = f"{city}_{number:06d}_000019"
        pairs.append((tmp_path / "results" / f"{stem}_pred.png", tmp_path / "gtFine" / "val" / city / f"{stem}_gtFine_labelIds.png"))
        to_ids = np.asarray([trainId2label[label].id for label in range(19)], np.uint8)
        for path, image in zip(pairs[-1], (to_ids[predicted], truth), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    arguments = evaluation.CArgs()
    arguments.__dict__.update(evaluation.args.__dict__, evalInstLevelScore=False, JSONOutput=False, quiet=True)
    results = evaluation.evaluateImgLists(*([str(path) for path in paths] for paths in zip(*pairs, strict=True)), arguments)
    iou = np.asarray([results["classScores"][trainId2label[label].name] for label in range(19)])
    assert np.isnan(iou[17]) and iou[16] == 0 and np.isnan(iou).sum() == 1
    np.testing.assert_allclose(metric.class_iou(), iou, rtol=1e-12)
    assert float(metric.result()["mean_iou"]) == pytest.approx(results["averageScoreClasses"], rel=1e-12)
