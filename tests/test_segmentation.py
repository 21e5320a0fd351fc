import numpy as np
import pytest
from keras import layers

from keras_widerresnet import WideResNetA1, WideResNetFCN


@pytest.mark.parametrize(("classifier_convs", "stride", "names"), [(1, 16, ["linear5"]), (2, 8, ["conv6a", "linear5"])])
def test_head_and_output_size(classifier_convs, stride, names, image):
    model = WideResNetFCN("A1", 5, classifier_convs, stride, width=0.0625)
    assert model.predict_on_batch(image(64, 80)).shape == (1, 64 // stride, 80 // stride, 5)
    head = [layer for layer in model.layers if isinstance(layer, layers.Conv2D) and layer.use_bias]
    assert [layer.name for layer in head] == names
    assert all(layer.dilation_rate == (12, 12) and layer.kernel_size == (3, 3) for layer in head)


def test_files_of_either_kind(tmp_path, image):
    """A segmentation file fills the whole network, a classification file its backbone."""
    model = WideResNetFCN(classes=5, width=0.0625)
    model.save_weights(tmp_path / "fcn.weights.h5")
    again = WideResNetFCN(classes=5, width=0.0625, weights=str(tmp_path / "fcn.weights.h5"))
    np.testing.assert_array_equal(again.predict_on_batch(image(64, 64)), model.predict_on_batch(image(64, 64)))
    backbone = WideResNetA1(width=0.0625, classes=9)
    backbone.save_weights(tmp_path / "a1.weights.h5")
    tuned = WideResNetFCN(classes=5, width=0.0625, weights=str(tmp_path / "a1.weights.h5"))
    for name in ("conv1a", "res7a_branch2b2", "bn7"):
        np.testing.assert_array_equal(tuned.get_layer(name).get_weights()[0], backbone.get_layer(name).get_weights()[0])
    with pytest.raises(ValueError, match="they are for classes=5, the model has classes=7"):
        WideResNetFCN(classes=7, width=0.0625, weights=str(tmp_path / "fcn.weights.h5"))


@pytest.mark.parametrize(
    ("options", "words"), [({"classifier_convs": 3}, "must be 1 or 2"), ({"classes": 0}, "positive"), ({"output_stride": 4}, "one of")]
)
def test_bad_options(options, words):
    with pytest.raises(ValueError, match=words):
        WideResNetFCN(width=0.0625, **options)
