"""Decoding of raw images: checks before decoding, EXIF orientation, and partial decoding of JPEGs.

A raw image is what a data set stores: a string tensor of JPEG or PNG bytes, or a uint8 tensor (H, W, 3). The format is detected from the
bytes, not from the file name; of an animated PNG or a JPEG with several pictures, the first picture is used.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable

import tensorflow as tf

from keras_widerresnet.data.exif import orientation, stored_window, turned_size, upright
from keras_widerresnet.data.limits import MAX_ASPECT, MAX_PIXELS

DCT_METHOD = "INTEGER_ACCURATE"  # as in PIL; the fast method would save only a few per cent of the decoding time
FORMATS = "JPEG or PNG"
NOT_DECODED = (tf.errors.OpError, UnicodeDecodeError)  # the latter where TensorFlow's message quotes the bytes
JPEG_START, PNG_SIGNATURE = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


def decode_rgb(raw: tf.Tensor) -> tf.Tensor:
    """Decodes a raw image to uint8 (H, W, 3), upright according to its EXIF orientation.

    Grey images are repeated to three channels, CMYK images are converted, and alpha is dropped.

    Raises:
        tf.errors.InvalidArgumentError: for bytes that are neither JPEG nor PNG, or damaged.
    """
    if raw.dtype != tf.string:
        return raw
    image = tf.cond(tf.io.is_jpeg(raw), lambda: _decode_jpeg(raw), lambda: _decode_png(raw))
    return upright(image, orientation(raw))


def decode_window(raw: tf.Tensor, choose: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Decodes a window of a raw image after turning it upright, uint8 (h, w, 3); for JPEGs, only the window is decoded.

    Args:
        raw: raw image.
        choose: function from the upright image's size, int32 (height, width), to the window, int32 (top, left, height, width).
    """

    def window_of(image):
        top, left, height, width = tf.unstack(choose(tf.shape(image)[:2]))
        return image[top : top + height, left : left + width]

    if raw.dtype != tf.string:
        return window_of(raw)

    def window_of_jpeg():
        turn = orientation(raw)
        shape = turned_size(tf.io.extract_jpeg_shape(raw)[:2], turn)
        window = stored_window(choose(shape), shape, turn)
        return upright(tf.io.decode_and_crop_jpeg(raw, window, channels=3, dct_method=DCT_METHOD), turn)

    return tf.cond(tf.io.is_jpeg(raw), window_of_jpeg, lambda: window_of(upright(_decode_png(raw), orientation(raw))))


def checked(raw: tf.Tensor, max_pixels: int = MAX_PIXELS) -> tf.Tensor:
    """Returns a raw image after checking that the size in its header is within the limits, before decoding; a graph function.

    Args:
        raw: raw image; a decoded one is returned unchecked.
        max_pixels: maximum number of pixels.

    Raises:
        tf.errors.InvalidArgumentError: for bytes that are neither JPEG nor PNG, for too many pixels, or if one side is more than
            `MAX_ASPECT` times the other.
    """
    if raw.dtype != tf.string:
        return raw
    sides = tf.cast(stored_size(raw), tf.int64)
    few = (tf.reduce_min(sides) > 0) & (tf.reduce_prod(sides) <= max_pixels)
    compact = tf.reduce_max(sides) <= MAX_ASPECT * tf.reduce_min(sides)
    assertions = [
        tf.debugging.Assert(few, ["an image has no pixels, or more than", max_pixels]),
        tf.debugging.Assert(compact, ["one side of an image is longer than the other by more than a factor of", MAX_ASPECT]),
    ]
    with tf.control_dependencies(assertions):
        return tf.identity(raw)


def stored_size(raw: tf.Tensor) -> tf.Tensor:
    """Returns height and width, int32 (2,), from the header of JPEG or PNG bytes, before the EXIF orientation is applied.

    Raises:
        tf.errors.InvalidArgumentError: for other bytes, or a damaged header.
    """

    def of_png():
        with tf.control_dependencies([_assert_png(raw)]):
            width_and_height = tf.io.decode_raw(tf.strings.substr(raw, 16, 8), tf.int32, little_endian=False)
        return width_and_height[::-1]

    return tf.cond(tf.io.is_jpeg(raw), lambda: tf.io.extract_jpeg_shape(raw)[:2], of_png)


