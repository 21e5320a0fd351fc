"""Builds a `keras.Model` from a structure; the public functions follow the conventions of `keras.applications`."""

from __future__ import annotations

import inspect
import numbers
import pathlib
import re
from collections.abc import Callable, Sequence

import keras
from keras import layers

from keras_widerresnet import units
from keras_widerresnet.errors import InputError
from keras_widerresnet.models import check_beside
from keras_widerresnet.pyramid import DEEPEST, FeatureNetwork, pyramid_layers
from keras_widerresnet.structures import POOL_PADDINGS, STRUCTURES, Structure, Unit, find_structure, stage_filters
from keras_widerresnet.weights.assign import assign_weights
from keras_widerresnet.weights.find import find_weights
from keras_widerresnet.weights.registry import PRETRAINED, Pretrained

POOLINGS = (None, "avg", "max")
CLASSES = 1000  # of ImageNet
IMAGE_CHANNELS = (1, 3, 4)  # grey, RGB, RGB with alpha


def WiderResNet(
    structure: str | Structure | None = None,
    include_top: bool = True,
    weights: str | pathlib.Path | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    *,
    output_stride: int | None = None,
    pool_padding: str = "ceil",
    dropout: float | tuple[float, float] = 0.0,
    width: float | Sequence[float] | None = None,
    downsampling: str | Sequence[str] | None = None,
    activation: str = "relu",
    frozen_batch_norm: bool = False,
    classifier_bias: bool = True,
) -> keras.Model:
    """A wide residual network of any structure (arXiv:1611.10080).

    Args:
        structure: a `Structure`, a key of `structures.STRUCTURES` (`"A"`, `"A1"`, ...), or the paper's notation
            `"S-n1-n2-n3-n4-n5-n6-n7"`, e.g. `"112-1-1-1-1-9-1-1"`; None for that of `weights`, which must then be a name of
            `weights.PRETRAINED`.
        include_top: whether to include global average pooling and the `linear{classes}` classifier; without them the network ends in
            `bn7` and ReLU, with output (batch, H / output stride, W / output stride, 4096).
        weights: None (random initialisation as in the release); `"imagenet"` for the official weights of Models A and A1, or another
            name of `weights.PRETRAINED`; or the path of a `.weights.h5` or `.keras` file with this package's layer names, or of an
            original checkpoint (see `weights.read_original`); or such a file on a hub, `"hf://USER/NAME"` or
            `"kaggle://USER/MODEL/FRAMEWORK/VARIATION"`.
        input_tensor: Keras tensor to use as the image input.
        input_shape: (H, W, C), channels last; default (S, S, 3) with the top, where S is the structure's or that of the images on which
            `weights` of that name were trained, and (None, None, 3) without.
        pooling: if `include_top` is False: None (feature map), `"avg"` or `"max"` (global pooling, (batch, 4096)).
        classes: number of classes of the classifier; None for that of `weights` with a name of `weights.PRETRAINED`, or else 1000.
        classifier_activation: `"softmax"`, `"sigmoid"` if an image may show several classes, or None for logits.
        name: the model's name.
        output_stride: None for the structure's own; 16 or 8 drop the last halvings and dilate the layers after them (official release).
        pool_padding: `"ceil"` (the paper's), `"symmetric"` or `"valid"`, see `units.MaxPool`.
        dropout: rate before the last convolution of the units of B6 and B7, or a pair of rates.
        width: factor for all stages (channels rounded to a multiple of 8), or five factors for B1..B5 under the release's rule; None for
            that of `weights` with a name of `weights.PRETRAINED`, or else 1.
        downsampling: None for the structure's own, `"pool"`, `"stride"`, or one of the two for each halving before B2..B6.
        activation: `"relu"`, or `"leaky_relu"` of slope 0.01 (InPlace-ABN release).
        frozen_batch_norm: whether to use the running statistics in training too; scales and shifts are still learned (official
            release, segmentation).
        classifier_bias: whether the classifier has a bias; psa's classifier (`weights="voc-backbone"`) has none.

    The model's inputs are float images (batch, H, W, 3) as returned by `preprocess_input`; its outputs are float32 probabilities
    (batch, classes) or logits, also under a mixed-precision policy.

    Returns:
        A functional `keras.Model`; without the top a `FeatureNetwork`, which has `pyramid_outputs` and `pyramid_level_inputs`.

    Raises:
        InputError: (a `ValueError`) if sizes, channels, classes, weights or options are not supported.
    """
    record = PRETRAINED.get(str(weights))
    structure = _own_or_implied(structure, record).halved_by(downsampling)
    width = (record.width if record else 1.0) if width is None else width
    classes = (record.classes if record else CLASSES) if classes is None else classes
    size = (record.crop_size if record else 0) or structure.crop_size
    if pool_padding not in POOL_PADDINGS:
        raise InputError(f"`pool_padding` must be one of {POOL_PADDINGS}. Received: {pool_padding!r}")
    if activation not in units.ACTIVATIONS:
        raise InputError(f"`activation` must be one of {units.ACTIVATIONS}. Received: {activation!r}")
    if pooling not in POOLINGS:
        raise InputError(f"`pooling` must be one of {POOLINGS}. Received: {pooling!r}")
    if include_top:
        check_class_count(classes)
    plan = structure.plan(width=width, output_stride=output_stride, dropout=dropout)

    image = _image_input(input_tensor, input_shape, structure, size if include_top else None, pool_padding, output_stride)
    x = units.conv(image, stage_filters(width)[1][0], 3, "conv1a")
    for item in plan:
        x = units.residual_unit(x, item, activation, frozen_batch_norm) if isinstance(item, Unit) else units.max_pool(x, item, pool_padding)
    x = units.batch_norm_relu(x, "bn7", "relu7", activation, frozen_batch_norm)
    if include_top:
        x = _classifier(x, classes, classifier_activation, classifier_bias)
    elif pooling is not None:
        pool = layers.GlobalAveragePooling2D if pooling == "avg" else layers.GlobalMaxPooling2D
        x = pool(data_format=units.DATA_FORMAT, name="pool7")(x)

    inputs = image if input_tensor is None else one_or_all(keras.utils.get_source_inputs(input_tensor))
    kind = keras.Model if include_top else FeatureNetwork
    model = kind(inputs, x, name=name or _model_name(structure))
    if weights is not None:
        check_beside(weights, structure, activation)
        arrays = find_weights(
            weights,
            structure,
            include_top=include_top,
            activation=activation,
            pool_padding=pool_padding,
            classifier_bias=classifier_bias,
        )
        assign_weights(model, arrays, repr(str(weights)), ignore_head=not include_top)
    return model


