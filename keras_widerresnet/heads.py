"""The heads of segmentation networks by name, the stride of their logits, and the networks that they fit."""

from keras_widerresnet.errors import InputError
from keras_widerresnet.structures import STAGES, Structure

# With its declared dependencies it brings the full TensorFlow, by way of tensorflow-text, which nothing here uses.
HOW_TO_INSTALL = 'pip install "keras_widerresnet[hub]", or as docs/install.md says beside tensorflow-cpu'
HEADS = FCN, DEEPLAB_V3_PLUS = ("fcn", "deeplab_v3_plus")
DECODER_STAGE, DECODER_STRIDE = 3, 4  # of DeepLabV3+'s logits, whatever the backbone's output stride
DECODER_CLASSIFIER = "segmentation_output"  # KerasHub's name of the layer that returns them


def logit_stride(head: str, output_stride: int) -> int:
    """Returns the pixels per logit, in each direction, of a head on a backbone of that output stride."""
    return DECODER_STRIDE if head == DEEPLAB_V3_PLUS else output_stride


def check_decoder(structure: Structure, pool_padding: str, output_stride: int | None) -> None:
    """Raises `InputError` if a DeepLabV3+ head does not fit a backbone, whose maps it joins at a stride of 4 pixels."""
    stride = output_stride or structure.output_stride
    if stride <= DECODER_STRIDE or not structure.units[DECODER_STAGE - 1]:
        raise InputError(
            f"DeepLabV3+ needs units at a stride of {DECODER_STRIDE} pixels, in B{DECODER_STAGE}, and deeper ones. Received: {structure}"
        )
    sizes = structure.spatial_sizes(8 * stride, pool_padding=pool_padding, output_stride=output_stride)
    if sizes[DECODER_STAGE] * DECODER_STRIDE != sizes[STAGES[-1]] * stride:
        raise InputError(
            f"DeepLabV3+ needs maps that cover the same pixels: use another pool padding than {pool_padding!r}, with which {8 * stride} "
            f"pixels become {sizes[DECODER_STAGE]} and then {sizes[STAGES[-1]]} cells"
        )
