"""Outputs of the official network definition, at full width."""

import numpy as np
import pytest

import keras_widerresnet as kw
from keras_widerresnet.fcn import WideResNetFCN

BAR = 1e-5  # of the largest absolute value, in float32


def assert_official(expected, key, output):
    output = np.asarray(output)
    assert output.shape == tuple(expected[f"{key}/shape"])
    if output.shape != expected[key].shape:
        output = output[:, ::4, ::4, ::8]
    difference = np.abs(output - expected[key]).max() / np.abs(expected[key]).max()
    assert difference < BAR, f"{key}: {difference:.1e}"


@pytest.mark.parametrize(
    ("key", "build", "size", "options"),
    [
        ("a_ceil/output", kw.WideResNetA, (64, 96), {}),
        ("a_symmetric/output", kw.WideResNetA, (64, 96), {"pool_padding": "symmetric"}),
        ("a_valid/output", kw.WideResNetA, (96, 96), {"pool_padding": "valid"}),
        ("a2_ceil/output", kw.WideResNetA2, (64, 96), {}),
    ],
)
def test_logits(expected, fill, image, key, build, size, options):
    model = fill(build(input_shape=(*size, 3), classifier_activation=None, **options))
    assert_official(expected, key, model.predict_on_batch(image(*size)))


def test_a1_logits_and_stages(expected, fill, image):
    model = fill(kw.WideResNetA1(input_shape=(None, None, 3), classifier_activation=None))
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == 109_167_912
    assert sum(int(np.prod(weight.shape)) for weight in model.non_trainable_weights) == 47_744
    assert_official(expected, "a1/logits", model.predict_on_batch(image(64, 96)))
    stages = kw.feature_extractor(model).predict_on_batch(image(64, 96))
    assert sorted(stages) == [f"stage{k}" for k in range(2, 8)]
    for name, output in stages.items():
        assert_official(expected, f"a1/{name}", output)


def test_segmentation_network(expected, fill, image):
    model = fill(WideResNetFCN(input_shape=(104, 152, 3)))
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == 124_042_581
    assert_official(expected, "fcn_a1_s8_21/output", model.predict_on_batch(image(104, 152)))


def test_every_reference_array_is_tested(expected):
    tested = {"a_ceil/output", "a_symmetric/output", "a_valid/output", "a2_ceil/output", "a1/logits", "fcn_a1_s8_21/output"}
    tested |= {f"a1/stage{k}" for k in range(2, 8)}
    assert {key for key in expected if not key.endswith("/shape")} == tested
