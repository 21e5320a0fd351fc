"""The networks as KerasHub's backbones and classifiers."""

import subprocess
import sys

import keras
import keras_hub
import numpy as np
import pytest
import skimage.data
from sklearn.datasets import load_sample_images

import keras_widerresnet as kw
from keras_widerresnet.preprocessing import MEAN, STD
from keras_widerresnet.structures import STRUCTURES

STRUCTURE = "224-0-1-1-1-1-1-0"
NARROW = {"width": 0.0625, "downsampling": "stride"}


def photographs():
    """scikit-learn's two and two of scikit-image's, whole, uint8 (H, W, 3)."""
    return [*load_sample_images().images, skimage.data.astronaut()[:, :300], skimage.data.coffee()]


@pytest.fixture(scope="module")
def network():
    """A classifier whose probabilities are far from 0 and 1, with statistics that are not the initial ones."""
    keras.utils.set_random_seed(0)
    built = kw.WiderResNet(STRUCTURE, input_shape=(None, None, 3), classes=7, pool_padding="symmetric", **NARROW)
    generator = np.random.default_rng(0)
    for layer in built.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([generator.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    kernel, bias = built.get_layer("linear7").get_weights()
    built.get_layer("linear7").set_weights([0.05 * kernel, bias])
    return built


@pytest.fixture(scope="module")
def classifier(network):
    return kw.hub.WideResNetImageClassifier.from_network(network, STRUCTURE, image_size=(64, 64), pool_padding="symmetric", **NARROW)


@pytest.fixture(scope="module")
def preset(classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("preset")
    classifier.save_to_preset(str(folder))
    return str(folder)


def equal_weights(ours, theirs):
    assert len(ours.weights) == len(theirs.weights) > 20
    for one, other in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def images():
    return np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3)).astype("uint8")


def test_raw_photographs_give_the_probabilities_of_preprocess_input_and_the_network(network, classifier):
    """Photographs as they are, in their own sizes: nothing is resized on either side."""
    preprocessor = kw.hub.WideResNetImageClassifierPreprocessor(kw.hub.WideResNetImageConverter())
    for photograph in photographs():
        expected = np.asarray(network(kw.preprocess_input(photograph)[None], training=False))
        found = np.asarray(classifier(preprocessor(photograph[None]), training=False))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        assert 0.01 < expected.max() < 0.99


def test_predict_takes_raw_images(network, classifier):
    expected = np.asarray(network(kw.preprocess_input(images()), training=False))
    np.testing.assert_allclose(classifier.predict(images(), verbose=0), expected, rtol=0, atol=1e-6)


def test_converter_is_the_releases_normalisation_in_numpy():
    raw = np.arange(256, dtype="uint8").repeat(3).reshape(1, 16, 16, 3)
    expected = (raw / 255 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(np.asarray(kw.hub.WideResNetImageConverter()(raw)), expected, rtol=0, atol=1e-6)


def test_converter_resizes_the_largest_centred_window_bicubically():
    """That of an image twice as wide is its middle; PIL resizes it, and a ramp stays a ramp."""
    from PIL import Image

    photograph = load_sample_images().images[0][:320]  # 320×640
    expected = np.asarray(Image.fromarray(photograph[:, 160:480]).resize((80, 80), Image.Resampling.BICUBIC), "float32")
    plain = kw.hub.WideResNetImageConverter((80, 80), scale=1.0, offset=None)
    found = np.asarray(plain(photograph[None].astype("float32")))[0]
    assert np.abs(np.clip(found, 0, 255) - expected).max() < 1.0  # PIL rounds, twice
    assert np.abs(np.clip(found, 0, 255) - expected).mean() < 0.3


def test_presets_are_equal_to_the_bit(classifier, preset):
    loaded = keras_hub.models.ImageClassifier.from_preset(preset)
    assert type(loaded) is kw.hub.WideResNetImageClassifier
    equal_weights(loaded, classifier)
    np.testing.assert_array_equal(loaded.predict(images(), verbose=0), classifier.predict(images(), verbose=0))
    assert loaded.preprocessor.image_size == (64, 64)
    backbone = keras_hub.models.Backbone.from_preset(preset)
    assert type(backbone) is kw.hub.WideResNetBackbone and backbone.get_config() == classifier.backbone.get_config()
    equal_weights(backbone, classifier.backbone)


def test_presets_of_another_number_of_classes_keep_the_backbone(classifier, preset):
    tuned = kw.hub.WideResNetImageClassifier.from_preset(preset, num_classes=3)
    equal_weights(tuned.backbone, classifier.backbone)
    assert tuned.output_shape == (None, 3)


def test_a_preset_can_be_built_in_16_bits(preset):
    backbone = kw.hub.WideResNetBackbone.from_preset(preset, dtype="bfloat16")
    assert backbone.get_layer("res2a_branch2a").kernel.dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"


def test_a_keras_file_of_a_classifier_predicts_the_same(classifier, tmp_path):
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras", compile=False)
    np.testing.assert_array_equal(loaded.predict(images(), verbose=0), classifier.predict(images(), verbose=0))


def test_fit_learns_two_raw_images(preset):
    keras.utils.set_random_seed(0)
    tuned = kw.hub.WideResNetImageClassifier.from_preset(preset, num_classes=2)
    tuned.compile(optimizer=keras.optimizers.SGD(0.01), loss=keras.losses.SparseCategoricalCrossentropy(), run_eagerly=True)
    flat = np.stack([np.full((64, 64, 3), 30, "uint8"), np.full((64, 64, 3), 220, "uint8")])
    losses = tuned.fit(flat, np.array([0, 1]), batch_size=2, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_networks_come_back_with_their_weights(network, classifier):
    ours = classifier.to_network()
    equal_weights(ours, network)
    x = kw.preprocess_input(images())
    np.testing.assert_array_equal(np.asarray(ours(x, training=False)), np.asarray(network(x, training=False)))
    features = classifier.backbone.to_network()
    assert isinstance(features, kw.FeatureNetwork)
    equal_weights(features, classifier.backbone)
    np.testing.assert_array_equal(np.asarray(features(x, training=False)), np.asarray(classifier.backbone(x, training=False)))


@pytest.mark.parametrize(
    ("structure", "options", "kept"),
    [
        ("A1", {"output_stride": 8, "dropout": (0.3, 0.5), "frozen_batch_norm": True}, {"structure": "A1", "downsampling": None}),
        ("112-1-1-1-1-1-0-0", {"width": (0.1, 0.2, 0.1, 0.1, 0.1)}, {"structure": "112-1-1-1-1-1-0-0", "width": [0.1, 0.2, 0.1, 0.1, 0.1]}),
        (STRUCTURE, NARROW, {"structure": STRUCTURE, "downsampling": "stride"}),
        (
            STRUCTURES["A"].replace(units=(0, 1, 1, 1, 1, 1, 0), downsampling=("pool", "pool", "stride", "stride", "stride")),
            {"pool_padding": "valid"},
            {"structure": STRUCTURE, "downsampling": ["pool", "pool", "stride", "stride", "stride"]},
        ),
        ("E", {"activation": "leaky_relu", "image_shape": (96, 64, 1)}, {"structure": "E", "image_shape": [96, 64, 1]}),
    ],
)
def test_configs_build_the_same_network_again(structure, options, kept):
    backbone = kw.hub.WideResNetBackbone(structure, **{"width": 0.0625, **options})
    config = backbone.get_config()
    assert kept.items() <= config.items()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(backbone))
    assert again.get_config() == config

    def described(model):
        return [
            (layer.name, layer.get_config().get("strides"), [tuple(weight.shape) for weight in layer.weights]) for layer in model.layers
        ]

    built = kw.WiderResNet(structure, include_top=False, input_shape=options.get("image_shape", (None, None, 3)), **_of_builder(options))
    assert described(backbone) == described(again) == described(built)
    assert list(again.pyramid_outputs) == list(built.pyramid_outputs)


def _of_builder(options):
    return {"width": 0.0625} | {name: value for name, value in options.items() if name != "image_shape"}


def test_the_backbone_has_the_pyramid_and_output_of_our_network(network, classifier):
    ours = kw.pyramid_backbone(network)
    theirs = classifier.backbone
    assert list(theirs.pyramid_outputs) == list(ours.pyramid_outputs) == ["P1", "P2", "P3", "P4", "P5"]
    x = kw.preprocess_input(images())
    found, expected = (keras.Model(one.inputs[0], one.pyramid_outputs)(x, training=False) for one in (theirs, ours))
    for level in expected:
        np.testing.assert_array_equal(np.asarray(found[level]), np.asarray(expected[level]))


@pytest.mark.parametrize(
    ("structure", "options", "words"),
    [
        ("224-0-1-1-1-1-2-0", NARROW, "its layers bn6b1_branch2a.*absent in the network"),
        (STRUCTURE, {**NARROW, "width": 0.125}, "res2a_branch2a is .*'filters': 8,.* in the network, .*'filters': 16,.* as described"),
        (STRUCTURE, {"width": 0.0625}, "pool1 is absent in the network, \\('MaxPool'"),
        (STRUCTURE, {**NARROW, "output_stride": 8}, "its layers"),
        ("A7", NARROW, "Known names"),
    ],
)
def test_a_network_of_another_structure_is_refused(network, structure, options, words):
    with pytest.raises(kw.InputError, match=words):
        kw.hub.WideResNetBackbone.from_network(network, structure, **options)


def test_features_are_no_classifier():
    with pytest.raises(kw.InputError, match="has no classifier"):
        kw.hub.WideResNetImageClassifier.from_network(kw.WideResNetE(include_top=False, width=0.0625), "E")


def test_without_keras_hub_one_line_says_how_to_install_it(tmp_path):
    """The package is imported as usual; only what needs KerasHub asks for it."""
    code = """
import sys
sys.modules["keras_hub"] = None
import keras_widerresnet as kw
print(sorted(kw.hub.__all__)[0])
for name in ("WideResNetBackbone", "WideResNetDeepLabV3Plus"):
    try:
        thing = getattr(kw.hub, name)
        thing("E", classes=3, width=0.0625)
    except kw.InputError as error:
        print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, *errors = ran.stdout.splitlines()
    assert first == "WideResNetBackbone" and len(errors) == 2
    assert all("needs KerasHub: pip install" in error for error in errors)
