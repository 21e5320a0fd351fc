"""Reads original checkpoints of several kinds as official parameters, with the names and layouts of the release.

The supported kinds are those of the official release, the InPlace-ABN release, NVIDIA's segmentation networks, psa's resnet38d and
resnet38d-tf, and Keras' own.
"""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import re
from collections.abc import Callable

import h5py
import numpy as np

from keras_widerresnet.errors import InputError
from keras_widerresnet.units import BATCH_NORM_EPSILON
from keras_widerresnet.weights.first_bytes import HDF5, MXNET, TORCH, first_bytes, is_safetensors
from keras_widerresnet.weights.keras_file import is_keras_archive, model_config, read_keras_weights, values
from keras_widerresnet.weights.layers import LayerArrays, is_of_backbone, is_of_head
from keras_widerresnet.weights.mxnet_params import PREFIX_LENGTH, read_params
from keras_widerresnet.weights.official import SUFFIXES, to_official
from keras_widerresnet.weights.safetensors_file import read_safetensors
from keras_widerresnet.weights.state_dict import find_state, network_prefix
from keras_widerresnet.weights.torch_file import as_arrays, read_torch
from keras_widerresnet.weights.torch_pickle import Tensor

logger = logging.getLogger(__name__)

TORCH_BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}
H5_BATCH_NORM = {"gamma": "gamma", "beta": "beta", "moving_mean": "moving_mean", "moving_variance": "moving_var"}
TORCH_EPSILON = 1e-5  # of batch norm in InPlace-ABN's and NVIDIA's networks
OFFICIAL_KIND, KERAS_KIND = "mxnet", "keras"
_INPLACE_ABN_KIND, _NVIDIA_KIND = "inplace_abn", "nvidia"
_COUNTERS = ".num_batches_tracked"
PSA_CLASSIFIER = "fc8_weight"  # a 1x1 convolution without bias on the averaged features, which is a dense layer
_CONV_OF_H5 = {"b1": "branch1", "b2": "branch2a", "b3": "branch2b1", "b4": "branch2b2"}
_NORM_OF_H5 = {"b0": "branch2a", "b2": "branch2b1", "b3": "branch2b2"}
_CONV_OF_INPLACE = {"proj_conv": "branch1", "convs.conv1": "branch2a", "convs.conv2": "branch2b1", "convs.conv3": "branch2b2"}
_NORM_OF_INPLACE = {"bn1": "branch2a", "convs.bn2": "branch2b1", "convs.bn3": "branch2b2"}


@dataclasses.dataclass(frozen=True)
class Original:
    """The parameters of an original file.

    Args:
        kind: `"mxnet"` (official release), `"psa"`, `"inplace_abn"` or `"nvidia"` (PyTorch), `"resnet38d-tf"` (HDF5), or `"keras"` for a
            network of this package saved by Keras.
        parameters: official name (without `arg:`/`aux:`) -> array in the official layout; unknown names are kept unchanged, so that
            they are reported as unused.
        own_names: official name -> the file's own name, if it differs.
        told: `activation` and `pool_padding` of the network as stated in a file of kind `"keras"`; empty if it contains only weights.
    """

    kind: str
    parameters: dict[str, np.ndarray]
    own_names: dict[str, str] = dataclasses.field(default_factory=dict)
    told: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def activation(self) -> str:
        """The activation with which the network must be built; empty if unknown."""
        if self.kind == KERAS_KIND:
            return self.told.get("activation", "")
        return "leaky_relu" if self.kind == _INPLACE_ABN_KIND else "relu"

    @property
    def pool_padding(self) -> str:
        """The pool convention of the software that wrote the file; the paper's for official files, and if it is unknown."""
        if self.kind == KERAS_KIND:
            return self.told.get("pool_padding", "ceil")
        return "ceil" if self.kind == OFFICIAL_KIND else "symmetric"

    @property
    def needed_pool_padding(self) -> str:
        """The same, where the file's network needs it; empty for the official release, which trains with one and evaluates with another."""
        return "" if self.kind == OFFICIAL_KIND else self.pool_padding

    @property
    def classes(self) -> int | None:
        """The number of classes of the classifier or segmentation head; None for features only."""
        return next((int(match[1]) for name in self.parameters if (match := re.fullmatch(r"linear(\d+)_weight", name))), None)

    @property
    def is_psa_classifier(self) -> bool:
        """Whether the file has psa's classifier: of images that show several classes, at output stride 8."""
        return self.kind in ("psa", "resnet38d-tf") and self.classes is not None

    @property
    def classifier_convs(self) -> int:
        """Number of convolutions in the segmentation head: 1 or 2, and 0 for a classification network."""
        weight = self.parameters.get(f"linear{self.classes}_weight")
        return 0 if weight is None or weight.ndim == 2 else 1 + ("conv6a_weight" in self.parameters)


