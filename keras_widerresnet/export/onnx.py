"""ONNX files, by tf2onnx, and ONNX Runtime to check them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_widerresnet.errors import InputError

OPSET = 17


def check_installed() -> None:
    """Raises `InputError` if the `onnx` extra is not installed."""
    missing = [name for name in ("tf2onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f'ONNX export needs {" and ".join(missing)}: pip install ".[onnx]"')


def to_onnx(function: Callable, spec: tf.TensorSpec) -> bytes:
    """An ONNX file of a TensorFlow function of one tensor."""
    import tf2onnx

    model, _ = tf2onnx.convert.from_function(function, input_signature=[spec], opset=OPSET)
    return model.SerializeToString()


class OnnxModel:
    """An ONNX file, run by ONNX Runtime on the CPU."""

    def __init__(self, content: bytes):
        import onnxruntime

        self._session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self._session.run(None, {self._input: images})[0]
