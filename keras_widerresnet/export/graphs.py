"""The served graphs as `tf.Module`s: from encoded images or pixels to predictions, including the release's preprocessing."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_widerresnet.data.limits import MAX_PIXELS
from keras_widerresnet.data.resize import normalise, resize_longer_side, test_view
from keras_widerresnet.enlarge import enlarge
from keras_widerresnet.export.decode import decoded_rows
from keras_widerresnet.label_maps import IGNORED
from keras_widerresnet.preprocessing import MEAN

Prepare = Callable[[tf.Tensor], tf.Tensor]


def with_values(model: keras.Model) -> Callable:
    """Returns the inference function of (values in the order of `model.variables`, images)."""
    groups = [[id(variable) for variable in part] for part in (model.trainable_variables, model.non_trainable_variables)]
    keys = [id(variable) for variable in model.variables]

    def outputs(values, images):
        by_key = dict(zip(keys, values, strict=True))
        return model.stateless_call(*([by_key[key] for key in group] for group in groups), images, training=False)[0]

    return outputs


class ServedWeights(tf.Module):
    """A Keras model's function with variables that a SavedModel can store; the SavedModel does not depend on Keras layers.

    Args:
        model: a model for inference.
        half: whether to store kernels as float16; they are cast to float32 when read.
    """

    def __init__(self, model: keras.Model, half: bool = False):
        super().__init__()
        self._stored = [self._half(variable) if half else variable.value for variable in model.variables]
        self._dtypes = [variable.dtype for variable in model.variables]
        self._outputs = with_values(model)

    @staticmethod
    def _half(variable: keras.Variable) -> tf.Variable:
        is_kernel = len(variable.shape) > 1
        return tf.Variable(tf.cast(variable.value, tf.float16), trainable=False) if is_kernel else variable.value

    def __call__(self, images: tf.Tensor):
        return self._outputs([tf.cast(stored, dtype) for stored, dtype in zip(self._stored, self._dtypes, strict=True)], images)


class ClassifierGraph(tf.Module):
    """Signatures of a classification network.

    Args:
        model: from normalised images to probabilities (n, classes).
        size: pixels of the shorter side and of the centre crop.
        interpolation: interpolation of the resize.
        labels: text file with one class name per line, which becomes an asset.
        top: number of classes returned for each image.
        max_pixels: maximum pixels of an image; a larger one is flagged as invalid.
        half: see `ServedWeights`.
        prepare: function from RGB values 0..255 to the model's input.
    """

    def __init__(
        self,
        model: keras.Model,
        size: int,
        interpolation: str,
        labels: pathlib.Path,
        top: int,
        max_pixels: int = MAX_PIXELS,
        half: bool = False,
        prepare: Prepare = normalise,
    ):
        super().__init__()
        self._prepare = prepare
        last = next((layer for layer in reversed(model.layers) if isinstance(layer, keras.layers.Dense)), None)
        outputs = {"probabilities": model.output} | ({"features": last.input} if last else {})
        self._network = ServedWeights(keras.Model(model.inputs, outputs), half)
        self._labels = tf.saved_model.Asset(str(labels))
        columns = tf.lookup.TextFileIndex.LINE_NUMBER, tf.lookup.TextFileIndex.WHOLE_LINE
        lines = tf.lookup.TextFileInitializer(self._labels.asset_path, tf.int64, columns[0], tf.string, columns[1])
        self._names = tf.lookup.StaticHashTable(lines, default_value="")
        self._top = min(top, model.output_shape[-1])
        pixels = tf.TensorSpec((None, size, size, 3), tf.float32, name="images")

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")], autograph=False)
        def serving_default(image_bytes):
            views, _, valid = decoded_rows(image_bytes, lambda image: test_view(image, size, interpolation), max_pixels)
            return self._answers(self._network(self._prepare(views))["probabilities"], valid)

        @tf.function(input_signature=[pixels], autograph=False)
        def tensor(images):
            return {"probabilities": self._network(self._prepare(images))["probabilities"]}

        @tf.function(input_signature=[pixels], autograph=False)
        def features(images):
            return {"features": self._network(self._prepare(images))["features"]}

        self.endpoints = {"serving_default": serving_default, "tensor": tensor} | ({"features": features} if last else {})

    def _answers(self, probabilities, valid) -> dict[str, tf.Tensor]:
        best, indices = tf.math.top_k(probabilities, self._top)
        indices = tf.where(valid[:, None], indices, -1)
        return {
            "classes": self._names.lookup(tf.cast(indices, tf.int64)),
            "indices": indices,
            "probabilities": tf.where(valid[:, None], best, 0.0),
            "valid": valid,
        }


class SegmenterGraph(tf.Module):
    """Signatures of a segmentation network.

    Args:
        model: from normalised images, H and W multiples of the stride, to logits (n, H / stride, W / stride, classes).
        stride: the model's output stride.
        size: pixels to which the longer side is resized; 0 for no resizing.
        labels: text file with one class name per line, which becomes an asset.
        max_pixels: maximum pixels of an image and of the padded batch; images that exceed it are flagged as invalid.
        half: see `ServedWeights`.
        prepare: function from RGB values 0..255 to the model's input.
    """

    def __init__(
        self,
        model: keras.Model,
        stride: int,
        size: int,
        labels: pathlib.Path,
        max_pixels: int = MAX_PIXELS,
        half: bool = False,
        prepare: Prepare = normalise,
    ):
        super().__init__()
        self._prepare = prepare
        self._network = ServedWeights(model, half)
        self._labels = tf.saved_model.Asset(str(labels))
        self._stride, self._size = stride, size

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")], autograph=False)
        def serving_default(image_bytes):
            images, sizes, valid = decoded_rows(image_bytes, lambda image: image, max_pixels, is_padded=True)
            specs = (tf.TensorSpec((None, None), tf.uint8), tf.TensorSpec((None, None), tf.float32))
            # Sequentially: images are large and differ in size.
            label_maps, scores = tf.map_fn(self._one, (images, sizes), fn_output_signature=specs, parallel_iterations=1)
            return {"label_maps": label_maps, "scores": scores, "sizes": sizes, "valid": valid}

        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32, name="images")], autograph=False)
        def tensor(images):
            return {"probabilities": self._probabilities(images)}

        self.endpoints = {"serving_default": serving_default, "tensor": tensor}

    def _one(self, row) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the label map, padded with 255, and each pixel's class probability, padded with 0, of one image of a padded batch."""
        padded, size = row
        full = tf.shape(padded)[:2]

        def seen():
            image = padded[: size[0], : size[1]]
            shown = resize_longer_side(image, self._size) if self._size else tf.cast(image, tf.float32)
            probabilities = self._probabilities(shown[None])
            if self._size:
                probabilities = tf.image.resize(probabilities, size, method="bicubic", antialias=True)
            fill = [[0, full[0] - size[0]], [0, full[1] - size[1]]]
            label_map = tf.cast(tf.argmax(probabilities[0], axis=-1, output_type=tf.int32), tf.uint8)
            scores = tf.clip_by_value(tf.reduce_max(probabilities[0], axis=-1), 0.0, 1.0)  # bicubic enlargement overshoots
            return tf.pad(label_map, fill, constant_values=IGNORED), tf.pad(scores, fill)

        def nothing():
            return tf.fill(full, tf.constant(IGNORED, tf.uint8)), tf.zeros(full)

        return tf.cond(tf.reduce_all(size > 0), seen, nothing)

    def _probabilities(self, images) -> tf.Tensor:
        """Returns class probabilities at every pixel; images are padded with the mean colour to multiples of the stride."""
        height, width = tf.unstack(tf.shape(images)[1:3])
        fill = [[0, 0], [0, -height % self._stride], [0, -width % self._stride], [0, 0]]
        is_inside = tf.pad(tf.ones_like(images[..., :1]), fill) > 0
        filled = tf.where(is_inside, tf.pad(images, fill), 255 * tf.constant(MEAN))
        cells = tf.nn.softmax(tf.cast(self._network(self._prepare(filled)), tf.float32))
        return enlarge(cells, self._stride)[:, :height, :width]
