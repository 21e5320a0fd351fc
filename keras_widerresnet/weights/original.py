"""Original checkpoints of four kinds read as official parameters: names and layouts of the release, whatever the file's own.

The kinds are those of the official release, of the InPlace-ABN release, of psa's resnet38d and of resnet38d-tf.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Callable

import h5py
import numpy as np

from keras_widerresnet.errors import InputError
from keras_widerresnet.units import BATCH_NORM_EPSILON
from keras_widerresnet.weights.first_bytes import HDF5, MXNET, TORCH, first_bytes
from keras_widerresnet.weights.mxnet_params import PREFIX_LENGTH, read_params
from keras_widerresnet.weights.official import to_official

TORCH_BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}
H5_BATCH_NORM = {"gamma": "gamma", "beta": "beta", "moving_mean": "moving_mean", "moving_variance": "moving_var"}
INPLACE_ABN_EPSILON = 1e-5
OFFICIAL_KIND = "mxnet"
PSA_CLASSIFIER = "fc8_weight"  # of VOC's 20 classes, a 1x1 convolution without bias: no official layer is like it
_CONV_OF_H5 = {"b1": "branch1", "b2": "branch2a", "b3": "branch2b1", "b4": "branch2b2"}
_NORM_OF_H5 = {"b0": "branch2a", "b2": "branch2b1", "b3": "branch2b2"}
_CONV_OF_INPLACE = {"proj_conv": "branch1", "convs.conv1": "branch2a", "convs.conv2": "branch2b1", "convs.conv3": "branch2b2"}
_NORM_OF_INPLACE = {"bn1": "branch2a", "convs.bn2": "branch2b1", "convs.bn3": "branch2b2"}


@dataclasses.dataclass(frozen=True)
class Original:
    """The parameters of an original file.

    Args:
        kind: `"mxnet"` (official release), `"psa"` (PyTorch), `"inplace_abn"` (PyTorch) or `"resnet38d-tf"` (HDF5).
        parameters: official name (without `arg:`/`aux:`) -> array in the official layout; unknown names are kept as they are, so that they
            are reported as unused.
    """

    kind: str
    parameters: dict[str, np.ndarray]

    @property
    def activation(self) -> str:
        """The activation that the network must be built with."""
        return "leaky_relu" if self.kind == "inplace_abn" else "relu"

    @property
    def pool_padding(self) -> str:
        """The pool convention that the file's own software runs with; the paper's for official files."""
        return "ceil" if self.kind == OFFICIAL_KIND else "symmetric"

    @property
    def classes(self) -> int | None:
        """The number of classes of the classifier or segmentation head; None for features alone."""
        return next((int(match[1]) for name in self.parameters if (match := re.fullmatch(r"linear(\d+)_weight", name))), None)

    @property
    def classifier_convs(self) -> int:
        """Convolutions in the segmentation head: 1 or 2, and 0 for a classification network."""
        weight = self.parameters.get(f"linear{self.classes}_weight")
        return 0 if weight is None or weight.ndim == 2 else 1 + ("conv6a_weight" in self.parameters)


def read_original(path: str | pathlib.Path) -> Original:
    """Reads an original checkpoint; its kind is told from its first bytes and its names, not from its file name.

    Args:
        path: an MXNet `.params` file (official release), a PyTorch state dict with the names of psa's resnet38d or of the InPlace-ABN
            release (alone or under `"state_dict"`, with or without `module.`; needs PyTorch), or an `.h5` file in resnet38d-tf's
            layout. The arrays of a `.params` file stay in the file until they are used. InPlace-ABN's scale |γ| + ε becomes γ, and its ε
            goes into the running variance.

    Raises:
        InputError: if there is no such file, it is damaged, or of no known kind.
    """
    path = pathlib.Path(path)
    try:
        start = first_bytes(path)
    except OSError as error:
        raise InputError(f"No weights file can be read at {str(path)!r}: {error.strerror}") from None
    if start == MXNET:
        return Original(OFFICIAL_KIND, _official(path))
    if start == HDF5:
        return Original("resnet38d-tf", _renamed(_read_h5(path), _h5_name, path))
    if start.startswith(TORCH):
        state = _read_torch(path)
        if any(name.startswith("mod1.") for name in state):
            return Original("inplace_abn", _with_plain_scales(_renamed(state, _inplace_abn_name, path)))
        return Original("psa", _renamed(state, _psa_name, path))
    kinds = "MXNet .params, a PyTorch state dict, or resnet38d-tf's .h5"
    raise InputError(f"{str(path)!r} is not a checkpoint of a known kind: {kinds}. Its first bytes: {start!r}")


def _official(path: pathlib.Path) -> dict[str, np.ndarray]:
    arrays = read_params(path, mapped=True)
    parameters = {name[PREFIX_LENGTH:]: array for name, array in arrays.items()}
    if len(parameters) < len(arrays):
        raise InputError(f"{str(path)!r} holds a name both as arg: and as aux:")
    return parameters


def _renamed(arrays: dict[str, np.ndarray], official_name: Callable[[str], str], path: pathlib.Path) -> dict[str, np.ndarray]:
    parameters: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        official = official_name(name)
        if official in parameters:
            raise InputError(f"{str(path)!r} holds {official} twice, the second time as {name!r}")
        parameters[official] = array
    return parameters


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ModuleNotFoundError:
        raise InputError(f"{str(path)!r} is a PyTorch file: reading it needs PyTorch (pip install torch)") from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, by what is damaged
        raise InputError(f"{str(path)!r} is damaged or holds more than tensors: {str(error).splitlines()[0]}") from None
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{str(path)!r} is no PyTorch state dict (name -> tensor, alone or under 'state_dict')")
    counters = ".num_batches_tracked"
    return {
        str(key).removeprefix("module."): value.detach().float().numpy() for key, value in state.items() if not str(key).endswith(counters)
    }


def _psa_name(name: str) -> str:
    """`b4_2.bn_branch2a.running_mean` -> `bn4b2_branch2a_moving_mean`."""
    if match := re.fullmatch(r"b([2-7])(?:_(\d+))?\.(bn|conv)_(branch\w+)\.(\w+)", name):
        stage, index, kind, branch, suffix = match.groups()
        return _unit_parameter(int(stage), int(index or 0), kind == "bn", branch, TORCH_BATCH_NORM.get(suffix, suffix))
    if match := re.fullmatch(r"bn7\.(\w+)", name):
        return f"bn7_{TORCH_BATCH_NORM.get(match[1], match[1])}"
    return {"conv1a.weight": "conv1a_weight", "fc8.weight": PSA_CLASSIFIER}.get(name, name)


def _inplace_abn_name(name: str) -> str:
    """`mod4.block3.convs.bn2.weight` -> `bn4b2_branch2b1_gamma`."""
    if match := re.fullmatch(r"mod([2-7])\.block(\d+)\.([\w.]+)\.(\w+)", name):
        stage, block, part, suffix = match.groups()
        if part in _NORM_OF_INPLACE:
            return _unit_parameter(int(stage), int(block) - 1, True, _NORM_OF_INPLACE[part], TORCH_BATCH_NORM.get(suffix, suffix))
        if part in _CONV_OF_INPLACE:
            return _unit_parameter(int(stage), int(block) - 1, False, _CONV_OF_INPLACE[part], suffix)
    if match := re.fullmatch(r"bn_out\.(\w+)", name):
        return f"bn7_{TORCH_BATCH_NORM.get(match[1], match[1])}"
    if match := re.fullmatch(r"classifier\.fc\.(weight|bias)", name):
        return f"linear_{match[1]}"  # the class count comes from the shape
    return {"mod1.conv1.weight": "conv1a_weight"}.get(name, name)


def _with_plain_scales(parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """InPlace-ABN's |γ| + ε as γ, and its ε of 1e-5 in the running variance, so that our layers compute the same."""
    classes = next((len(parameters[name]) for name in ("linear_bias", "linear_weight") if name in parameters), None)
    plain = {}
    for name, array in parameters.items():
        if classes is not None and name.startswith("linear_"):
            name = name.replace("linear_", f"linear{classes}_")
        elif name.endswith("_gamma"):
            array = np.abs(array) + np.asarray(INPLACE_ABN_EPSILON, array.dtype)
        elif name.endswith("_moving_var"):
            array = array + np.asarray(INPLACE_ABN_EPSILON - BATCH_NORM_EPSILON, array.dtype)
        plain[name] = array
    return plain


