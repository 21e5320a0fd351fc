"""Detectors and segmentation networks of KerasHub and KerasCV on the pyramids of Model A1."""

import keras
import keras_cv
import keras_hub
import numpy as np
import pytest

import keras_widerresnet as kw
from keras_widerresnet.structures import STRUCTURES

NARROW = {"include_top": False, "width": 0.0625}
# A square in noise, and where it is.
SIZE, BOX = 64, (16, 16, 48, 48)


def squares():
    images = np.random.default_rng(0).normal(size=(2, SIZE, SIZE, 3)).astype("float32")
    images[:, BOX[1] : BOX[3], BOX[0] : BOX[2]] += 2
    return images


def masks():
    labels = np.zeros((2, SIZE, SIZE), "int32")
    labels[:, BOX[1] : BOX[3], BOX[0] : BOX[2]] = 1
    return labels


def boxes(classes):
    return {"boxes": np.tile(np.array([[BOX]], "float32"), (2, 1, 1)), classes: np.ones((2, 1), "float32")}


def short_a1(**options):
    """Model A1 with one unit in each of its stages."""
    structure = STRUCTURES["A1"].replace(units=(0, 1, 1, 1, 1, 1, 1))
    return kw.WiderResNet(structure, **NARROW, input_shape=(SIZE, SIZE, 3), **options)


def keras_hub_deeplab():
    encoder = keras_hub.models.DeepLabV3Backbone(
        image_encoder=kw.WideResNetA1(**NARROW, input_shape=(SIZE, SIZE, 3), output_stride=8),
        spatial_pyramid_pooling_key="P3",
        low_level_feature_key="P2",
        upsampling_size=2,
        dilation_rates=[1, 2, 3],
        image_shape=(SIZE, SIZE, 3),
    )
    model = keras_hub.models.DeepLabV3ImageSegmenter(encoder, num_classes=2)
    return model, {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "metrics": []}, masks()


def keras_hub_retinanet():
    shape = (SIZE, SIZE, 3)
    encoder = keras_hub.models.RetinaNetBackbone(short_a1(), min_level=3, max_level=5, use_p5=False, image_shape=shape)
    return keras_hub.models.RetinaNetObjectDetector(encoder, num_classes=2, bounding_box_format="xyxy"), {}, boxes("labels")


def keras_cv_deeplab():
    model = keras_cv.models.DeepLabV3Plus(backbone=short_a1(), num_classes=2)
    return model, {"loss": keras.losses.SparseCategoricalCrossentropy()}, masks()


def keras_cv_retinanet():
    model = keras_cv.models.RetinaNet(backbone=short_a1(), num_classes=2, bounding_box_format="xyxy")
    return model, {"classification_loss": "focal", "box_loss": "smoothl1", "jit_compile": False}, boxes("classes")


@pytest.mark.parametrize("make", [keras_hub_deeplab, keras_hub_retinanet, keras_cv_deeplab, keras_cv_retinanet])
def test_heads_of_other_libraries_learn_on_model_a1_and_load_again(make, tmp_path):
    keras.utils.set_random_seed(0)
    model, options, truth = make()
    # Eager steps: tracing the graph would take longer than running it three times.
    model.compile(optimizer=keras.optimizers.SGD(0.05, global_clipnorm=1.0), run_eagerly=True, **options)
    losses = model.fit(squares(), truth, batch_size=2, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0] and np.isfinite(losses).all(), losses
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    images = {"images": squares()} if make is keras_cv_retinanet else squares()
    before, after = (keras.tree.flatten(one(images, training=False)) for one in (model, loaded))
    for ours, theirs in zip(before, after, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
