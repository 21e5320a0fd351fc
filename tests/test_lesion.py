"""Lesions against networks in which the same was done to the weights."""

import numpy as np
import pytest
import residual_chains

from keras_widerresnet.analysis.chain import residual_chain
from keras_widerresnet.analysis.lesion import INTACT, Lesion, lesion_errors, random_lesions, single_lesions, swappable
from keras_widerresnet.errors import InputError

UNITS = 5  # of which the second and the fourth project their input


@pytest.fixture(scope="module")
def network():
    return residual_chains.nonlinear(UNITS)


@pytest.fixture(scope="module")
def images(network):
    return np.random.default_rng(1).normal(size=(60, *network.input_shape[1:]))


def labels_of(network, images):
    return network.predict(images, verbose=0).argmax(axis=1)


def changed(change):
    """The same network after a change of its weights."""
    other = residual_chains.nonlinear(UNITS)
    change(other)
    return other


def drop(network, *units):
    for unit in units:
        layer = network.get_layer(f"unit{unit}_b")
        layer.set_weights([np.zeros_like(weight) for weight in layer.get_weights()])


def swap(network, one, other):
    for part in "ab":
        first, second = (network.get_layer(f"unit{unit}_{part}") for unit in (one, other))
        weights = first.get_weights()
        first.set_weights(second.get_weights())
        second.set_weights(weights)


@pytest.mark.parametrize(
    ("lesion", "change"),
    [
        (Lesion((0,)), lambda network: drop(network, 0)),
        (Lesion((1,)), lambda network: drop(network, 1)),  # its projection stays
        (Lesion((2, 3)), lambda network: drop(network, 2, 3)),
        (Lesion(swapped=(2, 4)), lambda network: swap(network, 2, 4)),
    ],
)
def test_lesion_is_the_network_with_other_weights(network, images, lesion, change):
    other = changed(change)
    truth = labels_of(other, images)
    chain = residual_chain(network)
    assert lesion_errors(chain, images, truth, [lesion], batch_size=25).tolist() == [0]
    expected = (labels_of(network, images) != truth).mean()
    assert expected > 0  # the lesion changes something
    assert lesion_errors(chain, images, truth, [INTACT], batch_size=25).tolist() == [expected]


def test_several_at_once_are_each_alone(network, images):
    chain, labels = residual_chain(network), labels_of(network, images)
    every = [INTACT, *single_lesions(chain)[:2], *random_lesions(chain, [3], 1), swappable(chain)[2]]
    together = lesion_errors(chain, images, labels, every)
    assert together.tolist() == [float(lesion_errors(chain, images, labels, [lesion])[0]) for lesion in every]
    assert together[0] == 0


def test_which_lesions_there_are(network):
    chain = residual_chain(network)
    assert [lesion.dropped for lesion in single_lesions(chain)] == [(0,), (1,), (2,), (3,), (4,)]
    assert [lesion.swapped for lesion in swappable(chain)] == [(0, 2), (0, 4), (2, 4)]
    drawn = random_lesions(chain, [1, 3], 5)
    assert [len(set(lesion.dropped)) for lesion in drawn] == [1] * 5 + [3] * 5
    assert drawn == random_lesions(chain, [1, 3], 5) != random_lesions(chain, [1, 3], 5, seed=1)


def test_refusals(network, images):
    chain, labels = residual_chain(network), np.zeros(len(images), int)
    with pytest.raises(InputError, match="numbered from 0"):
        lesion_errors(chain, images, labels, [Lesion((5,))])
    with pytest.raises(InputError, match="can be swapped"):
        lesion_errors(chain, images, labels, [Lesion(swapped=(0, 1))])
    with pytest.raises(InputError, match="at least one"):
        lesion_errors(chain, images[:0], labels[:0], [INTACT])
    with pytest.raises(InputError, match="Between 1 and 5"):
        random_lesions(chain, [6], 1)
