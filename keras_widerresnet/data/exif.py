"""EXIF orientation of JPEG and PNG files: reading it inside a graph, and applying it to images and windows."""

from __future__ import annotations

import tensorflow as tf

UPRIGHT = 1
# Orientations from 5 on are transposed first.
_FIRST_TRANSPOSED, _ROWS_REVERSED, _COLUMNS_REVERSED = 5, (3, 4, 7, 8), (2, 3, 6, 7)
_JPEG_MARK, _PNG_MARK = b"Exif\0\0", b"eXIf"  # precede the data: in a JPEG file's APP1 segment, and as a PNG file's chunk type
_HEAD_BYTES, _MAX_BYTES = 14, 1 << 16  # of EXIF data: the TIFF header and one entry's tag; the maximum size of a JPEG segment
_ORIENTATION_TAG, _SHORT, _LONG = 0x0112, 3, 4


def orientation(raw: tf.Tensor) -> tf.Tensor:
    """Returns the EXIF orientation of JPEG or PNG bytes, int32 1..8; `UPRIGHT` if it is missing or invalid; a graph function.

    A loop over the file's segments would take half as long as decoding the file. The data are therefore found by the marker that precedes
    them, and verified by their TIFF header.
    """
    mark = tf.where(tf.io.is_jpeg(raw), _JPEG_MARK, _PNG_MARK)
    parts = tf.raw_ops.StringSplitV2(input=raw[None], sep=mark, maxsplit=1).values
    return tf.cond(tf.size(parts) > 1, lambda: _of_exif(tf.strings.substr(parts[1], 0, _MAX_BYTES)), lambda: tf.constant(UPRIGHT))


def upright(image: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """Applies an EXIF orientation to an image (H, W, channels), as PIL's `exif_transpose` does."""

    def turned():
        transposed = tf.cond(turn >= _FIRST_TRANSPOSED, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        return tf.raw_ops.Reverse(tensor=transposed, dims=tf.concat([_flips(turn), [False]], axis=0))

    return tf.cond(turn == UPRIGHT, lambda: image, turned)


def turned_size(size: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """Converts height and width, (2,), from the stored to the upright image, or vice versa."""
    return tf.where(turn >= _FIRST_TRANSPOSED, size[::-1], size)


def stored_window(window: tf.Tensor, size: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """Converts a window, int32 (top, left, height, width), of an upright image of `size` to the window in the stored image."""
    corner, extent = window[:2], window[2:]
    corner = tf.where(_flips(turn), size - corner - extent, corner)
    return tf.concat([turned_size(corner, turn), turned_size(extent, turn)], axis=0)


# Traced once for all pipelines: each one that decodes images contains it, some twice, and a trace takes a tenth of a second.
@tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
def _of_exif(data: tf.Tensor) -> tf.Tensor:
    """Returns the orientation in EXIF data: a TIFF header, which contains the offset of the first directory."""
    begins = tf.strings.substr(data, 0, 4)
    is_tiff = ((begins == b"II*\0") | (begins == b"MM\0*")) & (tf.strings.length(data) >= _HEAD_BYTES)
    return tf.cond(is_tiff, lambda: _of_directory(tf.cast(tf.io.decode_raw(data, tf.uint8), tf.int32)), lambda: tf.constant(UPRIGHT))


def _of_directory(values: tf.Tensor) -> tf.Tensor:
    is_little, size = values[0] == ord("I"), tf.size(values)

    def short(positions):
        first, second = tf.gather(values, positions), tf.gather(values, positions + 1)
        return tf.where(is_little, first + 256 * second, 256 * first + second)

    def long(position):
        low, high = tf.where(is_little, short(position), short(position + 2)), tf.where(is_little, short(position + 2), short(position))
        return tf.where(high == 0, low, -1)  # no valid value is larger

    directory = tf.clip_by_value(long(4), 0, size - 2)
    count = tf.minimum(short(directory), (size - directory - 2) // 12)
    entries = directory + 2 + 12 * tf.range(count)
    chosen = tf.boolean_mask(entries, short(entries) == _ORIENTATION_TAG)[:1]
    kinds, are_single = short(chosen + 2), long(chosen + 4) == 1
    found = tf.where(kinds == _SHORT, short(chosen + 8), tf.where(kinds == _LONG, long(chosen + 8), UPRIGHT))
    are_known = are_single & (found >= UPRIGHT) & (found <= 8)
    return tf.reduce_max(tf.concat([[UPRIGHT], tf.where(are_known, found, UPRIGHT)], axis=0))


def _flips(turn: tf.Tensor) -> tf.Tensor:
    """Returns whether rows and columns are reversed, bool (2,), after the transposition, if there is one."""
    return tf.stack([tf.reduce_any(turn == _ROWS_REVERSED), tf.reduce_any(turn == _COLUMNS_REVERSED)])
