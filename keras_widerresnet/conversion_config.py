"""The options of a weight conversion, as a record."""

from __future__ import annotations

import dataclasses

from keras_widerresnet.errors import InputError
from keras_widerresnet.options import MODEL, OUTPUT, check, did_you_mean, documented, option
from keras_widerresnet.structures import Structure, find_structure
from keras_widerresnet.weights.registry import PRETRAINED

WEIGHT_TYPES = (FLOAT32, FLOAT16) = "float32", "float16"


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class ConversionConfig:
    """A conversion of an original checkpoint, or of the final network of a run, to a `.weights.h5` file.

    Raises:
        InputError: if a value is out of range.
    """

    source: str = option(
        help="official .params, PyTorch or .safetensors state dict (names of psa, InPlace-ABN or NVIDIA), resnet38d-tf's .h5, .keras, or "
        "a run directory",
        group=MODEL,
    )
    model: str = option(
        "",
        help="A, A1, A2 ... or a structure; or a pretrained name such as imagenet-a1, whose checksum the file must then have; "
        "empty for a published file, which is recognised by its checksum, and for that of a run",
        group=MODEL,
    )
    width: float = option(0.0, help="factor for the channels of all stages; 0 for that of the run, or 1", group=MODEL, least=0)
    output: str = option("", help="the .weights.h5 file to write; empty to write a published file to the cache", group=OUTPUT)
    weight_type: str = option(FLOAT32, help="float16 stores kernels in half precision", group=OUTPUT, choices=WEIGHT_TYPES)
    verify: bool = option(False, help="read both files again afterwards and compare every value", group=OUTPUT)
    overwrite: bool = option(False, help="replace an existing output", group=OUTPUT)

    def __post_init__(self):
        check(self)


def find_convertible(model: str) -> Structure:
    """Returns the structure for a file that was not published.

    Raises:
        InputError: if `model` is neither a structure nor the name of a published file.
    """
    try:
        return find_structure(model)
    except InputError as error:
        published = f"{', '.join(PRETRAINED)}{did_you_mean(model, PRETRAINED)}"
        raise InputError(f"{error}. Names of published files: {published}") from None