def checked_shape(shape: Sequence[int | None]) -> tuple[int | None, int | None, int]:
    """Returns the validated shape of an image (height, width, channels), without the batch axis.

    Raises:
        InputError: if it is not such a shape, or has the channels first.
    """
    wanted = "The input must be of shape (height, width, channels), channels last, 3 for RGB"
    if isinstance(shape, str) or not isinstance(shape, Sequence):
        raise InputError(f"{wanted}. Received: {shape!r}")
    shape = tuple(shape)
    if len(shape) == 4:
        raise InputError(f"{wanted}, and without the batch: {shape[1:]}. Received: {shape}")
    if len(shape) == 3 and shape[0] in IMAGE_CHANNELS and shape[-1] not in IMAGE_CHANNELS:
        raise InputError(f"{wanted}: {(*shape[1:], shape[0])}. Received channels first: {shape}")
    if len(shape) != 3 or not _is_count(shape[2]) or not all(side is None or _is_count(side) for side in shape[:2]):
        raise InputError(f"{wanted}. Received: {shape}")
    height, width, channels = (side and int(side) for side in shape)
    return height, width, channels or 0


def check_class_count(classes: object) -> None:
    """Raises `InputError` if a number of classes is not a positive whole number."""
    if not isinstance(classes, int) or classes < 1:
        raise InputError(f"`classes` must be a positive whole number. Received: {classes!r}")


def _is_count(number: object) -> bool:
    return isinstance(number, numbers.Integral) and not isinstance(number, bool) and int(number) > 0


def _own_or_implied(structure: str | Structure | None, record: Pretrained | None) -> Structure:
    """Returns a network's structure: the given one, or that of its weights.

    Raises:
        InputError: if there is neither.
    """
    if structure is not None:
        return find_structure(structure)
    if record is None:
        raise InputError(f"`structure` is needed, except with `weights` of a name that implies it: {', '.join(PRETRAINED)}")
    return find_structure(record.structure)


def _image_input(input_tensor, input_shape, structure, size, pool_padding, output_stride):
    if input_tensor is not None:
        if not isinstance(input_tensor, keras.KerasTensor):
            raise InputError(f"`input_tensor` must be a Keras tensor, e.g. the output of keras.Input. Received: {type(input_tensor)}")
        shape = tuple(input_tensor.shape[1:])
    else:
        shape = (size, size, 3) if input_shape is None else input_shape
    shape = checked_shape(shape)
    for size in shape[:2]:
        if size is not None:
            structure.spatial_sizes(size, pool_padding=pool_padding, output_stride=output_stride)
    return keras.Input(shape, name="data") if input_tensor is None else input_tensor


