"""The measurements of an analysis of saved networks."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import keras
import numpy as np

from keras_widerresnet.analysis.chain import ResidualChain, residual_chain
from keras_widerresnet.analysis.config import Settings
from keras_widerresnet.analysis.effective_depth import EffectiveDepth, effective_depth
from keras_widerresnet.analysis.lesion import INTACT, Lesion, lesion_errors, random_lesions, single_lesions, swappable
from keras_widerresnet.analysis.paths import PathLengths, gradient_per_path_length
from keras_widerresnet.analysis.snapshots import Snapshot
from keras_widerresnet.data.images import decode_rgb
from keras_widerresnet.data.resize import normalise, test_view
from keras_widerresnet.data.split import ImageData, IndexedSplit, ShardedSplit
from keras_widerresnet.data.streams import elements
from keras_widerresnet.errors import InputError
from keras_widerresnet.freezing import unfreeze
from keras_widerresnet.loading import takes_pixels
from keras_widerresnet.models import NO_PREPROCESSING
from keras_widerresnet.tracing import without_autograph

Draw = Callable[[IndexedSplit | ShardedSplit, int], tuple[np.ndarray, np.ndarray]]

PLACES = 12  # number of different counts of dropped units, spaced geometrically


@dataclasses.dataclass(frozen=True)
class Lesions:
    """Error rates in 0..1.

    Args:
        intact: error of the whole network.
        single: (n,), errors with one unit dropped.
        counts, several: numbers of dropped units, and errors with random sets of that size (counts, samples).
        pairs, swapped: pairs of units, and errors with them swapped.
        images: number of test images that were classified.
    """

    intact: float
    single: np.ndarray
    counts: list[int]
    several: np.ndarray
    pairs: list[Lesion]
    swapped: np.ndarray
    images: int


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The results of an analysis.

    Args:
        names: names of the states, in order.
        data: name of the data set.
        settings: the settings of the measurements.
        units: names of the last network's units.
        stage_begins: for each of them, whether it projects its input, as the first unit of a stage does.
        depths: effective depth of each state.
        paths, lesions: results for the last network; None if not measured.
    """

    names: tuple[str, ...]
    data: str
    settings: Settings
    units: tuple[str, ...]
    stage_begins: tuple[bool, ...]
    depths: tuple[EffectiveDepth, ...]
    paths: PathLengths | None
    lesions: Lesions | None

    @property
    def last(self) -> EffectiveDepth:
        return self.depths[-1]


def measure(states: list[Snapshot], data: ImageData, settings: Settings, preprocessing: str = "") -> Analysis:
    """Measures the effective depth of every state, and paths and lesions of the last one only.

    Args:
        states: the states, in order.
        data: the data set that provides the images.
        settings: what to measure.
        preprocessing: as in `loading.takes_pixels`.

    Raises:
        InputError: if a network is not a chain of residual units, does not fit the data, or may normalise images itself.
    """
    found = []
    for state in states:
        keras.backend.clear_session()
        network = state.load()
        unfreeze(network)  # what was frozen in training has gradients all the same
        size = _checked_size(network, state.name, data, settings)
        as_they_are = takes_pixels(network, state.source, preprocessing) if state.source else preprocessing == NO_PREPROCESSING
        draw = functools.partial(sampled_images, crop_size=size, seed=settings.seed, as_pixels=as_they_are)
        chain = residual_chain(network)
        images, labels = draw(data.train, settings.images)
        found.append(effective_depth(chain, images, labels, threshold=settings.threshold, seed=settings.seed))
    names, begins = tuple(state.name for state in states), tuple(link.shortcut is not None for link in chain.links)
    paths, lesions = _path_lengths(chain, data, draw, settings), _lesions(chain, data, draw, settings)
    return Analysis(names, data.name, settings, chain.names, begins, tuple(found), paths, lesions)


@without_autograph
def sampled_images(
    split: IndexedSplit | ShardedSplit, count: int, crop_size: int, seed: int, as_pixels: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Returns `count` images of a split drawn with `seed`, or all if there are fewer: float32 (count, S, S, 3), and int32 labels.

    Images are cropped as in testing; with `as_pixels` their values are 0..255, otherwise normalised.
    """

    def seen(position, raw, label):
        view = test_view(decode_rgb(raw), crop_size)
        return view if as_pixels else normalise(view), label

    examples = split.shuffled(seed, batch_size=1).take(min(count, split.size))
    images, labels = zip(*elements(examples.map(seen)), strict=True)
    return np.stack(images), np.array(labels, np.int32)


def _checked_size(network: keras.Model, name: str, data: ImageData, settings: Settings) -> int:
    shape = network.input_shape
    if len(network.output_shape) != 2 or network.output_shape[1] != data.classes:
        raise InputError(f"{name}: outputs must be (images, {data.classes} classes of {data.name}). Received: {network.output_shape}")
    size = settings.crop_size or shape[1]
    if size is None or shape[1] not in (None, size):
        raise InputError(f"{name} needs images of {shape[1] or 'any'} pixels: set a --crop_size that fits. Received: {settings.crop_size}")
    return size


def _path_lengths(chain: ResidualChain, data: ImageData, draw: Draw, settings: Settings) -> PathLengths | None:
    if not settings.path_images:
        return None
    images, labels = draw(data.train, settings.path_images)
    return gradient_per_path_length(chain, images, labels, samples=settings.path_samples, seed=settings.seed)


def _lesions(chain: ResidualChain, data: ImageData, draw: Draw, settings: Settings) -> Lesions | None:
    if not settings.lesion_images:
        return None
    images, labels = draw(data.test, settings.lesion_images)
    units, samples = len(chain.links), settings.lesion_samples
    counts = sorted(set(np.geomspace(1, units, PLACES).round().astype(int).tolist()))
    pairs = swappable(chain)
    if len(pairs) > units:
        chosen = np.random.default_rng(settings.seed).choice(len(pairs), units, replace=False)
        pairs = [pairs[k] for k in sorted(chosen)]
    every = [INTACT, *single_lesions(chain), *random_lesions(chain, counts, samples, settings.seed), *pairs]
    errors = lesion_errors(chain, images, labels, every)
    single, several, swapped = np.split(errors[1:], np.cumsum([units, len(counts) * samples]))
    return Lesions(float(errors[0]), single, counts, several.reshape(len(counts), samples), pairs, swapped, len(images))
