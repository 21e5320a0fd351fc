"""Converts an original checkpoint to a `.weights.h5` file of this package, with a sidecar that describes the network."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib

import keras
import numpy as np

from keras_widerresnet.conversion_config import FLOAT16, FLOAT32, ConversionConfig, find_convertible
from keras_widerresnet.errors import InputError
from keras_widerresnet.fcn import WideResNetFCN
from keras_widerresnet.files import check_absent, check_room, is_disk_full, reason, replacing
from keras_widerresnet.models import Facts, facts_of_original, find_source, sidecar
from keras_widerresnet.networks import WiderResNet
from keras_widerresnet.structures import STRUCTURES, Structure, find_structure, same_network
from keras_widerresnet.units import kernels_at_zero
from keras_widerresnet.weights.assign import assign_weights
from keras_widerresnet.weights.checksums import check_known, checksums, recognise
from keras_widerresnet.weights.find import converted_name, home
from keras_widerresnet.weights.keras_file import read_keras_weights, write_halved
from keras_widerresnet.weights.layers import is_of_backbone, is_of_head
from keras_widerresnet.weights.official import layer_arrays
from keras_widerresnet.weights.original import Original, read_original
from keras_widerresnet.weights.registry import PRETRAINED, OriginalFile, Pretrained

_HDF5_BYTES = 1 << 13  # upper bound of the overhead per file, and per array


@dataclasses.dataclass(frozen=True)
class Converted:
    """The result of a conversion.

    Args:
        path: the file written.
        values: the number of values in it, parameters and running statistics.
        left: the source's own names of the arrays that no layer of the network uses.
    """

    path: pathlib.Path
    values: int
    left: tuple[str, ...]


def convert(source: str | pathlib.Path, structure: str | Structure, output: str | pathlib.Path, width: float = 1.0) -> int:
    """Converts an original checkpoint to a `.weights.h5` file, completely or not at all.

    The kind of network is inferred from the file: a classification network with or without its classifier, or a segmentation network.
    `NAME.weights.json`, written next to `NAME.weights.h5`, describes the network (`models.Facts`).

    Args:
        source: a file that `read_original` supports.
        structure: the network that the parameters belong to, e.g. `"A1"`. Shapes do not distinguish A, A1 and A2; a published file whose
            checksum is known must have this structure.
        output: the file to write, replaced if it exists; its name ends in `.weights.h5`.
        width: the network's width.

    Returns:
        The number of values written, parameters and running statistics.

    Raises:
        InputError: if the file cannot be read, is known to have another structure, or does not fit; the message then lists everything
            that is missing, unused or of another shape.
    """
    check_known(source, structure)
    return _write(source, structure, pathlib.Path(output), width, Facts(), FLOAT32).values


def convert_file(config: ConversionConfig) -> tuple[pathlib.Path, int]:
    """Same as `convert_named`, but returns the file written and the number of values in it."""
    converted = convert_named(config)
    return converted.path, converted.values


def convert_named(config: ConversionConfig) -> Converted:
    """Converts an original file of a given structure, a published file, which is identified by its checksum, or a run's final network.

    Args:
        config: what to convert, and where to write it.

    Returns:
        The file written, its number of values, and the arrays left out.

    Raises:
        InputError: if the source is not the expected file or does not fit, or if the output exists.
    """
    source, told = _source_and_facts(config)
    known = _published(source, config.model, told.structure)
    structure = known[0].structure if known else find_convertible(config.model or told.structure)
    if config.output:
        output = pathlib.Path(os.path.expanduser(config.output))
    elif known:
        output = home() / converted_name(*known)
    else:
        names = ", ".join(PRETRAINED)
        raise InputError(f"--output is needed with --model={structure}; only published files ({names}) are written to the cache")
    check_absent(output, config.overwrite)
    converted = _write(source, structure, output, config.width or told.width or 1.0, told, config.weight_type)
    if config.verify:
        compare(source, output)
    return converted


def compare(source: str | pathlib.Path, converted: str | pathlib.Path) -> None:
    """Reads both files again and compares every value; layers after the features that only the source has are ignored.

    What the converted file stores in half precision is compared with the source's values, rounded.

    Raises:
        InputError: if the files differ, naming the first layer that is not bit-identical.
    """
    original = read_original(source)
    expected, found = layer_arrays(original.parameters), read_keras_weights(converted)
    # Files of psa's kind may have further heads.
    is_used = is_of_head if original.is_psa_classifier else lambda name: original.classes is not None
    compared = found.keys() | {name for name in expected if is_of_backbone(name) or is_used(name)}
    for name in sorted(compared):
        ours, theirs = found.get(name, []), expected.get(name, [])
        if len(ours) != len(theirs) or not all(np.array_equal(a, b.astype(a.dtype)) for a, b in zip(ours, theirs, strict=True)):
            raise InputError(f"{str(converted)!r} differs from {str(source)!r} in layer {name}")


def _source_and_facts(config: ConversionConfig) -> tuple[pathlib.Path, Facts]:
    """Returns the file to convert, a run's final network if a run is named, and what the run or a `.keras` file tells of its network."""
    path = pathlib.Path(os.path.expanduser(config.source))
    if not path.is_dir() and path.suffix != ".keras":
        return path, Facts()
    source = find_source(str(path))
    source.check_is_no_saved_model()
    return source.path or path, source.facts


