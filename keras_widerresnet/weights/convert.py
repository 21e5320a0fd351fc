"""From an original checkpoint to a `.weights.h5` file of ours."""

from __future__ import annotations

import hashlib
import pathlib

import keras
import numpy as np

from keras_widerresnet.errors import InputError
from keras_widerresnet.files import replacing
from keras_widerresnet.structures import Structure, find_structure
from keras_widerresnet.units import kernels_at_zero
from keras_widerresnet.weights.assign import assign_weights
from keras_widerresnet.weights.keras_file import read_keras_weights
from keras_widerresnet.weights.official import layer_arrays
from keras_widerresnet.weights.original import PSA_CLASSIFIER, Original, read_original
from keras_widerresnet.weights.registry import PRETRAINED, OriginalFile, Pretrained

_BLOCK_BYTES = 1 << 20


def recognise(md5: str, sha256: str) -> tuple[Pretrained, OriginalFile] | None:
    """The record of the published file with one of these checksums; None for any other file."""
    for record in PRETRAINED.values():
        for file in record.files:
            if md5 == file.md5 or sha256 == file.sha256:
                return record, file
    return None


def checksums(path: str | pathlib.Path) -> tuple[str, str]:
    """md5 and sha256 of a file, in hexadecimal, from one reading."""
    digests = (hashlib.md5(usedforsecurity=False), hashlib.sha256())
    try:
        with pathlib.Path(path).open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                for digest in digests:
                    digest.update(block)
    except OSError as error:
        raise InputError(f"No weights file can be read at {str(path)!r}: {error.strerror}") from None
    return digests[0].hexdigest(), digests[1].hexdigest()


def same_network(first: str | Structure, second: str | Structure) -> bool:
    """Whether two structures are one network; Models A, A1 and A2 differ, although their parameters have the same shapes."""
    return find_structure(first).replace() == find_structure(second).replace()


def convert(source: str | pathlib.Path, structure: str | Structure, output: str | pathlib.Path, width: float = 1.0) -> int:
    """Converts an original checkpoint to a `.weights.h5` file, complete or not at all.

    The network's kind is read off the file: a classification network with or without its classifier, or a segmentation network.

    Args:
        source: a file that `read_original` knows.
        structure: the network that the parameters belong to, e.g. `"A1"`. The shapes cannot tell A, A1 and A2 apart; a published file whose
            checksum is known must be of this structure.
        output: the file to write, replaced if it exists; its name ends in `.weights.h5`.
        width: the network's width.

    Returns:
        The number of values written, parameters and running statistics.

    Raises:
        InputError: if the file cannot be read, is known to be of another structure, or does not fit; then with one table of all that is
            missing, unused or of another shape.
    """
    check_known(source, structure)
    return write_converted(source, structure, output, width)


def write_converted(source: str | pathlib.Path, structure: str | Structure, output: str | pathlib.Path, width: float = 1.0) -> int:
    """As `convert`, for a source whose checksum was already looked at."""
    output = pathlib.Path(output)
    if not output.name.endswith(".weights.h5"):
        raise InputError(f"The output's name must end in .weights.h5. Received: {str(output)!r}")
    original = read_original(source)
    model = _network(original, structure, width)
    arrays = layer_arrays(original.parameters)
    ignore_head = original.classes is None
    original.parameters.clear()  # so that each array is let go when it is assigned
    assign_weights(model, arrays, repr(str(source)), ignore_head)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(output) as temporary:
            model.save_weights(temporary)
    except OSError as error:
        raise InputError(f"{str(output)!r} cannot be written: {error}") from None
    return model.count_params()


def check_known(source: str | pathlib.Path, structure: str | Structure) -> None:
    """Raises an InputError if `source` is a published file of another structure."""
    known = recognise(*checksums(source))
    if known and not same_network(known[0].structure, structure):
        raise InputError(f"{str(source)!r} is {known[1].name}: it is of Model {known[0].structure}, not of {structure}")


def compare(source: str | pathlib.Path, converted: str | pathlib.Path) -> None:
    """Reads both files again and compares every value.

    Raises:
        InputError: naming the first layer that is not equal to the bit.
    """
    original = read_original(source)
    expected, found = layer_arrays(original.parameters), read_keras_weights(converted)
    expected.pop(PSA_CLASSIFIER.removesuffix("_weight"), None)
    for name in sorted(expected.keys() | found.keys()):
        ours, theirs = found.get(name, []), expected.get(name, [])
        if len(ours) != len(theirs) or not all(map(np.array_equal, ours, theirs)):
            raise InputError(f"{str(converted)!r} differs from {str(source)!r} in layer {name}")


def _network(original: Original, structure: str | Structure, width: float) -> keras.Model:
    """The network, all zeros, whose weights `original` holds."""
    from keras_widerresnet.networks import WiderResNet
    from keras_widerresnet.segmentation import WideResNetFCN

    with kernels_at_zero():
        if original.classifier_convs:
            return WideResNetFCN(structure, original.classes, original.classifier_convs, width=width)
        top = {"classes": original.classes} if original.classes else {"include_top": False}
        options = {"activation": original.activation, "pool_padding": original.pool_padding}
        return WiderResNet(structure, width=width, input_shape=(None, None, 3), **top, **options)
