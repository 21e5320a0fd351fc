"""`weights="imagenet"` to arrays: the places where weights may lie, in order, and what is said when they are nowhere."""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import socket
import tempfile
from collections.abc import Iterator

import keras
import numpy as np

from keras_widerresnet.errors import InputError
from keras_widerresnet.structures import Structure
from keras_widerresnet.weights.convert import check_known, checksums, compare, convert, recognise, same_network, write_converted
from keras_widerresnet.weights.keras_file import read_keras_weights
from keras_widerresnet.weights.official import layer_arrays
from keras_widerresnet.weights.original import read_original
from keras_widerresnet.weights.registry import IMAGENET, PRETRAINED, OriginalFile, Pretrained

logger = logging.getLogger(__name__)

KERAS_SUFFIXES = (".weights.h5", ".keras")
ORIGINAL_SUFFIXES = (".params", ".pth", ".pt", ".tar", ".h5")
REPOSITORY_FOLDER = pathlib.Path(__file__).parents[2] / "saved_models"
TIMEOUT_SECONDS = 30


def find_weights(
    weights: str | pathlib.Path,
    structure: Structure,
    *,
    include_top: bool = True,
    activation: str = "relu",
    pool_padding: str = "ceil",
) -> dict[str, list[np.ndarray]]:
    """The arrays that `weights` names, for a network of the given kind.

    Args:
        weights: `"imagenet"`, a name of `PRETRAINED`, or the path of a `.weights.h5`, `.keras` or original file.
        structure: the network's structure.
        include_top: whether a classifier is wanted; without, the weights may be of either kind of network, or of features alone.
        activation, pool_padding: what the network is built with.

    Returns:
        Layer name -> arrays in Keras' order and layout.

    Raises:
        InputError: if there is nothing of that name, if it belongs to another network, or if it cannot be found, read or downloaded.
    """
    text = str(weights)
    record = find_record(text, structure)
    if record is None:
        if text.endswith(KERAS_SUFFIXES):
            return read_keras_weights(text)
        if not pathlib.Path(text).is_file():
            names = ", ".join(("imagenet", *PRETRAINED))
            raise InputError(f"`weights` is None, the path of a file, or one of {names}; and there is no file {text!r}")
        check_known(text, structure)
        original = read_original(text)
        _check_activation(f"The weights of {text!r}", original.activation, activation)
        return layer_arrays(original.parameters)
    _check_fits(record, structure, include_top, activation, pool_padding)
    return read_keras_weights(find_file(record, include_top))


def home() -> pathlib.Path:
    """The cache of converted weights: `KERAS_WIDERRESNET_HOME`, else `keras_widerresnet` in Keras' cache directory."""
    place = os.environ.get("KERAS_WIDERRESNET_HOME")
    keras_home = os.environ.get("KERAS_HOME") or pathlib.Path.home() / ".keras"
    return pathlib.Path(place) if place else pathlib.Path(keras_home) / "keras_widerresnet"


def converted_name(record: Pretrained, file: OriginalFile) -> str:
    return f"{record.name}{'' if file.include_top else '-notop'}.weights.h5"


def convert_to(
    source: str | pathlib.Path,
    model: str,
    output: pathlib.Path | None,
    *,
    width: float = 1.0,
    verify: bool = False,
    overwrite: bool = False,
) -> tuple[pathlib.Path, int]:
    """Converts an original file for a structure, or for a name of `PRETRAINED` after its checksum was found right.

    Args:
        source: a file that `read_original` knows.
        model: a structure, or a name of `PRETRAINED`.
        output: the file to write; None, for a name, is the cache.
        width: the network's width.
        verify: read both files again and compare every value.
        overwrite: replace an existing output.

    Returns:
        The file written, and the number of values in it.

    Raises:
        InputError: if the source is not what it should be, does not fit, or the output exists.
    """
    record = PRETRAINED.get(model)
    if record:
        digests = checksums(source)
        found = recognise(*digests)
        if found is None or found[0] is not record:
            wanted = "; ".join(f"{file.name}, {file.checksum}" for file in record.files)
            received = f"that of {found[0].name!r}" if found else "md5 {}, sha256 {}".format(*digests)
            raise InputError(f"{str(source)!r} is refused: its checksum is {received}, and {model!r} is in {wanted}")
        output = output or home() / converted_name(*found)
    if output is None:
        raise InputError(f"--output is needed with --model={model}; only a name ({', '.join(PRETRAINED)}) has a place in the cache")
    if output.exists() and not overwrite:
        raise InputError(f"{str(output)!r} exists; --overwrite replaces it")
    values = write_converted(source, record.structure, output, width) if record else convert(source, model, output, width)
    if verify:
        compare(source, output)
    return output, values


