"""Arrays by layer name -> a model, with nothing left at its initial value in silence."""

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
_PSA_CLASSIFIER, _PSA_CLASSES = "fc8", 20


def assign_weights(model: keras.Model, arrays: dict[str, list[np.ndarray]], source: str, ignore_head: bool = False) -> tuple[str, ...]:
    """Sets every weight of `model` from `arrays`.

    Args:
        model: a network with our layer names.
        arrays: layer name -> arrays in the order and shapes of `layer.weights`; emptied, to need no more memory than the model.
        source: what to call their origin in an error.
        ignore_head: whether what `arrays` have behind the features is left aside: a classifier or segmentation head that the model lacks,
            and whatever else is no layer of a backbone. Other heads than the known ones are told in a warning.

    Returns:
        The file's own names of what was left aside.

    Raises:
        InputError: with one table of the missing, unused, mismatched and damaged layers; the model is then unchanged.
    """
    found = arrays if isinstance(arrays, LayerArrays) else LayerArrays(arrays)
    targets = {layer.name: layer for layer in model.layers if layer.weights}
    unused = [name for name in found if name not in targets]
    missing = [name for name in targets if name not in found]
    # Where something is missing, what is unused may be just that by another name.
    left = [name for name in unused if ignore_head and (is_of_head(name) if missing else not is_of_backbone(name))]
    rows = _table("missing", missing)
    rows += _table("unused", [found.called(name) for name in unused if name not in left])
    rows += _table("mismatched", _mismatched(targets, found))
    if not rows and (damaged := list(_damaged(targets, found))):
        raise InputError(f"The weights of {source} are damaged:\n" + "\n".join(_table("damaged", damaged)))
    if rows:
        hint = _class_hint(targets, found) or _kind_hint(targets, found) or _features_hint(targets, found, ignore_head)
        raise InputError(f"The weights of {source} do not fit {model.name!r}{hint}:\n" + "\n".join(rows))
    unknown = [name for name in left if not _is_expected(name, found[name])]
    if unknown:
        names = [own for name in unknown for own in found.verbatim(name)]
        logger.warning("Of %s these are left aside, since no layer of %r takes them: %s", source, model.name, ", ".join(names))
    for name, layer in targets.items():
        layer.set_weights([np.array(array, order="C") for array in arrays.pop(name)])  # lets go of what lies in a file
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
    """Layers of the right shapes whose values cannot be weights."""
    for name in targets:
        if reason := next(filter(None, map(_wrong_values, found[name])), ""):
            yield f"{found.called(name)}: {reason}"


def _wrong_values(array: np.ndarray) -> str:
    dtype = np.asarray(array).dtype
    if not np.issubdtype(dtype, np.floating):
        return f"values of type {dtype}, where weights are floating-point numbers"
    finite = np.isfinite(array)
    return "" if finite.all() else f"{finite.size - np.count_nonzero(finite):,} of {finite.size:,} values are not finite"


def _is_expected(name: str, arrays: list[np.ndarray]) -> bool:
    """Whether a head is one of those that files of features are known to come with: told by nobody, missed by nobody."""
    if name == _PSA_CLASSIFIER:
        return [np.shape(array)[-1:] for array in arrays] == [(_PSA_CLASSES,)]
    return is_of_head(name)


def _class_hint(targets, arrays) -> str:
    """Says so when all that is wrong may be the number of classes."""
    wanted, found = ({match[1] for name in names if (match := _CLASSIFIER.fullmatch(name))} for names in (targets, arrays))
    if wanted and found and wanted != found:
        return f": they are for classes={'/'.join(sorted(found))}, the model has classes={'/'.join(sorted(wanted))}"
    return ""


def _kind_hint(targets, arrays) -> str:
    """Says so when the file is of another kind of network altogether."""
    if not any(is_of_backbone(name) for name in arrays):
        return ": none of their names is a layer of these networks"
    missing = [name for name in targets if name not in arrays]
    extra_bias = [name for name, layer in targets.items() if len(arrays.get(name, ())) == len(layer.weights) + 1]
    if extra_bias and missing and all(name.startswith("bn") for name in missing):
        return ": they are of a network for inference whose batch norms are folded into its convolutions"
    return ""


def _features_hint(targets, arrays, ignore_head: bool) -> str:
    """Says so when the features are all there, and only what is behind them differs."""
    features = {name: layer for name, layer in targets.items() if is_of_backbone(name)}
    others = [name for name in arrays if is_of_backbone(name) and name not in features]
    if ignore_head or others or any(name not in arrays for name in features) or _mismatched(features, arrays):
        return ""
    return ": their features do, with include_top=False, and what is behind them does not"
