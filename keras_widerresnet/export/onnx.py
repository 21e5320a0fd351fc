"""Conversion to ONNX files with tf2onnx, and ONNX Runtime to check them."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from keras_widerresnet.data.resize import normalise
from keras_widerresnet.export.graphs import Prepare, with_values

OPSET = 17


def to_onnx(model: keras.Model, size: int, prepare: Prepare = normalise) -> bytes:
    """Converts a model to an ONNX file whose input `images` is float32 (n, size, size, 3), values 0..255.

    `prepare` maps the images to the model's input. As tf2onnx needs 80 times the memory of a network's constants, it is given the weights
    as inputs, which become constants afterwards.
    """
    import tf2onnx

    outputs = with_values(model)
    arrays = {f"weight_{number}": variable.numpy() for number, variable in enumerate(model.variables)}

    def function(images, *values):
        return outputs(values, prepare(images))

    specs = [tf.TensorSpec(array.shape, array.dtype, name=name) for name, array in arrays.items()]
    images = tf.TensorSpec((None, size, size, 3), tf.float32, name="images")
    found, _ = tf2onnx.convert.from_function(tf.function(function, autograph=False), input_signature=[images, *specs], opset=OPSET)
    _make_constant(found.graph, arrays)
    return found.SerializeToString()


def _make_constant(graph, arrays: dict[str, np.ndarray]) -> None:
    """Replaces named inputs of an ONNX graph by constants; inputs of a Transpose node are stored transposed."""
    from onnx import numpy_helper

    for kept in (value for value in list(graph.input) if value.name in arrays):
        graph.input.remove(kept)
    for node in [node for node in graph.node if node.op_type == "Transpose" and node.input[0] in arrays]:
        (order,) = (attribute.ints for attribute in node.attribute if attribute.name == "perm")
        arrays[node.output[0]] = np.ascontiguousarray(arrays[node.input[0]].transpose(order))
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items() if name in used)


class OnnxModel:
    """An ONNX model, run by ONNX Runtime on the CPU."""

    def __init__(self, content: bytes):
        import onnxruntime

        self._session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self._session.run(None, {self._input: images})[0]
