"""Finds a network's state dict in the content of a PyTorch file, and the network's prefix in its names."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from keras_widerresnet.errors import InputError
from keras_widerresnet.weights.layers import shortened

_STEMS = ("conv1a.weight", "mod1.conv1.weight")  # of psa, and of InPlace-ABN and NVIDIA
_USUAL_STATES = ("state_dict", "model_state_dict", "model")  # preferred if a checkpoint contains several
_MOST_LEVELS = 5
# Bounds for hostile files, in which one dict may stand in many places.
_MOST_ENTRIES = 200_000
_MOST_NAME_LENGTH = 1024


def find_state(content: Any, is_tensor: Callable[[Any], bool], path: pathlib.Path) -> dict[str, Any]:
    """Returns the state dict, name -> tensor, in the content of a PyTorch file: alone, or anywhere inside a checkpoint.

    A network that was saved in parts, such as `{"body": ..., "head": ...}`, is returned as one, with names such as
    `body.mod1.conv1.weight`.

    Args:
        content: nested dicts of any values.
        is_tensor: returns whether a value is a tensor.
        path: path of the file, for error messages.

    Raises:
        InputError: if there is no state dict, or several of which none has a usual name and not exactly one contains a known network.
    """
    found = _states(content, is_tensor, path)
    for usual in _USUAL_STATES:
        named = [place for place in found if place[-1:] == (usual,)]
        found = {place: found[place] for place in named[:1]} or found
        if named:
            break
    networks = [place for place, state in found.items() if _prefixes(state)]
    if len(found) > 1 and len(networks) == 1:
        return _joined(found, networks[0][:-1])
    if len(found) > 1:
        names = ", ".join(shortened(repr(".".join(place)) for place in sorted(found)))
        raise InputError(f"{str(path)!r} contains several state dicts, {names}: save only one")
    if not found:
        raise InputError(f"{str(path)!r} is not a PyTorch state dict (name -> tensor, alone or inside a checkpoint)")
    return next(iter(found.values()))


def network_prefix(names: Iterable[str], path: pathlib.Path) -> str:
    """Returns the prefix of the network's names, e.g. `module.`, from data-parallel training or a larger model.

    Raises:
        InputError: if there are several networks.
    """
    names = list(names)
    found = _prefixes(names)
    if len(found) > 1:
        prefixes = ", ".join(shortened(map(repr, sorted(found))))
        raise InputError(f"{str(path)!r} contains more than one network, under {prefixes}: save only one")
    return found.pop() if found else ("module." if any(name.startswith("module.") for name in names) else "")


def _prefixes(names: Iterable[str]) -> set[str]:
    return {name.removesuffix(stem) for name in names for stem in _STEMS if name == stem or name.endswith(f".{stem}")}


def _states(content: Any, is_tensor: Callable[[Any], bool], path: pathlib.Path) -> dict[tuple[str, ...], dict[str, Any]]:
    """Returns key path -> dict of tensors by name, for each such dict; those nearest to the top first."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    queue: collections.deque[tuple[tuple[str, ...], Any]] = collections.deque([((), content)])
    entries = 0
    while queue:
        place, value = queue.popleft()
        if not isinstance(value, Mapping) or not all(isinstance(key, str) and len(key) <= _MOST_NAME_LENGTH for key in value):
            continue
        entries += len(value)
        if entries > _MOST_ENTRIES:
            raise InputError(f"{str(path)!r} contains more than {_MOST_ENTRIES:,} entries: save only the state dict")
        tensors = {key: one for key, one in value.items() if is_tensor(one)}
        if any("." in key for key in tensors) or (tensors and len(tensors) == len(value)):
            found[place] = tensors
        if len(place) + 1 < _MOST_LEVELS:
            queue.extend(((*place, key), one) for key, one in value.items() if isinstance(one, Mapping))
    return found


def _joined(states: Mapping[tuple[str, ...], Mapping[str, Any]], parent: tuple[str, ...]) -> dict[str, Any]:
    """Returns the state dicts directly under one place as a single one."""
    return {
        ".".join((*place[len(parent) :], name)): tensor
        for place, state in states.items()
        if place[: len(parent)] == parent and len(place) <= len(parent) + 1
        for name, tensor in state.items()
    }
