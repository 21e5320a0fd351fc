"""Checkpoints with other names, heads, places and values than expected: named as the file names them, or taken."""

import dataclasses
import hashlib
import json
import logging
import os
import pathlib
import shutil

import h5py
import keras
import numpy as np
import pytest
from conftest import reference_array
from safetensors.numpy import save_file
from test_convert import write_resnet38d_tf

import keras_widerresnet as kw
from keras_widerresnet.cli import main
from keras_widerresnet.conversion import convert
from keras_widerresnet.errors import InputError
from keras_widerresnet.models import Facts, ModelOptions, find_source
from keras_widerresnet.tasks.classification.config import TrainingConfig
from keras_widerresnet.tasks.classification.network import load_classifier, make_network
from keras_widerresnet.training.network import start_from, starting_activation
from keras_widerresnet.weights import PRETRAINED, original, read_original, registry
from keras_widerresnet.weights.assign import assign_weights
from keras_widerresnet.weights.mxnet_params import write_params
from keras_widerresnet.weights.official import layer_arrays, official_shapes
from keras_widerresnet.weights.state_dict import find_state

WIDTH = 0.0625
TINY = "28-0-1-1-1-1-1-1"
OPTIONS = {"width": WIDTH, "input_shape": (32, 32, 3)}
FEATURES = {"include_top": False, **OPTIONS}
BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_var": "running_var"}
# SEAM's heads beside psa's classifier of 21 classes.
SEAM = {
    "f8_3.weight": (64, 32, 1, 1),
    "f8_4.weight": (128, 64, 1, 1),
    "f9.weight": (192, 195, 1, 1),
    "fc8.weight": (21, 256, 1, 1),
}


def official(structure=TINY, classes=None, **options):
    """Official parameters of a narrow network, of features alone or with a classifier."""
    build = {"include_top": classes is not None, "classes": classes or 1, **OPTIONS, **options}
    shapes = official_shapes(kw.WiderResNet(structure, **build))
    return {name: reference_array(name, shape) for name, shape in shapes.items()}


def psa_name(name):
    """`bn4b2_branch2a_moving_mean` -> `b4_2.bn_branch2a.running_mean`, written from psa's own modules."""
    layer, _, suffix = name.rpartition("_")
    if suffix in ("mean", "var"):
        layer, suffix = layer.removesuffix("_moving"), f"moving_{suffix}"
    suffix = BATCH_NORM.get(suffix, suffix)
    if layer in ("conv1a", "bn7"):
        return f"{layer}.{suffix}"
    unit, branch = layer.split("_")
    kind, unit = ("bn", unit[2:]) if unit.startswith("bn") else ("conv", unit[3:])
    block = f"b{unit[0]}" + (f"_{unit[2:]}" if unit[1] == "b" else "")
    return f"{block}.{kind}_{branch}.{suffix}"


def psa(**extra):
    state = {psa_name(name): array for name, array in official().items()}
    return state | {name: np.full(shape, 0.5, np.float32) for name, shape in extra.items()}


