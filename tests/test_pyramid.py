"""Feature pyramids: which maps they hold, and that they survive saving."""

import json
import zipfile

import keras
import numpy as np
import pytest

import keras_widerresnet as kw
from keras_widerresnet.structures import STRUCTURES, Unit

NARROW = {"include_top": False, "width": 0.0625}
# Output strides 32, 16 and 8, wherever the structure has them.
NETWORKS = [(name, stride) for name in ("A", "A1", "A2", "B", "D", "F") for stride in STRUCTURES[name].output_strides()]


def built(name, **options):
    return kw.WiderResNet(name, **{**NARROW, **options})


def outputs(model, image):
    return keras.tree.map_structure(np.asarray, model(image(64, 64), training=False))


def last_maps(structure, stride, size):
    """Level -> (side, channels) of the last map at that stride, from the plan of units and the table of sizes."""
    sizes = structure.spatial_sizes(size, output_stride=stride)
    maps, pixels = {}, 1
    for item in structure.plan(width=0.0625, output_stride=stride):
        pixels *= item.stride
        if isinstance(item, Unit):
            maps[pixels] = (sizes[item.stage], item.filters[-1])
    return {f"P{level}": maps[2**level] for level in range(1, 6) if 2**level in maps}


@pytest.mark.parametrize(("name", "stride", "size"), [*((*one, 224) for one in NETWORKS), ("A", 32, 97), ("A1", 32, 97), ("D", 8, 97)])
def test_levels_are_the_last_maps_of_the_plan_at_each_stride(name, stride, size):
    structure = STRUCTURES[name]
    pyramid = built(name, output_stride=stride, input_shape=(size, size, 3)).pyramid_outputs
    assert {level: (tensor.shape[1], tensor.shape[3]) for level, tensor in pyramid.items()} == last_maps(structure, stride, size)
    if size == 224:  # a level of stride 2^k divides the side by it
        assert {level: tensor.shape[1:3] for level, tensor in pyramid.items()} == {
            f"P{k}": (224 >> k, 224 >> k) for k in range(1, stride.bit_length())
        }


@pytest.mark.parametrize(("name", "stride"), [("A1", None), ("B", 8), ("D", 16)])
def test_levels_hold_the_sums_of_the_stages_and_at_the_end_the_networks_output(name, stride, image):
    network = built(name, output_stride=stride, input_shape=(64, 64, 3))
    levels = outputs(keras.Model(network.inputs[0], network.pyramid_outputs), image)
    stages = outputs(kw.feature_extractor(network), image)
    *shallow, deepest = levels
    for level in shallow:
        np.testing.assert_array_equal(levels[level], stages[f"stage{int(level[1]) + 1}"])
    np.testing.assert_array_equal(levels[deepest], outputs(network, image))
    assert levels[deepest].min() == 0 and levels[shallow[0]].min() < 0  # behind a ReLU, and not


def test_levels_without_units_are_absent():
    assert list(built("224-1-0-1-1-1-1-1").pyramid_outputs) == ["P2", "P3", "P4", "P5"]
    assert list(built("28-0-1-0-0-0-0-0").pyramid_outputs) == ["P1", "P2"]  # the last pool has no unit behind it, but relu7
    assert built("7-1-0-0-0-0-0-0").pyramid_outputs == {}


def test_strides_count_from_the_models_own_input():
    raw = keras.Input((128, 128, 3))
    network = built("B", input_tensor=keras.layers.AveragePooling2D(2)(keras.layers.Rescaling(1 / 255)(raw)))
    assert {level: tensor.shape[1] for level, tensor in network.pyramid_outputs.items()} == {"P2": 32, "P3": 16, "P4": 8, "P5": 4}


@pytest.mark.parametrize("pooling", [None, "avg"])
def test_the_pyramid_survives_saving_cloning_and_serialising(tmp_path, pooling, image):
    network = built("B", pooling=pooling, output_stride=16, input_shape=(64, 64, 3))
    network.save(tmp_path / "a.keras")
    copies = [
        keras.models.load_model(tmp_path / "a.keras"),
        keras.models.clone_model(network),
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(network)),
    ]
    for copy in copies:
        assert isinstance(copy, kw.FeatureNetwork) and copy.pyramid_level_inputs == network.pyramid_level_inputs
        assert [tensor.shape for tensor in copy.pyramid_outputs.values()] == [tensor.shape for tensor in network.pyramid_outputs.values()]
    np.testing.assert_array_equal(outputs(copies[0], image), outputs(network, image))


def test_files_of_networks_with_their_top_are_plain_functional_models(tmp_path):
    kw.WideResNetE(width=0.0625, classes=3).save(tmp_path / "e.keras")
    kw.WideResNetFCN("E", classes=3, width=0.0625).save(tmp_path / "fcn.keras")
    for name in ("e", "fcn"):
        with zipfile.ZipFile(tmp_path / f"{name}.keras") as archive:
            config = json.loads(archive.read("config.json"))
        assert (config["class_name"], config["registered_name"]) == ("Functional", "Functional")


def test_pyramid_backbone_gives_other_networks_theirs(tmp_path, image):
    classifier = kw.WideResNetE(width=0.0625, classes=3, input_shape=(64, 64, 3))
    backbone = kw.pyramid_backbone(classifier)
    assert backbone.get_layer("conv1a") is classifier.get_layer("conv1a")
    expected = outputs(keras.Model(classifier.input, classifier.get_layer("relu7").output), image)
    np.testing.assert_array_equal(outputs(backbone, image), expected)
    # As a file of version 0.1.0 has it: features as a plain functional model.
    keras.Model(backbone.input, backbone.output).save(tmp_path / "old.keras")
    loaded = keras.models.load_model(tmp_path / "old.keras")
    assert not hasattr(loaded, "pyramid_outputs") and list(kw.pyramid_backbone(loaded).pyramid_outputs) == ["P1", "P2", "P3", "P4"]
    assert list(kw.pyramid_backbone(kw.WideResNetFCN("B", classes=3, width=0.0625)).pyramid_outputs) == ["P1", "P2", "P3"]
    with pytest.raises(kw.InputError, match="No network of this package"):
        kw.pyramid_backbone(keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)]))
