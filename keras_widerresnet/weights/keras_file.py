"""Keras' own weight files read by layer name (Keras itself goes by order)."""

from __future__ import annotations

import pathlib
import zipfile

import h5py
import numpy as np

from keras_widerresnet.errors import InputError


def read_keras_weights(path: str | pathlib.Path) -> dict[str, list[np.ndarray]]:
    """The arrays of each layer in a `.weights.h5` file or a `.keras` archive.

    Returns:
        Layer name -> its arrays in Keras' order (kernel, bias; gamma, beta, moving mean, moving variance); layers without any are left out.

    Raises:
        InputError: if the file does not exist, is of another kind, or is damaged.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"No weights file at {str(path)!r}. `weights` is None, 'imagenet' or the path of a .weights.h5 or .keras file")
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as member, h5py.File(member) as file:
                return _layers(file)
        if path.name.endswith(".weights.h5"):
            with h5py.File(path) as file:
                return _layers(file)
    except (OSError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise InputError(f"{str(path)!r} is damaged or not a Keras weights file: {error}") from None
    raise InputError(f"Weights files end in .weights.h5 or .keras. Received: {str(path)!r}")


def _layers(file: h5py.File) -> dict[str, list[np.ndarray]]:
    arrays = {}
    for group in file["layers"].values():
        variables = group["vars"]
        if len(variables):
            arrays[str(variables.attrs["name"])] = [variables[key][()] for key in sorted(variables, key=int)]
    return arrays