@pytest.fixture
def torch_file(tmp_path, monkeypatch):
    """Makes a file that begins like PyTorch's, and what is read from it."""

    def make(state, name="net.pth"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 and so on")
        monkeypatch.setattr(original, "_read_torch", lambda path: state)
        return tmp_path / name

    return make


def same_features(network, parameters):
    np.testing.assert_array_equal(network.get_layer("bn7").get_weights()[0], parameters["bn7_gamma"])
    kernel = parameters["res4a_branch2a_weight"]
    np.testing.assert_array_equal(network.get_layer("res4a_branch2a").get_weights()[0], kernel.transpose(2, 3, 1, 0))


def test_unknown_names_are_listed_as_the_file_has_them(torch_file):
    extra = {f"module.head.bn.{name}": (4,) for name in ("weight", "bias", "running_mean", "running_var")}
    path = torch_file(psa(**SEAM, **extra))
    with pytest.raises(InputError) as caught:
        kw.WiderResNet(TINY, weights=path, classes=20, **OPTIONS)
    rows = str(caught.value).splitlines()
    for name in [*SEAM, *extra]:
        assert sum(name in row for row in rows) == 1, name
    for name in ("f8_3.weight", "f8_4.weight", "f9.weight", *extra):
        assert f"  unused      {name}" in rows
    assert "  unused      linear21 (fc8.weight)" in rows and "  missing     linear20" in rows
    assert "they are for classes=21, the model has classes=20" in rows[0]


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.backbone.", "encoder.net."])
def test_extra_heads_are_left_aside_without_the_top_and_told(torch_file, caplog, prefix):
    state = {f"{prefix}{name}": array for name, array in psa(**SEAM).items()}
    with caplog.at_level(logging.WARNING):
        network = kw.WiderResNet(TINY, weights=torch_file(state), **FEATURES)
    same_features(network, official())
    (line,) = [line for line in caplog.messages if "are ignored" in line]
    assert [f"{prefix}{name}" in line for name in SEAM] == [True, True, True, False]  # a classifier is expected


def test_psas_classifier_without_bias_is_read_as_a_dense_layer(torch_file):
    """The 1x1 convolution fc8 is `linear20`; with a bias, or another number of classes, the message says what to give."""
    kernel = np.random.default_rng(0).normal(size=(20, 256, 1, 1)).astype(np.float32)
    path = torch_file(psa() | {"fc8.weight": kernel})
    network = kw.WiderResNet(TINY, weights=path, classes=20, classifier_bias=False, **OPTIONS)
    (dense,) = network.get_layer("linear20").get_weights()
    np.testing.assert_array_equal(dense, kernel[:, :, 0, 0].T)
    with pytest.raises(InputError, match="their classifier has no bias, use classifier_bias=False"):
        kw.WiderResNet(TINY, weights=path, classes=20, **OPTIONS)
    with pytest.raises(InputError, match="they are for classes=20, the model has classes=21"):
        kw.WiderResNet(TINY, weights=path, classes=21, classifier_bias=False, **OPTIONS)


def test_a_classifier_of_another_shape_is_not_dropped_in_silence(torch_file, caplog):
    path = torch_file(psa(**{"fc8.weight": (21, 256, 3, 3)}))
    with caplog.at_level(logging.WARNING):
        kw.WiderResNet(TINY, weights=path, **FEATURES)
    assert any("fc8.weight" in line for line in caplog.messages)


@pytest.mark.parametrize(("extra", "classes"), [(SEAM, 21), ({"fc8.weight": (20, 256, 1, 1)}, 20), ({"fc8.weight": (7, 256, 1, 1)}, 7)])
def test_conversion_keeps_psas_classifier_and_says_what_it_left(torch_file, tmp_path, capsys, extra, classes):
    path, output = torch_file(psa(**extra)), tmp_path / "out.weights.h5"
    main(["convert", f"--source={path}", f"--model={TINY}", f"--width={WIDTH}", f"--output={output}", "--verify"])
    said = capsys.readouterr().out.splitlines()
    left = [name for name in extra if name != "fc8.weight"]
    assert said[0].endswith("all equal to the source's") and said[1:] == (
        [f"Skipped, as only the source has them: {', '.join(left)}"] if left else []
    )
    same_features(kw.WiderResNet(TINY, weights=output, **FEATURES), official())
    facts = find_source(str(output)).facts
    assert (facts.task, facts.classes, facts.classifier_activation, facts.classifier_stride) == ("classification", classes, "sigmoid", 8)
    assert facts.class_names[-3:] == (() if classes == 7 else ("sofa", "train", "tvmonitor")) and len(facts.class_names) in (0, classes)


def test_extra_heads_of_other_kinds_of_files(tmp_path, caplog):
    """An MXNet file, resnet38d-tf's layout, and a `.keras` file with layers behind the features."""
    parameters, extra = official(), np.ones((3, 2), np.float32)
    write_params(tmp_path / "a.params", {f"arg:{name}": array for name, array in (parameters | {"seam_f9_weight": extra}).items()})
    network = kw.WiderResNet(TINY, pooling="avg", **FEATURES)
    assign_weights(network, layer_arrays(parameters), "test")
    keras.Model(network.inputs, keras.layers.Dense(3, name="mine")(network.output)).save(tmp_path / "a.keras")
    for name, told in (("a.params", "seam_f9_weight"), ("a.keras", "mine")):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            same_features(kw.WiderResNet(TINY, weights=tmp_path / name, **FEATURES), parameters)
        assert [told in line for line in caplog.messages] == [True], name


def test_a_deeper_backbone_is_no_extra_head(torch_file):
    """Units that the network lacks are refused, and one that the file lacks too."""
    deeper = {psa_name(name): array for name, array in official("28-0-1-1-2-1-1-1").items()}
    with pytest.raises(InputError, match=r"unused      res4b1_branch2a \(b4_1\.conv_branch2a\.weight\)"):
        kw.WiderResNet(TINY, weights=torch_file(deeper), **FEATURES)
    with pytest.raises(InputError, match="missing     res4b1_branch2a"):
        kw.WiderResNet("28-0-1-1-2-1-1-1", weights=torch_file(psa(**SEAM)), **FEATURES)
    with pytest.raises(InputError, match=r"bn4b1_branch2a \(b4_1\.bn_branch2a\.weight, b4_1\.bn_branch2a\.bias"):
        kw.WiderResNet(TINY, weights=torch_file(deeper), **FEATURES)


def test_a_list_of_many_names_ends_in_a_count(torch_file):
    state = {f"layer{k}.conv.weight": np.ones((2, 2, 3, 3), np.float32) for k in range(60)}
    with pytest.raises(InputError) as caught:
        kw.WiderResNet(TINY, weights=torch_file(state), **FEATURES)
    text = str(caught.value)
    assert "none of their names is a layer of this package's networks" in text and "unused      and 40 more" in text
    assert "unused      layer0.conv.weight" in text and "unused      layer19.conv.weight" in text


def test_mismatched_rows_have_the_files_names(torch_file):
    state = psa() | {"b4.conv_branch2a.weight": np.ones((8, 8, 3, 3), np.float32)}
    with pytest.raises(InputError, match=r"mismatched  res4a_branch2a: model .*, file .* \(b4\.conv_branch2a\.weight\)"):
        kw.WiderResNet(TINY, weights=torch_file(state), **FEATURES)


def test_two_networks_in_one_state_dict_are_named(torch_file):
    state = {f"{prefix}{name}": array for prefix in ("online.", "average.") for name, array in psa().items()}
    with pytest.raises(InputError, match=r"more than one network, under 'average\.', 'online\.'"):
        kw.WiderResNet(TINY, weights=torch_file(state), **FEATURES)


def test_names_that_mean_the_same_are_a_duplicate(torch_file):
    state = psa() | {"module.conv1a.weight": np.ones((8, 3, 3, 3), np.float32)}
    with pytest.raises(InputError, match="more than one network"):
        read_original(torch_file(state))


def inplace_abn_name(name):
    """`bn4a_branch2b1_gamma` -> `mod4.block1.convs.bn2.weight`, written from InPlace-ABN's own modules."""
    layer, _, suffix = name.rpartition("_")
    if suffix in ("mean", "var"):
        layer, suffix = layer.removesuffix("_moving"), f"moving_{suffix}"
    suffix = BATCH_NORM.get(suffix, suffix)
    usual = {"conv1a": "mod1.conv1", "bn7": "bn_out", "linear7": "classifier.fc"}
    if layer in usual:
        return f"{usual[layer]}.{suffix}"
    unit, branch = layer.split("_")
    parts = {"branch1": "proj_conv", "branch2a": "convs.conv1", "branch2b1": "convs.conv2", "branch2b2": "convs.conv3"}
    norms = {"branch2a": "bn1", "branch2b1": "convs.bn2", "branch2b2": "convs.bn3"}
    part = norms[branch] if unit.startswith("bn") else parts[branch]
    return f"mod{unit.removeprefix('bn').removeprefix('res')[0]}.block1.{part}.{suffix}"


def test_inplace_abn_files_with_extra_names(torch_file, caplog):
    """The scale |γ| + ε, and the file's own names in the warning."""
    parameters = official(classes=7)
    state = {f"module.{inplace_abn_name(name)}": array for name, array in parameters.items()}
    path = torch_file(state | {"module.head.seg.weight": np.ones((3, 4), np.float32), "module.bn_out.num_batches_tracked": np.int64(3)})
    options = {"pool_padding": "symmetric", "activation": "leaky_relu", **FEATURES}
    with caplog.at_level(logging.WARNING):
        network = kw.WiderResNet(TINY, weights=path, **options)
    gamma, _, _, variance = network.get_layer("bn7").get_weights()
    np.testing.assert_allclose(gamma, np.abs(parameters["bn7_gamma"]) + 1e-5, rtol=1e-6)
    np.testing.assert_allclose(variance, parameters["bn7_moving_var"] + 1e-5 - 1.001e-5, rtol=1e-6)
    assert any("module.head.seg.weight" in line and "num_batches_tracked" not in line for line in caplog.messages)
    with pytest.raises(InputError, match="need activation='leaky_relu'"):
        kw.WiderResNet(TINY, weights=path, **FEATURES)


def test_tensors_become_float32(torch_file):
    """Of half and of double precision; whole numbers are refused, not made weights."""
    for dtype in (np.float16, np.float64):
        found = read_original(torch_file({name: array.astype(dtype) for name, array in psa().items()}))
        assert found.kind == "psa" and {array.dtype for array in found.parameters.values()} == {np.dtype(np.float32)}
        np.testing.assert_array_equal(found.parameters["bn7_gamma"], official()["bn7_gamma"].astype(dtype).astype(np.float32))
    path = torch_file(psa() | {"b4.conv_branch2a.weight": np.ones(psa()["b4.conv_branch2a.weight"].shape, np.int8)})
    with pytest.raises(InputError, match=r"res4a_branch2a \(b4\.conv_branch2a\.weight\): values of type int8"):
        kw.WiderResNet(TINY, weights=path, **FEATURES)


def state_in(content):
    return find_state(content, lambda value: isinstance(value, np.ndarray), pathlib.Path("net.pth"))


def test_state_dicts_are_found_inside_checkpoints():
    """However deep: of training scripts, with optimizer and counters beside."""
    state = {"conv1a.weight": np.ones(1), "bn7.bias": np.ones(1)}
    optimizer = {"state": {0: {"momentum_buffer": np.ones(1)}}, "param_groups": [{"lr": 0.1}]}
    for content in (
        state,
        {"state_dict": state},
        {"epoch": 3, "state_dict": state, "optimizer": optimizer},
        {"epoch": 3, "model": {"state_dict": state}, "optimizer": optimizer},
        {"checkpoint": {"network": {"weights": state}}},
        {"model": state, "model_ema": dict(state)},
        {"state_dict": state | {"epoch": 3}},
    ):
        assert state_in(content) == state
    for content, words in (
        ([1, 2], "is not a PyTorch state dict"),
        ({}, "is not a PyTorch state dict"),
        ({"epoch": 3}, "is not a PyTorch state dict"),
        ({"student": state, "teacher": state}, "several state dicts, 'student', 'teacher'"),
        ({"a": {"x.weight": np.ones(1)}, "b": {"x.weight": np.ones(1)}}, "several state dicts, 'a', 'b'"),
    ):
        with pytest.raises(InputError, match=words):
            state_in(content)


def test_a_network_saved_in_parts_is_one(torch_file, caplog):
    """As the InPlace-ABN release saved its network for Vistas: the backbone is read, the head's own names are told."""
    state = {inplace_abn_name(name): array for name, array in official().items()}
    parts = {"body": state, "head": {"red_conv.weight": np.ones((4, 8, 1, 1))}, "cls": {"weight": np.ones((65, 4)), "bias": np.ones(65)}}
    for content in ({"state_dict": parts, "training_meta": {"epoch": 1}}, parts, {"epoch": 1, "net": {"module": parts}}):
        joined = state_in(content)
        assert set(joined) == {f"body.{name}" for name in state} | {"head.red_conv.weight", "cls.weight", "cls.bias"}
    path = torch_file(joined)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        network = kw.WiderResNet(TINY, weights=path, pool_padding="symmetric", activation="leaky_relu", **FEATURES)
    assert ["head.red_conv.weight, cls.weight, cls.bias" in line for line in caplog.messages] == [True]
    np.testing.assert_array_equal(network.get_layer("conv1a").get_weights()[0], official()["conv1a_weight"].transpose(2, 3, 1, 0))
    found = read_original(path)
    assert found.kind == "inplace_abn" and found.own_names["bn7_gamma"] == "body.bn_out.weight"


def test_one_known_network_among_others_is_taken():
    state = {"conv1a.weight": np.ones(1), "bn7.bias": np.ones(1)}
    joined = state_in({"generator": state, "critic": {"conv.weight": np.ones(1)}})
    assert set(joined) == {"generator.conv1a.weight", "generator.bn7.bias", "critic.conv.weight"}


def nvidia_name(name):
    """As InPlace-ABN's, with an `nn.Sequential` of batch norm and ReLU in the place of each norm."""
    own = inplace_abn_name(name)
    layer, _, suffix = own.rpartition(".")
    return f"{layer}.0.{suffix}" if layer.rpartition(".")[2].startswith("bn") else own


def test_nvidia_files(tmp_path):
    """Scales keep their signs, and the variance takes up the difference of both ε; here from a .safetensors file."""
    parameters = official(classes=7)
    parameters["bn4a_branch2a_gamma"] = -parameters["bn4a_branch2a_gamma"]
    state = {f"module.{nvidia_name(name)}": array for name, array in parameters.items()}
    assert "module.mod4.block1.convs.bn2.0.running_var" in state and "module.bn_out.0.weight" in state
    save_file(state, tmp_path / "net.safetensors")
    network = kw.WiderResNet(TINY, weights=tmp_path / "net.safetensors", classes=7, pool_padding="symmetric", **OPTIONS)
    gamma, beta, mean, variance = network.get_layer("bn4a_branch2a").get_weights()
    for suffix, found in (("gamma", gamma), ("beta", beta), ("moving_mean", mean)):
        np.testing.assert_array_equal(found, parameters[f"bn4a_branch2a_{suffix}"])
    np.testing.assert_allclose(variance, parameters["bn4a_branch2a_moving_var"] + 1e-5 - 1.001e-5, rtol=1e-6)
    np.testing.assert_array_equal(network.get_layer("linear7").get_weights()[0], parameters["linear7_weight"].T)
    found = read_original(tmp_path / "net.safetensors")
    assert (found.kind, found.activation, found.pool_padding, found.classes) == ("nvidia", "relu", "symmetric", 7)


def test_nvidia_segmentation_networks_have_no_norm_behind_b7(tmp_path, caplog):
    """It becomes the identity: γ / sqrt(variance + ε) is 1, and nothing is shifted."""
    state = {nvidia_name(name): array for name, array in official().items() if not name.startswith("bn7_")}
    heads = {"aspp.features.0.0.weight": (4, 256, 1, 1), "dsn1.bias": (1,), "res1.bn1.weight": (64,), "final_seg.1.running_var": (4,)}
    save_file(state | {name: np.ones(shape, np.float32) for name, shape in heads.items()}, tmp_path / "net.safetensors")
    with caplog.at_level(logging.WARNING):
        network = kw.WiderResNet(TINY, weights=tmp_path / "net.safetensors", pool_padding="symmetric", **FEATURES)
    gamma, beta, mean, variance = network.get_layer("bn7").get_weights()
    np.testing.assert_allclose(gamma / np.sqrt(variance + 1.001e-5), 1, rtol=2e-7)
    assert not beta.any() and not mean.any()
    assert any("bn7 becomes the identity" in line for line in caplog.messages)
    (line,) = [line for line in caplog.messages if "are ignored" in line]
    assert all(name in line for name in heads)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda array: np.where(np.arange(array.size) == 1, np.nan, array.ravel()).reshape(array.shape), "1 of 16 values are not finite"),
        (lambda array: np.full_like(array, np.inf), "16 of 16 values are not finite"),
        (lambda array: array.astype(np.int8), "values of type int8"),
        (lambda array: array[:0], r"mismatched  bn4a_branch2a"),
        (lambda array: array[:, None], r"mismatched  bn4a_branch2a"),
        (lambda array: np.float32(1), r"mismatched  bn4a_branch2a"),
    ],
)
def test_values_that_are_no_weights_are_refused_and_change_nothing(change, words):
    parameters = official()
    parameters["bn4a_branch2a_gamma"] = np.asarray(change(parameters["bn4a_branch2a_gamma"]))
    network = kw.WiderResNet(TINY, **FEATURES)
    before = network.get_weights()
    with pytest.raises(InputError, match=words) as caught:
        assign_weights(network, layer_arrays(parameters), "test")
    assert "bn4a_branch2a" in str(caught.value)
    assert all(np.array_equal(old, new) for old, new in zip(before, network.get_weights(), strict=True))