def image_problem(encoded: bytes, *, max_pixels: int = MAX_PIXELS, convert_rgb: bool = True) -> str:
    """Returns why an image file cannot be used, as a predicate to follow the file's name; "" if it can be used.

    Args:
        encoded: the file's bytes.
        max_pixels: see `checked`.
        convert_rgb: whether grey, alpha and CMYK images are accepted.
    """
    if not encoded:
        return "is empty"
    is_jpeg, is_png = encoded.startswith(JPEG_START), encoded.startswith(PNG_SIGNATURE)
    if not is_jpeg and not is_png:
        return f"is {_format_of(encoded)}, not {FORMATS}"
    raw = tf.constant(encoded)
    try:
        height, width = stored_size(raw).numpy().tolist()
        if width * height > max_pixels:
            return f"has {width}×{height} pixels, more than {max_pixels:,}: --max_pixels={width * height} accepts it"
        if min(width, height) > 0 and max(width, height) > MAX_ASPECT * min(width, height):
            return f"has {width}×{height} pixels: one side is more than {MAX_ASPECT} times the other"
        decode_rgb(checked(raw, max_pixels))
        channels = int(tf.io.extract_jpeg_shape(raw)[2] if is_jpeg else tf.io.decode_png(raw).shape[-1])
    except NOT_DECODED as error:
        return f"cannot be decoded ({error_text(error)})"
    if channels == 3 or convert_rgb:
        return ""
    kinds = {1: "grey", 2: "grey with alpha", 4: "CMYK" if is_jpeg else "RGB with alpha"}
    return f"is not RGB but {kinds.get(channels, f'of {channels} channels')} (--convert_rgb converts it)"


def has_three_channels(raw: tf.Tensor) -> tf.Tensor:
    """Returns whether JPEG or PNG bytes contain exactly three channels, as a bool tensor; a graph function."""
    return tf.cond(
        tf.io.is_jpeg(raw), lambda: tf.io.extract_jpeg_shape(raw)[2] == 3, lambda: tf.shape(tf.io.decode_png(raw, channels=0))[2] == 3
    )


def error_text(error: Exception) -> str:
    """Returns the first sentence of TensorFlow's message without the operation's name, or the text of a failed assertion."""
    message = str(getattr(error, "message", error))
    if asserted := re.search(r"(?:Summarized data: b'|assertion failed: \[)(.*?)['\]]", message):
        return asserted[1]
    return re.sub(r"{{.*?}} ", "", message).split(" [Op")[0].split(". ")[0]


def _decode_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_jpeg(encoded, channels=3, dct_method=DCT_METHOD)


def _decode_png(encoded: tf.Tensor) -> tf.Tensor:
    # TensorFlow's decoder accepts other formats too; of a WebP file it returns all pictures.
    with tf.control_dependencies([_assert_png(encoded)]):
        return tf.ensure_shape(tf.io.decode_png(encoded, channels=3), [None, None, 3])


def _assert_png(raw: tf.Tensor) -> tf.Operation:
    is_png = (tf.strings.substr(raw, 0, len(PNG_SIGNATURE)) == PNG_SIGNATURE) & (tf.strings.length(raw) >= 33)
    return tf.debugging.Assert(is_png, [f"the bytes are neither {FORMATS.replace(' or ', ' nor ')}"])


def _format_of(encoded: bytes) -> str:
    """Describes bytes that are neither JPEG nor PNG."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about too many pixels: nothing is decoded here
            with Image.open(io.BytesIO(encoded)) as image:
                return f"an image in {image.format} format"
    except Image.DecompressionBombError:
        return "an image in another format"
    except Exception:  # PIL raises many kinds
        return f"in an unknown format (it begins with {encoded[:8]!r})"
