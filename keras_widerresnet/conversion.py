"""From an original checkpoint to a `.weights.h5` file of ours, with a sidecar that says what network it is of."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib

import keras
import numpy as np

from keras_widerresnet.conversion_config import ConversionConfig, find_convertible
from keras_widerresnet.errors import InputError
from keras_widerresnet.fcn import WideResNetFCN
from keras_widerresnet.files import check_absent, check_room, is_disk_full, reason, replacing
from keras_widerresnet.models import CLASSIFICATION, SEGMENTATION, Facts, sidecar
from keras_widerresnet.networks import WiderResNet
from keras_widerresnet.structures import STRUCTURES, Structure, find_structure, same_network
from keras_widerresnet.units import kernels_at_zero
from keras_widerresnet.weights.assign import assign_weights
from keras_widerresnet.weights.checksums import check_known, checksums, recognise
from keras_widerresnet.weights.find import converted_name, home
from keras_widerresnet.weights.keras_file import read_keras_weights
from keras_widerresnet.weights.layers import is_of_backbone
from keras_widerresnet.weights.official import layer_arrays
from keras_widerresnet.weights.original import OFFICIAL_KIND, Original, read_original
from keras_widerresnet.weights.registry import PRETRAINED, OriginalFile, Pretrained

_HDF5_BYTES = 1 << 13  # of a file beside its arrays, and of each array beside its values, at most


@dataclasses.dataclass(frozen=True)
class Converted:
    """What a conversion has left.

    Args:
        path: the file written.
        values: the number of values in it, parameters and running statistics.
        left: names, as they are in the source, of what no layer of the network takes.
    """

    path: pathlib.Path
    values: int
    left: tuple[str, ...]


def convert(source: str | pathlib.Path, structure: str | Structure, output: str | pathlib.Path, width: float = 1.0) -> int:
    """Converts an original checkpoint to a `.weights.h5` file, complete or not at all.

    The network's kind is read off the file: a classification network with or without its classifier, or a segmentation network. Beside
    `NAME.weights.h5` lies `NAME.weights.json`, which says what network the weights are of (`models.Facts`).

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
    return _write(source, structure, pathlib.Path(output), width).values


def convert_file(config: ConversionConfig) -> tuple[pathlib.Path, int]:
    """As `convert_named`; returns the file written and the number of values in it."""
    converted = convert_named(config)
    return converted.path, converted.values


def convert_named(config: ConversionConfig) -> Converted:
    """Converts an original file for a structure, or a published file, whose checksum then says what it is.

    Args:
        config: what to convert, and where to.

    Returns:
        The file written, and what it holds and leaves out.

    Raises:
        InputError: if the source is not what it should be, does not fit, or the output exists.
    """
    source = pathlib.Path(os.path.expanduser(config.source))
    known = _published(source, config.model)
    structure = known[0].structure if known else find_convertible(config.model)
    if config.output:
        output = pathlib.Path(os.path.expanduser(config.output))
    elif known:
        output = home() / converted_name(*known)
    else:
        names = ", ".join(PRETRAINED)
        raise InputError(f"--output is needed with --model={config.model}; only published files ({names}) have a place in the cache")
    check_absent(output, config.overwrite)
    converted = _write(source, structure, output, config.width)
    if config.verify:
        compare(source, output)
    return converted


def compare(source: str | pathlib.Path, converted: str | pathlib.Path) -> None:
    """Reads both files again and compares every value; what is in the source alone, behind features, is left aside.

    Raises:
        InputError: naming the first layer that is not equal to the bit.
    """
    original = read_original(source)
    expected, found = layer_arrays(original.parameters), read_keras_weights(converted)
    compared = found.keys() | {name for name in expected if original.classes or is_of_backbone(name)}
    for name in sorted(compared):
        ours, theirs = found.get(name, []), expected.get(name, [])
        if len(ours) != len(theirs) or not all(map(np.array_equal, ours, theirs)):
            raise InputError(f"{str(converted)!r} differs from {str(source)!r} in layer {name}")