def _read_h5(path: pathlib.Path) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}

    def take(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = to_official(item[()])

    try:
        with h5py.File(path) as file:
            file.visititems(take)
    except (OSError, RuntimeError, KeyError) as error:
        raise InputError(f"{str(path)!r} is damaged: {error}") from None
    return arrays


def _h5_name(name: str) -> str:
    """`s3/g2/b2/bn/s3/g2/b2/bn/gamma:0` (Keras 2 repeats the layer's name) -> `bn4b2_branch2b1_gamma`."""
    if match := re.fullmatch(r"(?:.+/)?s([1-5])/([gb])(\d+)/(b\d)/(cv|bn)/(\w+):0", name):
        group, letter, index, part, kind, suffix = match.groups()
        # Group s5 holds the bottlenecks, b0 of stage 6 and b1 of stage 7.
        stage, place = (6 + int(index), 0) if letter == "b" else (int(group) + 1, int(index))
        if kind == "bn" and part in _NORM_OF_H5:
            return _unit_parameter(stage, place, True, _NORM_OF_H5[part], H5_BATCH_NORM.get(suffix, suffix))
        if kind == "cv" and part in _CONV_OF_H5:
            return _unit_parameter(stage, place, False, _CONV_OF_H5[part], "weight" if suffix == "kernel" else suffix)
    if match := re.fullmatch(r"(?:.+/)?s5/bn/(\w+):0", name):
        return f"bn7_{H5_BATCH_NORM.get(match[1], match[1])}"
    known = {"s0/g0/cv/kernel:0": "conv1a_weight", "logits/kernel:0": PSA_CLASSIFIER}
    return next((official for ending, official in known.items() if name == ending or name.endswith(f"/{ending}")), name)


def _unit_parameter(stage: int, index: int, is_norm: bool, branch: str, suffix: str) -> str:
    unit = f"{stage}a" if index == 0 else f"{stage}b{index}"
    return f"{'bn' if is_norm else 'res'}{unit}_{branch}_{suffix}"
