"""Arrays by layer name -> a model, with nothing left at its initial value in silence."""

from __future__ import annotations

import re

import keras
import numpy as np

from keras_widerresnet.errors import InputError

_CLASSIFIER = re.compile(r"linear(\d+)")
_HEAD = re.compile(r"linear\d+|conv6a|fc8")


def assign_weights(model: keras.Model, arrays: dict[str, list[np.ndarray]], source: str, ignore_head: bool = False) -> None:
    """Sets every weight of `model` from `arrays`.

    Args:
        model: a network with our layer names.
        arrays: layer name -> arrays in the order and shapes of `layer.weights`; emptied, to need no more memory than the model.
        source: what to call their origin in an error.
        ignore_head: whether a classifier or segmentation head in `arrays` that the model lacks is left aside.

    Raises:
        InputError: with one table of the missing, unused and mismatched layers; the model is then unchanged.
    """
    targets = {layer.name: layer for layer in model.layers if layer.weights}
    unused = [name for name in arrays if name not in targets and not (ignore_head and _HEAD.fullmatch(name))]
    rows = [f"  missing     {name}" for name in targets if name not in arrays]
    rows += [f"  unused      {name}" for name in unused]
    for name, layer in targets.items():
        expected = [tuple(weight.shape) for weight in layer.weights]
        received = [tuple(array.shape) for array in arrays.get(name, [])]
        if name in arrays and expected != received:
            rows.append(f"  mismatched  {name}: model {expected}, file {received}")
    if rows:
        raise InputError(f"The weights of {source} do not fit {model.name!r}{_class_hint(targets, arrays)}:\n" + "\n".join(rows))
    for name, layer in targets.items():
        layer.set_weights([np.array(array, order="C") for array in arrays.pop(name)])  # lets go of what lies in a file


def _class_hint(targets, arrays) -> str:
    """Says so when all that is wrong may be the number of classes."""
    wanted, found = ({match[1] for name in names if (match := _CLASSIFIER.fullmatch(name))} for names in (targets, arrays))
    if wanted and found and wanted != found:
        return f": they are for classes={'/'.join(sorted(found))}, the model has classes={'/'.join(sorted(wanted))}"
    return ""
