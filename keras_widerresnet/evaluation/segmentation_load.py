"""Segmentation networks from whatever holds them: a name, a file of weights, a model file."""

from __future__ import annotations

import dataclasses
import pathlib
import re

import keras
import numpy as np
import tensorflow as tf

from keras_widerresnet.enlarge import Enlarge
from keras_widerresnet.errors import InputError
from keras_widerresnet.evaluation.dense import Predict
from keras_widerresnet.evaluation.load import load_keras_file
from keras_widerresnet.segmentation import WideResNetFCN
from keras_widerresnet.structures import find_structure
from keras_widerresnet.weights.assign import assign_weights
from keras_widerresnet.weights.find import find_weights
from keras_widerresnet.weights.registry import PRETRAINED, Pretrained

PROBED_SIZES = (256, 384)


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """A segmentation network to be asked, whatever held it.

    Args:
        predict: from float32 images (n, H, W, 3) as `preprocess_input` makes them, H and W multiples of the stride, to float32 logits
            (n, H / stride, W / stride, classes).
        classes: number of classes.
        stride: the output stride.
        record: the published weights that it holds; None for others.
    """

    predict: Predict
    classes: int
    stride: int
    record: Pretrained | None = None


def load_segmenter(weights: str, model: str = "", *, output_stride: int = 8, pool_padding: str = "ceil", width: float = 1.0) -> Segmenter:
    """The segmentation network that `weights` names.

    Args:
        weights: a segmentation name of `PRETRAINED`; a `.keras` file of a whole model that gives logits; or a `.weights.h5` or original
            file of a network of `WideResNetFCN`.
        model: the structure; empty for that of a name. A `.keras` file has its own.
        output_stride: of the network to build; a `.keras` file has its own.
        pool_padding: padding of the max pools, where the weights leave the choice.
        width: the network's width.

    Raises:
        InputError: if there is nothing of that name, or it is not a segmentation network of images of any size.
    """
    if pathlib.Path(weights).is_dir():
        raise InputError(f"{weights!r} is a folder, perhaps a SavedModel: a segmentation network is a name, a .keras or a .weights.h5 file")
    record = None if weights == "imagenet" else PRETRAINED.get(weights)
    if weights == "imagenet" or (record and not record.classifier_convs):
        names = ", ".join(name for name, one in PRETRAINED.items() if one.classifier_convs)
        raise InputError(f"{weights!r} is a classification network; segmentation networks are {names}, or a file")
    if weights.endswith(".keras"):
        network = load_keras_file(weights)
    else:
        network = built_segmenter(weights, record, model, output_stride=output_stride, pool_padding=pool_padding, width=width)
    network = at_cells(network)
    stride = stride_of(network, repr(weights))
    return Segmenter(predictor(network), network.output_shape[-1], stride, record)


def predictor(model: keras.Model) -> Predict:
    """The function that asks a model in inference, for images of any size without building a graph for each.

    Returns:
        From float32 images (n, H, W, 3) to float32 outputs (n, h, w, classes), NumPy arrays.
    """
    if keras.backend.backend() != "tensorflow":
        return lambda images: np.asarray(model.predict_on_batch(images), np.float32)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)])
    def outputs(images):
        return tf.cast(model(images, training=False), tf.float32)

    return lambda images: outputs(images).numpy()


def stride_of(model: keras.Model, name: str) -> int:
    """The output stride of a segmentation network, from the sizes of its outputs.

    Args:
        model: any model.
        name: what to call it in an error.

    Raises:
        InputError: if it is not a network from images of any size to logits of a fixed stride.
    """
    shapes = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    if not all(isinstance(shape, tuple) and all(not isinstance(side, tuple) for side in shape) for shape in shapes):
        raise InputError(f"{name} is no network from one batch of images to one output")
    if len(shapes[1]) != 4 or not shapes[1][-1]:
        raise InputError(f"{name} is not a segmentation network: its outputs must be (images, H, W, classes). They are {shapes[1]}")
    if shapes[0] != (None, None, None, 3):
        raise InputError(f"{name} must take RGB images of any size, (None, None, 3). It takes {shapes[0][1:]}")
    last = model.layers[-1]
    if isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) is keras.activations.softmax:
        raise InputError(f"{name} ends in softmax; networks are evaluated by their logits")
    sides = [set(model.compute_output_shape((1, size, size, 3))[1:3]) for size in PROBED_SIZES]
    strides = {size / side for size, both in zip(PROBED_SIZES, sides, strict=True) for side in both}
    if len(strides) != 1 or not min(strides).is_integer():
        raise InputError(f"{name} has no output stride: of images of {PROBED_SIZES} pixels it gives {[min(both) for both in sides]}")
    return int(min(strides))


def built_segmenter(weights: str, record: Pretrained | None, model: str, *, output_stride: int, **options) -> keras.Model:
    """The network that a name or a file of weights makes.

    Args:
        weights, model, output_stride: as in `load_segmenter`.
        record: of a name, else None.
        options: `pool_padding` and `width`.

    Raises:
        InputError: if the weights are not found, or not of a segmentation network.
    """
    if record:
        return WideResNetFCN(model or record.structure, record.classes, record.classifier_convs, output_stride, weights, **options)
    if not pathlib.Path(weights).is_file():
        raise InputError(f"No file {weights!r}; weights are a .keras or .weights.h5 file, or a name ({', '.join(PRETRAINED)})")
    if not model:
        raise InputError(f"--model is needed with --weights={weights}: a file of weights does not tell its structure")
    structure = find_structure(model)
    arrays = find_weights(weights, structure, include_top=False, pool_padding=options["pool_padding"])
    heads = [int(match[1]) for name, found in arrays.items() if (match := re.fullmatch(r"linear(\d+)", name)) and found[0].ndim == 4]
    if not heads:
        raise InputError(f"{weights!r} holds no segmentation network: it has no convolution linear<classes>")
    network = WideResNetFCN(structure, heads[0], 2 if "conv6a" in arrays else 1, output_stride, **options)
    assign_weights(network, arrays, repr(weights))
    return network


def at_cells(network: keras.Model) -> keras.Model:
    """Without the enlargement that `upsample=True` puts behind the logits: ours knows of shifts and sizes."""
    enlarges = len(network.layers) > 0 and isinstance(network.layers[-1], Enlarge)
    return keras.Model(network.inputs, network.layers[-1].input) if enlarges else network
