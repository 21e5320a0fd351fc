"""Folds batch norms into preceding convolutions whose output is not used elsewhere: the same function with fewer operations."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
from keras import layers, ops

from keras_widerresnet.batch_norm import FusedBatchNormalization
from keras_widerresnet.units import MaxPool


@keras.saving.register_keras_serializable("keras_widerresnet")
class EdgePaddedMaxPool(MaxPool):
    """`MaxPool` with edge padding instead of -inf, which int8 cannot represent; equivalent, as the edge is already in the window."""

    def _padded(self, inputs, before, after):
        if self.strides == 1:
            return super()._padded(inputs, before, after)
        return ops.pad(inputs, ((0, 0), (before, after), (before, after), (0, 0)), mode="symmetric")


def inference_network(model: keras.Model, *, fold: bool = True) -> keras.Model:
    """Returns a copy for inference, weights included: without dropout and, with `fold`, with batch norms folded where this is exact.

    In pre-activation order every batch norm precedes its convolution. It can be folded into the preceding convolution if that output, or
    a sum of such outputs, is not used elsewhere: this holds for all but the first batch norm of a unit, and for those after a unit whose
    sum does not feed a shortcut. Batch norms on the residual stream remain, each as one operation.

    Args:
        model: a functional or sequential model; batch norms inside nested models are not folded.
        fold: whether to fold.

    Returns:
        A model with the same inputs, and the same outputs up to rounding. Convolutions with a folded batch norm have a
        bias; layer names are kept.
    """
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs[0], name=model.name)
    folds = _foldable(model) if fold else {}
    biased = {conv.name for convs in folds.values() for conv in convs}

    def clone(layer: keras.Operation) -> keras.Operation:
        if not isinstance(layer, keras.Layer):
            return layer  # an operation has no weights and no state
        config = layer.get_config()
        if isinstance(layer, layers.Conv2D):
            config |= {"use_bias": layer.use_bias or layer.name in biased, "kernel_initializer": "zeros"}  # every weight is set below
        kind = EdgePaddedMaxPool if isinstance(layer, MaxPool) else type(layer)
        if fold and isinstance(layer, layers.BatchNormalization) and _is_called_once(layer) and _is_of_images(layer):
            kind = FusedBatchNormalization
        return kind.from_config(config)

    def call(layer: keras.Operation, *args, **kwargs):
        left_out = layer.name in folds or isinstance(layer, layers.Dropout)
        return args[0] if left_out else layer(*args, **kwargs)

    copy = keras.models.clone_model(model, clone_function=clone, call_function=call)
    arrays = {layer.name: layer.get_weights() for layer in model.layers}
    for name, convs in folds.items():
        _fold_into(arrays, model.get_layer(name), convs)
    for layer in copy.layers:
        if layer.weights:
            layer.set_weights(arrays.pop(layer.name))
    for layer in _every_layer(copy):
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()  # recomputes the values used in `call` from the weights
    return copy


def _every_layer(model: keras.Model) -> Iterator[keras.Layer]:
    """Yields all layers, including those of nested models."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _every_layer(layer)


def _is_called_once(layer: keras.Operation) -> bool:
    return len(layer._inbound_nodes) == 1


def _is_of_images(norm: layers.BatchNormalization) -> bool:
    return len(norm.input.shape) == 4 and norm.axis in (-1, 3) and norm.scale and norm.center


def _foldable(model: keras.Model) -> dict[str, list[layers.Conv2D]]:
    """Returns batch norm name -> convolutions to fold it into, for every batch norm that can be folded."""
    nodes = [node for operation in model.operations for node in operation._inbound_nodes]
    producers = {id(tensor): node.operation for node in nodes for tensor in node.outputs}
    uses: dict[int, int] = {}
    for tensor in [*model.outputs, *(tensor for node in nodes for tensor in node.arguments.keras_tensors)]:
        uses[id(tensor)] = uses.get(id(tensor), 0) + 1

    def convolutions(tensor) -> list[layers.Conv2D]:
        """Returns the convolutions whose sum is the tensor; empty if it is anything else or is also used elsewhere."""
        layer = producers[id(tensor)]
        if uses[id(tensor)] > 1 or not _is_called_once(layer):
            return []
        if isinstance(layer, layers.Conv2D):
            return [layer] if layer.activation is keras.activations.linear else []
        if not isinstance(layer, layers.Add):
            return []
        parts = [convolutions(part) for part in layer.input]
        return [conv for part in parts for conv in part] if all(parts) else []

    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization) and _is_called_once(layer)]
    return {norm.name: convs for norm in norms if (convs := convolutions(norm.input))}


def _fold_into(arrays: dict[str, list[np.ndarray]], norm: layers.BatchNormalization, convs: list[layers.Conv2D]) -> None:
    """Scales kernels and biases; only the first convolution gets the shift, as the outputs are summed."""
    gamma, beta, mean, variance = (array.astype(np.float64) for array in arrays[norm.name])
    scale = gamma / np.sqrt(variance + norm.epsilon)
    shift = beta - mean * scale
    for conv in convs:
        kernel, *bias = arrays[conv.name]
        total = (bias[0] * scale if bias else 0) + shift
        arrays[conv.name] = [(kernel * scale).astype(kernel.dtype), np.broadcast_to(total, scale.shape).astype(kernel.dtype)]
        shift = 0
