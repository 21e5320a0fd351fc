"""Class activation maps (Zhou et al. 2016) of networks with global average pooling; works with any Keras backend.

The score of a class is the mean of a map, the features multiplied by the class' column of the classifier's kernel, plus the bias. Maps of
several sizes and mirrored images are combined as in psa's procedure (Ahn and Kwak 2018, `infer_cls.py` of the release).
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from keras_widerresnet.errors import InputError
from keras_widerresnet.networks import one_or_all

SCALES = (0.5, 1.0, 1.5, 2.0)  # psa's
EPSILON = 1e-5  # psa's, in the normalisation
MAPS, OUTPUTS = "maps", "outputs"
# Networks of maps are kept with the models that they are of, so that they are traced once.
_NETWORKS: weakref.WeakKeyDictionary[keras.Model, dict[bool, tuple[keras.Model | None, keras.Model]]] = weakref.WeakKeyDictionary()
_AFTER_POOLING = (layers.Dropout, layers.SpatialDropout2D, layers.Identity, layers.InputLayer, layers.Flatten, layers.Reshape)


def class_activation_maps(
    model: keras.Model,
    images: npt.ArrayLike,
    classes: int | Sequence[int] | npt.ArrayLike | None = None,
    scales: Sequence[float] = SCALES,
    flip: bool = True,
    raw: bool = False,
) -> np.ndarray:
    """Returns class activation maps at the images' own size.

    Each image is resized by each of `scales` (bicubic with antialiasing, as PIL resizes: the interpolation of the official release and of
    psa) and, with `flip`, mirrored; negative values of its map are set to zero, and the map is enlarged to the image's size (bilinear,
    half-pixel centres). The maps are added, and each sum is divided by its maximum (plus 1e-5): psa's procedure. psa rounds resized images
    to bytes, which cannot be done to normalised images; the command `activation-maps` does so.

    Args:
        model: a network that ends in global average pooling and a dense layer, such as those of this package with the top, at any output
            stride; with or without a bias, and whatever its activation. Outside its input's fixed size, a copy for any size is made.
        images: float (batch, H, W, 3), as the model expects them: for the networks of this package the output of `preprocess_input`.
        classes: None for the class with the highest output for each image as it is; or class indices, a number, or an array that
            broadcasts to (batch, n): `[3, 7]` gives two maps for every image, `labels[:, None]` the map of each image's own label.
        scales: factors of the images' sides, which are rounded to whole pixels.
        flip: whether to use the mirrored images too.
        raw: whether to return the mean of the maps over sizes and mirrored images, with their negative values and without normalisation,
            in the units of logits. With `scales=(1,)`, `flip=False` and sides that are multiples of the output stride, the mean of a map
            plus the bias is the logit.

    Returns:
        Float32 (batch, H, W, n), of 0 to 1 unless `raw`.

    Raises:
        InputError: if the model has no such classifier, or images, classes or scales are not valid.
    """
    images = np.asarray(images)
    if images.ndim != 4 or not np.issubdtype(images.dtype, np.floating):
        raise InputError(f"`images` must be float of shape (batch, height, width, 3). Received: {images.dtype} of shape {images.shape}")
    size = images.shape[1:3]
    sizes = scaled_sizes(size, scales)
    network = _kept_network(model, any(other != size for other in sizes))
    first: dict[str, Any] = network.predict_on_batch(images) if classes is None or size in sizes else {}
    chosen = _chosen(classes, first.get(OUTPUTS), len(images), network.output[MAPS].shape[-1])

    def views() -> Iterable[tuple[Any, bool]]:
        for scaled in sizes:
            resized = images if scaled == size else ops.image.resize(images, scaled, "bicubic", antialias=True)
            yield first[MAPS] if scaled == size else network.predict_on_batch(resized)[MAPS], False
            if flip:
                yield network.predict_on_batch(ops.flip(resized, axis=2))[MAPS], True

    return combined(views(), size, chosen, raw)


def scaled_sizes(size: tuple[int, int], scales: Sequence[float]) -> list[tuple[int, int]]:
    """Returns height and width for each scale, rounded to the nearest pixel (halves to even, as in psa).

    Raises:
        InputError: if there is no scale, or one is not a positive number.
    """
    scales = tuple(scales)
    if not scales or not all(0 < scale < float("inf") for scale in scales):
        raise InputError(f"`scales` must be positive numbers, such as {SCALES}. Received: {scales}")
    height, width = size
    return [(max(1, round(height * scale)), max(1, round(width * scale))) for scale in scales]


def map_network(model: keras.Model, any_size: bool = True) -> keras.Model:
    """Returns a model with the same weights that gives the maps of all classes and the model's own outputs.

    Args:
        model: see `class_activation_maps`.
        any_size: whether images of any size must be accepted: a model of a fixed size is then copied.

    Returns:
        A `keras.Model` of float images (batch, H, W, 3) with the outputs `"maps"`, float32 (batch, H / stride, W / stride, classes),
        without the bias, and `"outputs"`, (batch, classes).

    Raises:
        InputError: if the model does not end in global average pooling and a dense layer.
    """
    pooled, dense = _classifier(model)
    if any_size and (copy := _of_any_size(model)):
        model = copy
        pooled, dense = _classifier(model)
    maps = _TimesKernel(dense, dtype="float32", name="activation_maps")(pooled)
    return keras.Model(one_or_all(model.inputs), {MAPS: maps, OUTPUTS: model.outputs[0]}, name=f"{model.name}_maps")


def combined(views: Iterable[tuple[Any, bool]], size: tuple[int, int], classes: np.ndarray, raw: bool = False) -> np.ndarray:
    """Combines the maps of several views of images, see `class_activation_maps`.

    Args:
        views: maps of all classes (batch, h, w, classes), and whether they are of the mirrored images.
        size: height and width of the images.
        classes: int (batch, n), the classes to return.
        raw: see `class_activation_maps`.

    Returns:
        Float32 (batch, H, W, n).
    """
    total, count = 0.0, 0
    for every_map, is_mirrored in views:
        maps = ops.take_along_axis(ops.convert_to_tensor(every_map), ops.convert_to_tensor(classes[:, None, None, :]), axis=-1)
        maps = ops.image.resize(maps if raw else ops.relu(maps), size, "bilinear")
        total, count = total + (ops.flip(maps, axis=2) if is_mirrored else maps), count + 1
    if raw:
        return ops.convert_to_numpy(total / count)
    return ops.convert_to_numpy(total / (ops.max(total, axis=(1, 2), keepdims=True) + EPSILON))


def background_scores(maps: np.ndarray, alpha: float) -> np.ndarray:
    """Returns the score of the background, (1 - the largest of the classes' maps) ** alpha (Ahn and Kwak 2018).

    Args:
        maps: (..., classes), normalised, of classes that are in the image.
        alpha: the smaller, the more background.

    Returns:
        An array like `maps` without its last axis, 0 to 1; 1 everywhere if there are no classes.
    """
    return (1 - np.max(maps, axis=-1, initial=0)) ** alpha


def _chosen(classes: Any, outputs: Any, batch: int, count: int) -> np.ndarray:
    """Returns the checked class indices, int32 (batch, n)."""
    if classes is None:
        return np.argmax(ops.convert_to_numpy(outputs), axis=-1).astype(np.int32)[:, None]
    wanted = f"`classes` must be whole numbers 0 to {count - 1} that broadcast to (batch, n), here ({batch}, n)"
    try:
        chosen = np.atleast_1d(np.asarray(classes))
        chosen = np.broadcast_to(chosen, (batch, chosen.shape[-1]))
    except ValueError:
        raise InputError(f"{wanted}. Received: {classes!r}") from None
    if not chosen.size or not np.issubdtype(chosen.dtype, np.integer) or chosen.min() < 0 or chosen.max() >= count:
        raise InputError(f"{wanted}. Received: {classes!r}")
    return chosen.astype(np.int32)


def _kept_network(model: keras.Model, any_size: bool) -> keras.Model:
    """Returns `map_network` of a model, made at the first call; a copy gets the model's present weights."""
    kept = _NETWORKS.setdefault(model, {})
    if any_size not in kept:
        _classifier(model)
        copy = _of_any_size(model) if any_size else None
        kept[any_size] = copy, map_network(copy or model, any_size=False)
    copy, network = kept[any_size]
    if copy is not None:
        copy.set_weights(model.get_weights())
    return network


def _of_any_size(model: keras.Model) -> keras.Model | None:
    """Returns a copy of a network whose input has no fixed size; None if the network is such itself."""
    (image,) = model.inputs
    if all(side is None for side in image.shape[1:3]):
        return None
    copy = keras.models.clone_model(model, input_tensors=keras.Input((None, None, image.shape[-1]), dtype=image.dtype, name="images"))
    copy.set_weights(model.get_weights())
    return copy


def _classifier(model: keras.Model) -> tuple[keras.KerasTensor, layers.Dense]:
    """Returns the map that is averaged, and the dense layer."""
    wanted = "Class activation maps need a classifier, global average pooling followed by one dense layer"
    is_functional = isinstance(model, keras.Function) or (isinstance(model, keras.Sequential) and model.built)
    if not is_functional or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise InputError(f"{wanted}, in a functional model with one input and one output. Received: {model!r}")
    dense, pool = None, None
    tensor = model.outputs[0]
    while pool is None:
        layer, node, _ = tensor._keras_history
        is_head = isinstance(layer, layers.Dense) and dense is None
        is_last = dense is None and isinstance(layer, (layers.Activation, layers.Softmax, layers.Identity))
        if dense is not None and isinstance(layer, layers.GlobalAveragePooling2D) and layer.data_format == "channels_last":
            pool = layer
        elif not (is_head or is_last or (dense is not None and isinstance(layer, _AFTER_POOLING))):
            raise InputError(f"{wanted}. Received: {model.name!r}, in which {layer.name!r} ({type(layer).__name__}) stands there")
        dense = layer if is_head else dense
        inputs = layer._inbound_nodes[node].input_tensors
        if len(inputs) != 1:
            raise InputError(f"{wanted}. Received: {model.name!r}")
        tensor = inputs[0]
    assert dense is not None
    return tensor, dense


class _TimesKernel(layers.Layer):
    """A dense layer without its bias and activation, at every position."""

    def __init__(self, dense: layers.Dense, **kwargs):
        super().__init__(**kwargs)
        self._dense = dense

    def call(self, inputs):
        return ops.matmul(inputs, ops.cast(self._dense.kernel, inputs.dtype))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self._dense.units)
