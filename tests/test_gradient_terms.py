"""The decomposed gradient against the whole gradient, all paths one by one, the seed's equations and closed forms; all in float64."""

import itertools
import math

import keras
import numpy as np
import pytest
import residual_chains
import tensorflow as tf
from keras import layers

from benchmarks import decomposition
from keras_widerresnet.analysis.chain import residual_chain
from keras_widerresnet.analysis.gradients import Decomposition, cross_entropy
from keras_widerresnet.analysis.paths import gradient_per_path_length
from keras_widerresnet.errors import InputError

RELATIVE = 1e-10
STRUCTURES = {2: "14-0-1-1-0-0-0-0", 3: "14-1-1-1-0-0-0-0", 8: "14-2-3-3-0-0-0-0"}


def images_and_labels(network, count=3, seed=1):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, *network.input_shape[1:])), generator.integers(0, network.output_shape[1], count)


def whole_gradient(network, images, labels, training=False):
    """Gradients of all trainable variables, by path."""
    with tf.GradientTape() as tape:
        loss = cross_entropy(labels, network(images, training=training))
    gradients = tape.gradient(loss, [variable.value for variable in network.trainable_variables])
    return {variable.path: gradient.numpy() for variable, gradient in zip(network.trainable_variables, gradients, strict=True)}


def assert_close(actual, expected):
    assert np.linalg.norm(actual - expected) <= RELATIVE * np.linalg.norm(expected)


def sums_by_variable(chain, terms):
    """The sum over m of every variable's terms; a variable that stands before a unit and in no unit (the stem) too."""
    sums = {}
    for link, unit in zip(chain.links, terms.units, strict=True):
        block = [variable.path for variable in link.block.trainable_variables]
        shortcut = [variable.path for variable in link.shortcut.trainable_variables if variable.path not in block] if link.shortcut else []
        before = [variable.path for variable in link.before.trainable_variables] if link.before else []
        for paths, found in ((block, unit.block), (shortcut, unit.shortcut), (before, unit.before)):
            sums |= {path: term.sum(axis=0) for path, term in zip(paths, found, strict=True)}
    return sums


@pytest.mark.parametrize(("units", "training"), [(2, False), (3, False), (3, True), (8, False)])
def test_terms_sum_to_the_gradient(units, training):
    network = residual_chains.wide_resnet(STRUCTURES[units])
    images, labels = images_and_labels(network)
    chain = residual_chain(network)
    statistics = [variable.numpy() for variable in network.non_trainable_variables]
    terms = Decomposition(chain, training=training).terms(images, labels)
    for variable, before in zip(network.non_trainable_variables, statistics, strict=True):
        np.testing.assert_array_equal(variable.numpy(), before)
    whole = whole_gradient(network, images, labels, training)
    sums = sums_by_variable(chain, terms)
    head = {variable.path for variable in chain.head.trainable_variables}
    assert sums.keys() | head == whole.keys()
    for path, total in sums.items():
        assert total.dtype == np.float64
        assert_close(total, whole[path])
    assert [len(unit.block[0]) for unit in terms.units] == list(range(units, 0, -1))


def jacobians(model, x):
    """d output / d input and d output / d weights of one flat example, as matrices."""
    if model is None:
        return np.eye(x.shape[1]), []
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        output = model(x, training=False)
    weights = [variable.value for variable in model.trainable_variables]
    at_weights = [tape.jacobian(output, weight).numpy()[0] for weight in weights]
    return tape.jacobian(output, x).numpy()[0, :, 0], at_weights


