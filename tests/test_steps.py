"""One training step in all its forms: they must agree with the plain one, or with what they stand for."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_widerresnet as kw
from keras_widerresnet.training.remat import rematerialized, segments
from keras_widerresnet.training.steps import Steps
from keras_widerresnet.training.strategy import make_strategy
from keras_widerresnet.units import MaxPool

CLASSES = 10


def network(dropout=0.0, policy=None, seed=0):
    keras.utils.set_random_seed(seed)
    before = keras.config.dtype_policy()
    if policy:
        keras.config.set_dtype_policy(policy)
    try:
        return kw.WiderResNet("28-1-1-1-1-2-1-1", width=0.125, input_shape=(16, 16, 3), classes=CLASSES, dropout=dropout)
    finally:
        keras.config.set_dtype_policy(before)


def batch(size=8):
    rng = np.random.default_rng(0)
    return tf.constant(rng.normal(size=(size, 16, 16, 3)), tf.float32), tf.one_hot(rng.integers(0, CLASSES, size), CLASSES)


def gradients(model, images, labels, **options):
    """Gradients, updated running state and losses of one step, by official name order."""
    model.compile(keras.optimizers.SGD(0.1))
    model.optimizer.build(model.trainable_variables)
    steps = Steps(model, make_strategy("one_device"), batch_size=len(images), **options)
    found, state, losses, _ = tf.function(steps._accumulated)(images, labels)
    return [np.asarray(g) for g in found], [np.asarray(s) for s in state], np.asarray(losses)


def assert_close(ours, theirs, tolerance):
    for a, b in zip(ours, theirs, strict=True):
        assert np.abs(a - b).max() <= tolerance * max(np.abs(b).max(), 1e-3)


@pytest.fixture(scope="module")
def plain():
    return gradients(network(), *batch())


def test_plain_step_is_what_keras_computes(plain):
    """Loss, gradients and running averages of an ordinary Keras forward pass on the same tape."""
    model = network()
    images, labels = batch()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(keras.losses.categorical_crossentropy(labels, model(images, training=True)))
    expected = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    assert_close(plain[0], [np.asarray(g) for g in expected], 1e-5)
    assert_close(plain[1], [variable.numpy() for variable in model.non_trainable_variables], 1e-6)
    assert plain[2].mean() == pytest.approx(float(loss), rel=1e-6)


def test_remat_gives_the_same_gradients_and_running_averages(plain):
    remat = gradients(network(), *batch(), remat=True)
    assert_close(remat[0], plain[0], 1e-5)
    assert_close(remat[1], plain[1], 1e-6)  # updated once, though computed twice


def test_remat_draws_the_dropout_mask_once():
    """A mask drawn anew in the recomputation would give gradients of another network."""
    first, second = (gradients(network(dropout=0.5), *batch(), remat=remat) for remat in (False, True))
    assert_close(second[0], first[0], 1e-5)
    np.testing.assert_array_equal(first[1][-1], second[1][-1])  # the generators have moved on alike
    other = gradients(network(dropout=0.5, seed=1), *batch())
    assert np.abs(other[2] - first[2]).max() > 1e-3  # dropout is at work


def test_xla_gives_the_same_gradients(plain):
    compiled = gradients(network(), *batch(), jit_compile=True)
    assert_close(compiled[0], plain[0], 1e-4)
    assert_close(compiled[1], plain[1], 1e-5)


def test_parts_add_up_to_the_mean_of_their_gradients():
    """Two parts are two half batches, each with its own batch statistics, one after the other."""
    images, labels = batch()
    both, state, losses = gradients(network(), images, labels, accumulate_steps=2)
    model = network()
    first = gradients(model, images[:4], labels[:4])
    for variable, value in zip(model.non_trainable_variables, first[1], strict=True):
        variable.assign(value)
    second = gradients(model, images[4:], labels[4:])
    assert_close(both, [(a + b) / 2 for a, b in zip(first[0], second[0], strict=True)], 1e-5)
    assert_close(state, second[1], 1e-6)
    np.testing.assert_allclose(losses, np.concatenate([first[2], second[2]]), rtol=1e-5)


@pytest.mark.parametrize(("policy", "bits", "cosine"), [("mixed_bfloat16", 8, 0.84), ("mixed_float16", 11, 0.95)])
def test_mixed_precision_differs_by_its_rounding(plain, policy, bits, cosine):
    """Losses within 16 units of the format's last place, gradients of the kernels nearly parallel; weights stay float32."""
    model = network(policy=policy)
    mixed = gradients(model, *batch())
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    np.testing.assert_allclose(mixed[2], plain[2], rtol=16 * 2.0**-bits)
    for ours, theirs in zip(mixed[0], plain[0], strict=True):
        if np.ndim(theirs) == 4:
            assert np.vdot(ours, theirs) / (np.linalg.norm(ours) * np.linalg.norm(theirs)) > cosine


