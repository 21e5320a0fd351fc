"""Reads Keras' own weight files by layer name (Keras itself matches layers by order)."""

from __future__ import annotations

import json
import pathlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence

import h5py
import numpy as np

from keras_widerresnet.errors import InputError
from keras_widerresnet.weights.layers import LayerArrays

_ARCHIVE_MEMBER, _ARCHIVE_CONFIG = "model.weights.h5", "config.json"
_CLASS_NAMES = "class_names.json"  # ours; Keras reads only its own members
_LEGACY_ORDER = ("kernel", "gamma", "bias", "beta", "moving_mean", "moving_variance")  # the order of a layer's weights
_WITHOUT_WEIGHTS = {"optimizer", "optimizer_weights", "seed_generator"}
# What zipfile, h5py and json raise for damaged files.
_DAMAGED = (OSError, KeyError, RuntimeError, ValueError, TypeError, MemoryError, zipfile.BadZipFile, zlib.error)
_MOST_COMPRESSED = 1100  # the highest compression ratio that HDF5 filters can reach


def read_keras_weights(path: str | pathlib.Path) -> LayerArrays:
    """Reads the arrays of each layer in a `.weights.h5` file, a `.keras` archive, or an `.h5` file of earlier versions of Keras.

    Returns:
        Layer name -> its arrays in Keras' order (kernel, bias; gamma, beta, moving mean, moving variance), including
        those of nested models; layers without arrays are omitted.

    Raises:
        InputError: if the file does not exist, is of another kind, or is damaged.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"No weights file at {str(path)!r}. `weights` must be None, 'imagenet' or the path of an existing file")
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive, archive.open(_ARCHIVE_MEMBER) as member, h5py.File(member) as file:
                return read_layers(file)
        if path.suffix in (".h5", ".hdf5"):
            with h5py.File(path) as file:
                return read_layers(file)
    except _DAMAGED as error:
        raise InputError(f"{str(path)!r} is damaged or not a Keras weights file: {error}") from None
    raise InputError(f"The name of a weights file must end in .weights.h5 or .keras. Received: {str(path)!r}")


def is_keras_archive(path: pathlib.Path) -> bool:
    """Whether the content of a file is a `.keras` archive, whatever its name."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _ARCHIVE_MEMBER in archive.namelist()
    except _DAMAGED:
        return False


def model_config(path: pathlib.Path) -> str:
    """Returns the model configuration in a `.keras` archive, or in an `.h5` file of earlier versions of Keras, as JSON.

    Empty for any other file.
    """
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                return archive.read(_ARCHIVE_CONFIG).decode(errors="replace")
        with h5py.File(path) as file:
            config = file.attrs.get("model_config", "")
    except _DAMAGED:
        return ""
    return config.decode(errors="replace") if isinstance(config, bytes) else str(config)


def keep_class_names(path: pathlib.Path, names: Sequence[str]) -> None:
    """Adds the names of the classes to a `.keras` archive, so that they go with it wherever it is copied."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_CLASS_NAMES, json.dumps(list(names)))


def kept_class_names(path: pathlib.Path) -> tuple[str, ...]:
    """The names that `keep_class_names` added to an archive; empty where it has none."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = json.loads(archive.read(_CLASS_NAMES))
    except _DAMAGED:
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def write_halved(source: str | pathlib.Path, target: str | pathlib.Path) -> None:
    """Copies a `.weights.h5` file with its kernels in float16; vectors, such as batch-norm statistics, stay float32.

    Raises:
        InputError: if a kernel has a value beyond float16's largest, 65504.
    """
    with h5py.File(source) as read, h5py.File(target, "w") as written:

        def copy(name: str, item: object) -> None:
            if isinstance(item, h5py.Group):
                written.require_group(name).attrs.update(item.attrs)
            elif isinstance(item, h5py.Dataset):
                array = item[()]
                halved = array.astype(np.float16) if array.ndim > 1 else array
                if not np.isfinite(halved).all():
                    raise InputError(f"{name} has values that float16 cannot hold: use --weight_type=float32")
                written.create_dataset(name, data=halved)

        written.attrs.update(read.attrs)
        read.visititems(copy)


def read_layers(file: h5py.File) -> LayerArrays:
    """Returns the arrays of each layer of an open file, in the layout of Keras 3 or of earlier versions.

    Raises:
        InputError: if a layer name occurs twice, or an array is incomplete.
    """
    arrays: dict[str, list[np.ndarray]] = {}
    for name, found in _layers(file["layers"]) if "layers" in file else _legacy_layers(file):
        if name in arrays:
            raise InputError(f"it contains two layers named {name!r}")
        arrays[name] = found
    return LayerArrays(arrays)


def values(dataset: h5py.Dataset) -> np.ndarray:
    """Returns the values of a dataset.

    Raises:
        InputError: if fewer bytes are stored than its shape requires; nothing is then allocated.
    """
    if dataset.nbytes > _MOST_COMPRESSED * dataset.id.get_storage_size():
        raise InputError(f"{dataset.name} of shape {dataset.shape} is incomplete")
    return dataset[()]


def _layers(root: h5py.Group) -> Iterator[tuple[str, list[np.ndarray]]]:
    found: list[h5py.Group] = []

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Group) and name.rpartition("/")[2] == "vars" and not _WITHOUT_WEIGHTS & set(name.split("/")):
            found.append(item)

    root.visititems(visit)
    for variables in found:
        if len(variables):
            yield str(variables.attrs["name"]), [values(variables[key]) for key in sorted(variables, key=int)]


def _legacy_layers(file: h5py.File) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Yields the layers of a file with one group per layer, in which the layer's name is repeated before that of each array."""
    found: dict[str, dict[str, h5py.Dataset]] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and not _WITHOUT_WEIGHTS & set(name.split("/")):
            layer, _, weight = name.removeprefix("model_weights/").rpartition("/")
            found.setdefault(layer, {})[weight.removesuffix(":0")] = item

    file.visititems(visit)
    for path, datasets in found.items():
        order = sorted(datasets, key=lambda weight: _LEGACY_ORDER.index(weight) if weight in _LEGACY_ORDER else len(_LEGACY_ORDER))
        yield path.rpartition("/")[2] or path, [values(datasets[weight]) for weight in order]
