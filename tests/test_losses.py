"""The losses of segmentation against a plain NumPy reading of the rule, one replica and two, eager, graph and XLA."""

import math
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_widerresnet.errors import InputError
from keras_widerresnet.tasks.segmentation.loss import BootstrappedCrossEntropy, MaskedCrossEntropy

ROOT = pathlib.Path(__file__).parent.parent
CLASSES = 5
EASY = 12.0  # added to the true class' logit
ROUNDING = 2e-7  # of float32 probabilities near 1, and of their logarithms


def reference(labels, logits, threshold, min_kept):
    """Loss, gradient (softmax - one-hot) / kept, and the kept pixels, pixel by pixel."""
    logits = np.asarray(logits, np.float64)
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    softmax = exponentials / exponentials.sum(axis=-1, keepdims=True)
    valid = [place for place in np.ndindex(labels.shape) if labels[place] != 255]
    probability = {place: softmax[place][labels[place]] for place in valid}
    limit = threshold
    if valid:
        k = min(min_kept, len(valid))
        limit = max(limit, np.partition(list(probability.values()), k - 1)[k - 1])
    # Equal rows of logits give equal probabilities up to the order of NumPy's sums.
    kept = [place for place in valid if probability[place] <= limit + 1e-12]
    loss, gradient = 0.0, np.zeros(logits.shape)
    for place in kept:
        true = labels[place]
        loss += np.log(exponentials[place].sum()) + logits[place].max() - logits[place][true]
        gradient[place] = softmax[place]
        gradient[place][true] -= 1
    return loss / max(len(kept), 1), gradient / max(len(kept), 1), len(kept)


def random_batch(seed, *, shape=(3, 6, 7), ignored=0.2, easy=0.5):
    """Labels with ignored pixels, and logits of which a part is easily right."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, shape)
    logits = rng.normal(size=(*shape, CLASSES)) * 2
    logits += EASY * (rng.random(shape) < easy)[..., None] * np.eye(CLASSES)[labels]
    labels[rng.random(shape) < ignored] = 255
    return labels.astype(np.uint8), logits.astype(np.float32)


def tied_batch():
    """90 valid pixels of three kinds, 30 each: of low, middle and high probability; the limit falls among the middle ones."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, CLASSES, (2, 6, 9))
    kinds = rng.permutation(np.repeat([0, 1, 2, 3], [30, 30, 30, 18])).reshape(labels.shape)
    logits = np.asarray([0.0, 3.0, 6.0, 0.0])[kinds][..., None] * np.eye(CLASSES)[labels]
    labels[kinds == 3] = 255
    return labels.astype(np.uint8), logits.astype(np.float32)


def emptied(batch, images):
    labels, logits = batch
    labels[images] = 255
    return labels, logits


def extreme_batch():
    labels, logits = random_batch(7)
    rng = np.random.default_rng(8)
    return labels, np.where(rng.random(logits.shape) < 0.5, np.sign(logits) * 1e4, logits)


# name: (labels, logits), threshold, min_kept, kept pixels or None where only the reference knows.
CASES = {
    "threshold decides": (random_batch(0), 0.6, 5, None),
    "min_kept reached": (random_batch(1, easy=0.9), 0.6, 60, 60),
    "all logits easy": (random_batch(2, easy=1.0, ignored=0.5), 0.6, 16, 16),
    "hardest alone": (random_batch(3), 0.0, 16, 16),
    "ties at the limit": (tied_batch(), 0.6, 40, 60),
    "fewer valid than min_kept": (random_batch(4, ignored=0.8), 0.6, 60, 23),
    "fewer pixels than min_kept": (random_batch(4, ignored=0.0, shape=(1, 2, 3)), 0.6, 256, 6),
    "one image has no valid pixel": (emptied(random_batch(6), 1), 0.6, 16, None),
    "no valid pixel": (emptied(random_batch(6), slice(None)), 0.6, 16, 0),
    "extreme logits": (extreme_batch(), 0.6, 16, None),
    "one-dimensional": (random_batch(9, shape=(4, 21)), 0.6, 10, None),
}
MODES = {
    "eager": lambda function: function,
    "graph": tf.function,
    "unknown sizes": lambda function: tf.function(function, reduce_retracing=True, autograph=False),
    "xla": lambda function: tf.function(function, jit_compile=True),
}


