"""Effective depth of constructed networks whose own is known; in float64."""

import numpy as np
import pytest
import residual_chains
from scipy.stats import binom

from keras_widerresnet.analysis.effective_depth import depths, effective_depth, from_magnitudes
from keras_widerresnet.errors import InputError

UNITS = 5


def images_and_labels(network, count=5, seed=1):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, *network.input_shape[1:])), generator.integers(0, network.output_shape[1], count)


@pytest.mark.parametrize(("factor", "expected"), [(0.001, 1), (0.05, 3), (1.0, 5)])
def test_blocks_that_shrink_the_gradient_by_a_known_factor(factor, expected):
    network = residual_chains.linear(UNITS, factor)
    found = effective_depth(network, *images_and_labels(network), threshold=0.01 if factor == 0.05 else 0.05)
    # A unit's gradient across m of `later` blocks is binomial(later, m) factor^m, so its share is a binomial probability.
    for index in range(UNITS):
        later = UNITS - index - 1
        share = binom.pmf(np.arange(UNITS), later, factor / (1 + factor))
        np.testing.assert_allclose(found.shares[index], share, rtol=1e-6, atol=1e-12)
        tails = binom.sf(np.arange(UNITS + 1) - 1, later, factor / (1 + factor))  # P(m >= l)
        assert found.units[index] == next(depth for depth in range(1, UNITS + 1) if tails[depth] < found.threshold)
    assert found.depth == expected
    assert found.interval == (expected, expected)  # every image has the same shares


def test_a_block_that_lets_no_gradient_through_ends_the_path():
    network = residual_chains.nonlinear(5)
    for name in ("unit2_b", "unit4_b"):  # f_3' = f_5' = 0
        layer = network.get_layer(name)
        layer.set_weights([np.zeros_like(layer.get_weights()[0]), layer.get_weights()[1]])
    found = effective_depth(network, *images_and_labels(network), threshold=1e-9)
    assert found.units == (3, 2, 2, 1, 1)
    assert "Over-deepened" in found.over_deepened() and "5 units, effective depth 3" in found.over_deepened()


def test_a_network_whose_gradient_crosses_all_blocks_is_not_over_deepened():
    network = residual_chains.nonlinear(3)
    found = effective_depth(network, *images_and_labels(network), threshold=1e-6)
    assert found.units == (3, 2, 1)
    assert found.over_deepened().startswith("Not over-deepened")


def test_smallest_depth_below_the_threshold():
    magnitudes = np.array([[60, 30, 8, 2], [60, 37, 3, 0], [0, 0, 0, 0], [100, 0, 0, 0]])
    assert depths(magnitudes, 0.05).tolist() == [3, 2, 1, 1]
    assert depths(magnitudes, 0.10).tolist() == [3, 2, 1, 1]  # exactly the threshold is not below it
    assert depths(magnitudes, 0.11).tolist() == [2, 2, 1, 1]


def test_interval_is_that_of_the_images():
    """Of n images one in four crosses a block; the network's depth is 2 as long as enough of them are drawn."""
    count = 40
    magnitudes = np.zeros((count, 2, 2))
    magnitudes[:, :, 0] = 1
    magnitudes[: count // 4, 0, 1] = 1
    threshold = 0.2  # share of the crossing terms: k / (n + k), reached at k = n / 4
    found = from_magnitudes(magnitudes, ("a", "b"), threshold=threshold)
    assert found.depth == 2
    assert found.interval == (1, 2)  # about half of the resamplings draw fewer
    assert from_magnitudes(magnitudes, ("a", "b"), threshold=0.1).interval == (2, 2)  # k < n / 9 has probability 0.01
    assert from_magnitudes(magnitudes, ("a", "b"), threshold=threshold, seed=1).interval == found.interval


def test_refusals():
    network = residual_chains.nonlinear(2)
    images, labels = images_and_labels(network)
    with pytest.raises(InputError, match="threshold"):
        effective_depth(network, images, labels, threshold=1)
    with pytest.raises(InputError, match="at least one"):
        effective_depth(network, images[:0], labels[:0])
    with pytest.raises(InputError, match="not finite"):
        from_magnitudes(np.full((1, 2, 2), np.nan), ("a", "b"))
