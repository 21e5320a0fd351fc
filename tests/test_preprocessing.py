import keras
import numpy as np
import pytest

from keras_widerresnet import decode_predictions, preprocess_input
from keras_widerresnet.data.resize import normalise

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), np.uint8)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64"])
def test_equals_keras_torch_mode(dtype):
    """Keras' own "torch" mode states the same convention independently."""
    expected = keras.applications.imagenet_utils.preprocess_input(IMAGES.astype("float32"), mode="torch", data_format="channels_last")
    x = IMAGES.astype(dtype)
    result = preprocess_input(x)
    assert isinstance(result, np.ndarray) and result.dtype == (dtype if "float" in dtype else "float32")
    np.testing.assert_allclose(result, expected, atol=1e-6)
    np.testing.assert_array_equal(x, IMAGES)  # Keras' changes float32 arrays in place; ours does not
    np.testing.assert_allclose(preprocess_input(keras.ops.convert_to_tensor(x)), expected, atol=1e-6)
    np.testing.assert_allclose(normalise(x), expected, atol=1e-6)


def test_inside_a_model():
    image = keras.Input((5, 4, 3))
    model = keras.Model(image, keras.layers.Lambda(preprocess_input)(image))
    np.testing.assert_allclose(model(IMAGES.astype("float32")), preprocess_input(IMAGES), atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 5, 4), (5, 4, 1), (5, 4, 4), ()])
def test_other_than_rgb_is_refused(shape):
    with pytest.raises(ValueError, match="must be RGB"):
        preprocess_input(np.zeros(shape))


def test_decode_predictions_with_names():
    preds = np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25]])
    decoded = decode_predictions(preds, top=2, class_names=("cat", "dog", "owl"))
    assert decoded == [[(1, "dog", 0.7), (2, "owl", 0.2)], [(0, "cat", 0.5), (1, "dog", 0.25)]]


@pytest.mark.parametrize(("shape", "names"), [((2, 10), None), ((1000,), None), ((1, 3), ("a", "b"))])
def test_decode_predictions_refuses_other_class_counts(shape, names):
    with pytest.raises(ValueError, match="one column per class"):
        decode_predictions(np.zeros(shape), class_names=names)