def test_half_precision_values_are_taken():
    parameters = {name: array.astype(np.float16) for name, array in official().items()}
    network = kw.WiderResNet(TINY, **FEATURES)
    assign_weights(network, layer_arrays(parameters), "test")
    np.testing.assert_allclose(network.get_layer("bn7").get_weights()[0], parameters["bn7_gamma"], atol=1e-6)


def test_a_head_of_more_classes_than_it_has_is_not_built(tmp_path, capsys):
    parameters = official() | {"linear2000000000_weight": np.ones((10, 256), np.float32), "linear2000000000_bias": np.ones(10, np.float32)}
    write_params(tmp_path / "a.params", {f"arg:{name}": array for name, array in parameters.items()})
    with pytest.raises(InputError, match=r"linear2000000000 has shape \(10, 256\), not that of 2,000,000,000 classes"):
        convert(tmp_path / "a.params", TINY, tmp_path / "out.weights.h5", WIDTH)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A network of ours as every kind of `.h5` file that Keras writes, or wrote before."""
    from keras.src.legacy.saving import legacy_h5_format

    folder = tmp_path_factory.mktemp("h5")
    keras.utils.set_random_seed(3)
    network = kw.WiderResNet(TINY, classes=5, activation="leaky_relu", pool_padding="symmetric", **OPTIONS)
    network.compile("sgd", "mse")
    network.save(folder / "whole.h5")
    network.save_weights(folder / "net.weights.h5")
    shutil.copy(folder / "net.weights.h5", folder / "renamed.h5")
    with h5py.File(folder / "weights.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, network)
    nested = keras.Sequential([keras.Input((32, 32, 3)), network])
    nested.save_weights(folder / "nested.weights.h5")
    nested.save(folder / "nested.keras")
    network.save(folder / "net.keras")
    shutil.copy(folder / "net.keras", folder / "net.zip")
    return folder, network


@pytest.mark.parametrize("name", ["whole.h5", "renamed.h5", "weights.h5", "nested.weights.h5", "nested.keras", "net.weights.h5"])
def test_kerases_own_files_of_our_networks_are_read_as_such(saved, name):
    folder, network = saved
    options = {"classes": 5, "activation": "leaky_relu", "pool_padding": "symmetric", **OPTIONS}
    loaded = kw.WiderResNet(TINY, weights=folder / name, **options)
    for expected, found in zip(network.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(expected, found)


def test_commands_take_kerases_h5_files(saved, tmp_path):
    folder, network = saved
    source = find_source(str(folder / "whole.h5"))
    assert source.kind == ".keras file"
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    expected = network.predict_on_batch(kw.preprocess_input(pixels))
    whole = load_classifier(ModelOptions(weights=str(folder / "whole.h5")))
    np.testing.assert_allclose(whole.predict(pixels), expected, atol=1e-5)
    # Converted, the whole model keeps what it says of itself; weights alone say nothing.
    convert(folder / "whole.h5", TINY, tmp_path / "out.weights.h5", WIDTH)
    facts = Facts(TINY, WIDTH, "", "leaky_relu", "classification", 5)
    found = find_source(str(tmp_path / "out.weights.h5")).facts
    assert dataclasses.replace(found, pool_padding="") == facts and found.pool_padding == "symmetric"
    assert read_original(folder / "renamed.h5").kind == read_original(folder / "whole.h5").kind == "keras"
    with pytest.raises(InputError, match="need activation='leaky_relu'"):
        kw.WiderResNet(TINY, weights=folder / "whole.h5", classes=5, **OPTIONS)
    with pytest.raises(InputError, match="--model is needed"):
        load_classifier(ModelOptions(weights=str(folder / "renamed.h5")))
    loaded = load_classifier(ModelOptions(weights=str(folder / "renamed.h5"), model=TINY, width=WIDTH))
    assert loaded.classes == 5


def test_keras_archives_are_converted(saved, tmp_path):
    """What the whole network says of itself is kept, as for an .h5 file."""
    folder, network = saved
    convert(folder / "net.keras", TINY, tmp_path / "out.weights.h5", WIDTH)
    found = find_source(str(tmp_path / "out.weights.h5")).facts
    assert found == Facts(TINY, WIDTH, "symmetric", "leaky_relu", "classification", 5)
    main(["convert", f"--source={folder / 'nested.keras'}", f"--model={TINY}", f"--width={WIDTH}", f"--output={tmp_path / 'b.weights.h5'}"])
    for name in ("out.weights.h5", "b.weights.h5"):
        loaded = kw.WiderResNet(TINY, weights=tmp_path / name, classes=5, activation="leaky_relu", pool_padding="symmetric", **OPTIONS)
        for expected, value in zip(network.get_weights(), loaded.get_weights(), strict=True):
            np.testing.assert_array_equal(expected, value)


def test_an_archive_of_another_name_says_which_suffix_to_give(saved):
    folder, _ = saved
    for call in (lambda path: find_source(str(path)), read_original):
        with pytest.raises(InputError, match=r"is a model saved by Keras: its name must end in \.keras"):
            call(folder / "net.zip")


def test_resnet38d_tf_is_still_that(tmp_path):
    write_resnet38d_tf(tmp_path / "theirs.h5", {"conv1a_weight": np.ones((8, 3, 3, 3), np.float32)})
    with h5py.File(tmp_path / "theirs.h5", "a") as file:
        file["logits/logits/kernel:0"] = np.ones((1, 1, 512, 21), np.float32)
        file["extra/extra/kernel:0"] = np.ones((1, 1, 2, 2), np.float32)
    found = read_original(tmp_path / "theirs.h5")
    assert found.kind == "resnet38d-tf" and set(found.parameters) == {"conv1a_weight", "linear21_weight", "extra/extra/kernel:0"}


def test_an_array_that_is_not_there_is_not_allocated(tmp_path):
    for name, place in (("hole.h5", "conv1a/conv1a/kernel:0"), ("hole.weights.h5", "layers/conv2d/vars/0")):
        with h5py.File(tmp_path / name, "w") as file:
            file.create_dataset(place, (1 << 20, 1 << 20), np.float32, chunks=(1024, 1024))
            if "vars" in place:
                file["layers/conv2d/vars"].attrs["name"] = "conv1a"
        with pytest.raises(InputError, match="is incomplete"):
            kw.WiderResNet(TINY, weights=tmp_path / name, **FEATURES)


@pytest.mark.parametrize("name", ["/nonexistent", "/nonexistent.keras", "/nonexistent.weights.h5", "/nonexistent.params", "", "a" * 300])
@pytest.mark.parametrize("command", ["evaluate", "evaluate-segmentation", "predict", "export", "analyze", "train", "convert"])
def test_a_path_with_nothing_is_what_the_message_is_about(command, name, tmp_path, capsys, monkeypatch):
    (tmp_path / "image.png").write_bytes(b"")
    out = f"--output_dir={tmp_path / 'out'}"
    given = {
        "evaluate": [f"--weights={name}", "--data=digits", out],
        "evaluate-segmentation": [f"--weights={name}", "--data=shapes", out],
        "predict": [str(tmp_path / "image.png"), f"--weights={name}"],
        "export": [f"--weights={name}", f"--output={tmp_path / 'net'}"],
        "analyze": [name, "--data=digits", out],
        "train": [f"--weights={name or '/nonexistent'}", "--data=digits", out],
        "convert": [f"--source={name}", "--model=A1", f"--output={tmp_path / 'out.weights.h5'}"],
    }[command]
    with pytest.raises(SystemExit) as stopped:
        main([command, *given])
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2 and repr(name or ("/nonexistent" if command == "train" else ""))[:30] in line, line
    assert "--model" not in line


def test_what_cannot_be_read_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.keras").symlink_to(tmp_path / "gone")
    for name, words in (
        ("pipe", "is not a model"),
        ("link.keras", "No model found at"),
        ("nul\0", "No model (can be read|found) at"),
    ):
        with pytest.raises(InputError, match=words):
            find_source(str(tmp_path / name))


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 224, 224), (4, 32, 48), (3, 64, 640)])
@pytest.mark.parametrize("build", [kw.WideResNetA1, kw.WideResNetFCN])
def test_channels_first_are_told_from_channels_last(build, shape):
    wanted = repr((*shape[1:], shape[0])).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(InputError, match=f"channels last, 3 for RGB: {wanted}. Received channels first"):
        build(input_shape=shape, width=WIDTH)
    if build is kw.WideResNetA1:
        with pytest.raises(InputError, match="Received channels first"):
            build(input_tensor=keras.Input(shape), width=WIDTH)


@pytest.mark.parametrize(
    "shape", [64, "RGB", (64, 64), (None, 64, 64, 3), (64.0, 64, 3), (-64, 64, 3), (0, 64, 3), (64, 64, 0), (64, 64, True)]
)
@pytest.mark.parametrize("build", [kw.WideResNetA1, kw.WideResNetFCN])
def test_other_shapes_that_cannot_be(build, shape):
    with pytest.raises(InputError, match="channels last"):
        build(input_shape=shape, width=WIDTH)


@pytest.mark.parametrize("channels", [1, 3, 4, 13])
def test_shapes_that_can_be(channels):
    assert kw.WideResNetA1(input_shape=(np.int64(64), 32, channels), width=WIDTH, classes=2).input_shape == (None, 64, 32, channels)
    assert kw.WideResNetA1(include_top=False, input_shape=[None, None, 3], width=WIDTH).input_shape == (None, None, None, 3)


@pytest.fixture
def leaky(tmp_path, monkeypatch, torch_file):
    """Tiny weights in the place of the InPlace-ABN release's, whose network has a leaky ReLU and symmetric pools."""
    parameters = official(classes=7)
    path = tmp_path / "published" / "leaky.params"
    path.parent.mkdir()
    write_params(path, {f"arg:{name}": array for name, array in parameters.items()})
    monkeypatch.setenv("KERAS_WIDERRESNET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KERAS_WIDERRESNET_WEIGHTS_DIR", str(path))
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    record = registry.Pretrained(
        "leaky", TINY, 7, (registry.OriginalFile("leaky.params", md5=md5),), activation="leaky_relu", pool_padding="symmetric"
    )
    monkeypatch.setitem(PRETRAINED, "leaky", record)
    return parameters