def find_file(record: Pretrained, include_top: bool = True) -> pathlib.Path:
    """The converted file of a record, after conversion or download where that is needed.

    Places, in order: a converted file in the cache; a converted or original file in `saved_models/` (of the working directory, and of
    the repository); an original in the folder, or the file, `KERAS_WIDERRESNET_WEIGHTS_DIR`; the record's addresses. An original is
    recognised by its checksum, converted once, and kept in the cache.

    Raises:
        InputError: with the places looked at, the files with their checksums, what was refused, and the command to run.
    """
    files = [file for file in record.files if file.include_top or not include_top]
    names = dict.fromkeys(converted_name(record, file) for file in files)
    refused: list[str] = []
    for name in names:
        if (home() / name).is_file():
            return home() / name
    folders = list(dict.fromkeys((pathlib.Path.cwd() / "saved_models", REPOSITORY_FOLDER)))
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                return folder / name
    pointed = os.environ.get("KERAS_WIDERRESNET_WEIGHTS_DIR")
    folders += [pathlib.Path(pointed)] if pointed else []
    for path in _originals(folders):
        if found := _recognised(path, files, refused):
            logger.warning("Converting %s (%s), once. Licence: %s.", path, found.name, record.licence)
            return _converted(path, record, found)
    for file in files:
        for address in file.addresses:
            with _downloaded(address, file, refused) as path:
                if path:
                    return _converted(path, record, file)
    raise InputError(_nowhere(record, files, folders, pointed, refused))


def find_record(weights: str, structure: Structure) -> Pretrained | None:
    """The record that a name means for a structure; None if `weights` is no name.

    Raises:
        InputError: for `"imagenet"`, if no official weights of the structure were published.
    """
    if weights != "imagenet":
        return PRETRAINED.get(weights)
    for key, name in IMAGENET.items():
        if same_network(key, structure):
            return PRETRAINED[name]
    models = " and ".join(f"Model {key}" for key in IMAGENET)
    raise InputError(
        f"Official ImageNet weights were published for {models} only, not for {structure.name or structure}. Use weights=None or a file"
    )


def _check_fits(record: Pretrained, structure: Structure, include_top: bool, activation: str, pool_padding: str) -> None:
    if not same_network(record.structure, structure):
        raise InputError(
            f"weights={record.name!r} are of Model {record.structure} and fit the shapes, but not the halvings, of similar networks: "
            f"use WideResNet{record.structure}. Received: {structure.name or structure}"
        )
    if include_top and record.classifier_convs:
        raise InputError(f"weights={record.name!r} are of a segmentation network: use WideResNetFCN, or include_top=False")
    _check_activation(f"weights={record.name!r}", record.activation, activation)
    if record.pool_padding not in (None, pool_padding):
        raise InputError(f"weights={record.name!r} need pool_padding={record.pool_padding!r}. Received: {pool_padding!r}")


def _check_activation(what: str, needed: str, given: str) -> None:
    if needed != given:
        raise InputError(f"{what} need activation={needed!r}. Received: {given!r}")


def _originals(folders: list[pathlib.Path]) -> Iterator[pathlib.Path]:
    for folder in folders:
        entries = [folder] if folder.is_file() else sorted(folder.glob("*"))
        for path in entries:
            if path.is_file() and path.name.endswith(ORIGINAL_SUFFIXES) and not path.name.endswith(".weights.h5"):
                yield path


def _recognised(path: pathlib.Path, files: list[OriginalFile], refused: list[str]) -> OriginalFile | None:
    md5, sha256 = checksums(path)
    found = recognise(md5, sha256)
    if found and found[1] in files:
        return found[1]
    for file in files:
        if not found and path.name == file.name:
            refused.append(f"{path} (its checksum is {f'sha256 {sha256}' if file.sha256 else f'md5 {md5}'}, not {file.checksum})")
            logger.warning("Refused %s", refused[-1])
    return None


def _converted(path: pathlib.Path, record: Pretrained, file: OriginalFile) -> pathlib.Path:
    output = home() / converted_name(record, file)
    write_converted(path, record.structure, output)
    return output


@contextlib.contextmanager
def _downloaded(address: str, file: OriginalFile, refused: list[str]) -> Iterator[pathlib.Path | None]:
    """The downloaded file in a folder that is gone afterwards; None, with the reason in `refused`, where that failed."""
    try:
        home().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The cache {str(home())!r} cannot be made ({error.strerror}); KERAS_WIDERRESNET_HOME names another") from None
    before = socket.getdefaulttimeout()
    with tempfile.TemporaryDirectory(prefix=".download-", dir=home()) as folder:
        socket.setdefaulttimeout(TIMEOUT_SECONDS)  # a silent host must not hang us; urllib has no other handle
        try:
            algorithm, digest = file.checksum.split()
            path = keras.utils.get_file(file.name, address, file_hash=digest, hash_algorithm=algorithm, cache_dir=folder, cache_subdir="")
        except Exception as error:  # Keras raises bare Exceptions
            path = None
            refused.append(f"{address} ({' '.join(str(error).split())})")
        finally:
            socket.setdefaulttimeout(before)
        yield pathlib.Path(path) if path else None


def _nowhere(record, files, folders, pointed, refused) -> str:
    lines = [f"The weights {record.name!r} were not found.", "Looked at, in this order:"]
    lines += [f"  {home() / converted_name(record, file)}" for file in files]
    lines += [f"  {folder}" for folder in folders]
    lines += [] if pointed else ["  KERAS_WIDERRESNET_WEIGHTS_DIR (not set)"]
    lines += [f"  {address}" for file in files for address in file.addresses] or ["  no address is known: the official host is off"]
    if refused:
        lines += ["Refused or failed:", *(f"  {reason}" for reason in refused)]
    lines += ["Files that hold them:", *(f"  {file.name}, {file.checksum}" for file in files)]
    lines += [f"Licence: {record.licence}.", "Once you have one of them, whatever its name:"]
    return "\n".join([*lines, f"  python scripts/convert_weights.py --source=FILE --model={record.name}"])
