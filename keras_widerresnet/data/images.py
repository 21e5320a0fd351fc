"""Raw images, encoded or decoded: what may be decoded, how it is turned upright, and how little of it must be decoded.

A raw image is what a data set stores: a string tensor of JPEG or PNG bytes, or a uint8 tensor (H, W, 3). The bytes tell the format,
whatever a file is called; of an animated PNG or a JPEG of several pictures the first picture is taken.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable

import tensorflow as tf

from keras_widerresnet.data.exif import orientation, stored_window, turned_size, upright
from keras_widerresnet.data.limits import MAX_ASPECT, MAX_PIXELS

DCT_METHOD = "INTEGER_ACCURATE"  # PIL's; the fast one saves a few per cent of decoding
FORMATS = "JPEG or PNG"
JPEG_START, PNG_SIGNATURE = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


def decode_rgb(raw: tf.Tensor) -> tf.Tensor:
    """A raw image to uint8 (H, W, 3), turned upright as its EXIF data say.

    Grey images are repeated, CMYK ones converted, alpha is dropped.

    Raises:
        tf.errors.InvalidArgumentError: for bytes that are neither JPEG nor PNG, or damaged.
    """
    if raw.dtype != tf.string:
        return raw
    image = tf.cond(tf.io.is_jpeg(raw), lambda: _decode_jpeg(raw), lambda: _decode_png(raw))
    return upright(image, orientation(raw))


def decode_window(raw: tf.Tensor, choose: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """A window of a raw image that is turned upright, uint8 (h, w, 3); of a JPEG only the window is decoded.

    Args:
        raw: raw image.
        choose: from the upright image's size, int32 (height, width), to the window, int32 (top, left, height, width).
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
    """A raw image whose header was read and found within the limits, before anything is decoded; a graph function.

    Args:
        raw: raw image; a decoded one passes.
        max_pixels: most pixels that it may have.

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
        tf.debugging.Assert(few, ["an image has no pixel, or more than", max_pixels]),
        tf.debugging.Assert(compact, ["an image's sides differ by more than the factor", MAX_ASPECT]),
    ]
    with tf.control_dependencies(assertions):
        return tf.identity(raw)


def stored_size(raw: tf.Tensor) -> tf.Tensor:
    """Height and width, int32 (2,), that the header of JPEG or PNG bytes tells, before the image is turned upright.

    Raises:
        tf.errors.InvalidArgumentError: for other bytes, or a damaged header.
    """

    def of_png():
        with tf.control_dependencies([_assert_png(raw)]):
            width_and_height = tf.io.decode_raw(tf.strings.substr(raw, 16, 8), tf.int32, little_endian=False)
        return width_and_height[::-1]

    return tf.cond(tf.io.is_jpeg(raw), lambda: tf.io.extract_jpeg_shape(raw)[:2], of_png)


def image_problem(encoded: bytes, *, max_pixels: int = MAX_PIXELS, convert_rgb: bool = True) -> str:
    """Why the bytes of an image file cannot be used, as the end of a sentence that begins with the file; "" if they can.

    Args:
        encoded: the bytes.
        max_pixels: see `checked`.
        convert_rgb: whether grey, alpha and CMYK images are taken.
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
            return f"has {width}×{height} pixels, more than {max_pixels:,}: --max_pixels={width * height} takes it"
        if min(width, height) > 0 and max(width, height) > MAX_ASPECT * min(width, height):
            return f"has {width}×{height} pixels: one side is more than {MAX_ASPECT} times the other"
        decode_rgb(checked(raw, max_pixels))
        channels = int(tf.io.extract_jpeg_shape(raw)[2] if is_jpeg else tf.io.decode_png(raw).shape[-1])
    except tf.errors.OpError as error:
        return f"does not decode ({error_text(error)})"
    if channels == 3 or convert_rgb:
        return ""
    kinds = {1: "grey", 2: "grey with alpha", 4: "CMYK" if is_jpeg else "RGB with alpha"}
    return f"is not RGB but {kinds.get(channels, f'of {channels} channels')} (--convert_rgb takes it as RGB)"


def has_three_channels(raw: tf.Tensor) -> tf.Tensor:
    """Whether JPEG or PNG bytes that `decode_rgb` takes hold RGB and nothing else, a bool; a graph function."""
    return tf.cond(
        tf.io.is_jpeg(raw), lambda: tf.io.extract_jpeg_shape(raw)[2] == 3, lambda: tf.shape(tf.io.decode_png(raw, channels=0))[2] == 3
    )


def error_text(error: tf.errors.OpError) -> str:
    """The first sentence of TensorFlow's message, without the operation's name; of a failed assertion what it says."""
    if asserted := re.search(r"(?:Summarized data: b'|assertion failed: \[)(.*?)['\]]", error.message):
        return asserted[1]
    return re.sub(r"{{.*?}} ", "", error.message).split(" [Op")[0].split(". ")[0]


def _decode_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_jpeg(encoded, channels=3, dct_method=DCT_METHOD)


def _decode_png(encoded: tf.Tensor) -> tf.Tensor:
    # TensorFlow's decoder takes other formats too, of WebP all pictures.
    with tf.control_dependencies([_assert_png(encoded)]):
        return tf.ensure_shape(tf.io.decode_png(encoded, channels=3), [None, None, 3])


def _assert_png(raw: tf.Tensor) -> tf.Operation:
    is_png = (tf.strings.substr(raw, 0, len(PNG_SIGNATURE)) == PNG_SIGNATURE) & (tf.strings.length(raw) >= 33)
    return tf.debugging.Assert(is_png, [f"the bytes are neither {FORMATS.replace(' or ', ' nor ')}"])


def _format_of(encoded: bytes) -> str:
    """What bytes are that are neither JPEG nor PNG."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of many pixels: none is decoded
            with Image.open(io.BytesIO(encoded)) as image:
                return f"an image of the format {image.format}"
    except Image.DecompressionBombError:
        return "an image of another format"
    except Exception:  # PIL raises many kinds
        return f"no image (it begins with {encoded[:8]!r})"