def read_original(path: str | pathlib.Path) -> Original:
    """Reads an original checkpoint; its kind is determined from its first bytes and parameter names, not from its file name.

    Args:
        path: an MXNet `.params` file (official release), a PyTorch or `.safetensors` state dict with the names of psa's resnet38d, of the
            InPlace-ABN release or of NVIDIA's segmentation networks (alone or inside a checkpoint, with or without a prefix such as
            `module.`; PyTorch is not needed), an `.h5` file in resnet38d-tf's layout, or an `.h5` or `.keras` file written by Keras for a
            network of this package. Arrays are memory-mapped where the file stores them as they are.
            InPlace-ABN's scale |γ| + ε becomes γ, and the difference between the other software's ε and ours is added to the running
            variance.

    Raises:
        InputError: if the file does not exist, is damaged, or is not of a known kind.
    """
    path = pathlib.Path(path)
    try:
        start = first_bytes(path)
    except OSError as error:
        raise InputError(f"No weights file can be read at {str(path)!r}: {error.strerror}") from None
    found = _with_dense_classifier(_read_kind(path, start))
    _check_classes(found, path)
    return found


def _read_kind(path: pathlib.Path, start: bytes) -> Original:
    if is_safetensors(start):
        return _of_state(read_safetensors(path), path)
    if start.startswith(MXNET):
        return Original(OFFICIAL_KIND, _official(path))
    if start.startswith(HDF5):
        return _hdf5(path)
    if start.startswith(TORCH):
        if not is_keras_archive(path):
            return _of_state(_read_torch(path), path)
        if path.suffix == ".keras":
            return Original(KERAS_KIND, _of_layers(read_keras_weights(path)), told=told_by(model_config(path)))
        raise InputError(f"{str(path)!r} is a model saved by Keras: its name must end in .keras")
    kinds = "MXNet .params, a PyTorch or .safetensors state dict, or resnet38d-tf's .h5"
    raise InputError(f"{str(path)!r} is not a checkpoint of a known kind: {kinds}. Its first bytes: {start!r}")


def _of_state(state: dict[str, np.ndarray], path: pathlib.Path) -> Original:
    """Returns the parameters in a state dict, as float32; whole numbers stay unchanged, to be rejected later."""
    state = {name: _as_float32(array) for name, array in state.items() if not name.endswith(_COUNTERS)}
    prefix = network_prefix(state, path)
    if not any(name.startswith(f"{prefix}mod1.") for name in state):
        return Original("psa", *_renamed(state, _psa_name, path, prefix))
    # NVIDIA's networks have an nn.Sequential of batch norm and ReLU where InPlace-ABN has one layer.
    is_nvidia = any(name.startswith(f"{prefix}mod") and name.endswith(".bn1.0.running_mean") for name in state)
    kind = _NVIDIA_KIND if is_nvidia else _INPLACE_ABN_KIND
    parameters, own_names = _with_our_epsilon(*_renamed(state, _module_name, path, prefix), is_absolute=kind == _INPLACE_ABN_KIND)
    if kind == _NVIDIA_KIND:
        _add_last_norm(parameters, path)
    return Original(kind, parameters, own_names)


