import keras
import numpy as np
import pytest
from keras import ops

from keras_widerresnet import WideResNetFCN
from keras_widerresnet.enlarge import Enlarge, enlarge


def keys(x):
    """Keys' cubic of a = -0.5, from his paper."""
    x = abs(x)
    return 1.5 * x**3 - 2.5 * x**2 + 1 if x <= 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def one_axis(values, stride):
    """Each pixel p from the four cells around (p - stride // 2) / stride, those outside clamped to the edge."""
    pixels = []
    for p in range(len(values) * stride):
        at = (p - stride // 2) / stride
        taps = range(int(np.floor(at)) - 1, int(np.floor(at)) + 3)
        pixels.append(sum(keys(at - j) * values[min(max(j, 0), len(values) - 1)] for j in taps))
    return np.array(pixels)


@pytest.mark.parametrize("stride", [1, 2, 3, 8, 16])
def test_equals_keys_cubic_pixel_by_pixel(stride):
    cells = np.random.default_rng(0).normal(size=(2, 5, 4, 3))
    expected = np.apply_along_axis(one_axis, 2, np.apply_along_axis(one_axis, 1, cells, stride), stride)
    ours = ops.convert_to_numpy(enlarge(ops.convert_to_tensor(cells), stride))
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    start = stride // 2
    np.testing.assert_allclose(ours[:, start::stride, start::stride], cells, atol=1e-6)  # cells keep their values at their pixels


def test_layer_with_unknown_sizes():
    inputs = keras.Input((None, None, 2))
    model = keras.Model(inputs, Enlarge(8)(inputs))
    assert model.output_shape == (None, None, None, 2)
    cells = np.random.default_rng(0).normal(size=(1, 3, 6, 2)).astype(np.float32)
    copy = keras.Model.from_config(model.get_config())
    np.testing.assert_allclose(copy.predict_on_batch(cells), ops.convert_to_numpy(enlarge(cells, 8)), atol=1e-6)


def test_segmentation_network_at_full_resolution(image):
    small = WideResNetFCN(classes=5, width=0.0625)
    large = WideResNetFCN(classes=5, width=0.0625, upsample=True)
    large.set_weights(small.get_weights())
    x = image(64, 80)
    np.testing.assert_allclose(large.predict_on_batch(x)[:, 4::8, 4::8], small.predict_on_batch(x), atol=1e-4)
    with pytest.raises(ValueError, match="multiples of the output stride, 8"):
        WideResNetFCN(width=0.0625, upsample=True, input_shape=(100, 64, 3))
