"""Class activation maps of image files: overlays, arrays, and seeds of weakly supervised segmentation."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from PIL import Image

from keras_widerresnet.activation_maps import MAPS, OUTPUTS, background_scores, combined, map_network, scaled_sizes
from keras_widerresnet.colors import BACKGROUND
from keras_widerresnet.data.resize import normalise, resize_to
from keras_widerresnet.errors import InputError
from keras_widerresnet.files import reason, replacing
from keras_widerresnet.label_maps import MAX_CLASSES, voc_palette
from keras_widerresnet.loading import class_names, gives_shares, load_network, takes_pixels
from keras_widerresnet.models import Source, find_source
from keras_widerresnet.options import did_you_mean
from keras_widerresnet.progress import progress_bar
from keras_widerresnet.tasks.classification import figures
from keras_widerresnet.tasks.classification.config import ActivationMapsConfig
from keras_widerresnet.tasks.classification.data import load_data
from keras_widerresnet.tasks.classification.map_files import (
    ARRAYS,
    OVERLAYS,
    check_folder,
    files_of,
    find_images,
    read_image_classes,
    seeds_folder,
    write_settings,
)
from keras_widerresnet.tasks.classification.network import check_classifier
from keras_widerresnet.tasks.classification.prediction import decoded_file
from keras_widerresnet.texts import some


@dataclasses.dataclass(frozen=True)
class Written:
    """The result of `write_activation_maps`.

    Args:
        folder: the folder with the files.
        images: the number of images of which all files are there.
        skipped: how many of them had their files before.
    """

    folder: pathlib.Path
    images: int
    skipped: int


@dataclasses.dataclass(frozen=True)
class Mapper:
    """Computes the maps of photographs.

    Args:
        network: see `activation_maps.map_network`.
        as_they_are: whether the network takes RGB values 0..255 rather than normalised images.
        scales, flip: see `activation_maps.class_activation_maps`.
        size: pixels of the shorter side at scale 1; 0 for the image's own size.
    """

    network: keras.Model
    as_they_are: bool
    scales: tuple[float, ...]
    flip: bool
    size: int = 0

    def outputs(self, image: np.ndarray) -> np.ndarray:
        """Returns the network's outputs (classes,) for a uint8 image (H, W, 3)."""
        return np.asarray(self._answers(image, self._base(image))[OUTPUTS], np.float32)[0]

    def maps(self, image: np.ndarray, classes: Sequence[int]) -> np.ndarray:
        """Returns the normalised maps, float32 (H, W, n), of some classes of a uint8 image (H, W, 3).

        Resized images are equal to PIL's, bytes included, as in psa; otherwise as `activation_maps.class_activation_maps`.
        """

        def views() -> Iterator[tuple[Any, bool]]:
            for size in scaled_sizes(self._base(image), self.scales):
                for is_mirrored in (False, True)[: 1 + self.flip]:
                    yield self._answers(image, size, is_mirrored)[MAPS], is_mirrored

        return combined(views(), image.shape[:2], np.array([classes], np.int32))[0]

    def _base(self, image: np.ndarray) -> tuple[int, int]:
        height, width = image.shape[:2]
        return scaled_sizes((height, width), (self.size / min(height, width),))[0] if self.size else (height, width)

    def _answers(self, image: np.ndarray, size: tuple[int, int], is_mirrored: bool = False) -> dict[str, np.ndarray]:
        pixels = resize_to(image, *size)
        pixels = pixels[:, ::-1] if is_mirrored else pixels
        return self.network.predict_on_batch((pixels if self.as_they_are else normalise(pixels))[None])


