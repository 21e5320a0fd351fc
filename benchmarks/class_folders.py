"""The image files of whole runs: class folders `train` and `test`, generated or taken from the user's."""

from __future__ import annotations

import io
import pathlib

import numpy as np
from PIL import Image

from keras_widerresnet.data.photographs import sample_jpegs
from keras_widerresnet.errors import InputError

PHOTOGRAPH = (427, 640)  # height and width
TEST_SHARE = 5  # one test image for so many training images
JPEG = b"\xff\xd8"


def write_generated(folder: pathlib.Path, images: int, size: int) -> None:
    """Writes small JPEG files in four classes: random crops of the upper and lower halves of two photographs, half as large.

    Args:
        folder: an empty folder.
        images: number of training images.
        size: side of the images in pixels.
    """
    photographs = [Image.open(io.BytesIO(encoded)).convert("RGB") for encoded in sample_jpegs(*PHOTOGRAPH)[::2]]
    height, width = PHOTOGRAPH
    halves = [photograph.crop((0, top, width, top + height // 2)) for photograph in photographs for top in (0, height // 2)]
    side = min(2 * size, height // 2)
    generator = np.random.default_rng(0)
    for part, count in (("train", images), ("test", max(images // TEST_SHARE, len(halves)))):
        for number in range(count):
            label = number % len(halves)
            left, top = (int(generator.integers(0, room - side + 1)) for room in halves[label].size)
            buffer = io.BytesIO()
            halves[label].crop((left, top, left + side, top + side)).resize((size, size)).save(buffer, "JPEG", quality=92)
            _write(folder / part, label, number, buffer.getvalue())


def write_chosen(folder: pathlib.Path, path: str, images: int) -> None:
    """Copies images of the user's class folders, evenly over the classes.

    Args:
        folder: an empty folder.
        path: class folders of images, as `folder:PATH` takes them.
        images: number of training images.

    Raises:
        InputError: if there are fewer images, or so few are taken that a class has none.
    """
    from keras_widerresnet.data.sources.folder import folder as images_of

    data = images_of(path, verify=False)
    if data.train.size < images:
        raise InputError(f"{data.name} has {data.train.size} training images. Received: --images={images}")
    tested = min(max(images // TEST_SHARE, data.classes), data.test.size)
    for part, split, count in (("train", data.train, images), ("test", data.test, tested)):
        in_classes = np.argsort(split.labels, kind="stable")
        chosen = split.subset(in_classes[np.arange(count) * split.size // count])
        if len(set(chosen.labels.tolist())) < data.classes:
            raise InputError(
                f"{count} {part} images leave some of the {data.classes} classes of {data.name} without one: give more --images"
            )
        for number, (raw, label) in enumerate(chosen.ordered().as_numpy_iterator()):
            _write(folder / part, int(label), number, raw)


def _write(folder: pathlib.Path, label: int, number: int, encoded: bytes) -> None:
    place = folder / f"{label:05d}"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{number:07d}.{'jpg' if encoded.startswith(JPEG) else 'png'}").write_bytes(encoded)