def loss_and_gradient(loss, labels, logits, mode="eager"):
    def both(labels, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(labels, logits)
        return value, tape.gradient(value, logits)

    if mode == "unknown sizes":
        signature = [tf.TensorSpec([None] * labels.ndim, labels.dtype), tf.TensorSpec([None] * labels.ndim + [CLASSES], logits.dtype)]
        function = tf.function(both, input_signature=signature)
    else:
        function = MODES[mode](both)
    value, gradient = function(tf.constant(labels), tf.constant(logits))
    return float(value), np.asarray(gradient, np.float64), gradient.dtype


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_bootstrapped_loss_and_gradient_are_the_rule(case, mode):
    (labels, logits), threshold, min_kept, kept = CASES[case]
    expected, expected_gradient, reference_kept = reference(labels, logits, threshold, min_kept)
    if kept is None:
        assert min_kept < reference_kept < (labels != 255).sum()
    else:
        assert reference_kept == kept
    value, gradient, _ = loss_and_gradient(BootstrappedCrossEntropy(threshold, min_kept), labels, logits, mode)
    assert value == pytest.approx(expected, rel=2e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=2e-6, atol=ROUNDING / max(reference_kept, 1))
    if reference_kept == 0:
        assert value == 0 and not gradient.any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", ["threshold decides", "no valid pixel", "extreme logits"])
def test_masked_loss_and_gradient_are_the_mean_over_valid_pixels(case, mode):
    labels, logits = CASES[case][0]
    expected, expected_gradient, kept = reference(labels, logits, 1.0, 1)
    assert kept == (labels != 255).sum()
    for loss in (MaskedCrossEntropy(), BootstrappedCrossEntropy(1.0)):
        value, gradient, _ = loss_and_gradient(loss, labels, logits, mode)
        assert value == pytest.approx(expected, rel=2e-6)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=2e-6, atol=ROUNDING / max(kept, 1))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("dtype", "bits"), [(tf.bfloat16, 8), (tf.float16, 11)])
def test_16_bit_logits_are_computed_with_in_32(dtype, bits, mode):
    """The loss of the rounded logits to full precision; only the gradient is rounded, to the logits' type."""
    labels, logits = random_batch(10)
    rounded = tf.cast(logits, dtype).numpy()
    expected, expected_gradient, _ = reference(labels, rounded.astype(np.float64), 0.6, 16)
    value, gradient, gradient_dtype = loss_and_gradient(BootstrappedCrossEntropy(0.6, 16), labels, rounded, mode)
    assert value == pytest.approx(expected, rel=2e-6) and gradient_dtype == dtype
    np.testing.assert_allclose(gradient, expected_gradient, rtol=2.0**-bits, atol=1e-7)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("loss", [MaskedCrossEntropy(), BootstrappedCrossEntropy(0.6, 16)], ids=lambda loss: loss.name)
def test_a_logit_that_is_no_number_is_not_hidden(loss, mode):
    """The trainer stops at a loss that is not finite: the selection must not drop such a pixel."""
    labels, logits = random_batch(11, ignored=0.0)
    for broken in ((0, 2, 3, 1), slice(None)):
        bad = logits.copy()
        bad[broken] = np.nan
        assert math.isnan(loss_and_gradient(loss, labels, bad, mode)[0])


def test_per_image_losses_weights_and_label_types():
    labels, logits = random_batch(12)
    loss = BootstrappedCrossEntropy(0.6, 16)
    per_image = loss.call(labels, logits).numpy()
    assert per_image.shape == (3,) and per_image.dtype == np.float32
    _, gradient, kept = reference(labels, logits, 0.6, 16)
    for image in range(3):
        chosen = np.where(gradient[image].any(axis=-1), labels[image], 255)
        mean, _, count = reference(chosen, logits[image], 1.0, 1)
        assert per_image[image] == pytest.approx(mean * count * 3 / kept, rel=1e-5)
    assert float(loss(labels, logits, sample_weight=[1, 0, 2])) == pytest.approx(per_image @ [1, 0, 2] / 3, rel=1e-6)
    for dtype in (np.int32, np.int64, np.float32):
        np.testing.assert_array_equal(loss.call(labels.astype(dtype), logits), per_image)
    signed = np.where(labels == 255, -1, labels.astype(int))
    np.testing.assert_array_equal(BootstrappedCrossEntropy(0.6, 16, ignore_label=-1).call(signed, logits), per_image)


def test_the_release_s_numbers_are_the_defaults():
    loss = BootstrappedCrossEntropy()
    assert (loss.threshold, loss.min_kept, loss.ignore_label) == (0.6, 256, 255)


def test_losses_survive_saving(tmp_path):
    for loss in (MaskedCrossEntropy(7), BootstrappedCrossEntropy(0.7, 99, 7, name="ohem")):
        again = keras.losses.deserialize(keras.losses.serialize(loss))
        assert type(again) is type(loss) and again.get_config() == loss.get_config() and again.ignore_label == 7
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(CLASSES, 1)])
    model.compile("sgd", BootstrappedCrossEntropy(0.7, 99))
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").loss.min_kept == 99


@pytest.mark.parametrize(
    "options", [{"threshold": 1.2}, {"threshold": -0.1}, {"threshold": float("nan")}, {"min_kept": 0}, {"min_kept": 2.5}]
)
def test_options_out_of_range(options):
    with pytest.raises(InputError, match=f"`{next(iter(options))}` must be .* Received"):
        BootstrappedCrossEntropy(**options)