def write_activation_maps(config: ActivationMapsConfig) -> Written:
    """Writes the class activation maps of images, as `config` says; shows a progress bar.

    Each file is written whole or not at all. Images whose files are all there are skipped, unless `overwrite` is set, so that a stopped
    call is continued by the same call. Files in `output_dir`:

    - `overlays/NAME.png`: the image and its maps in colours, with class names and the network's outputs;
    - `maps/NAME.npy`: float32 (H, W, n), 0 to 1; `maps/NAME.json`: the numbers, names and outputs of its n classes;
    - `seeds_alphaX/NAME.png`: palette PNG with VOC's colours; class k is k + 1 and the background 0, or k where class 0 of the network is
      the background. The background's score is (1 - the largest map) ** X.

    Raises:
        InputError: if the network, images, classes or the folder are not valid; or, once all others are written, for images that cannot
            be decoded, which are named.
    """
    images = find_images(config.images)
    source = find_source(config.weights, config.model)
    check_folder(config, source)
    own = read_image_classes(config.image_classes, images) if config.image_classes else {}
    mapper, names, as_shares = _loaded(config, source)
    chosen = {name: _indices(own.get(name, config.classes), names) for name in images}
    folder = pathlib.Path(config.output_dir)
    _make_folders(config, source, folder)
    waiting = {
        name: file for name, file in images.items() if config.overwrite or not all(path.is_file() for path in files_of(config, name))
    }
    problems = []
    for name, file in progress_bar(waiting.items(), desc="mapping", total=len(waiting)):
        try:
            image = decoded_file(str(file), config.max_pixels).numpy()
        except InputError as error:
            problems.append(str(error))
            continue
        outputs = mapper.outputs(image)
        classes = chosen[name] or tuple(np.argsort(-outputs, kind="stable")[: config.top].tolist())
        maps = mapper.maps(image, classes)
        titles = [f"{names[k]}  {f'{100 * outputs[k]:.1f} %' if as_shares else f'{outputs[k]:.2f}'}" for k in classes]
        try:
            _write(config, folder, name, image, maps, classes, titles, names, outputs)
        except OSError as error:
            raise InputError(f"The maps of {name!r} cannot be written to {config.output_dir!r}: {reason(error)}") from None
    if problems:
        rest = len(images) - len(problems)
        raise InputError(
            f"{len(problems)} of {len(images)} images cannot be used; the maps of the other {rest} are there: {some(problems)}"
        )
    return Written(folder, len(images), len(images) - len(waiting))


def seeds(maps: np.ndarray, values: Sequence[int], alpha: float) -> np.ndarray:
    """Returns the index of the highest score at each pixel, uint8 (H, W).

    Args:
        maps: (H, W, n), normalised.
        values: the index of each of the n classes; the background's is 0.
        alpha: see `activation_maps.background_scores`.
    """
    scores = np.concatenate([background_scores(maps, alpha)[..., None], maps], axis=-1)
    return np.array([0, *values], np.uint8)[scores.argmax(axis=-1)]


def _loaded(config: ActivationMapsConfig, source: Source) -> tuple[Mapper, tuple[str, ...], bool]:
    """Returns the mapper, the class names, and whether the network's outputs are probabilities."""
    stride = config.output_stride
    network = load_network(source, width=config.width, pool_padding=config.pool_padding, classifier_stride=stride)
    check_classifier(network, source.text)
    as_they_are = takes_pixels(network, source, config.preprocessing)
    names = class_names(source, network.output_shape[-1], config.class_names, lambda data: load_data(data, verify=False).class_names)
    if config.seeds and len(names) > MAX_CLASSES - 1:
        raise InputError(f"--seeds writes one byte per pixel, enough for {MAX_CLASSES - 1} classes. Received: {len(names):,} classes")
    return Mapper(map_network(network), as_they_are, config.scales, config.flip, config.size), names, gives_shares(network)


def _indices(given: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """Returns the indices of classes given as names or numbers."""
    found = []
    for text in given:
        if text in names:
            found.append(names.index(text))
        elif text.isdecimal() and int(text) < len(names):
            found.append(int(text))
        else:
            known = f"one of the {len(names):,} class names, or a number 0 to {len(names) - 1}"
            raise InputError(f"A class must be {known}. Received: {text!r}{did_you_mean(text, names)}")
    return tuple(dict.fromkeys(found))


def _make_folders(config: ActivationMapsConfig, source: Source, folder: pathlib.Path) -> None:
    inner = [OVERLAYS] * config.overlays + [ARRAYS] * config.arrays + [seeds_folder(alpha) for alpha in config.alpha] * config.seeds
    try:
        for name in inner:
            (folder / name).mkdir(parents=True, exist_ok=True)
        write_settings(config, source)
    except OSError as error:
        raise InputError(f"{str(folder)!r} cannot be written: {reason(error)}") from None


def _write(config, folder: pathlib.Path, name: str, image, maps, classes, titles, names, outputs) -> None:
    if config.overlays:
        figures.activation_overlay(image, maps, titles, folder / OVERLAYS / f"{name}.png")
    if config.seeds:
        first = 0 if names[0] == BACKGROUND else 1
        objects = [place for place, k in enumerate(classes) if k + first > 0]
        for alpha in config.alpha:
            picture = Image.fromarray(seeds(maps[..., objects], [classes[place] + first for place in objects], alpha))
            picture.putpalette(voc_palette().tobytes())
            with replacing(folder / seeds_folder(alpha) / f"{name}.png") as temporary:
                picture.save(temporary)
    if config.arrays:
        known = {"classes": list(classes), "names": [names[k] for k in classes], "outputs": [float(outputs[k]) for k in classes]}
        with replacing(folder / ARRAYS / f"{name}.json") as temporary:
            temporary.write_text(json.dumps(known) + "\n")
        with replacing(folder / ARRAYS / f"{name}.npy") as temporary:
            np.save(temporary, maps)
