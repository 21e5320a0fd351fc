"""Decoding of mask files to train ids: grey or palette PNGs of 1 to 8 bits whose values, not colours, are the labels.

RGB PNGs are decoded by their colours where the label map knows them, and SBD's MATLAB files for VOC's classes.

TensorFlow's decoder would turn palette indices into colours. A palette PNG differs from a grey one in a single byte of its header: with
that byte and the header's checksum changed, the decoder returns the indices themselves and ignores the palette.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from keras_widerresnet.data.images import NOT_DECODED, PNG_SIGNATURE, error_text
from keras_widerresnet.data.mat import MAT_START, is_mat, mat_values, values_of_sbd
from keras_widerresnet.label_maps import LabelMap

RIGHT = "a mask must be a grey or palette PNG of at most 8 bits whose values are the labels"
# Offsets in every PNG file: its header comes first and has a fixed length (PNG specification).
_DEPTH, _COLOR_TYPE, _CHECKSUM, _HEADER_END = 24, 25, 29, 33
_GREY, _PALETTE = 0, 3
_COLOR_TYPES = {_GREY: "grey", 2: "an RGB image", _PALETTE: "a palette image", 4: "grey with alpha", 6: "an RGB image with alpha"}
_UNKNOWN = 254
_RGB = 2
_COLORS = 1 << 24
_WITH_MAT = ("voc", "sbd")  # label maps of SBD's masks; only for these is the function that is not TensorFlow's in the graph
_OF_VALUES = "holds the value"


def stored_values(raw: tf.Tensor, labels: LabelMap | None = None) -> tf.Tensor:
    """Decodes a mask's bytes to the stored values, uint8 (H, W); a graph function.

    Args:
        raw: bytes of a PNG, or of a MATLAB file of SBD.
        labels: what the values mean; a colour that it does not know becomes a value that it does not know. None for values only.

    Raises:
        tf.errors.InvalidArgumentError: for anything but a grey or palette PNG of at most 8 bits, an RGB PNG of a label map with colours,
            or a MATLAB file of a label map of SBD.
    """
    if labels is not None and labels.name in _WITH_MAT:
        return tf.cond(is_mat(raw), lambda: mat_values(raw), lambda: _values_of_png(raw, labels))
    return _values_of_png(raw, labels)


def _values_of_png(raw: tf.Tensor, labels: LabelMap | None) -> tf.Tensor:
    if labels is None or not labels.mask_colors:
        return _values_of_indices(raw)
    header = tf.io.decode_raw(tf.strings.substr(tf.strings.join([raw, bytes(_HEADER_END)]), 0, _HEADER_END), tf.uint8)
    is_rgb = (header[_DEPTH] == 8) & (header[_COLOR_TYPE] == _RGB)
    return tf.cond(is_rgb, lambda: _values_of_colors(raw, labels), lambda: _values_of_indices(raw))


def _values_of_colors(raw: tf.Tensor, labels: LabelMap) -> tf.Tensor:
    # The four bytes of a pixel are one number, red first; the last is opacity.
    pixels = tf.bitcast(tf.io.decode_png(raw, channels=4), tf.int32) & (_COLORS - 1)
    return tf.gather(_value_of_each_color(labels), pixels)


@functools.lru_cache(maxsize=4)
def _value_of_each_color(labels: LabelMap) -> tf.Tensor:
    """Returns a table of the stored value of each of the 2^24 colours, uint8; pipelines share it."""
    colors, values = zip(*labels.mask_colors, strict=True)
    table = np.full(_COLORS, labels.unknown(), np.uint8)
    table[np.array(colors) @ (1, 1 << 8, 1 << 16)] = values
    with tf.init_scope(), tf.device("CPU:0"):
        return tf.constant(table)


def _values_of_indices(raw: tf.Tensor) -> tf.Tensor:
    header = tf.io.decode_raw(tf.strings.substr(raw, 0, _HEADER_END), tf.uint8)
    depth, color_type = header[_DEPTH], header[_COLOR_TYPE]
    usable = (depth <= 8) & ((color_type == _GREY) | (color_type == _PALETTE))
    with tf.control_dependencies([tf.debugging.Assert(usable, [RIGHT])]):
        grey = tf.cond(color_type == _PALETTE, lambda: _as_grey(raw, header), lambda: raw)
    levels = tf.io.decode_png(grey, channels=1)[..., 0]
    # The decoder scales values of fewer than 8 bits to 0..255.
    return tf.cond(depth == 8, lambda: levels, lambda: levels // tf.cast(255 // (2 ** tf.cast(depth, tf.int32) - 1), tf.uint8))


def decode_mask(raw: tf.Tensor, labels: LabelMap) -> tf.Tensor:
    """Decodes a mask's bytes to train ids, uint8 (H, W), 255 where ignored; a graph function. A uint8 tensor is returned as it is.

    Raises:
        tf.errors.InvalidArgumentError: as `stored_values`, and for values that neither belong to a class nor are ignored.
    """
    if raw.dtype != tf.string:
        return raw
    table = tf.constant(np.where(labels.known(), labels.to_train(), _UNKNOWN).astype(np.uint8))
    ids = tf.gather(table, tf.cast(stored_values(raw, labels), tf.int32))
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(ids != _UNKNOWN), ["a mask contains values that belong to no class"])]):
        return tf.identity(ids)


def mask_problem(encoded: bytes, labels: LabelMap) -> str:
    """Returns why `decode_mask` rejects a mask's bytes, or "" if it accepts them."""
    if encoded.startswith(MAT_START) and labels.name in _WITH_MAT:
        try:
            return _problem_of_values(values_of_sbd(encoded), labels)
        except ValueError as error:
            return str(error)
    if encoded[:8] != PNG_SIGNATURE or len(encoded) < _HEADER_END:
        return f"is not a PNG; {RIGHT}"
    depth, color_type = encoded[_DEPTH], encoded[_COLOR_TYPE]
    if color_type == _RGB and depth == 8 and labels.mask_colors:
        return _problem_of_colors(encoded, labels)
    if color_type not in (_GREY, _PALETTE):
        return f"is {_COLOR_TYPES.get(color_type, 'not a valid PNG')}; {RIGHT}"
    if depth > 8:
        return f"is a {depth}-bit PNG; {RIGHT}"
    try:
        return _problem_of_values(stored_values(tf.constant(encoded)).numpy(), labels)
    except NOT_DECODED as error:
        return f"cannot be decoded ({error_text(error)})"