def _published(source: pathlib.Path, model: str, told_structure: str) -> tuple[Pretrained, OriginalFile] | None:
    """Returns the record of the source, None for a file that was not published; raises `InputError` if `model` contradicts it.

    `told_structure`: the structure that the source itself tells; empty if it does not.
    """
    digests = checksums(source)
    known, wanted = recognise(*digests), PRETRAINED.get(model)
    checksum = "md5 {}, sha256 {}".format(*digests)
    if wanted and not (known and known[0] is wanted):
        expected = "; ".join(f"{file.name}, {file.checksum}" for file in wanted.files)
        received = f"that of {known[0].name!r}" if known else checksum
        raise InputError(f"{str(source)!r} is not a file of {model!r}, which is published as {expected}. Received: checksum {received}")
    if not known and not model and not told_structure:
        raise InputError(f"{str(source)!r} is not a published file: --model must specify its structure. Its checksum: {checksum}")
    if known and not wanted and model and not same_network(known[0].structure, find_convertible(model)):
        raise InputError(f"{str(source)!r} is {known[1].name}: it belongs to Model {known[0].structure}, not to {model}")
    return known


def _write(
    source: str | pathlib.Path, structure: str | Structure, output: pathlib.Path, width: float, told: Facts, weight_type: str
) -> Converted:
    if not output.name.endswith(".weights.h5"):
        raise InputError(f"The output's name must end in .weights.h5. Received: {str(output)!r}")
    original = read_original(source)
    model, facts = _network(original, structure, width), _facts(original, find_structure(structure), width, told)
    arrays = layer_arrays(original.parameters, original.own_names)
    # Files of psa's kind may have further heads, such as SEAM's, beside the classifier.
    ignore_head = original.classes is None or original.is_psa_classifier
    original.parameters.clear()  # so that each array is freed once it is assigned
    left = assign_weights(model, arrays, repr(str(source)), ignore_head)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        # The sidecar is moved first, once the old weights are deleted: weights never exist beside the sidecar of others.
        with replacing(output) as temporary, replacing(sidecar(output)) as beside:
            check_room(temporary, _file_bytes(model))
            model.save_weights(temporary)
            if weight_type == FLOAT16:
                with replacing(temporary) as halved:
                    write_halved(temporary, halved)
            facts.save(beside)
            output.unlink(missing_ok=True)
    except Exception as error:  # h5py raises exceptions of its own
        if not isinstance(error, OSError) and not is_disk_full(error):
            raise
        raise InputError(f"{str(output)!r} cannot be written: {reason(error)}") from None
    return Converted(output, model.count_params(), left)


def _file_bytes(model: keras.Model) -> int:
    """Returns an upper bound of the size of the model's `.weights.h5` file in bytes."""
    arrays = sum(math.prod(variable.shape) * np.dtype(variable.dtype).itemsize for variable in model.variables)
    return arrays + _HDF5_BYTES * (1 + len(model.variables))


def _network(original: Original, structure: str | Structure, width: float) -> keras.Model:
    """Returns the network whose weights `original` contains, with all kernels zero."""
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
            classes=original.classes or 0,  # unused without the top
            pool_padding=original.pool_padding,
            width=width,
            activation=original.activation or "relu",
            classifier_bias=f"linear{original.classes}_bias" in original.parameters,
        )


def _facts(original: Original, structure: Structure, width: float, told: Facts) -> Facts:
    known = next((name for name, other in STRUCTURES.items() if same_network(other, structure)), "")
    can_be_written = same_network(str(structure), structure)  # the notation cannot express halvings by stride
    facts = facts_of_original(original, known or (str(structure) if can_be_written else ""), width)
    names = told.class_names if len(told.class_names) == original.classes else facts.class_names
    return dataclasses.replace(facts, crop_size=told.crop_size, class_names=names)
