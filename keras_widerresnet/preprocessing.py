"""The release's input normalisation, and the decoding of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_widerresnet.errors import InputError
from keras_widerresnet.imagenet import imagenet_classes

# Official release: mean and standard deviation of RGB scaled to [0, 1].
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def preprocess_input(x: Any) -> Any:
    """Converts RGB values in [0, 255] to the networks' input: scaled to [0, 1], minus the mean, divided by the standard deviation.

    Args:
        x: array or tensor (..., 3), any integer or float dtype, RGB, channels last.

    Returns:
        A new array (for an array or a list) or tensor of the same shape, float32 (float inputs keep their dtype).

    Raises:
        InputError: if the last axis is not 3 channels.
    """
    is_tensor = ops.is_tensor(x) or isinstance(x, keras.KerasTensor)
    x = x if is_tensor else np.asarray(x)
    if len(x.shape) < 1 or x.shape[-1] != 3:
        raise InputError(f"Images must be RGB with channels last, (..., 3). Received: shape {tuple(x.shape)}")
    dtype = keras.backend.standardize_dtype(x.dtype)
    if "float" not in dtype:
        x = ops.cast(x, "float32") if is_tensor else x.astype("float32")
    elif not is_tensor:
        return ((x / 255 - np.asarray(MEAN)) / np.asarray(STD)).astype(dtype)
    mean, std = (np.asarray(values, "float32") for values in (MEAN, STD))
    if is_tensor:
        mean, std = (ops.convert_to_tensor(values, dtype=x.dtype) for values in (mean, std))
    return (x / 255 - mean) / std


def decode_predictions(
    preds: npt.ArrayLike, top: int = 5, class_names: Sequence[str] | None = None
) -> list[list[tuple[str | int, str, float]]]:
    """Returns the most probable classes of each image.

    Args:
        preds: array (batch, classes) of probabilities or logits.
        top: number of classes to return for each image.
        class_names: the names of the classes in order; None for the 1000 ImageNet classes, with their synsets as ids.

    Returns:
        For each image, a list of `(class id, class name, score)`, best first; with `class_names` the id is the index.

    Raises:
        InputError: if `preds` does not have one column per class.
    """
    preds = np.asarray(preds)
    classes = imagenet_classes() if class_names is None else tuple(enumerate(class_names))
    expected = len(classes)
    if preds.ndim != 2 or preds.shape[1] != expected:
        raise InputError(f"`preds` must be of shape (images, {expected}), one column per class. Received: shape {preds.shape}")
    best = np.argsort(-preds, axis=1, kind="stable")[:, :top]
    return [[(*classes[k], float(row[k])) for k in indices] for row, indices in zip(preds, best, strict=True)]