def _problem_of_colors(encoded: bytes, labels: LabelMap) -> str:
    try:
        values = stored_values(tf.constant(encoded), labels).numpy()
    except NOT_DECODED as error:
        return f"cannot be decoded ({error_text(error)})"
    wrong = np.argwhere(values == labels.unknown())
    if not len(wrong):
        return ""
    row, column = wrong[0].tolist()
    color = tuple(tf.io.decode_png(encoded, channels=3)[row, column].numpy().tolist())
    return f"has the colour {color} at row {row}, column {column}, and {len(wrong)} pixels of colours that are none of {labels.name}'s"


def _problem_of_values(values: np.ndarray, labels: LabelMap) -> str:
    counts = np.bincount(values.ravel(), minlength=256)
    unknown = np.flatnonzero((counts > 0) & ~labels.known())
    if not len(unknown):
        return ""
    value = unknown[0]
    others = f" and {len(unknown) - 1} other unknown values" if len(unknown) > 1 else ""
    return (
        f"{_OF_VALUES} {value} at {counts[value]} pixels{others}; "
        f"valid values are {ranges(labels.stored_ids)} for the {labels.classes} classes and {ranges(labels.ignored_ids)} (ignored)"
    )


def is_of_values(problem: str) -> bool:
    """Whether what `mask_problem` returned is that a mask holds values of no class."""
    return problem.startswith(_OF_VALUES)


def ranges(values: Iterable[int]) -> str:
    """Formats whole numbers in human-readable form, e.g. `0..10, 255`."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(str(first) if first == last else f"{first}..{last}" for first, last in runs)


def _as_grey(raw: tf.Tensor, header: tf.Tensor) -> tf.Tensor:
    """Returns a palette PNG with the colour type changed to grey; a wrong checksum stays wrong."""
    checksum = tf.bitwise.bitwise_xor(header[_CHECKSUM:_HEADER_END], tf.constant(list(_checksum_change()), tf.uint8))
    every_byte = tf.constant([bytes([value]) for value in range(256)])
    parts = [
        tf.strings.substr(raw, 0, _COLOR_TYPE),
        tf.constant(bytes([_GREY])),
        tf.strings.substr(raw, _COLOR_TYPE + 1, _CHECKSUM - _COLOR_TYPE - 1),
        tf.strings.reduce_join(tf.gather(every_byte, tf.cast(checksum, tf.int32))),
        tf.strings.substr(raw, _HEADER_END, np.iinfo(np.int32).max),
    ]
    return tf.strings.join(parts)


def _checksum_change() -> bytes:
    """Returns the XOR by which the new colour type changes the header's CRC-32; it depends on the changed bits and the length alone."""
    checked = bytearray(_CHECKSUM - 12)  # chunk type and contents
    before = zlib.crc32(checked)
    checked[_COLOR_TYPE - 12] = _PALETTE ^ _GREY
    return (before ^ zlib.crc32(checked)).to_bytes(4, "big")
