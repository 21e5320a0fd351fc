"""The networks as KerasHub's backbones and image classifiers, with presets and raw images as its users know them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_widerresnet.errors import InputError
from keras_widerresnet.hub.library import dtype_policy
from keras_widerresnet.hub.library import keras_hub as imported
from keras_widerresnet.networks import WiderResNet, pyramid_backbone
from keras_widerresnet.preprocessing import MEAN, STD
from keras_widerresnet.pyramid import FeatureNetwork
from keras_widerresnet.structures import STRUCTURES, Structure, find_structure
from keras_widerresnet.units import DATA_FORMAT
from keras_widerresnet.weights.layers import shortened

if TYPE_CHECKING:
    import keras_hub
else:
    keras_hub = imported("keras_widerresnet.hub")

SCALE = tuple(1 / (255 * std) for std in STD)
OFFSET = tuple(-mean / std for mean, std in zip(MEAN, STD, strict=True))
# What makes two layers of the same type and name compute the same.
_COMPUTATION = ("filters", "kernel_size", "strides", "padding", "dilation", "dilation_rate", "use_bias", "epsilon", "axis", "rate")
_CLASSIFIER = re.compile(r"linear\d+")


@keras.saving.register_keras_serializable("keras_widerresnet")
class WideResNetBackbone(keras_hub.models.FeaturePyramidBackbone):
    """A network without its top as a `keras_hub.models.Backbone`, with `pyramid_outputs` (see `FeatureNetwork`) and presets.

    Args:
        structure: a `Structure`, a key of `structures.STRUCTURES` (`"A"`, `"A1"`, ...), or the paper's notation.
        image_shape: (H, W, C), channels last; sizes may be None.
        output_stride, pool_padding, dropout, width, downsampling, activation, frozen_batch_norm: as in `WiderResNet`.
        **kwargs: `name`, `trainable` and `dtype`, as in every backbone of KerasHub.

    Inputs are float images (batch, H, W, C) as `WideResNetImageConverter` or `preprocess_input` makes them, outputs are the features
    behind `relu7`, (batch, H / output stride, W / output stride, channels).

    Raises:
        InputError: if sizes or options are not supported.
    """

    def __init__(
        self,
        structure: str | Structure,
        image_shape: Sequence[int | None] = (None, None, 3),
        output_stride: int | None = None,
        pool_padding: str = "ceil",
        dropout: float | Sequence[float] = 0.0,
        width: float | Sequence[float] = 1.0,
        downsampling: str | Sequence[str] | None = None,
        activation: str = "relu",
        frozen_batch_norm: bool = False,
        dtype: Any = None,
        **kwargs: Any,
    ):
        options = {
            **_of_structure(find_structure(structure), downsampling),
            "image_shape": tuple(image_shape),
            "output_stride": output_stride,
            "pool_padding": pool_padding,
            "dropout": dropout,
            "width": width,
            "activation": activation,
            "frozen_batch_norm": frozen_batch_norm,
        }
        network = _network(options, dtype, include_top=False)
        super().__init__(inputs=network.input, outputs=network.output, dtype=dtype, **kwargs)
        self.pyramid_outputs = network.pyramid_outputs
        self.data_format = DATA_FORMAT
        for name, option in options.items():
            setattr(self, name, option)
        self._option_names = tuple(options)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.options()}

    def options(self) -> dict[str, Any]:
        """Returns what the network is built with: the constructor's arguments but for those of every backbone, as JSON has them."""
        values = {name: getattr(self, name) for name in self._option_names}
        return {name: list(value) if isinstance(value, (list, tuple)) else value for name, value in values.items()}

    @classmethod
    def from_network(cls, network: keras.Model, structure: str | Structure, **options: Any) -> WideResNetBackbone:
        """Returns the backbone with the weights of a network of this package, with or without a top.

        Args:
            network: a network built or loaded; its weights are copied.
            structure: its structure.
            **options: the options of `WideResNetBackbone` that the network was built with, where they are not the defaults.

        Raises:
            InputError: if the network is not the one that structure and options describe; the message names the layers that differ.
        """
        source = pyramid_backbone(network)
        backbone = cls(structure, **{"image_shape": tuple(source.inputs[0].shape[1:]), **options})
        _check_equal(source, backbone)
        _copy(source, backbone)
        return backbone

    def to_network(self) -> FeatureNetwork:
        """Returns the same network as `WiderResNet(..., include_top=False)` builds it, with these weights."""
        network = _network(self.options(), self.dtype_policy, include_top=False)
        _copy(self, network)
        return network


@keras.saving.register_keras_serializable("keras_widerresnet")
class WideResNetImageConverter(keras_hub.layers.ImageConverter):
    """Raw RGB images, values 0..255, to the networks' input: resized if `image_size` is given, then normalised as in the official release.

    A resized image is the largest centred window of the target's aspect ratio, resized bicubically with antialiasing. For square
    images that is the release's test view (the shorter side resized, then the centre cropped) up to the rounding of the window.

    Args:
        image_size: (height, width) in pixels; None to leave images as they are.
        scale, offset: factors and summands of the channels; the defaults are equal to `preprocess_input` up to rounding.
        interpolation, antialias: of the resizing.
        **kwargs: as in `keras_hub.layers.ImageConverter`.
    """

    backbone_cls = WideResNetBackbone

    def __init__(
        self,
        image_size: Sequence[int] | None = None,
        scale: float | Sequence[float] | None = SCALE,
        offset: float | Sequence[float] | None = OFFSET,
        interpolation: str = "bicubic",
        antialias: bool = True,
        **kwargs: Any,
    ):
        super().__init__(image_size, scale, offset, interpolation=interpolation, antialias=antialias, **kwargs)


