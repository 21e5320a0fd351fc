import keras
import numpy as np
import pytest

import keras_widerresnet as kw
from keras_widerresnet.weights.assign import assign_weights
from keras_widerresnet.weights.keras_file import read_keras_weights
from keras_widerresnet.weights.official import assign_official, official_shapes

OPTIONS = {"input_shape": (32, 32, 3), "width": 0.0625}


@pytest.fixture(params=["saved.weights.h5", "saved.keras"])
def saved(request, tmp_path):
    model = kw.WideResNetE(classes=10, **OPTIONS)
    model.compile("sgd", "mse")
    path = tmp_path / request.param
    (model.save if path.suffix == ".keras" else model.save_weights)(path)
    return model, path


def test_file_is_loaded_by_layer_name(saved, image):
    model, path = saved
    loaded = kw.WideResNetE(classes=10, weights=str(path), **OPTIONS)
    np.testing.assert_array_equal(loaded.predict_on_batch(image(32, 32)), model.predict_on_batch(image(32, 32)))


def test_classifier_is_left_aside_without_the_top(saved):
    model, path = saved
    loaded = kw.WideResNetE(include_top=False, weights=str(path), **OPTIONS)
    np.testing.assert_array_equal(loaded.get_layer("bn7").get_weights()[0], model.get_layer("bn7").get_weights()[0])


def test_wrong_class_count_is_said(saved):
    with pytest.raises(ValueError, match="they are for classes=10, the model has classes=7"):
        kw.WideResNetE(classes=7, weights=str(saved[1]), **OPTIONS)


def test_misfits_are_reported_in_one_table_and_change_nothing(saved):
    _, path = saved
    other = kw.WiderResNet("112-1-1-1-1-4-1-1", classes=10, **OPTIONS)
    with pytest.raises(ValueError, match=r"unused      bn5b4_branch2a"):
        assign_weights(other, read_keras_weights(path), "file")
    wider = kw.WideResNetE(classes=10, input_shape=(32, 32, 3), width=0.125)
    before = wider.get_weights()
    with pytest.raises(ValueError, match=r"mismatched  conv1a: model \[\(3, 3, 3, 8\)\]|mismatched  res3a_branch2a"):
        assign_weights(wider, read_keras_weights(path), "file")
    for old, new in zip(before, wider.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_grey_network_refuses_rgb_weights(saved):
    with pytest.raises(ValueError, match=r"mismatched  conv1a: model \[\(3, 3, 1, 8\)\], file \[\(3, 3, 3, 8\)\]"):
        kw.WideResNetE(classes=10, input_shape=(32, 32, 1), width=0.0625, weights=str(saved[1]))


@pytest.mark.parametrize(
    ("name", "content"), [("a.keras", b"PK"), ("a.weights.h5", b"\x89HDF\r\n"), ("a.weights.h5", b""), ("a.bin", b"x"), ("a.params", b"")]
)
def test_damaged_file_is_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged|not a checkpoint of a known kind"):
        kw.WideResNetE(classes=10, weights=str(path), **OPTIONS)


def test_official_parameters_land_in_their_layers():
    model = kw.WideResNetE(classes=10, **OPTIONS)
    rng = np.random.default_rng(0)
    parameters = {name: rng.normal(size=shape).astype(np.float32) for name, shape in official_shapes(model).items()}
    assign_official(model, parameters, "test")
    kernel, bias = model.get_layer("linear10").get_weights()
    np.testing.assert_array_equal(kernel.T, parameters["linear10_weight"])
    np.testing.assert_array_equal(bias, parameters["linear10_bias"])
    np.testing.assert_array_equal(model.get_layer("res6a_branch1").get_weights()[0][0, 0].T, parameters["res6a_branch1_weight"][..., 0, 0])
    np.testing.assert_array_equal(model.get_layer("bn7").get_weights()[3], parameters["bn7_moving_var"])
    del parameters["bn7_moving_var"]
    with pytest.raises(ValueError, match="mismatched  bn7"):
        assign_official(model, parameters, "test")


def test_keras_itself_reads_what_it_wrote(saved):
    """Our files are ordinary Keras files."""
    model, path = saved
    twin = keras.models.load_model(path) if path.suffix == ".keras" else kw.WideResNetE(classes=10, **OPTIONS)
    if path.suffix != ".keras":
        twin.load_weights(path)
    np.testing.assert_array_equal(twin.get_layer("conv1a").get_weights()[0], model.get_layer("conv1a").get_weights()[0])