@pytest.mark.parametrize("units", [2, 3, 8])
def test_terms_are_those_of_all_paths(units):
    network = residual_chains.nonlinear(units)
    images, labels = images_and_labels(network, count=1)
    chain = residual_chain(network)
    terms = Decomposition(chain).terms(images, labels)
    x, shortcuts, blocks, at_weights = tf.constant(images), [], [], []
    for link in chain.links:
        shortcuts.append(jacobians(link.shortcut, x)[0])
        block, weights = jacobians(link.block, x)
        blocks.append(block)
        at_weights.append(weights)
        x = (link.shortcut(x) if link.shortcut else x) + link.block(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = cross_entropy(labels, chain.head(x))
    gradient = tape.gradient(loss, x).numpy()[0]
    for index, unit in enumerate(terms.units):
        outputs = np.zeros((units - index, len(gradient)))
        for crossed in itertools.product([False, True], repeat=units - index - 1):
            vector = gradient
            for place in reversed(range(index + 1, units)):
                vector = (blocks if crossed[place - index - 1] else shortcuts)[place].T @ vector
            outputs[sum(crossed)] += vector
        assert_close(unit.output[:, 0], outputs)
        for jacobian, found in zip(at_weights[index], unit.block, strict=True):
            assert_close(found, np.tensordot(outputs, jacobian, 1))


def test_two_units_are_the_three_equations_of_the_paper():
    network = residual_chains.wide_resnet("8-2-0-0-0-0-0-0")  # two units with identity shortcuts
    images, labels = images_and_labels(network)
    first, second = residual_chain(network).links
    y0 = first.before(images)
    w1, w2 = ([variable.value for variable in link.block.trainable_variables] for link in (first, second))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(y0)
        f1 = first.block(y0)
        y1 = y0 + f1
        f2 = second.block(y1)
        y2 = y1 + f2
        loss = cross_entropy(labels, residual_chain(network).head(y2))
    delta_y2 = tape.gradient(loss, y2)
    through_f2 = tape.gradient(f2, y1, delta_y2)  # f_2' Δy_2
    one, two = Decomposition(residual_chain(network)).terms(images, labels).units
    assert_close(two.output, delta_y2.numpy()[None])
    for found, expected in zip(two.block, tape.gradient(f2, w2, delta_y2), strict=True):
        assert_close(found, expected.numpy()[None])
    assert_close(one.output, np.stack([delta_y2, through_f2]))
    terms = zip(tape.gradient(f1, w1, delta_y2), tape.gradient(f1, w1, through_f2), strict=True)
    for found, expected in zip(one.block, terms, strict=True):
        assert_close(found, np.stack(expected))


def test_linear_network_is_the_binomial_expansion():
    units, factor = 6, 0.3
    network = residual_chains.linear(units, factor)
    images, labels = images_and_labels(network, count=1)
    gradient = Decomposition(residual_chain(network)).terms(images, labels)
    top = np.linalg.norm(gradient.units[-1].output)
    for index, unit in enumerate(gradient.units):
        later = units - index - 1
        expected = np.array([math.comb(later, m) * factor**m for m in range(later + 1)])
        length = np.linalg.norm(images) * (1 + factor) ** index  # of the unit's input
        assert_close(np.linalg.norm(unit.block[0], axis=(1, 2)), expected * length * top)


def test_norms_are_those_of_the_terms():
    network = residual_chains.nonlinear(3)
    images, labels = images_and_labels(network, count=2)
    decomposition = Decomposition(residual_chain(network))
    norms = decomposition.image_norms(images, labels)
    assert norms.shape == (2, 3, 3)
    for image in range(2):
        for index, unit in enumerate(decomposition.terms(images[image : image + 1], labels[image : image + 1]).units):
            squares = sum((term.reshape(len(term), -1) ** 2).sum(axis=1) for term in unit.block)
            np.testing.assert_allclose(norms[image, index, : 3 - index], np.sqrt(squares), rtol=1e-10)
            assert not norms[image, index, 3 - index :].any()


def test_path_lengths_of_a_linear_network():
    units, factor = 7, 0.2
    network = residual_chains.linear(units, factor)
    images, labels = images_and_labels(network)
    found = gradient_per_path_length(residual_chain(network), images, labels, samples=5)
    probabilities, kernel = network.predict(images, verbose=0), network.layers[-1].get_weights()[0]
    gradients = np.linalg.norm((probabilities - np.eye(3)[labels]) @ kernel.T, axis=1)
    np.testing.assert_allclose(found.magnitudes, factor ** np.arange(units + 1)[:, None] * gradients, rtol=1e-6)
    assert found.sampled.tolist() == [1, 5, 5, 5, 5, 5, 5, 1]
    assert found.counts.tolist() == [math.comb(units, k) for k in range(units + 1)]
    np.testing.assert_allclose(found.decay(), (factor, 1), rtol=1e-6)
    share = np.array([math.comb(units, k) * factor**k for k in range(units + 1)]) / (1 + factor) ** units
    first, last = found.carrying(0.9)
    assert share[first : last + 1].sum() >= 0.9 > max(share[first + 1 : last + 1].sum(), share[first:last].sum())


def test_path_lengths_of_all_paths():
    network = residual_chains.nonlinear(4)
    images, labels = images_and_labels(network, count=1)
    chain = residual_chain(network)
    found = gradient_per_path_length(chain, images, labels, samples=6)
    x, matrices = tf.constant(images), []
    for link in chain.links:
        matrices.append((jacobians(link.shortcut, x)[0], jacobians(link.block, x)[0]))
        x = (link.shortcut(x) if link.shortcut else x) + link.block(x)
    gradient = Decomposition(chain).terms(images, labels).units[-1].output[0, 0]
    norms = [[] for _ in range(5)]
    for crossed in itertools.product([0, 1], repeat=4):
        vector = gradient
        for pair, through in reversed(list(zip(matrices, crossed, strict=True))):
            vector = pair[through].T @ vector
        norms[sum(crossed)].append(np.linalg.norm(vector))
    np.testing.assert_allclose(found.one_path, [np.mean(row) for row in norms], rtol=1e-10)


def test_paths_are_drawn_by_the_seed():
    network = residual_chains.nonlinear(3)
    images, labels = images_and_labels(network)
    first, again, other = (
        gradient_per_path_length(residual_chain(network), images, labels, samples=2, seed=seed).magnitudes for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_projection_of_the_preactivated_input_shares_its_normalisation():
    chain = residual_chain(residual_chains.wide_resnet("14-0-1-1-0-0-0-0"))
    first, second = chain.links
    assert chain.names == ("res2a", "res3a")
    assert [variable.path for variable in first.before.trainable_variables] == ["conv1a/kernel"]
    assert [variable.path for variable in first.shortcut.trainable_variables] == [
        "bn2a_branch2a/gamma",
        "bn2a_branch2a/beta",
        "res2a_branch1/kernel",
    ]
    assert second.before is None


def test_cost_is_in_backward_passes(monkeypatch):
    """By a clock of ours: 3 s forward and backward, 1 s forward, 10 s the norms and 14 s the terms."""
    clock = iter((3.0, 1.0, 10.0, 14.0))

    def timed(call, repeats):
        call()
        return next(clock)

    monkeypatch.setattr(decomposition, "median_seconds", timed)
    cost = decomposition.decomposition_cost("28-1-1-0-0-0-0-0", 0.125, batch_size=2, repeats=1)
    assert cost == {"backward_seconds": 2.0, "norms": 5.0, "terms": 7.0}


def test_refusals():
    image = keras.Input((3,))
    with pytest.raises(InputError, match="end in Add layers"):
        residual_chain(keras.Model(image, layers.Dense(2)(image)))
    with pytest.raises(InputError, match="unit9"):
        residual_chain(residual_chains.nonlinear(2), ["unit9"])
    a = layers.Dense(3)(image)
    x = layers.Add(name="one")([a, image])
    x = layers.Add(name="two")([x, layers.Dense(3)(a)])  # a branch that goes round the first sum
    with pytest.raises(InputError, match="not a chain"):
        residual_chain(keras.Model(image, x))
    with pytest.raises(InputError, match="adds 3 tensors"):
        residual_chain(keras.Model(image, layers.Add()([image, a, a])))
    frozen = residual_chains.nonlinear(2)
    frozen.trainable = False
    with pytest.raises(InputError, match="these units have none: unit0, unit1"):
        Decomposition(residual_chain(frozen)).norms(*images_and_labels(frozen))
