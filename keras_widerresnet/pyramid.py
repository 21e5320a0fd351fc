"""Feature pyramids: the last map at each stride, as detectors and segmentation heads of other libraries take them."""

from __future__ import annotations

import re

import keras

FIRST_LEVEL, LAST_LEVEL = 1, 5
DEEPEST = "relu7"  # the ReLU behind the last batch norm
_ADDITION = re.compile(r"res[1-7](?:a|b\d+)")


@keras.saving.register_keras_serializable("keras_widerresnet")
class FeatureNetwork(keras.Model):
    """A network without its top, with the feature pyramid that other libraries read.

    The networks built with `include_top=False` are of this class. It is a functional model: it has no constructor of its own, and a file
    of it loads as the same class once `keras_widerresnet` is imported. The pyramid is computed from the layers, so that it is there in a
    loaded or cloned model too.

    Level `P<k>`, 1 to 5, is the last map at a stride of 2^k pixels. Levels at which the network has no residual unit are absent: those of
    an output stride of 8 are `P1` to `P3`, and `P3` is then the map at the end of B7. The deepest level is the output of `relu7`, which
    follows the last batch norm, as in every classifier and segmentation network of this family; the others are the outputs of the last
    addition at their stride, as `feature_extractor` gives them, before the batch norm and ReLU with which the next unit begins. (KerasHub's
    own pre-activation ResNets give additions on every level, also the deepest. Its consumers begin with a convolution, and the sum behind
    B7 is the one map here that no convolution of the trained network has read.)
    """

    @property
    def pyramid_outputs(self) -> dict[str, keras.KerasTensor]:
        """Level -> Keras tensor (batch, H / 2^k, W / 2^k, channels), shallow levels first: KerasHub's `image_encoder` needs it."""
        return {level: layer.output for level, layer in self._pyramid_layers().items()}

    @property
    def pyramid_level_inputs(self) -> dict[str, str]:
        """Level -> name of the layer whose output it is: KerasCV's `backbone` needs it."""
        return {level: layer.name for level, layer in self._pyramid_layers().items()}

    def _pyramid_layers(self) -> dict[str, keras.Layer]:
        return pyramid_layers(self)


def pyramid_layers(model: keras.Model) -> dict[str, keras.Layer]:
    """Returns the layer of each level of a network's pyramid, as `FeatureNetwork` defines it; empty if there is no residual unit.

    Args:
        model: a network of this package, with or without its top.
    """
    strides = _strides(model)
    by_stride: dict[int, keras.Layer] = {}
    for layer in model.layers:
        if layer.name == DEEPEST or _ADDITION.fullmatch(layer.name):
            by_stride[strides[id(layer.output)]] = layer
    levels = range(FIRST_LEVEL, LAST_LEVEL + 1)
    return {f"P{level}": by_stride[2**level] for level in levels if 2**level in by_stride}


def _strides(model: keras.Model) -> dict[int, int]:
    """Pixels of the input per cell, by the id of each tensor of a functional model in which only layers with `strides` resize."""
    strides = {id(tensor): 1 for tensor in model.inputs}
    for operation in model.operations:
        own = getattr(operation, "strides", 1)
        step = own if isinstance(own, int) else max(own)
        for node in operation._inbound_nodes:
            before = [strides[id(tensor)] for tensor in node.arguments.keras_tensors if id(tensor) in strides]
            if before:
                strides.update((id(tensor), max(before) * step) for tensor in node.outputs)
    return strides
