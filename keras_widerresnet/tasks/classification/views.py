"""Test views of one image: centre crop, three crops along the longer side, ten crops, mirrored views."""

from __future__ import annotations

import tensorflow as tf

from keras_widerresnet.data.resize import resize_shorter_side
from keras_widerresnet.protocols import ClassificationProtocol, checked_crop_size, is_mirrored, view_count


def views(
    image: tf.Tensor, scale: int, crop_size: int = 0, crops: str = "center", flip: bool = False, interpolation: str = "bicubic"
) -> tf.Tensor:
    """Returns the test views of one image, for use inside `tf.data`.

    Args:
        image: (H, W, 3) of any size, values 0..255.
        scale: pixels to which the shorter side is resized, as in PIL (`resize_shorter_side`).
        crop_size: side of the square crops, at most `scale`; 0 for `scale`.
        crops: `"center"`, the official release's crop with its offset rounded up; `"three"`, at the start, middle and end of the longer
            side and in the middle of the shorter one (official release); `"ten"`, the corners and the centre, each also mirrored (AlexNet).
        flip: whether to append the mirrored views in the same order; ten crops already include them.
        interpolation: one of `protocols.INTERPOLATIONS`.

    Returns:
        Float32 (`view_count(crops, flip)`, crop_size, crop_size, 3) of whole numbers 0..255.

    Raises:
        InputError: for invalid sizes, crops or interpolation.
    """
    size = checked_crop_size(scale, crop_size)
    resized = resize_shorter_side(image, scale, interpolation)
    corners = _corners(tf.shape(resized)[:2], size, crops)
    windows = tf.stack([resized[top : top + size, left : left + size] for top, left in map(tf.unstack, corners)])
    if is_mirrored(crops, flip):
        windows = tf.concat([windows, windows[:, :, ::-1]], axis=0)
    return tf.ensure_shape(windows, [view_count(crops, flip), size, size, 3])


def protocol_views(protocol: ClassificationProtocol, image: tf.Tensor, scale: int) -> tf.Tensor:
    """Returns the `views` of one image at one of a protocol's scales."""
    return views(image, scale, protocol.crop_size, protocol.crops, protocol.flip, protocol.interpolation)


def _corners(shape: tf.Tensor, size: int, crops: str) -> list[tf.Tensor]:
    """Returns the upper left corners of the windows, int32 (top, left)."""
    view_count(crops, False)  # rejects unknown crops
    end = shape - size
    middle = (end + 1) // 2  # rounded up, as in the official release
    if crops == "center":
        return [middle]
    if crops == "ten":
        return [end * tf.constant(corner) for corner in ((0, 0), (0, 1), (1, 0), (1, 1))] + [middle]
    longer = tf.where(shape[0] > shape[1], [1, 0], [0, 1])
    return [along * longer + middle * (1 - longer) for along in (0, middle, end)]
