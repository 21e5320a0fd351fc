"""Augmentation of training images by the official release's steps.

They are pure functions of random numbers ("draws") in [0, 1), which `uniform` derives from the run's seed and the image's position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

AREA_RANGE = (0.08, 1.0)
ASPECT_RANGE = (3 / 4, 4 / 3)
CROP_TRIES = 10
PADDING_FRACTION = 8
STREAMS = ("crop", "color", "flip", "scale", "rand_augment", "erase", "mix")
LUMA = (0.299, 0.587, 0.114)
# PCA of ImageNet's colours in [0, 1] (official release). Eigenvectors are columns; the first, with nearly all the variance, is grey.
EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


def uniform(shape: Sequence[int], seed: tf.Tensor, step: str) -> tf.Tensor:
    """Returns draws in [0, 1), float32, for one step (a name in `STREAMS`), independent of those of the other steps."""
    return tf.random.stateless_uniform(shape, stream(seed, step))


def stream(seed: tf.Tensor, step: str) -> tf.Tensor:
    """Returns the seed, an int32 pair, of the draws of one step."""
    return tf.random.fold_in(seed, STREAMS.index(step))


def random_sized_window(size: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Chooses a window with 8-100 % of the area and aspect ratio 3/4-4/3, with sides swapped half the time (official release).

    Args:
        size: int32 (height, width) of the image.
        draws: float32 (tries, 5) in [0, 1): area, aspect, swap, top, left for each try; the release makes ten tries.

    Returns:
        Int32 (top, left, height, width): the first try that fits into the image, otherwise the central square.
    """
    height, width = tf.unstack(tf.cast(size, tf.float32))
    area = height * width * (AREA_RANGE[0] + draws[:, 0] * (AREA_RANGE[1] - AREA_RANGE[0]))
    aspect = ASPECT_RANGE[0] + draws[:, 1] * (ASPECT_RANGE[1] - ASPECT_RANGE[0])
    sides = tf.cast(tf.round(tf.stack([tf.sqrt(area / aspect), tf.sqrt(area * aspect)], axis=1)), tf.int32)
    sides = tf.where(draws[:, 2:3] < 0.5, sides, sides[:, ::-1])
    fits = tf.reduce_all(sides <= size, axis=1)
    first = tf.argmax(fits)
    shorter = tf.reduce_min(size)
    centre = tf.concat([(size - shorter + 1) // 2, [shorter, shorter]], axis=0)
    offsets = tf.cast(draws[first, 3:5] * tf.cast(size - sides[first] + 1, tf.float32), tf.int32)
    return tf.where(tf.reduce_any(fits), tf.concat([offsets, sides[first]], axis=0), centre)


def padded_crop(image: tf.Tensor, size: int, draws: tf.Tensor) -> tf.Tensor:
    """Pads an image (H, W, 3) by reflecting `size` / 8 pixels, then crops at `draws` (2,); common for CIFAR (4 of 32 pixels)."""
    padding = size // PADDING_FRACTION
    image = tf.pad(image, [[padding, padding], [padding, padding], [0, 0]], mode="REFLECT")
    room = tf.shape(image)[:2] - size + 1
    top, left = tf.unstack(tf.cast(draws * tf.cast(room, tf.float32), tf.int32))
    return tf.ensure_shape(image[top : top + size, left : left + size], [size, size, 3])


def random_flip(image: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
    """Mirrors the image left to right if the draw is at least one half."""
    return tf.cond(draw < 0.5, lambda: image, lambda: image[:, ::-1])


def alternating_draw(raw: tf.Tensor, number: tf.Tensor, seed: int | tf.Tensor) -> tf.Tensor:
    """Returns a draw for `random_flip` that mirrors an image in every second pass over the data, half of the images in the first.

    With few passes this shows the network more distinct images than flips at random (Jordan, "94% on CIFAR-10 in 3.29 seconds").

    Args:
        raw: raw image, from whose bytes the pass is chosen.
        number: int64 number of the pass.
        seed: the run's seed.
    """
    encoded = raw if raw.dtype == tf.string else tf.io.serialize_tensor(raw)
    own = tf.strings.to_hash_bucket_fast(encoded, tf.int64.max)
    draw = uniform([], tf.stack([tf.cast(seed, tf.int64), own]), "flip")
    return tf.math.floormod(draw + 0.5 * tf.cast(number % 2, tf.float32), 1.0)


# Colour steps map a pixel (3,) to pixel · matrix + offset and depend on the image only through its mean colour, so that any sequence of
# them is one matrix product over the image. `colour` is the (matrix, offset) so far, `mean` the image's mean colour before all steps.


def brightness(colour: tuple[tf.Tensor, tf.Tensor], mean: tf.Tensor, factor: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Multiplies values by `factor` (official release: 1 ± 0.4)."""
    matrix, offset = colour
    return matrix * factor, offset * factor


def contrast(colour: tuple[tf.Tensor, tf.Tensor], mean: tf.Tensor, factor: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Blends with the image's mean luminance: factor · x + (1 − factor) · mean grey (official release: 1 ± 0.4)."""
    matrix, offset = colour
    grey = tf.tensordot(tf.linalg.matvec(matrix, mean, transpose_a=True) + offset, tf.constant(LUMA), 1)
    return matrix * factor, offset * factor + (1 - factor) * grey


def saturation(colour: tuple[tf.Tensor, tf.Tensor], mean: tf.Tensor, factor: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Blends with each pixel's luminance: factor · x + (1 − factor) · grey (official release: 1 ± 0.4)."""
    blend = factor * tf.eye(3) + (1 - factor) * tf.constant(LUMA)[:, None]
    matrix, offset = colour
    return matrix @ blend, tf.linalg.matvec(blend, offset, transpose_a=True)


JITTERS = (brightness, contrast, saturation)
ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def color_jitter(mean: tf.Tensor, factors: tf.Tensor, order: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Combines brightness, contrast and saturation in a random order (official release).

    Args:
        mean: float32 (3,), the image's mean colour.
        factors: float32 (3,), the factors of brightness, contrast and saturation.
        order: int32 index into `ORDERS`.

    Returns:
        Matrix (3, 3) and offset (3,) of the colour map.
    """

    def in_order(steps) -> Callable:
        def apply():
            colour = (tf.eye(3), tf.zeros(3))
            for step in steps:
                colour = JITTERS[step](colour, mean, factors[step])
            return colour

        return apply

    return tf.switch_case(order, [in_order(steps) for steps in ORDERS])


def lighting_offset(noise: tf.Tensor) -> tf.Tensor:
    """Returns the offset of PCA lighting for values in [0, 1], from three normal draws `noise` (official release: deviation 0.1)."""
    return tf.linalg.matvec(tf.constant(EIGENVECTORS), noise * tf.constant(EIGENVALUES))


def random_color(image: tf.Tensor, jitter: float, lighting: float, draws: tf.Tensor) -> tf.Tensor:
    """Applies colour jitter, then lighting noise, then clips to the value range (official release).

    Args:
        image: float32 (H, W, 3), values 0..255.
        jitter: the factors are in 1 ± `jitter`; 0.4 in the release, 0 for none.
        lighting: standard deviation of the lighting noise; 0.1 in the release, 0 for none.
        draws: float32 (7,) in [0, 1): three factors, the order, three for the noise.
    """
    if not (jitter or lighting):
        return image
    matrix, offset = tf.eye(3), tf.zeros(3)
    if jitter:
        order = tf.cast(draws[3] * len(ORDERS), tf.int32)
        matrix, offset = color_jitter(tf.reduce_mean(image, axis=(0, 1)), 1 + jitter * (2 * draws[:3] - 1), order)
    if lighting:
        normal = tf.math.ndtri(tf.maximum(draws[4:], 2.0**-24))  # draws can be 0
        offset += 255 * lighting_offset(lighting * normal)
    planes = tf.unstack(image, axis=-1)  # XLA fuses this into one loop, but would call a library for a matrix product
    mapped = [sum(plane * matrix[i, k] for i, plane in enumerate(planes)) + offset[k] for k in range(3)]
    return tf.clip_by_value(tf.stack(mapped, axis=-1), 0.0, 255.0)
