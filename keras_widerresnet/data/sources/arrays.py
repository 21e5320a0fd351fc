"""Data sets that fit in memory: scikit-learn's digits, IDX files of the MNIST family, random images."""

from __future__ import annotations

import gzip
import math
import os
import pathlib
import zlib

import numpy as np
import tensorflow as tf

from keras_widerresnet.data.sources.entries import is_junk, problem_of_file
from keras_widerresnet.data.sources.parts import check_two_classes
from keras_widerresnet.data.split import ImageData, IndexedSplit, held_out_fifth
from keras_widerresnet.errors import InputError
from keras_widerresnet.texts import printable, some

SPLIT_SEED = 0
FASHION_CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_IDX_FILES = {"train": ("train-images", "train-labels"), "test": ("t10k-images", "t10k-labels")}
_GZIP = b"\x1f\x8b"


def array_split(images: np.ndarray, labels: np.ndarray) -> IndexedSplit:
    """Returns a split of uint8 images (n, H, W) or (n, H, W, 3); grey images are converted to RGB when they are read."""
    stored = tf.constant(images)

    def read(index):
        image = stored[index]
        return image if images.ndim == 4 else tf.repeat(image[..., None], 3, axis=-1)

    return IndexedSplit(np.asarray(labels, np.int32), read)


def digits() -> ImageData:
    """Loads scikit-learn's 1,797 digits (UCI Optdigits): 8x8 grey, 17 levels scaled to 0..255; a fifth of each class held out."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    names = tuple(str(name) for name in bunch.target_names)
    parts = held_out_fifth(bunch.target, SPLIT_SEED)
    train, test = (array_split(images[indices], bunch.target[indices]) for indices in parts)
    return ImageData("digits", names, train, test)


def idx(folder: str) -> ImageData:
    """Loads MNIST-family files (`train-images…`, `train-labels…`, `t10k-…`, plain or gzipped, with any endings) from `folder`.

    Raises:
        InputError: if a file is missing or damaged (the message names it), or if there is only one class.
    """
    parts, labels_seen = [], set()
    for images_name, labels_name in _IDX_FILES.values():
        images = _read_idx(_find(folder, images_name), dimensions=3)
        labels = _read_idx(_find(folder, labels_name), dimensions=1)
        if len(images) != len(labels):
            raise InputError(f"{folder}: {images_name} contains {len(images)} images, but {labels_name} {len(labels)} labels")
        if not images.size:
            raise InputError(f"{folder}: {images_name} contains no pixels: its shape is {images.shape}")
        labels_seen |= set(labels.tolist())
        parts.append(array_split(images, labels))
    classes = max(labels_seen) + 1
    is_fashion = "fashion" in str(folder).lower() and classes == len(FASHION_CLASSES)
    names = FASHION_CLASSES if is_fashion else tuple(str(label) for label in range(classes))
    train, test = parts
    return ImageData(f"idx:{folder}", check_two_classes(names, f"idx:{folder}"), train, test)


def fake(size: int, classes: int = 10, images: int = 512) -> ImageData:
    """Generates random uint8 images of `size` x `size` pixels with random labels, for benchmarks and smoke tests."""
    generator = np.random.default_rng(0)
    parts = []
    for count in (images, max(images // 4, 1)):
        pixels = generator.integers(0, 256, (count, size, size, 3), np.uint8)
        parts.append(array_split(pixels, generator.integers(0, classes, count)))
    train, test = parts
    return ImageData(f"fake:{size}", tuple(f"class {k}" for k in range(classes)), train, test)


def _find(folder: str, stem: str) -> pathlib.Path:
    root = pathlib.Path(os.path.expanduser(folder))
    kind = f"-idx{3 if 'images' in stem else 1}-ubyte"
    exact = [path for ending in ("", ".gz") if (path := root / f"{stem}{kind}{ending}").is_file()]
    found = exact or [path for path in sorted(root.glob(f"{stem}*")) if not is_junk(path.name)]
    if not found:
        wanted = [f"{name}-idx{3 if 'images' in name else 1}-ubyte[.gz]" for pair in _IDX_FILES.values() for name in pair]
        raise InputError(f"No {stem}* file in {folder!r}; an idx: folder must contain {', '.join(wanted)}")
    if len(found) > 1 and not exact:
        raise InputError(f"{len(found)} files in {folder!r} could be {stem}{kind}: {some(path.name for path in found)}")
    if problem := problem_of_file(found[0]):
        raise InputError(f"{printable(found[0])} {problem}")
    return found[0]


def _read_idx(path: pathlib.Path, dimensions: int) -> np.ndarray:
    """Reads an IDX file; its header: two zero bytes, type (8: uint8), number of dimensions, then big-endian sizes."""
    try:
        with path.open("rb") as opened:
            is_zipped = opened.read(len(_GZIP)) == _GZIP
        with gzip.open(path) if is_zipped else path.open("rb") as file:
            header = file.read(4 + 4 * dimensions)
            shape = tuple(int(side) for side in np.frombuffer(header, ">u4", offset=4)) if len(header) == 4 + 4 * dimensions else ()
            # Reads as many values as the header states, whatever the file unzips to, and one more to detect surplus data.
            values = file.read(math.prod(shape) + 1) if shape else b""
    except (OSError, EOFError, zlib.error, MemoryError, OverflowError) as error:
        raise InputError(f"{printable(path)} cannot be read: {error or type(error).__name__}") from None
    if header[:4] != bytes((0, 0, 8, dimensions)):
        raise InputError(f"{printable(path)} is not an IDX file of uint8 with {dimensions} dimensions: it begins with {header[:4].hex()}")
    if not shape or len(values) != math.prod(shape):
        held = f"more than {math.prod(shape):,}" if shape and len(values) > math.prod(shape) else f"{len(values):,}"
        raise InputError(f"{printable(path)} is truncated or damaged: its header states {shape or 'nothing'}, it contains {held} values")
    return np.frombuffer(values, np.uint8).reshape(shape)
