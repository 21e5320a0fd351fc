"""Arrays by layer, with the names that they have in their file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

SHOWN_NAMES = 20  # only the number of further names is shown
_BACKBONE = r"conv1a|bn7|(?:res|bn)[1-7](?:a|b\d+)_branch(?:1|2a|2b\d+)"
_HEAD = r"linear\d+|conv6a"
_SUFFIXES = "weight|bias|gamma|beta|moving_mean|moving_var"
_PARAMETER = re.compile(rf"({_BACKBONE}|{_HEAD})_({_SUFFIXES})")


class LayerArrays(dict[str, list[np.ndarray]]):
    """Layer name -> arrays in Keras' order and layout.

    Args:
        arrays: the arrays.
        own_names: layer name -> the file's own names of its arrays, if they differ from the layer's name.
    """

    def __init__(self, arrays: Mapping[str, list[np.ndarray]], own_names: Mapping[str, tuple[str, ...]] | None = None):
        super().__init__(arrays)
        self.own_names = dict(own_names or {})

    def called(self, layer: str) -> str:
        """Returns our name of a layer followed, in brackets, by the file's own names if they differ."""
        own = self.own_names.get(layer, (layer,))
        return layer if own == (layer,) else f"{layer} ({', '.join(own)})"

    def verbatim(self, layer: str) -> tuple[str, ...]:
        """Returns the file's own names of a layer's arrays."""
        return self.own_names.get(layer, (layer,))


def is_of_backbone(layer: str) -> bool:
    """Whether a name is that of a layer before the head, in any structure."""
    return re.fullmatch(_BACKBONE, layer) is not None


def is_of_head(layer: str) -> bool:
    """Whether a name is that of a layer of a known classifier or segmentation head."""
    return re.fullmatch(_HEAD, layer) is not None


def layer_and_suffix(parameter: str) -> tuple[str, str]:
    """Splits an official parameter name into layer and suffix; any other name is returned whole, with an empty suffix."""
    match = _PARAMETER.fullmatch(parameter)
    return (match[1], match[2]) if match else (parameter, "")


def shortened(names: Iterable[str], most: int = SHOWN_NAMES) -> list[str]:
    """Returns the first names of a list, and the number of further ones as the last entry."""
    names = list(names)
    return names if len(names) <= most else [*names[:most], f"and {len(names) - most:,} more"]
