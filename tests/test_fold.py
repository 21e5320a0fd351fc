"""Folded batch norm: the same network, with fewer operations."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_widerresnet as kw
from benchmarks.exports import operations
from keras_widerresnet.export.fold import EdgePaddedMaxPool, inference_network
from keras_widerresnet.units import MaxPool


def disturbed(model, seed=0):
    """Batch norms as training leaves them: every scale of either sign, shift, mean and variance its own."""
    generator = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, *rest = (generator.uniform(0.5, 1.5, weight.shape) for weight in layer.weights)
            layer.set_weights([gamma * generator.choice([-1, 1], gamma.shape), *rest])
        elif isinstance(layer, keras.layers.Conv2D) and layer.use_bias:
            layer.bias.assign(generator.normal(size=layer.bias.shape))
    return model


def batch_norms(model):
    return [layer.name for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


NETWORKS = {
    "A1, strided": lambda: kw.WideResNetA1(width=0.125, classes=7, input_shape=(64, 64, 3), classifier_activation=None, dropout=0.3),
    "E, pools that pad": lambda: kw.WideResNetE(width=0.125, include_top=False, input_shape=(57, 57, 3), pool_padding="symmetric"),
    "leaky": lambda: kw.WideResNetF(width=0.125, include_top=False, input_shape=(56, 56, 3), activation="leaky_relu"),
    "segmentation, frozen": lambda: kw.WideResNetFCN("A1", 5, width=0.125, frozen_batch_norm=True),
    "dilated pools": lambda: kw.WideResNetFCN("224-0-1-1-1-1-1-1", 5, width=0.125),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_the_unfolded_networks(name):
    model = disturbed(NETWORKS[name]())
    before = [array.copy() for array in model.get_weights()]
    side = model.input_shape[1] or 64
    images = np.random.default_rng(1).normal(size=(2, side, side, 3)).astype(np.float32)
    expected, folded = np.asarray(model(images, training=False)), inference_network(model)
    difference = np.abs(np.asarray(folded(images, training=False)) - expected).max() / np.abs(expected).max()
    assert difference < 1e-4, difference
    assert np.abs(expected).max() > 1e-3 and len(batch_norms(folded)) < len(batch_norms(model))
    assert not any(isinstance(layer, keras.layers.Dropout) for layer in folded.layers)
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))  # the original is left alone


def test_which_batch_norms_fold():
    """All but those that a shortcut also takes its input from: in A1 the first of every unit that is not the first of its stage."""
    model = kw.WideResNetA1(width=0.125, classes=2)
    left = batch_norms(inference_network(model))
    residual = [f"bn{stage}b{k}_branch2a" for stage, count in ((2, 3), (3, 3), (4, 6), (5, 3)) for k in range(1, count)]
    # The first unit of a stage has a projection, so its batch norm alone reads the sum before it; that sum has a shortcut's share in it,
    # unless the stage before is one unit with a projection of its own: bn7a_branch2a and bn7.
    behind_sums = [f"bn{stage}a_branch2a" for stage in (3, 4, 5, 6)]
    assert sorted(left) == sorted(residual + behind_sums)
    assert not inference_network(model).get_layer("res2a_branch2b1").use_bias
    assert inference_network(model).get_layer("res2a_branch2a").use_bias


def test_without_folding_only_dropout_goes():
    model = disturbed(kw.WideResNetE(width=0.125, classes=3, input_shape=(32, 32, 3), dropout=0.5))
    copy = inference_network(model, fold=False)
    assert batch_norms(copy) == batch_norms(model)
    assert len(copy.layers) == len(model.layers) - sum(isinstance(layer, keras.layers.Dropout) for layer in model.layers)


def test_the_graph_has_fewer_operations():
    model = kw.WiderResNet("28-0-1-1-1-1-1-1", width=0.0625, classes=2, input_shape=(32, 32, 3))
    counts, norms = [], []
    for fold in (False, True):
        network = inference_network(model, fold=fold)
        function = tf.function(lambda images, network=network: network(images, training=False))
        counts.append(operations(function.get_concrete_function(tf.TensorSpec((None, 32, 32, 3)))))
        norms.append(len(batch_norms(network)))
    assert counts[1] < counts[0] - (norms[0] - norms[1])  # each of them was several operations, and became one


@pytest.mark.parametrize(("padding", "side"), [("symmetric", 8), ("symmetric", 9), ("ceil", 9), ("valid", 9)])
def test_edge_padding_is_padding_by_minus_infinity(padding, side):
    values = -np.random.default_rng(0).uniform(1, 2, (2, side, side + 1, 3)).astype(np.float32)  # zeros would be seen
    np.testing.assert_array_equal(EdgePaddedMaxPool(padding)(values), MaxPool(padding)(values))