def _as_float32(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array


def _with_dense_classifier(found: Original) -> Original:
    """Turns psa's classifier into the dense layer `linear{classes}`; a kernel that is not 1x1 is left as it is."""
    kernel = found.parameters.get(PSA_CLASSIFIER)
    if kernel is None or kernel.shape[2:] not in ((), (1, 1)) or found.classes is not None:
        return found
    renamed = {PSA_CLASSIFIER: f"linear{len(kernel)}_weight"}
    arrays = found.parameters | {PSA_CLASSIFIER: kernel.reshape(kernel.shape[:2])}
    parameters = {renamed.get(name, name): array for name, array in arrays.items()}
    own_names = {renamed.get(name, name): own for name, own in found.own_names.items()}
    return dataclasses.replace(found, parameters=parameters, own_names=own_names)


def _check_classes(found: Original, path: pathlib.Path) -> None:
    """Rejects a head with another number of classes than its name says, before a network of that size is built."""
    weight = found.parameters.get(f"linear{found.classes}_weight")
    if weight is not None and weight.shape[:1] != (found.classes,):
        raise InputError(f"{str(path)!r} is damaged: linear{found.classes} has shape {weight.shape}, not that of {found.classes:,} classes")


def _official(path: pathlib.Path) -> dict[str, np.ndarray]:
    arrays = read_params(path, mapped=True)
    parameters = {name[PREFIX_LENGTH:]: array for name, array in arrays.items()}
    if len(parameters) < len(arrays):
        raise InputError(f"{str(path)!r} contains a name both as arg: and as aux:")
    return parameters


def _hdf5(path: pathlib.Path) -> Original:
    arrays = _read_h5(path)
    parameters, own_names = _renamed(arrays, _h5_name, path)
    if set(parameters) - set(arrays):
        return Original("resnet38d-tf", parameters, own_names)
    layers = read_keras_weights(path) if path.suffix in (".h5", ".hdf5") else LayerArrays({})
    if not any(is_of_backbone(layer) for layer in layers):
        return Original("resnet38d-tf", parameters, own_names)
    return Original(KERAS_KIND, _of_layers(layers), told=told_by(model_config(path)))


def _of_layers(layers: LayerArrays) -> dict[str, np.ndarray]:
    """Returns the official parameters of Keras' layers; those of other layers are named by layer and index."""
    parameters = {}
    for layer, arrays in layers.items():
        suffixes = SUFFIXES["BatchNormalization" if len(arrays) == len(SUFFIXES["BatchNormalization"]) else "Conv2D"]
        is_known = (is_of_backbone(layer) or is_of_head(layer)) and len(arrays) <= len(suffixes)
        for place, array in enumerate(arrays):
            parameters[f"{layer}_{suffixes[place]}" if is_known else f"{layer}/{place}"] = to_official(array)
    return parameters


def told_by(config: str) -> dict[str, str]:
    """Returns `activation` and `pool_padding` of a network of this package from its configuration; nothing if that is empty."""
    told = {}
    if re.search(r'"class_name": *"LeakyReLU"', config):
        told["activation"] = "leaky_relu"
    elif config:
        told["activation"] = "relu"
    if match := re.search(r'"padding": *"(ceil|symmetric|valid)", *"strides": *2', config):
        told["pool_padding"] = match[1]
    return told


def _renamed(
    arrays: dict[str, np.ndarray], official_name: Callable[[str], str], path: pathlib.Path, prefix: str = ""
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns official name -> array, and official name -> the file's own name; unknown names are kept, with their prefix."""
    parameters: dict[str, np.ndarray] = {}
    own_names: dict[str, str] = {}
    for name, array in arrays.items():
        plain = name.removeprefix(prefix)
        official = official_name(plain)
        official = name if official == plain else official
        if official in parameters:
            raise InputError(f"{str(path)!r} contains {official} twice, as {own_names[official]!r} and as {name!r}")
        parameters[official], own_names[official] = array, name
    return parameters, own_names


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    state = find_state(read_torch(path), lambda value: isinstance(value, Tensor), path)
    return as_arrays(state, path)


def _psa_name(name: str) -> str:
    """`b4_2.bn_branch2a.running_mean` -> `bn4b2_branch2a_moving_mean`."""
    if match := re.fullmatch(r"b([2-7])(?:_(\d+))?\.(bn|conv)_(branch\w+)\.(\w+)", name):
        stage, index, kind, branch, suffix = match.groups()
        return _unit_parameter(int(stage), int(index or 0), kind == "bn", branch, TORCH_BATCH_NORM.get(suffix, suffix))
    if match := re.fullmatch(r"bn7\.(\w+)", name):
        return f"bn7_{TORCH_BATCH_NORM.get(match[1], match[1])}"
    return {"conv1a.weight": "conv1a_weight", "fc8.weight": PSA_CLASSIFIER}.get(name, name)


def _module_name(name: str) -> str:
    """`mod4.block3.convs.bn2.weight` (InPlace-ABN) or `mod4.block3.convs.bn2.0.weight` (NVIDIA) -> `bn4b2_branch2b1_gamma`."""
    if match := re.fullmatch(r"mod([2-7])\.block(\d+)\.([\w.]+?)(?:\.0)?\.(\w+)", name):
        stage, block, part, suffix = match.groups()
        if part in _NORM_OF_INPLACE:
            return _unit_parameter(int(stage), int(block) - 1, True, _NORM_OF_INPLACE[part], TORCH_BATCH_NORM.get(suffix, suffix))
        if part in _CONV_OF_INPLACE:
            return _unit_parameter(int(stage), int(block) - 1, False, _CONV_OF_INPLACE[part], suffix)
    if match := re.fullmatch(r"bn_out(?:\.0)?\.(\w+)", name):
        return f"bn7_{TORCH_BATCH_NORM.get(match[1], match[1])}"
    if match := re.fullmatch(r"classifier\.fc\.(weight|bias)", name):
        return f"linear_{match[1]}"  # the class count comes from the shape
    return {"mod1.conv1.weight": "conv1a_weight"}.get(name, name)


def _with_our_epsilon(
    parameters: dict[str, np.ndarray], own_names: dict[str, str], is_absolute: bool
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Changes batch norms with an ε of 1e-5 so that ours compute the same: the difference of both ε is added to the running variance.

    `is_absolute`: whether their scale is InPlace-ABN's |γ| + ε, which becomes γ.
    """
    shapes = (parameters[name].shape for name in ("linear_bias", "linear_weight") if name in parameters)
    classes = next((shape[0] for shape in shapes if shape), None)
    plain, names = {}, {}
    for name, array in parameters.items():
        own = own_names[name]
        if classes is not None and name.startswith("linear_"):
            name = name.replace("linear_", f"linear{classes}_")
        elif name.endswith("_gamma") and is_absolute:
            array = np.abs(array) + np.asarray(TORCH_EPSILON, array.dtype)
        elif name.endswith("_moving_var"):
            array = array + np.asarray(TORCH_EPSILON - BATCH_NORM_EPSILON, array.dtype)
        plain[name], names[name] = array, own
    return plain, names


def _add_last_norm(parameters: dict[str, np.ndarray], path: pathlib.Path) -> None:
    """Adds the batch norm behind B7 as the identity if it is missing: NVIDIA's segmentation networks use the sum before it."""
    last = next((array for name, array in parameters.items() if re.fullmatch(r"res7\w+_branch2b2_weight", name)), None)
    if last is None or not last.ndim or any(name.startswith("bn7_") for name in parameters):
        return
    logger.warning(
        "%r has no batch norm behind B7: bn7 becomes the identity, and the output is the ReLU of that network's features", str(path)
    )
    ones, zeros = np.ones(len(last), np.float32), np.zeros(len(last), np.float32)
    variance = ones - np.float32(BATCH_NORM_EPSILON)
    parameters |= {"bn7_gamma": ones, "bn7_beta": zeros, "bn7_moving_mean": zeros, "bn7_moving_var": variance}


def _read_h5(path: pathlib.Path) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}

    def take(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = to_official(values(item))

    try:
        with h5py.File(path) as file:
            file.visititems(take)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, MemoryError) as error:
        raise InputError(f"{str(path)!r} is damaged: {error}") from None
    return arrays


def _h5_name(name: str) -> str:
    """`s3/g2/b2/bn/s3/g2/b2/bn/gamma:0` (Keras 2 repeats the layer's name) -> `bn4b2_branch2b1_gamma`."""
    if match := re.fullmatch(r"(?:.+/)?s([1-5])/([gb])(\d+)/(b\d)/(cv|bn)/(\w+):0", name):
        group, letter, index, part, kind, suffix = match.groups()
        # Group s5 contains the bottlenecks: b0 is stage 6 and b1 is stage 7.
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
