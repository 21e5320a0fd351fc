"""Sets the weights of a model from arrays by layer name; no layer silently keeps its initial values."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping

import keras
import numpy as np

from keras_widerresnet.errors import InputError
from keras_widerresnet.weights.layers import LayerArrays, is_of_backbone, is_of_head, shortened

logger = logging.getLogger(__name__)

_CLASSIFIER = re.compile(r"linear(\d+)")


def assign_weights(model: keras.Model, arrays: dict[str, list[np.ndarray]], source: str, ignore_head: bool = False) -> tuple[str, ...]:
    """Sets every weight of `model` from `arrays`.

    Args:
        model: a network with our layer names.
        arrays: layer name -> arrays in the order and shapes of `layer.weights`; emptied on the way, to save memory.
        source: name of their origin for error messages.
        ignore_head: whether to ignore the arrays after the features: a classifier or segmentation head that the model does not have, and
            any other layer that does not belong to a backbone. Heads other than the known ones are reported in a warning.

    Returns:
        The file's own names of the ignored arrays.

    Raises:
        InputError: if layers are missing, unused, mismatched or damaged, listed in one table; the model is then unchanged.
    """
    found = arrays if isinstance(arrays, LayerArrays) else LayerArrays(arrays)
    targets = {layer.name: layer for layer in model.layers if layer.weights}
    unused = [name for name in found if name not in targets]
    missing = [name for name in targets if name not in found]
    # If layers are missing, an unused one may be one of them under another name.
    left = [name for name in unused if ignore_head and (is_of_head(name) if missing else not is_of_backbone(name))]
    rows = _table("missing", missing)
    rows += _table("unused", [found.called(name) for name in unused if name not in left])
    rows += _table("mismatched", _mismatched(targets, found))
    if not rows and (damaged := list(_damaged(targets, found))):
        raise InputError(f"The weights of {source} are damaged:\n" + "\n".join(_table("damaged", damaged)))
    if rows:
        hint = (
            _class_hint(targets, found)
            or _bias_hint(targets, found)
            or _kind_hint(targets, found)
            or _features_hint(targets, found, ignore_head)
        )
        raise InputError(f"The weights of {source} do not fit {model.name!r}{hint}:\n" + "\n".join(rows))
    unknown = [name for name in left if not is_of_head(name)]
    if unknown:
        names = [own for name in unknown for own in found.verbatim(name)]
        logger.warning("These arrays of %s are ignored, because no layer of %r uses them: %s", source, model.name, ", ".join(names))
    for name, layer in targets.items():
        layer.set_weights([np.array(array, order="C") for array in arrays.pop(name)])  # a copy, so that memory-mapped files are released
    return tuple(own for name in left for own in found.verbatim(name))


def _table(word: str, names: list[str]) -> list[str]:
    return [f"  {word:<11} {name}" for name in shortened(names)]


def _mismatched(targets: Mapping[str, keras.Layer], found: LayerArrays) -> list[str]:
    rows = []
    for name, layer in targets.items():
        expected = [tuple(weight.shape) for weight in layer.weights]
        received = [tuple(np.shape(array)) for array in found.get(name, [])]
        if name in found and expected != received:
            rows.append(f"{name}: model {expected}, file {received}{found.called(name).removeprefix(name)}")
    return rows


def _damaged(targets: Mapping[str, keras.Layer], found: LayerArrays) -> Iterator[str]:
    """Yields the layers with the right shapes but invalid values."""
    for name in targets:
        if reason := next(filter(None, map(_wrong_values, found[name])), ""):
            yield f"{found.called(name)}: {reason}"


def _wrong_values(array: np.ndarray) -> str:
    dtype = np.asarray(array).dtype
    if not np.issubdtype(dtype, np.floating):
        return f"values of type {dtype} instead of floating-point numbers"
    finite = np.isfinite(array)
    return "" if finite.all() else f"{finite.size - np.count_nonzero(finite):,} of {finite.size:,} values are not finite"


def _class_hint(targets, arrays) -> str:
    """Returns a hint if the number of classes may be the only mismatch."""
    wanted, found = ({match[1] for name in names if (match := _CLASSIFIER.fullmatch(name))} for names in (targets, arrays))
    if wanted and found and wanted != found:
        return f": they are for classes={'/'.join(sorted(found))}, the model has classes={'/'.join(sorted(wanted))}"
    return ""


def _bias_hint(targets, arrays) -> str:
    """Returns a hint if the classifier's bias is the only mismatch."""
    for name in filter(_CLASSIFIER.fullmatch, targets):
        wanted, found = len(targets[name].weights), len(arrays.get(name, ()))
        if {wanted, found} == {1, 2} and np.ndim(arrays[name][0]) == len(targets[name].weights[0].shape):
            has = "has no bias" if found == 1 else "has a bias"
            return f": their classifier {has}, use classifier_bias={found == 2}"
    return ""


def _kind_hint(targets, arrays) -> str:
    """Returns a hint if the file belongs to another kind of network altogether."""
    if not any(is_of_backbone(name) for name in arrays):
        return ": none of their names is a layer of this package's networks"
    missing = [name for name in targets if name not in arrays]
    extra_bias = [name for name, layer in targets.items() if len(arrays.get(name, ())) == len(layer.weights) + 1]
    if extra_bias and missing and all(name.startswith("bn") for name in missing):
        return ": they come from an inference network whose batch norms are folded into its convolutions"
    return ""


def _features_hint(targets, arrays, ignore_head: bool) -> str:
    """Returns a hint if the features fit and only the layers after them differ."""
    features = {name: layer for name, layer in targets.items() if is_of_backbone(name)}
    others = [name for name in arrays if is_of_backbone(name) and name not in features]
    if ignore_head or others or any(name not in arrays for name in features) or _mismatched(features, arrays):
        return ""
    return ": only the features fit, with include_top=False, and not the layers after them"
