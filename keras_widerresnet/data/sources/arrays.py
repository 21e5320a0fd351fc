"""Data sets that fit in memory: the embedded digits, IDX files of the MNIST family, random images."""

from __future__ import annotations

import gzip
import pathlib

import numpy as np
import tensorflow as tf

from keras_widerresnet.data.split import ImageData, IndexedSplit, held_out_fifth
from keras_widerresnet.errors import InputError

SPLIT_SEED = 0
FASHION_CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_IDX_FILES = {"train": ("train-images", "train-labels"), "test": ("t10k-images", "t10k-labels")}


def array_split(images: np.ndarray, labels: np.ndarray) -> IndexedSplit:
    """A split over uint8 images (n, H, W) or (n, H, W, 3); grey ones are repeated to RGB as they are read."""
    stored = tf.constant(images)

    def read(index):
        image = stored[index]
        return image if images.ndim == 4 else tf.repeat(image[..., None], 3, axis=-1)

    return IndexedSplit(np.asarray(labels, np.int32), read)


def digits() -> ImageData:
    """scikit-learn's 1,797 handwritten digits, 8x8 grey of 17 levels spread over 0..255; a fifth of each class held out (UCI Optdigits)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    names = tuple(str(name) for name in bunch.target_names)
    parts = held_out_fifth(bunch.target, SPLIT_SEED)
    train, test = (array_split(images[indices], bunch.target[indices]) for indices in parts)
    return ImageData("digits", names, train, test)


def idx(folder: str) -> ImageData:
    """MNIST-family files (`train-images…`, `train-labels…`, `t10k-…`, plain or `.gz`) in `folder`.

    Raises:
        InputError: naming the file that is missing or damaged.
    """
    parts, labels_seen = [], set()
    for images_name, labels_name in _IDX_FILES.values():
        images = _read_idx(_find(folder, images_name), dimensions=3)
        labels = _read_idx(_find(folder, labels_name), dimensions=1)
        if len(images) != len(labels):
            raise InputError(f"{folder}: {images_name} holds {len(images)} images, {labels_name} {len(labels)} labels")
        labels_seen |= set(labels.tolist())
        parts.append(array_split(images, labels))
    classes = max(labels_seen) + 1
    is_fashion = "fashion" in str(folder).lower() and classes == len(FASHION_CLASSES)
    names = FASHION_CLASSES if is_fashion else tuple(str(label) for label in range(classes))
    train, test = parts
    return ImageData(f"idx:{folder}", names, train, test)


def fake(size: int, classes: int = 10, images: int = 512) -> ImageData:
    """Random uint8 images of `size` x `size` pixels with random labels, for benchmarks and smoke runs."""
    generator = np.random.default_rng(0)
    parts = []
    for count in (images, max(images // 4, 1)):
        pixels = generator.integers(0, 256, (count, size, size, 3), np.uint8)
        parts.append(array_split(pixels, generator.integers(0, classes, count)))
    train, test = parts
    return ImageData(f"fake:{size}", tuple(f"class {k}" for k in range(classes)), train, test)


def _find(folder: str, stem: str) -> pathlib.Path:
    found = sorted(pathlib.Path(folder).glob(f"{stem}*"))
    if not found:
        wanted = [f"{name}-idx{3 if 'images' in name else 1}-ubyte[.gz]" for pair in _IDX_FILES.values() for name in pair]
        raise InputError(f"No {stem}* file in {folder!r}; an idx: folder holds {', '.join(wanted)}")
    return found[0]


def _read_idx(path: pathlib.Path, dimensions: int) -> np.ndarray:
    """The format's header: two zero bytes, type (8: uint8), number of dimensions, then big-endian sizes."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    if data[:4] != bytes((0, 0, 8, dimensions)):
        raise InputError(f"{path} is not an IDX file of uint8 with {dimensions} dimensions: it begins with {data[:4].hex()}")
    shape = np.frombuffer(data, ">u4", dimensions, 4) if len(data) >= 4 + 4 * dimensions else [-1]
    pixels = data[4 + 4 * dimensions :]
    if len(pixels) != int(np.prod(shape, dtype=np.int64)):
        raise InputError(f"{path} is truncated: its header says {tuple(int(n) for n in shape)}, it holds {len(pixels)} values")
    return np.frombuffer(pixels, np.uint8).reshape(shape)
