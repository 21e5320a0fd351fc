"""Finds the weights that a name such as `"imagenet"` refers to: the places to search, in order, and the error if none has them."""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence

import keras

from keras_widerresnet.errors import InputError
from keras_widerresnet.files import replacing
from keras_widerresnet.options import did_you_mean
from keras_widerresnet.structures import Structure, same_network
from keras_widerresnet.weights.checksums import check_known, checksums, recognise
from keras_widerresnet.weights.first_bytes import KERAS_SUFFIXES, ORIGINAL_SUFFIXES
from keras_widerresnet.weights.hubs import local_weights
from keras_widerresnet.weights.keras_file import read_keras_weights
from keras_widerresnet.weights.layers import LayerArrays
from keras_widerresnet.weights.official import layer_arrays
from keras_widerresnet.weights.original import read_original
from keras_widerresnet.weights.registry import CONVERTED_SUFFIX, PRETRAINED, OriginalFile, Pretrained, find_record

logger = logging.getLogger(__name__)

REPOSITORY_FOLDER = pathlib.Path(__file__).parents[2] / "saved_models"
TIMEOUT_SECONDS = 30


def find_weights(
    weights: str | pathlib.Path,
    structure: Structure,
    *,
    include_top: bool = True,
    activation: str = "relu",
    pool_padding: str = "ceil",
    classifier_bias: bool | None = None,
) -> LayerArrays:
    """Returns the arrays that `weights` names, for a network of the given kind.

    Args:
        weights: `"imagenet"`, a name of `PRETRAINED`, the path of a `.weights.h5`, `.keras` or original file, or the place of such a
            file on a hub (`hubs.local_weights`).
        structure: the network's structure.
        include_top: whether a classifier is needed; if not, the weights may belong to either kind of network, or be features only.
        activation, pool_padding: options with which the network is built.
        classifier_bias: whether its classifier has a bias; None to accept either.

    Returns:
        Layer name -> arrays in Keras' order and layout; those of a `.params` file are memory-mapped.

    Raises:
        InputError: if nothing has that name, the weights belong to another network, or they cannot be found, read or downloaded.
    """
    text = local_weights(str(weights))
    record = find_record(text, structure)
    if record is None:
        if text.endswith(KERAS_SUFFIXES):
            return read_keras_weights(text)
        names = ("imagenet", *PRETRAINED)
        if not pathlib.Path(text).is_file():
            wanted = f"`weights` must be None, the path of an existing file, or one of {', '.join(names)}"
            raise InputError(f"{wanted}. Received: {text!r}{did_you_mean(text, names)}")
        check_known(text, structure)
        original = read_original(text)
        if original.activation:
            _check_activation(f"The weights of {text!r}", original.activation, activation)
        return layer_arrays(original.parameters, original.own_names)
    _check_fits(record, structure, include_top, activation, pool_padding)
    if include_top and classifier_bias not in (None, record.classifier_bias):
        has = "a" if record.classifier_bias else "no"
        raise InputError(
            f"The classifier of weights={record.name!r} has {has} bias: use classes={record.classes} and "
            f"classifier_bias={record.classifier_bias}, or include_top=False"
        )
    path = find_file(record, include_top)
    if path.name.endswith(KERAS_SUFFIXES):
        return read_keras_weights(path)
    original = read_original(path)
    return layer_arrays(original.parameters, original.own_names)


def home() -> pathlib.Path:
    """Returns the folder of the weights cache: `KERAS_WIDERRESNET_HOME`, or else `keras_widerresnet` in Keras' cache directory."""
    place = os.environ.get("KERAS_WIDERRESNET_HOME")
    keras_home = os.environ.get("KERAS_HOME") or pathlib.Path.home() / ".keras"
    return pathlib.Path(place) if place else pathlib.Path(keras_home) / "keras_widerresnet"


def converted_name(record: Pretrained, file: OriginalFile) -> str:
    """Returns the file name of the conversion of an original, e.g. `"imagenet-a1.weights.h5"`."""
    return f"{record.name}{'' if file.include_top else '-notop'}.weights.h5"


def find_file(record: Pretrained, include_top: bool = True) -> pathlib.Path:
    """Returns the file that contains the weights of a record, converted or original; downloads it if necessary.

    Places, in order: a converted file in the cache; an original in the cache, under its official name; a converted or original file in
    `saved_models/` or `saved_models/NAME/` (of the working directory, and of the repository); an original in the folder, or the file,
    `KERAS_WIDERRESNET_WEIGHTS_DIR`; the record's addresses. An original from outside the cache is recognised by its checksum and added to
    the cache under its official name; files in the cache are read without checking their checksum. A file that was published in this
    package's own format is read where it lies, in any of these places, and its checksum is checked each time.

    Args:
        record: the weights to find.
        include_top: whether to accept only files with the classifier or head.

    Raises:
        InputError: if no file is found: the message lists the places searched, the files with their checksums, the rejected files, and
            the command to run; or if the cache cannot be written.
    """
    files = [file for file in record.files if file.include_top or not include_top]
    foreign = [file for file in files if not file.is_converted]
    converted, originals = [converted_name(record, file) for file in foreign], [file.name for file in foreign]
    bases = dict.fromkeys((pathlib.Path.cwd() / "saved_models", REPOSITORY_FOLDER))
    folders = [folder for base in bases for folder in (base, base / record.name)]
    at_once = [home() / name for name in (*converted, *originals)] + [folder / name for folder in folders for name in converted]
    for path in at_once:
        if path.is_file():
            return path
    own = [home() / file.name for file in files if file.is_converted]
    pointed = os.environ.get("KERAS_WIDERRESNET_WEIGHTS_DIR")
    folders += [pathlib.Path(pointed)] if pointed else []
    refused: list[str] = []
    for path in _originals([*own, *folders], [file.name for file in files]):
        if found := _recognised(path, files, refused):
            return path if found.is_converted else _kept(path, found, str(path), record)
    for file in files:
        for address in file.addresses:
            with _downloaded(address, file, refused) as downloaded:
                if downloaded:
                    return _kept(downloaded, file, address, record)
    raise InputError(_nowhere(record, files, folders, pointed, refused))