def _classifier(x, classes: int, activation: str | None, use_bias: bool):
    """Global average pooling, dense layer and activation, in float32 even if the features are 16-bit."""
    compute = keras.config.dtype_policy().compute_dtype
    dtype = "float32" if compute in ("float16", "bfloat16") else compute
    x = layers.GlobalAveragePooling2D(data_format=units.DATA_FORMAT, dtype=dtype, name="pool7")(x)
    limit = x.shape[-1] ** -0.5
    # Official release: weight and bias uniform in ±1/sqrt(fan in).
    uniform = {key: keras.initializers.RandomUniform(-limit, limit) for key in ("kernel_initializer", "bias_initializer")}
    return layers.Dense(classes, activation=activation, use_bias=use_bias, dtype=dtype, name=f"linear{classes}", **uniform)(x)


def _model_name(structure: Structure) -> str:
    return "wide_resnet_" + structure.name.lower() if structure.name.isalnum() else f"wider_resnet_{structure}".replace("-", "_")


def _family_member(key: str) -> Callable[..., keras.Model]:
    structure = STRUCTURES[key]
    documentation = inspect.cleandoc(WiderResNet.__doc__ or "")
    arguments = documentation[documentation.find("    include_top:") :]  # all but the structure

    def build(
        include_top: bool = True,
        weights: str | pathlib.Path | None = None,
        input_tensor: keras.KerasTensor | None = None,
        input_shape: tuple[int | None, int | None, int] | None = None,
        pooling: str | None = None,
        classes: int | None = None,
        classifier_activation: str | None = "softmax",
        name: str | None = None,
        *,
        output_stride: int | None = None,
        pool_padding: str = "ceil",
        dropout: float | tuple[float, float] = 0.0,
        width: float | Sequence[float] | None = None,
        downsampling: str | Sequence[str] | None = None,
        activation: str = "relu",
        frozen_batch_norm: bool = False,
        classifier_bias: bool = True,
    ) -> keras.Model:
        return WiderResNet(
            structure,
            include_top,
            weights,
            input_tensor,
            input_shape,
            pooling,
            classes,
            classifier_activation,
            name or _model_name(structure),
            output_stride=output_stride,
            pool_padding=pool_padding,
            dropout=dropout,
            width=width,
            downsampling=downsampling,
            activation=activation,
            frozen_batch_norm=frozen_batch_norm,
            classifier_bias=classifier_bias,
        )

    build.__name__ = build.__qualname__ = f"WideResNet{key}"
    build.__doc__ = (
        f"Model {key}, {structure}: depth {structure.depth}, {structure.parameters():,} parameters, halvings by "
        f"{', '.join(structure.downsampling[: len(structure.halvings)])} (arXiv:1611.10080).\n\nArgs:\n{arguments}\n"
    )
    return build


WideResNetA = _family_member("A")
WideResNetA1 = _family_member("A1")
WideResNetA2 = _family_member("A2")
WideResNetB = _family_member("B")
WideResNetC = _family_member("C")
WideResNetD = _family_member("D")
WideResNetE = _family_member("E")
WideResNetF = _family_member("F")


def one_or_all(inputs: Sequence[keras.KerasTensor]) -> keras.KerasTensor | Sequence[keras.KerasTensor]:
    """A single input by itself: a model of a list warns when it is called with a tensor."""
    return inputs[0] if len(inputs) == 1 else inputs


def feature_extractor(model: keras.Model) -> keras.Model:
    """Returns a model with the same inputs that outputs the feature maps of stages B2..B7, after the last addition of each stage.

    Args:
        model: a network of this package, built or loaded from a file.

    Returns:
        A `keras.Model` whose output is a dict `{"stage2": (batch, H2, W2, C2), ..., "stage7": ...}`; stages without units are omitted.

    Raises:
        InputError: if no layer of the model has the name of a residual unit.
    """
    stages = {}
    for layer in model.layers:
        match = re.fullmatch(r"res([2-7])(a|b\d+)", layer.name)
        if match:
            stages[f"stage{match[1]}"] = layer.output
    if not stages:
        raise InputError(f"No residual unit (layers 'res2a', 'res2b1', ...) found in model {model.name!r}")
    return keras.Model(one_or_all(model.inputs), stages, name=f"{model.name}_features")


def pyramid_backbone(model: keras.Model) -> FeatureNetwork:
    """Returns a network without its top, with the feature pyramid that KerasHub and KerasCV read.

    Networks built with `include_top=False` have it already; this makes one of a classifier, a segmentation network or an older file.

    Args:
        model: a network of this package, built or loaded from a file; layers and weights are shared with it.

    Returns:
        A `FeatureNetwork` with the same inputs, whose output is that of `relu7`, (batch, H / stride, W / stride, channels).

    Raises:
        InputError: if the model has no residual units, or no `relu7` behind them, at its top level.
    """
    is_graph = isinstance(model, keras.Function)
    if not is_graph or not pyramid_layers(model) or all(layer.name != DEEPEST for layer in model.layers):
        raise InputError(f"No network of this package (layers 'res2a', ..., {DEEPEST!r}) found in model {model.name!r}")
    return FeatureNetwork(one_or_all(model.inputs), model.get_layer(DEEPEST).output, name=f"{model.name}_backbone")