def test_segments_are_the_network_cut_at_its_units():
    model = network()
    units = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Add)]
    parts = segments(model)
    assert len(parts) == len(units) + 1
    images, _ = batch()
    x = images
    for part in parts:
        x = part(x, training=False)
    np.testing.assert_allclose(x, model(images, training=False), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(rematerialized(network())(images), network()(images, training=True), rtol=1e-5, atol=1e-6)
    for unit, after in itertools.pairwise(parts):
        assert any(after.layers[1] is layer for layer in model.layers) and not isinstance(after.layers[1], MaxPool)
        assert unit.output.shape == after.input.shape


@pytest.mark.parametrize(("images", "kept"), [(1, 6), (64, 0)])
def test_units_with_more_weights_than_values_are_not_computed_anew(images, kept):
    """Each unit that is computed anew adds its convolutions once more to the graph of the backward pass."""
    model = network()
    forward = rematerialized(model)

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(forward(x))
        return tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    graph = step.get_concrete_function(tf.TensorSpec([images, 16, 16, 3])).graph
    computed = sum(operation.type == "Conv2D" for operation in graph.get_operations())
    convs = [sum(isinstance(layer, keras.layers.Conv2D) for layer in unit.layers) for unit in segments(model)[:-1]]
    assert computed == 2 * sum(convs) - sum(convs[len(convs) - kept :])


def test_averaged_weights_and_statistics_are_in_the_network_inside_only():
    """Averaged weights with the raw ones' running statistics cost 3.6 points of accuracy on CIFAR-10."""
    model = network()
    model.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5))
    model.optimizer.build(model.trainable_variables)
    strategy = make_strategy("one_device")
    steps = Steps(model, strategy, batch_size=8)
    watched = [model.trainable_variables[0], *(variable for variable in model.variables if variable.name.startswith("moving"))]
    values = []
    iterator = iter(tf.data.Dataset.from_tensors(batch()).repeat())
    for _ in range(3):
        steps.train(iterator)
        values.append([variable.numpy() for variable in watched])
    with steps.averaged_weights():
        for variable, first, second, third in zip(watched, *values, strict=True):
            average = 0.5 * (0.5 * first + 0.5 * second) + 0.5 * third
            np.testing.assert_allclose(variable.numpy(), average, rtol=1e-5, atol=1e-7)
            assert np.abs(variable.numpy() - third).max() > 1e-4
    for variable, last in zip(watched, values[-1], strict=True):
        np.testing.assert_array_equal(variable.numpy(), last)
    assert int(steps.done.numpy()) == 3


def test_first_bad_step_is_remembered():
    model = network()
    model.compile(keras.optimizers.SGD(0.1))
    steps = Steps(model, make_strategy("one_device"), batch_size=8)
    images, labels = batch()
    bad = tf.data.Dataset.from_tensors((images * float("nan"), labels))
    iterator = iter(tf.data.Dataset.from_tensors((images, labels)).repeat(2).concatenate(bad.repeat()))
    seen = []
    for _ in range(4):
        steps.train(iterator)
        seen.append(int(steps.first_bad.numpy()))
    assert seen == [-1, -1, 2, 2]
