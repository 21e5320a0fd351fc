"""TFLite files: half-precision weights, or full 8-bit quantisation."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
import tensorflow as tf


def to_tflite(function: tf.types.experimental.ConcreteFunction, kind: str, calibration: Iterable[np.ndarray] = ()) -> bytes:
    """Converts a function to a TFLite file.

    Args:
        function: concrete function from one tensor of images to probabilities.
        kind: `"float16"` (half-precision weights, float32 computation) or `"int8"` (weights and activations; float32 inputs and outputs).
        calibration: for int8, batches of inputs of the function.
    """
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], trackable_obj=function)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    else:
        converter.representative_dataset = lambda: ([images] for images in calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about missing statistics of quantised inputs; ours are float
        return converter.convert()


class LiteModel:
    """A TFLite model, run by the TFLite interpreter.

    Args:
        content: contents of the file.
        threads: number of interpreter threads; None for its default.
    """

    def __init__(self, content: bytes, threads: int | None = None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about the interpreter's planned move to another package
            self._interpreter = tf.lite.Interpreter(model_content=content, num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Returns probabilities (n, classes) of float32 images (n, S, S, 3), computed one image at a time."""
        return np.concatenate([self._one(image[None]) for image in images])

    def _one(self, images: np.ndarray) -> np.ndarray:
        self._interpreter.set_tensor(self._input, images)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)