@keras.saving.register_keras_serializable("keras_widerresnet")
class WideResNetImageClassifierPreprocessor(keras_hub.models.ImageClassifierPreprocessor):
    """Raw images, and labels if there are any, to what `WideResNetImageClassifier` is trained on."""

    backbone_cls = WideResNetBackbone
    image_converter_cls = WideResNetImageConverter


@keras.saving.register_keras_serializable("keras_widerresnet")
class WideResNetImageClassifier(keras_hub.models.ImageClassifier):
    """An image classifier of KerasHub: `fit`, `evaluate` and `predict` take raw images, values 0..255, if it has a preprocessor.

    The arguments are those of `keras_hub.models.ImageClassifier`; by default it returns logits.
    """

    backbone_cls = WideResNetBackbone
    preprocessor_cls = WideResNetImageClassifierPreprocessor

    @classmethod
    def from_network(
        cls, network: keras.Model, structure: str | Structure, *, image_size: Sequence[int] | None = None, **options: Any
    ) -> WideResNetImageClassifier:
        """Returns the classifier with the weights of a classification network of this package.

        Args:
            network: built with its top, or loaded; its weights are copied.
            structure: its structure.
            image_size: (height, width) to which raw images are resized; None to take them as they are.
            **options: the options of `WideResNetBackbone` that the network was built with, where they are not the defaults.

        Raises:
            InputError: if the network has no classifier, or is not the one that structure and options describe.
        """
        head = next((layer for layer in network.layers if _CLASSIFIER.fullmatch(layer.name)), None)
        if not isinstance(head, keras.layers.Dense):
            raise InputError(f"The model {network.name!r} has no classifier (a dense layer 'linear<classes>')")
        activation = None if head.activation is keras.activations.linear else keras.activations.serialize(head.activation)
        classifier = cls(
            WideResNetBackbone.from_network(network, structure, **options),
            head.units,
            WideResNetImageClassifierPreprocessor(WideResNetImageConverter(image_size)),
            activation=activation,
            head_dtype=head.dtype_policy,
        )
        classifier.output_dense.set_weights(head.get_weights())
        return classifier

    def to_network(self) -> keras.Model:
        """Returns the same network as `WiderResNet` builds it, with these weights; it takes images normalised by `preprocess_input`.

        Raises:
            InputError: if the classifier pools otherwise than by averaging, as no network of this package does.
        """
        if self.pooling != "avg":
            raise InputError(f"The networks pool by averaging before the classifier. Received: pooling={self.pooling!r}")
        top = {"include_top": True, "classes": self.num_classes, "classifier_activation": self.activation}
        network = _network(self.backbone.options(), self.backbone.dtype_policy, **top)
        _copy(self.backbone, network)
        network.get_layer(f"linear{self.num_classes}").set_weights(self.output_dense.get_weights())
        return network


def _network(options: Mapping[str, Any], dtype: Any, **top: Any) -> Any:
    """Builds the network of a backbone's options, which may be lists where `WiderResNet` takes tuples, under a dtype policy."""
    own: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    with dtype_policy(dtype):
        return WiderResNet(input_shape=own.pop("image_shape"), **own, **top)


def _of_structure(structure: Structure, downsampling: str | Sequence[str] | None) -> dict[str, Any]:
    """The structure as JSON has it: its name or the notation, and the halvings where these do not tell them."""
    text = structure.name if STRUCTURES.get(structure.name) == structure else str(structure)
    if downsampling is None and find_structure(text).replace() != structure.replace():
        downsampling = structure.downsampling
    return {"structure": text, "downsampling": downsampling}


def _check_equal(network: keras.Model, described: keras.Model) -> None:
    """Raises `InputError` if two networks do not compute the same with the same weights."""
    found, wanted = _computations(network), _computations(described)
    differing = [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]
    if differing:
        first, absent = differing[0], "absent"
        raise InputError(
            f"The network {network.name!r} is not the one that structure and options describe: its layers "
            f"{', '.join(shortened(differing, 5))} differ. {first} is {found.get(first, absent)} in the network, "
            f"{wanted.get(first, absent)} as described"
        )


def _computations(network: keras.Model) -> dict[str, Any]:
    """Layer name -> its type and what it computes, without the layers of the input."""
    layers = [layer for layer in network.layers if not isinstance(layer, keras.layers.InputLayer)]
    configs = {layer.name: (type(layer).__name__, layer.get_config()) for layer in layers}
    return {name: (kind, {key: config[key] for key in _COMPUTATION if key in config}) for name, (kind, config) in configs.items()}


def _copy(source: keras.Model, target: keras.Model) -> None:
    """Copies the weights of every layer of `source` to that of the same name."""
    for layer in source.layers:
        if layer.weights:
            target.get_layer(layer.name).set_weights(layer.get_weights())
