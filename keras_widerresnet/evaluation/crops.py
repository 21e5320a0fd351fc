"""What a network sees of one test image: centre crop, crops along the longer side, the ten crops, mirrored views."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from keras_widerresnet.data.pipeline import INTERPOLATIONS, resize_shorter_side
from keras_widerresnet.errors import InputError

# Views of one image, mirrored ones not counted; those of "ten" are mirrored by definition.
CROPS = {"center": 1, "three": 3, "ten": 5}


@dataclasses.dataclass(frozen=True)
class Protocol:
    """All that a network sees of each test image; its probabilities are averaged.

    Args:
        scales: pixels to which the shorter side is resized, each once.
        crop_size, crops, flip, interpolation: as in `views`.

    Raises:
        InputError: for sizes, crops or an interpolation that cannot be.
    """

    scales: tuple[int, ...]
    crop_size: int = 0
    crops: str = "center"
    flip: bool = False
    interpolation: str = "bicubic"

    def __post_init__(self):
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(f"`interpolation` must be one of {INTERPOLATIONS}. Received: {self.interpolation!r}")
        view_count(self.crops, self.flip)
        checked_crop_size(self.crop_size or 1, self.crop_size)
        for scale in self.scales:
            checked_crop_size(scale, self.crop_size)
        if len(set(self.scales)) < len(self.scales):
            raise InputError(f"Each scale counts once. Received: {self.scales}")

    @property
    def count(self) -> int:
        """Views of one image at one scale."""
        return view_count(self.crops, self.flip)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The side of the crops at each scale."""
        return tuple(checked_crop_size(scale, self.crop_size) for scale in self.scales)

    def __str__(self) -> str:
        kind = {"center": "centre crop", "three": "three crops", "ten": "ten crops"}[self.crops]
        sizes = ", ".join(f"{size} of scale {scale}" for size, scale in zip(self.sizes, self.scales, strict=True))
        return f"{kind}: {sizes}{'; mirrored too' if self.flip and self.crops != 'ten' else ''}"

    def views(self, image: tf.Tensor, scale: int) -> tf.Tensor:
        """`views` of one image at one of the scales."""
        return views(image, scale, self.crop_size, self.crops, self.flip, self.interpolation)


def views(
    image: tf.Tensor, scale: int, crop_size: int = 0, crops: str = "center", flip: bool = False, interpolation: str = "bicubic"
) -> tf.Tensor:
    """The views of one image, for use inside `tf.data`.

    Args:
        image: (H, W, 3) of any size, values 0..255.
        scale: pixels to which the shorter side is resized, as PIL does (`resize_shorter_side`).
        crop_size: side of the square crops, no larger than `scale`; 0 for `scale`.
        crops: `"center"`, the release's crop with its offset rounded up; `"three"`, at the start, middle and end of the longer side
            and in the middle of the shorter one (official release); `"ten"`, the corners and the centre, each mirrored (AlexNet).
        flip: add the mirrored views, after the others in the same order; ten crops have them already.
        interpolation: one of `INTERPOLATIONS` of data/pipeline.py.

    Returns:
        Float32 (`view_count(crops, flip)`, crop_size, crop_size, 3) of whole numbers 0..255.

    Raises:
        InputError: for sizes, crops or an interpolation that cannot be.
    """
    size = checked_crop_size(scale, crop_size)
    resized = resize_shorter_side(image, scale, interpolation)
    corners = _corners(tf.shape(resized)[:2], size, crops)
    windows = tf.stack([resized[top : top + size, left : left + size] for top, left in map(tf.unstack, corners)])
    if is_mirrored(crops, flip):
        windows = tf.concat([windows, windows[:, :, ::-1]], axis=0)
    return tf.ensure_shape(windows, [view_count(crops, flip), size, size, 3])


def is_mirrored(crops: str, flip: bool) -> bool:
    """Whether there is a mirrored view beside each view."""
    return flip or crops == "ten"


def view_count(crops: str, flip: bool) -> int:
    """Views of one image at one scale.

    Raises:
        InputError: for unknown crops.
    """
    if crops not in CROPS:
        raise InputError(f"`crops` must be one of {tuple(CROPS)}. Received: {crops!r}")
    return CROPS[crops] * (2 if is_mirrored(crops, flip) else 1)


def checked_crop_size(scale: int, crop_size: int) -> int:
    """The side of the crops, where 0 stands for `scale`.

    Raises:
        InputError: if a size is no whole number, the scale not positive, or the crop larger than the scale.
    """
    if not isinstance(scale, int) or scale < 1:
        raise InputError(f"Scales must be positive whole numbers of pixels. Received: {scale!r}")
    if not isinstance(crop_size, int) or crop_size < 0:
        raise InputError(f"`crop_size` must be a whole number of pixels, 0 for the scale. Received: {crop_size!r}")
    if crop_size > scale:
        raise InputError(f"A crop of {crop_size} pixels cannot be cut from an image whose shorter side is {scale}")
    return crop_size or scale


def _corners(shape: tf.Tensor, size: int, crops: str) -> list[tf.Tensor]:
    """Upper left corners of the windows, int32 (top, left)."""
    view_count(crops, False)  # refuses unknown crops
    end = shape - size
    middle = (end + 1) // 2  # rounded up: official release
    if crops == "center":
        return [middle]
    if crops == "ten":
        return [end * tf.constant(corner) for corner in ((0, 0), (0, 1), (1, 0), (1, 1))] + [middle]
    longer = tf.where(shape[0] > shape[1], [1, 0], [0, 1])
    return [along * longer + middle * (1 - longer) for along in (0, middle, end)]