def _published(source: pathlib.Path, model: str) -> tuple[Pretrained, OriginalFile] | None:
    """The record of the source, None for a file that was not published; an `InputError` if it is not what `model` says."""
    digests = checksums(source)
    known, wanted = recognise(*digests), PRETRAINED.get(model)
    checksum = "md5 {}, sha256 {}".format(*digests)
    if wanted and not (known and known[0] is wanted):
        expected = "; ".join(f"{file.name}, {file.checksum}" for file in wanted.files)
        received = f"that of {known[0].name!r}" if known else checksum
        raise InputError(f"{str(source)!r} is refused: its checksum is {received}, and {model!r} is in {expected}")
    if not known and not model:
        raise InputError(f"{str(source)!r} is none of the published files: --model must say its structure. Its checksum: {checksum}")
    if known and not wanted and model and not same_network(known[0].structure, find_convertible(model)):
        raise InputError(f"{str(source)!r} is {known[1].name}: it is of Model {known[0].structure}, not of {model}")
    return known


def _write(source: str | pathlib.Path, structure: str | Structure, output: pathlib.Path, width: float) -> Converted:
    if not output.name.endswith(".weights.h5"):
        raise InputError(f"The output's name must end in .weights.h5. Received: {str(output)!r}")
    original = read_original(source)
    model, facts = _network(original, structure, width), _facts(original, find_structure(structure), width)
    arrays = layer_arrays(original.parameters, original.own_names)
    ignore_head = original.classes is None
    original.parameters.clear()  # so that each array is let go when it is assigned
    left = assign_weights(model, arrays, repr(str(source)), ignore_head)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        # The sidecar is moved first, when the weights that it replaces are gone: none are ever there without their own.
        with replacing(output) as temporary, replacing(sidecar(output)) as beside:
            check_room(temporary, _file_bytes(model))
            model.save_weights(temporary)
            facts.save(beside)
            output.unlink(missing_ok=True)
    except Exception as error:  # h5py has its own for files
        if not isinstance(error, OSError) and not is_disk_full(error):
            raise
        raise InputError(f"{str(output)!r} cannot be written: {reason(error)}") from None
    return Converted(output, model.count_params(), left)


def _file_bytes(model: keras.Model) -> int:
    """How large the model's `.weights.h5` file is, at most."""
    arrays = sum(math.prod(variable.shape) * np.dtype(variable.dtype).itemsize for variable in model.variables)
    return arrays + _HDF5_BYTES * (1 + len(model.variables))


def _network(original: Original, structure: str | Structure, width: float) -> keras.Model:
    """The network, all zeros, whose weights `original` holds."""
    with kernels_at_zero():
        if original.classes and original.classifier_convs:
            return WideResNetFCN(
                structure,
                original.classes,
                original.classifier_convs,
                pool_padding=original.pool_padding,
                width=width,
                activation=original.activation or "relu",
            )
        return WiderResNet(
            structure,
            include_top=bool(original.classes),
            input_shape=(None, None, 3),
            classes=original.classes or 0,  # without the top it means nothing
            pool_padding=original.pool_padding,
            width=width,
            activation=original.activation or "relu",
        )


def _facts(original: Original, structure: Structure, width: float) -> Facts:
    known = next((name for name, other in STRUCTURES.items() if same_network(other, structure)), "")
    can_be_written = same_network(str(structure), structure)  # the notation has no word for halvings by stride
    task = SEGMENTATION if original.classifier_convs else CLASSIFICATION
    return Facts(
        structure=known or (str(structure) if can_be_written else ""),
        width=width,
        # The official release trains with one convention and evaluates with another: its files leave the choice.
        pool_padding="" if original.kind == OFFICIAL_KIND else original.pool_padding,
        activation=original.activation or "relu",
        task=task if original.classes else "",
        classes=original.classes,
        classifier_convs=original.classifier_convs,
    )
