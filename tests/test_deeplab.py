"""DeepLabV3+ on our networks: KerasHub's numbers, and images of any size."""

import subprocess
import sys

import keras
import keras_hub
import numpy as np
import pytest

import keras_widerresnet as kw
from keras_widerresnet.export.fold import inference_network
from keras_widerresnet.loading import layers_before_convolution, load_keras_file
from keras_widerresnet.tasks.segmentation.network import predictor, stride_of

STRUCTURE = "112-0-1-1-1-1-0-0"
NARROW = {"classes": 3, "width": 0.0625, "downsampling": "stride", "dropout": 0.0}


def noise(height=48, width=64, images=2):
    return np.random.default_rng(0).normal(size=(images, height, width, 3)).astype("float32")


def with_statistics(network):
    """The same network, with batch norms that are not the identity."""
    generator = np.random.default_rng(0)
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([generator.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return network


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return with_statistics(kw.hub.WideResNetDeepLabV3Plus(STRUCTURE, **NARROW))


@pytest.mark.parametrize(("structure", "stride", "rates"), [(STRUCTURE, 8, [12, 24, 36]), (STRUCTURE, 16, [6, 12, 18])])
def test_logits_are_those_of_keras_hubs_segmenter_before_its_last_enlargement(structure, stride, rates):
    keras.utils.set_random_seed(0)
    ours = with_statistics(kw.hub.WideResNetDeepLabV3Plus(structure, output_stride=stride, **NARROW))
    features = kw.WiderResNet(structure, include_top=False, output_stride=stride, width=0.0625, downsampling="stride")
    encoder = keras_hub.models.DeepLabV3Backbone(
        image_encoder=features,
        spatial_pyramid_pooling_key=f"P{stride.bit_length() - 1}",
        low_level_feature_key="P2",
        upsampling_size=stride // 4,
        dilation_rates=rates,
    )
    theirs = keras_hub.models.DeepLabV3ImageSegmenter(encoder, 3)
    pairs = {layer.name: layer for layer in (*features.layers, *encoder.layers, theirs.output_conv)}
    (pooling,) = (layer for name, layer in pairs.items() if "spatial_pyramid_pooling" in name)
    for layer in ours.layers:
        if layer.weights:
            other = pooling if layer.name == "spatial_pyramid_pooling" else pairs[layer.name]
            other.set_weights(layer.get_weights())
    expected = np.asarray(theirs(noise(), training=False))
    enlarged = keras.layers.UpSampling2D(4, interpolation="bilinear")(ours(noise(), training=False))
    np.testing.assert_allclose(np.asarray(enlarged), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_logits_do_not_depend_on_how_a_model_is_called(network):
    """KerasHub's own network computes batch statistics when `training` is not given, and changes its running ones."""
    expected = network.predict_on_batch(noise())
    np.testing.assert_allclose(np.asarray(network(noise())), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(network.predict_on_batch(noise()), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (44, 52), (36, 40)])
def test_sides_need_only_be_multiples_of_four(network, height, width):
    """The image is padded with the mean colour, which is zero, to a multiple of the backbone's stride."""
    x = noise(height, width)
    padded = np.pad(x, ((0, 0), (0, -height % 8), (0, -width % 8), (0, 0)))
    found = np.asarray(network(x, training=False))
    assert found.shape == (2, height // 4, width // 4, 3)
    expected = np.asarray(network(padded, training=False))[:, : height // 4, : width // 4]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_files_load_and_serve_images_of_any_size_with_folded_batch_norms(network, tmp_path):
    network.save(tmp_path / "network.keras")
    loaded = load_keras_file(tmp_path / "network.keras")
    predict = predictor(loaded)
    folded = inference_network(loaded)
    assert stride_of(loaded, "it") == 4 and layers_before_convolution(loaded) == []
    assert len(folded.layers) < len(loaded.layers)
    for height, width in ((48, 64), (44, 60)):
        expected = np.asarray(network(noise(height, width), training=False))
        np.testing.assert_allclose(predict(noise(height, width)), expected, rtol=0, atol=1e-5)
        largest = np.abs(expected).max()
        np.testing.assert_allclose(np.asarray(folded(noise(height, width), training=False)), expected, rtol=0, atol=1e-5 * largest)


def test_without_keras_hub_a_file_says_what_it_needs(network, tmp_path):
    network.save(tmp_path / "network.keras")
    code = f"""
import sys
sys.modules["keras_hub"] = None
from keras_widerresnet.loading import load_keras_file
try:
    load_keras_file({str(tmp_path / "network.keras")!r})
except ValueError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot be loaded: DeepLabV3+ needs KerasHub: pip install" in ran.stdout


@pytest.mark.parametrize(
    ("structure", "options", "words"),
    [
        ("112-1-1-0-1-1-0-0", {"downsampling": None}, "needs units at a stride of 4 pixels, in B3"),
        ("28-0-1-1-0-0-0-0", {"downsampling": None, "output_stride": None}, "and deeper ones"),
        (STRUCTURE, {"downsampling": None, "pool_padding": "valid"}, "another pool padding than 'valid'"),
        (STRUCTURE, {"classes": 0}, "`classes` must be a positive whole number"),
        (STRUCTURE, {"input_shape": (30, 32, 3)}, "multiples of 4"),
        (STRUCTURE, {"output_stride": 32}, "`output_stride` of"),
    ],
)
def test_networks_that_the_head_does_not_fit_are_refused(structure, options, words):
    with pytest.raises(kw.InputError, match=words):
        kw.hub.WideResNetDeepLabV3Plus(structure, **{**NARROW, **options})