def test_segmentation_networks_have_the_argument_that_weights_ask_for(leaky):
    options = {"classes": 3, "output_stride": None, "width": WIDTH}
    with pytest.raises(InputError, match="need activation='leaky_relu'"):
        kw.WideResNetFCN(TINY, weights="leaky", pool_padding="symmetric", **options)
    network = kw.WideResNetFCN(TINY, weights="leaky", pool_padding="symmetric", activation="leaky_relu", **options)
    same_features(network, leaky)
    assert isinstance(network.get_layer("relu7"), keras.layers.LeakyReLU)
    assert network.get_layer("relu6a").activation is keras.activations.relu


def test_training_starts_from_them_without_being_asked_for_an_activation(leaky, tmp_path, capsys, monkeypatch):
    flags = ["--data=digits", "--weights=leaky", f"--structure={TINY}", f"--width={WIDTH}", "--crop_size=32", "--batch_size=4"]
    monkeypatch.setattr("keras_widerresnet.tasks.classification.task.Classification.write_report", lambda *_: None)
    main(["train", *flags, "--epochs=1", "--steps_per_epoch=1", "--pool_padding=symmetric", f"--output_dir={tmp_path / 'run'}"])
    trained = keras.models.load_model(tmp_path / "run" / "final.keras", compile=False)
    assert isinstance(trained.get_layer("relu7"), keras.layers.LeakyReLU)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["train", *flags, "--epochs=1", "--steps_per_epoch=1", f"--output_dir={tmp_path / 'other'}"])
    assert "need pool_padding='symmetric'. Received: 'ceil'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["whole.h5", "net.keras"])
