"""Loading of SavedModels for inference."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_widerresnet.errors import InputError, first_line
from keras_widerresnet.models import RELEASE_PREPROCESSING, Source

PIXEL_SIGNATURE = "tensor"  # of this package's exports: from pixels, 0..255, to probabilities


def load_saved_model(source: Source) -> Any:
    """Loads a SavedModel as TensorFlow's object with its signatures.

    Raises:
        InputError: if TensorFlow cannot load it.
    """
    try:
        return tf.saved_model.load(str(source.path))
    except Exception as error:  # TensorFlow raises many kinds
        raise InputError(f"{source.text!r} cannot be loaded as a SavedModel: {first_line(error)}") from None


def check_of_export(source: Source, preprocessing: str) -> None:
    """Raises `InputError` if images are to be normalised for an export of this package, whose graph contains the preprocessing."""
    if preprocessing == RELEASE_PREPROCESSING:
        raise InputError(f"{source.text!r} accepts RGB values 0..255 (signature {PIXEL_SIGNATURE!r}): omit --preprocessing")