def test_labels_of_another_size_or_class_are_named():
    labels, logits = random_batch(13)
    with pytest.raises(ValueError, match="same shape"):
        MaskedCrossEntropy()(labels[:, :5], logits)
    labels[0, 0, 0] = 30
    with pytest.raises(tf.errors.InvalidArgumentError, match="30 which is outside the valid range"):
        MaskedCrossEntropy()(labels, logits)


# Two logical CPU devices have to be there before TensorFlow starts, hence a process of its own.
TWO_REPLICAS = """
import sys
import numpy as np
import tensorflow as tf
from keras_widerresnet.tasks.segmentation.loss import BootstrappedCrossEntropy, MaskedCrossEntropy
from keras_widerresnet.training.strategy import make_strategy

strategy = make_strategy("mirrored", 2)
assert strategy.num_replicas_in_sync == 2
cases = np.load(sys.argv[1])
results = {}


def gradient(function, logits):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = function(logits)
    return value, tape.gradient(value, logits)


def step(loss, batch_size, labels, logits):
    if batch_size == 2 * labels.shape[0]:
        return gradient(lambda logits: loss(labels, logits), logits)
    # Keras' own mean is of equal shares; this is what `training.steps` does.
    return gradient(lambda logits: tf.reduce_sum(loss.call(labels, logits)) / batch_size, logits)


for name in cases["names"]:
    labels, logits, threshold, min_kept, first = (cases[f"{name}/{key}"] for key in ("labels", "logits", "threshold", "min_kept", "first"))
    parts = slice(0, int(first)), slice(int(first), None)
    shares = [
        strategy.experimental_distribute_values_from_function(lambda context: tf.constant(array[parts[context.replica_id_in_sync_group]]))
        for array in (labels, logits)
    ]
    for kind, loss in (("ohem", BootstrappedCrossEntropy(float(threshold), int(min_kept))), ("masked", MaskedCrossEntropy())):
        run = tf.function(lambda *arrays: strategy.run(step, args=(loss, len(labels), *arrays)))
        values, gradients = run(*shares)
        results[f"{name}/{kind}/loss"] = strategy.reduce("SUM", values, axis=None).numpy()
        results[f"{name}/{kind}/gradient"] = np.concatenate([part.numpy() for part in strategy.experimental_local_results(gradients)])
np.savez(sys.argv[2], **results)
"""


def run_alone(script, *arguments):
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    subprocess.run([sys.executable, "-c", script, *map(str, arguments)], env={**os.environ, "PYTHONPATH": path}, check=True)


def test_two_replicas_give_what_one_gives_on_the_whole_batch(tmp_path):
    """Each replica alone would keep other pixels, or divide by another count."""
    hard, easy = random_batch(14, shape=(2, 6, 7), easy=0.1), random_batch(15, shape=(2, 6, 7), easy=1.0, ignored=0.6)
    uneven = tuple(np.concatenate(pair) for pair in zip(hard, easy, strict=True))
    batches = {
        "limit from one replica": (uneven, 0.6, 30, 2),
        "limit from both": (random_batch(16, shape=(4, 6, 7), easy=1.0), 0.6, 40, 2),
        "limit beyond one replica's pixels": (random_batch(17, shape=(4, 2, 3), easy=1.0, ignored=0.0), 0.6, 16, 2),
        "ties": (tied_batch(), 0.6, 40, 1),
        "one replica has no valid pixel": (emptied(random_batch(18, shape=(4, 6, 7)), slice(2, 4)), 0.6, 20, 2),
        "no valid pixel": (emptied(random_batch(18, shape=(4, 6, 7)), slice(None)), 0.6, 20, 2),
        "unequal shares": (random_batch(19, shape=(4, 6, 7)), 0.6, 120, 1),
    }
    keys = ("labels", "logits", "threshold", "min_kept", "first")
    arrays = {f"{name}/{key}": value for name, (batch, *rest) in batches.items() for key, value in zip(keys, (*batch, *rest), strict=True)}
    np.savez(tmp_path / "cases.npz", names=list(batches), **arrays)
    run_alone(TWO_REPLICAS, tmp_path / "cases.npz", tmp_path / "results.npz")
    results = np.load(tmp_path / "results.npz")
    for name, ((labels, logits), threshold, min_kept, _) in batches.items():
        for kind, rule in (("ohem", (threshold, min_kept)), ("masked", (1.0, 1))):
            loss, gradient, kept = reference(labels, logits, *rule)
            assert results[f"{name}/{kind}/loss"] == pytest.approx(loss, rel=2e-6, abs=ROUNDING), name
            tolerance = {"rtol": 2e-6, "atol": ROUNDING / max(kept, 1)}
            np.testing.assert_allclose(results[f"{name}/{kind}/gradient"], gradient, **tolerance, err_msg=name)