def test_training_starts_from_a_saved_network_with_its_activation(saved, name):
    folder, network = saved
    options = {"structure": TINY, "width": WIDTH, "crop_size": 32, "pool_padding": "symmetric", "weights": str(folder / name)}
    config = TrainingConfig(output_dir="x", data="digits", **options)
    started = make_network(config, 5, 32, 10)
    assert starting_activation(config) == "leaky_relu" and isinstance(started.get_layer("relu7"), keras.layers.LeakyReLU)
    np.testing.assert_array_equal(started.get_layer("linear5").get_weights()[0], network.get_layer("linear5").get_weights()[0])


def test_a_sidecar_keeps_similar_networks_apart(tmp_path):
    """A, A1 and A2 have parameters of the same shapes."""
    write_params(tmp_path / "a.params", {f"arg:{name}": array for name, array in official("A1", classes=7).items()})
    convert(tmp_path / "a.params", "A1", tmp_path / "a1.weights.h5", WIDTH)
    kw.WideResNetA1(weights=tmp_path / "a1.weights.h5", classes=7, **OPTIONS)
    for build in (kw.WideResNetA, kw.WideResNetA2):
        with pytest.raises(InputError, match=r"belongs to A1 according to a1\.weights\.json; networks with the same shapes"):
            build(weights=tmp_path / "a1.weights.h5", classes=7, **OPTIONS)
    with pytest.raises(InputError, match=r"belongs to A1 according to a1\.weights\.json"):
        kw.WideResNetFCN("A2", weights=tmp_path / "a1.weights.h5", width=WIDTH)
    start_from(kw.WideResNetA(classes=7, **OPTIONS), str(tmp_path / "a1.weights.h5"), kw.STRUCTURES["A"])  # on purpose
    beside = tmp_path / "a1.weights.json"
    beside.write_text(json.dumps(json.loads(beside.read_text()) | {"activation": "leaky_relu"}))
    with pytest.raises(InputError, match=r"needs activation='leaky_relu', see a1\.weights\.json"):
        kw.WideResNetA1(weights=tmp_path / "a1.weights.h5", classes=7, **OPTIONS)


@pytest.mark.parametrize("content", ["{", "[]", '{"colour": 1}', '{"class_names": 3}', '{"width": "wide"}', '{"structure": "A7"}'])
def test_a_damaged_sidecar_is_named(tmp_path, content):
    network = kw.WiderResNet(TINY, classes=7, **OPTIONS)
    network.save_weights(tmp_path / "a.weights.h5")
    (tmp_path / "a.weights.json").write_text(content)
    with pytest.raises(InputError, match=r"a\.weights\.json' is not a valid description of the network"):
        find_source(str(tmp_path / "a.weights.h5"))


def test_folded_networks_say_what_they_are(tmp_path):
    from keras_widerresnet.export.fold import inference_network

    inference_network(kw.WiderResNet(TINY, classes=7, **OPTIONS)).save_weights(tmp_path / "folded.weights.h5")
    with pytest.raises(InputError, match="an inference network whose batch norms are folded"):
        kw.WiderResNet(TINY, classes=7, weights=tmp_path / "folded.weights.h5", **OPTIONS)