def _check_fits(record: Pretrained, structure: Structure, include_top: bool, activation: str, pool_padding: str) -> None:
    if not same_network(record.structure, structure):
        raise InputError(
            f"weights={record.name!r} belong to Model {record.structure}; networks with the same shapes may still halve the resolution "
            f"differently: use {record.builder}. Received: {structure.name or structure}"
        )
    if include_top and record.classifier_convs:
        raise InputError(f"weights={record.name!r} belong to a segmentation network: use WideResNetFCN, or include_top=False")
    if include_top and not record.include_top:
        raise InputError(f"weights={record.name!r} have no classifier: use include_top=False")
    _check_activation(f"weights={record.name!r}", record.activation, activation)
    if record.pool_padding not in (None, pool_padding):
        raise InputError(f"weights={record.name!r} need pool_padding={record.pool_padding!r}. Received: {pool_padding!r}")


def _check_activation(what: str, needed: str, given: str) -> None:
    if needed != given:
        raise InputError(f"{what} need activation={needed!r}. Received: {given!r}")


def _originals(folders: Sequence[pathlib.Path], official_names: Sequence[str]) -> list[pathlib.Path]:
    """Returns the files that may be published ones, official names first: checking one takes a checksum over hundreds of megabytes."""
    entries = [path for folder in folders for path in ([folder] if folder.is_file() else sorted(folder.glob("*")))]
    found = [path for path in entries if path.is_file() and path.name.endswith(ORIGINAL_SUFFIXES)]
    found = [path for path in found if path.name in official_names or not path.name.endswith(CONVERTED_SUFFIX)]
    return sorted(found, key=lambda path: path.name not in official_names)


def _recognised(path: pathlib.Path, files: Sequence[OriginalFile], refused: list[str]) -> OriginalFile | None:
    md5, sha256 = checksums(path)
    found = recognise(md5, sha256)
    if found and found[1] in files:
        return found[1]
    for file in files:
        if not found and path.name == file.name:
            refused.append(f"{path} (its checksum is {f'sha256 {sha256}' if file.sha256 else f'md5 {md5}'}, not {file.checksum})")
            logger.warning("Rejected %s", refused[-1])
    return None


def _kept(path: pathlib.Path, file: OriginalFile, origin: str, record: Pretrained) -> pathlib.Path:
    """Adds an original to the cache under its official name and returns its path there."""
    output = home() / file.name
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(output) as temporary:
            try:
                os.link(path.resolve(), temporary)
            except OSError:  # another file system, or one without links
                shutil.copyfile(path, temporary)
    except OSError as error:
        raise InputError(f"{str(output)!r} cannot be written: {error}") from None
    logger.warning("Using %s (%s), kept in the cache. Licence: %s.", origin, file.name, record.licence)
    return output


@contextlib.contextmanager
def _downloaded(address: str, file: OriginalFile, refused: list[str]) -> Iterator[pathlib.Path | None]:
    """Yields the downloaded file in a temporary folder; None if the download failed, with the reason added to `refused`."""
    try:
        home().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The cache {str(home())!r} cannot be created ({error.strerror}); KERAS_WIDERRESNET_HOME sets another") from None
    before = socket.getdefaulttimeout()
    with tempfile.TemporaryDirectory(prefix=".download-", dir=home()) as folder:
        socket.setdefaulttimeout(TIMEOUT_SECONDS)  # so that an unresponsive host does not block; urllib has no other setting
        try:
            algorithm, digest = file.checksum.split()
            path = keras.utils.get_file(file.name, address, file_hash=digest, hash_algorithm=algorithm, cache_dir=folder, cache_subdir="")
        except Exception as error:  # Keras raises bare Exceptions
            path = None
            refused.append(f"{address} ({' '.join(str(error).split())})")
        finally:
            socket.setdefaulttimeout(before)
        yield pathlib.Path(path) if path else None


def _nowhere(
    record: Pretrained, files: Sequence[OriginalFile], folders: Sequence[pathlib.Path], pointed: str | None, refused: Sequence[str]
) -> str:
    lines = [f"The weights {record.name!r} were not found.", "Searched, in this order:"]
    names = dict.fromkeys([*(converted_name(record, file) for file in files), *(file.name for file in files)])
    lines += [f"  {home() / name}" for name in names]
    lines += [f"  {folder}" for folder in folders]
    lines += [] if pointed else ["  KERAS_WIDERRESNET_WEIGHTS_DIR (not set)"]
    is_own = all(file.is_converted for file in files)
    none = "a clone of the repository has them" if is_own else "the official host is offline"
    lines += [f"  {address}" for file in files for address in file.addresses] or [f"  no address is known: {none}"]
    if refused:
        lines += ["Rejected or failed:", *(f"  {reason}" for reason in refused)]
    lines += ["Files that contain them:", *(f"  {file.name}, {file.checksum}" for file in files)]
    lines += [f"Licence: {record.licence}."]
    if is_own:
        where = f"the file is in saved_models/{record.name} of a clone of this repository"
        return "\n".join([*lines, f"How to get it: {where}; point KERAS_WIDERRESNET_WEIGHTS_DIR there, or copy it into {home()}"])
    lines += ["Once you have one of these files, under any name, run:"]
    return "\n".join([*lines, f"  python scripts/convert_weights.py --source=FILE --model={record.name}"])
