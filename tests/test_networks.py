import keras
import numpy as np
import pytest

import keras_widerresnet as kw
from keras_widerresnet.structures import STRUCTURES
from keras_widerresnet.weights.official import official_shapes, parameter_names

NARROW = {"width": 0.0625, "classes": 10}
SMALL = {"input_shape": (32, 32, 3), **NARROW}
FAMILY = {name: getattr(kw, f"WideResNet{name}") for name in STRUCTURES if name.isalnum()}
FAMILY["224-0-1-1-1-1-1-1"] = lambda *args, **options: kw.WiderResNet("224-0-1-1-1-1-1-1", *args, **options)


def parameters(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


@pytest.mark.parametrize("name", FAMILY)
def test_member_has_its_records_parameters(name):
    model = FAMILY[name](**SMALL)
    structure = STRUCTURES[name]
    assert parameters(model.trainable_weights) == structure.parameters(classes=10, width=0.0625)
    assert parameters(model.non_trainable_weights) == structure.statistics(width=0.0625)
    assert model.output_shape == (None, 10)


@pytest.mark.parametrize("name", ["A", "B", "D", "F"])
@pytest.mark.parametrize("padding", ["ceil", "symmetric", "valid"])
def test_spatial_sizes_are_the_records(name, padding):
    structure = STRUCTURES[name]
    model = FAMILY[name](include_top=False, input_shape=(structure.crop_size, structure.crop_size, 3), pool_padding=padding, width=0.0625)
    sizes = structure.spatial_sizes(pool_padding=padding)
    features = kw.feature_extractor(model)
    assert {stage: output.shape[1] for stage, output in features.output.items()} == {f"stage{k}": sizes[k] for k in range(2, 8)}


def test_layer_names_are_the_official_ones(official_names):
    model = kw.WideResNetA1(input_shape=(64, 64, 3), width=1.0)
    classification = {name: shape for _, name, shape in official_names if not name.startswith(("conv6a", "linear21"))}
    assert official_shapes(model) == classification
    statistics = {name for layer in model.layers for name in parameter_names(layer) if "_moving_" in name}
    assert statistics == {name for kind, name, _ in official_names if kind == "aux"}


def test_defaults_are_those_of_keras_applications():
    model = kw.WideResNetE(width=0.0625)
    assert model.input_shape == (None, 112, 112, 3) and model.output_shape == (None, 1000)
    assert model.layers[-1].activation is keras.activations.softmax
    headless = kw.WideResNetE(include_top=False, width=0.0625)
    assert headless.input_shape == (None, None, None, 3) and headless.output_shape == (None, None, None, 256)
    assert model.name == "wide_resnet_e"
    assert kw.WideResNetE(name="mine", **SMALL).name == "mine"


@pytest.mark.parametrize(("pooling", "reduce"), [("avg", np.mean), ("max", np.max)])
def test_pooling(pooling, reduce, image):
    features = kw.WideResNetE(include_top=False, input_shape=(32, 32, 3), width=0.0625)
    pooled = kw.WideResNetE(include_top=False, pooling=pooling, input_shape=(32, 32, 3), width=0.0625)
    pooled.set_weights(features.get_weights())
    x = image(32, 32)
    np.testing.assert_allclose(pooled.predict_on_batch(x), reduce(features.predict_on_batch(x), axis=(1, 2)), rtol=1e-5, atol=1e-6)


def test_input_tensor_inside_another_model(image):
    raw = keras.Input((32, 32, 3))
    model = kw.WideResNetE(input_tensor=keras.layers.Rescaling(2.0)(raw), **NARROW)
    plain = kw.WideResNetE(**SMALL)
    plain.set_weights(model.get_weights())
    np.testing.assert_allclose(model.predict_on_batch(image(32, 32)), plain.predict_on_batch(2 * image(32, 32)), rtol=1e-4, atol=1e-6)


def test_softmax_of_logits(image):
    keras.utils.set_random_seed(0)
    logits = kw.WideResNetE(classifier_activation=None, **SMALL)
    model = kw.WideResNetE(**SMALL)
    model.set_weights(logits.get_weights())
    values = np.exp(logits.predict_on_batch(image(32, 32)))
    np.testing.assert_allclose(model.predict_on_batch(image(32, 32)), values / values.sum(), rtol=1e-5)


def test_downsampling_turns_model_a_into_the_variants():
    for options, variant in (({"downsampling": "stride"}, "A1"), ({"downsampling": STRUCTURES["A2"].downsampling}, "A2")):
        ours, theirs = FAMILY["A"](**SMALL, **options), FAMILY[variant](**SMALL)
        assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
        assert [getattr(layer, "strides", None) for layer in ours.layers] == [getattr(layer, "strides", None) for layer in theirs.layers]


@pytest.mark.parametrize(("name", "stride"), [("A1", 8), ("A1", 16), ("A2", 8), ("A", 16), ("D", 8)])
def test_output_stride_keeps_resolution_and_parameters(name, stride):
    dilated = FAMILY[name](include_top=False, input_shape=(64, 64, 3), output_stride=stride, width=0.0625)
    plain = FAMILY[name](include_top=False, input_shape=(64, 64, 3), width=0.0625)
    assert dilated.output_shape[1:3] == (64 // stride,) * 2
    assert [weight.shape for weight in dilated.weights] == [weight.shape for weight in plain.weights]


@pytest.mark.parametrize(("name", "stride"), [("A1", 16), ("A1", 8), ("A2", 8), ("A", 16), ("A", 8)])
def test_dilated_network_is_the_plain_one_on_every_shift(name, stride):
    """A dropped halving computes the phases in between: every (32 / stride)-th cell of the dilated map is the plain network's."""
    options = {"include_top": False, "input_shape": (None, None, 3), "width": 0.03, "pool_padding": "symmetric"}
    plain, dilated = FAMILY[name](**options), FAMILY[name](output_stride=stride, **options)
    dilated.set_weights(plain.get_weights())
    x = np.random.default_rng(0).normal(size=(1, 96, 96, 3)).astype(np.float32)
    step = 32 // stride
    ours = dilated.predict_on_batch(x)[:, ::step, ::step]
    np.testing.assert_allclose(ours, plain.predict_on_batch(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "stride"), [("A", 16), ("A1", 16), ("A1", 8), ("A2", 16), ("A2", 8)])
def test_dilated_network_is_the_plain_one_interleaved(name, stride):
    """Dense evaluation: the plain network on every shifted input, interleaved, is the dilated network, away from the borders."""
    structure = STRUCTURES[name].replace(units=(0, 1, 1, 1, 2, 1, 2))  # later units of the dilated stages too, in few layers
    options = {"include_top": False, "input_shape": (None, None, 3), "width": 0.03, "pool_padding": "symmetric"}
    plain, dilated = kw.WiderResNet(structure, **options), kw.WiderResNet(structure, output_stride=stride, **options)
    dilated.set_weights(plain.get_weights())
    pixels, reach = 1, 1  # pixels a cell, and how far a cell sees at most; conv1a first
    for item in structure.plan(width=0.03):
        pixels *= item.stride
        reach += pixels * sum(kernel // 2 for kernel in getattr(item, "kernels", (3,)))
    size = 32 * (2 * -(-reach // 32) + 2)
    x = np.random.default_rng(0).normal(size=(1, size + 32, size + 32, 3)).astype(np.float32)
    step = 32 // stride
    dense = dilated.predict_on_batch(x)[0]
    interleaved = np.full((size // stride, size // stride, dense.shape[-1]), np.nan, np.float32)
    for row in range(step):
        for column in range(step):
            shifted = x[:, row * stride : row * stride + size, column * stride : column * stride + size]
            interleaved[row::step, column::step] = plain.predict_on_batch(shifted)[0]
    inside = slice(-(-reach // 32) * step, (size - reach) // 32 * step)
    assert inside.stop - inside.start >= step
    largest = np.abs(dense[inside, inside]).max()
    np.testing.assert_allclose(interleaved[inside, inside], dense[inside, inside], atol=1e-5 * largest)
    assert np.abs(interleaved - dense[: size // stride, : size // stride]).max() > 1e-3 * largest  # the borders do differ


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_logits_and_softmax_in_float32(policy, image):
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = kw.WideResNetE(**SMALL)
    finally:
        keras.config.set_dtype_policy(previous)
    assert model.get_layer("res2a_branch2a").compute_dtype == policy.removeprefix("mixed_")
    assert model.get_layer("linear10").compute_dtype == "float32"
    output = model.predict_on_batch(image(32, 32))
    assert output.dtype == np.float32 and np.isclose(output.sum(), 1, atol=1e-5)


def test_saved_model_file_loads_and_predicts_the_same(tmp_path, image):
    model = kw.WideResNetA(output_stride=8, pool_padding="valid", input_shape=(64, 64, 3), **NARROW)
    model.save(tmp_path / "a.keras")
    loaded = keras.models.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(loaded.predict_on_batch(image(64, 64)), model.predict_on_batch(image(64, 64)))
    assert set(kw.feature_extractor(loaded).output) == {f"stage{k}" for k in range(2, 8)}


def test_initialisers_of_the_release():
    model = kw.WideResNetE(width=0.5, classes=200)
    kernel = model.get_layer("res5b1_branch2b1").get_weights()[0]
    assert abs(kernel.std() / np.sqrt(2 / np.prod(kernel.shape[:3])) - 1) < 0.01
    for values in model.get_layer("linear200").get_weights():
        limit = 2048**-0.5
        assert np.abs(values).max() <= limit and np.abs(values).max() > 0.95 * limit
        assert abs(values.std() / (limit / np.sqrt(3)) - 1) < 0.15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": (31, 64, 3)}, "at least 32 pixels on each side. Received: 31"),
        ({"input_shape": (64, 64)}, "height, width, channels"),
        ({"input_shape": (64, 64, None)}, "3 for RGB"),
        ({"classes": 0}, "`classes` must be a positive whole number"),
        ({"classes": 10.0}, "`classes` must be"),
        ({"pooling": "mean"}, "`pooling` must be one of"),
        ({"pool_padding": "same"}, "'ceil', 'symmetric', 'valid'"),
        ({"output_stride": 4}, r"one of \(32, 16, 8\)"),
        ({"downsampling": "conv"}, "'pool', 'stride'"),
        ({"downsampling": ("pool", "stride")}, "5 entries"),
        ({"weights": "imagnet"}, "existing file.*Received: .imagnet"),
        ({"weights": "missing.weights.h5"}, "No weights file at"),
        ({"input_tensor": np.zeros((1, 64, 64, 3))}, "must be a Keras tensor"),
    ],
)
def test_bad_options_name_what_is_allowed(options, message):
    with pytest.raises(ValueError, match=message):
        kw.WideResNetA(**{"width": 0.0625, **options})


def test_feature_extractor_refuses_other_models():
    image = keras.Input((8, 8, 3))
    with pytest.raises(ValueError, match="No residual unit"):
        kw.feature_extractor(keras.Model(image, keras.layers.Conv2D(2, 3)(image)))
