"""Each operation of RandAugment against PIL or NumPy, with the strength that its result shows."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from photographs import PHOTOGRAPHS
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats

from keras_widerresnet.data import rand_augment

SIZE, MAGNITUDE = 64, 0.3
PHOTOGRAPH = PHOTOGRAPHS[0][:SIZE, 60 : 60 + SIZE]
PIL_PHOTOGRAPH = Image.fromarray(PHOTOGRAPH)
OPERATIONS = rand_augment.operations_of(MAGNITUDE)
SEEDS = range(100)


def of_seeds(change, image, seeds=SEEDS):
    """The changed image for each seed, float32 (seeds, H, W, 3), drawn in a `tf.data` pipeline."""
    image = tf.constant(image, tf.float32)
    changed = tf.data.Dataset.range(len(seeds)).map(lambda k: change(image, tf.stack([tf.constant(seeds[0], tf.int64), k])))
    return np.stack(list(changed.as_numpy_iterator()))


def fitted(result, original, direction):
    """The factor f with which result = original + f · direction, where nothing was clipped."""
    inside = (result > 0.5) & (result < 254.5)
    return ((result - original) * direction)[inside].sum() / (direction[inside] ** 2).sum()


def assert_uniform(strengths, low, high):
    assert stats.kstest(strengths, stats.uniform(low, high - low).cdf).pvalue > 0.001


def test_brightness_adds_up_to_the_magnitude_of_255():
    image, strengths = PHOTOGRAPH.astype(np.float64), []
    for result in of_seeds(OPERATIONS["brightness"], image):
        added = fitted(result, image, np.ones_like(image))
        np.testing.assert_allclose(result, np.clip(image + added, 0, 255), atol=0.01)
        strengths.append(added / 255)
    assert_uniform(strengths, -MAGNITUDE, MAGNITUDE)


def test_contrast_scales_the_distance_from_each_channels_mean():
    image, strengths = PHOTOGRAPH.astype(np.float64), []
    from_mean = image - image.mean(axis=(0, 1))
    for result in of_seeds(OPERATIONS["contrast"], image):
        factor = fitted(result, image, from_mean)
        np.testing.assert_allclose(result, np.clip(image + factor * from_mean, 0, 255), atol=0.05)
        strengths.append(factor)
    assert_uniform(strengths, -MAGNITUDE, MAGNITUDE)


@pytest.mark.parametrize(("name", "enhancer"), [("color_degeneration", ImageEnhance.Color), ("sharpness", ImageEnhance.Sharpness)])
def test_colour_and_sharpness_are_pils_enhancers(name, enhancer):
    """PIL rounds its grey or smoothed image to bytes, we do not, and leaves the border as it is when it smoothes."""
    image, strengths = PHOTOGRAPH.astype(np.float64), []
    away = image - np.asarray(enhancer(PIL_PHOTOGRAPH).enhance(0.0), np.float64)
    for result in of_seeds(OPERATIONS[name], image):
        factor = 1 + fitted(result[1:-1, 1:-1], image[1:-1, 1:-1], away[1:-1, 1:-1])
        theirs = np.asarray(enhancer(PIL_PHOTOGRAPH).enhance(factor), np.float64)
        assert np.abs(result - theirs)[1:-1, 1:-1].max() < 1.6
        strengths.append(factor)
    assert_uniform(strengths, 1 - MAGNITUDE, 1 + MAGNITUDE)


@pytest.mark.parametrize(("magnitude", "bits"), [(0.0, 8), (0.3, 7), (0.5, 6), (1.0, 4)])
def test_posterisation_is_pils(magnitude, bits):
    (result,) = of_seeds(rand_augment.operations_of(magnitude)["posterization"], PHOTOGRAPH, range(1))
    np.testing.assert_array_equal(result, ImageOps.posterize(PIL_PHOTOGRAPH, bits))


def test_solarisation_is_pils():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    thresholds = []
    for result in of_seeds(OPERATIONS["solarization"], levels):
        changed = np.flatnonzero(result[..., 0] != levels[..., 0])
        threshold = int(changed[0]) if len(changed) else 256
        np.testing.assert_array_equal(result, ImageOps.solarize(Image.fromarray(levels), threshold))
        thresholds.append(threshold - 0.5)
    assert_uniform(thresholds, 255 * (1 - MAGNITUDE), 255)


def test_auto_contrast_is_pils():
    dull = (PHOTOGRAPH // 3 + 40).astype(np.uint8)
    dull[..., 2] = 90  # a channel of one level stays
    (result,) = of_seeds(OPERATIONS["auto_contrast"], dull, range(1))
    np.testing.assert_allclose(result, ImageOps.autocontrast(Image.fromarray(dull)), atol=1.01)


def test_equalisation_flattens_the_histogram_as_keras_and_pil_do():
    """PIL counts the pixels below a level instead of those up to it."""
    dull = np.random.default_rng(0).normal(110, 30, PHOTOGRAPH.shape).clip(0, 255).astype(np.uint8)
    dull[..., 2] = 90  # a channel of one level stays
    (result,) = of_seeds(OPERATIONS["equalization"], dull, range(1))
    for channel in range(2):
        up_to = np.cumsum(np.bincount(dull[..., channel].ravel(), minlength=256))
        lowest = up_to[up_to > 0].min()
        expected = np.round(255 * (up_to - lowest) / (up_to[-1] - lowest))[dull[..., channel]]
        np.testing.assert_allclose(result[..., channel], expected, atol=1e-4)
    np.testing.assert_array_equal(result[..., 2], dull[..., 2])
    theirs = keras.layers.Equalization((0, 255)).transform_images(dull[None].astype(np.float32), None)[0]
    assert np.mean(np.asarray(theirs) == result) > 0.98  # Keras' x / 255 · 255 may fall below x
    assert np.abs(result - np.asarray(ImageOps.equalize(Image.fromarray(dull)), np.float64)).mean() < 2


@pytest.mark.parametrize("name", ["equalized", "warp"])
def test_compiled_for_a_size_not_for_each_image(name):
    """XLA refuses without the values of an argument that a shape depends on."""
    arguments = {"equalized": [(8, 6, 3)], "warp": [(8, 6, 3), (6,)]}[name]
    compiled = tf.function(getattr(rand_augment, name), jit_compile=True)
    compiled.experimental_get_compiler_ir(*(tf.TensorSpec(shape, tf.float32) for shape in arguments))()


def matrices(name):
    """The six numbers of each seed's warp: the values of an image that holds its own coordinates, near the centre."""
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    near = np.s_[28:37, 28:37]
    design = np.stack([columns[near].ravel(), rows[near].ravel(), np.ones(81)], axis=1)
    results = of_seeds(OPERATIONS[name], np.stack([columns, rows, 0 * rows], axis=2))
    found = [np.linalg.lstsq(design, result[near].reshape(81, 3)[:, :2], rcond=None)[0].T for result in results]
    return np.array(found)


def test_rotation_is_about_the_centre_by_up_to_30_degrees_of_the_magnitude():
    found = matrices("rotation")
    angles = np.arctan2(found[:, 1, 0], found[:, 0, 0])
    for matrix, angle in zip(found, angles, strict=True):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        centre = np.full(2, (SIZE - 1) / 2)
        np.testing.assert_allclose(matrix, np.column_stack([turn, centre - turn @ centre]), atol=1e-3)
    assert_uniform(np.degrees(angles), -30 * MAGNITUDE, 30 * MAGNITUDE)


def test_shear_and_translation_draw_both_directions():
    shears, moves = matrices("shear"), matrices("translation")
    np.testing.assert_allclose(shears[:, (0, 1), (0, 1)], 1, atol=1e-3)
    np.testing.assert_allclose(shears[:, :, 2], 0, atol=0.02)
    np.testing.assert_allclose(moves[:, :, :2], np.broadcast_to(np.eye(2), (len(SEEDS), 2, 2)), atol=1e-3)
    for strengths in (shears[:, (0, 1), (1, 0)], moves[:, :, 2] / SIZE):
        assert_uniform(strengths.ravel(), -MAGNITUDE, MAGNITUDE)
        assert abs(np.corrcoef(strengths.T)[0, 1]) < 0.3


@pytest.mark.parametrize(
    "transform", [(1, 0, 0, 0, 1, 0), (0.9, -0.4, 3.3, 0.4, 0.9, -7.1), (1, 0.3, -90, 0, 1, 75.5), (1.7, 0, 0, 0.2, 2.1, 0)]
)
def test_warp_is_kerass_affine_transform(transform):
    image = PHOTOGRAPH[:, :40].astype(np.float32)
    ours = rand_augment.warp(tf.constant(image), tf.constant(transform, tf.float32))
    theirs = keras.ops.image.affine_transform(image, np.float32([*transform, 0, 0]), fill_mode="reflect")
    np.testing.assert_allclose(ours, theirs, atol=0.02)


def test_rotation_turns_as_pil_does():
    """Inside the circle that stays in the picture."""
    turned = rand_augment.warp(tf.constant(PHOTOGRAPH, tf.float32), tf.stack(rand_augment._rotation(tf.constant(0.3), SIZE)))
    theirs = np.asarray(PIL_PHOTOGRAPH.rotate(np.degrees(0.3), Image.Resampling.BILINEAR), np.float64)
    rows, columns = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    inside = np.hypot(rows, columns) < SIZE / 2 - 2
    assert np.abs(turned - theirs)[inside].max() < 1.1


def test_each_operation_is_chosen_equally_often_and_anew(monkeypatch):
    """With operations that write their number behind those before."""
    writers = {str(number): lambda image, seed, number=number: image * 11 + number for number in range(11)}
    monkeypatch.setattr(rand_augment, "operations_of", lambda magnitude: writers)
    written = of_seeds(rand_augment.rand_augment(2, 0.5), np.zeros((1, 1, 3)), range(4000))[:, 0, 0, 0].astype(int)
    counts = np.bincount(written, minlength=121)
    assert stats.chisquare(counts).pvalue > 0.001  # all 121 pairs


def test_changes_are_functions_of_the_seed_and_stay_in_range(monkeypatch):
    monkeypatch.setattr(rand_augment, "operations_of", lambda magnitude: OPERATIONS)  # compiled already
    change = rand_augment.rand_augment(2, MAGNITUDE)
    first, second = (of_seeds(change, PHOTOGRAPH, range(30)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (30, SIZE, SIZE, 3) and first.min() >= 0 and first.max() <= 255
    assert len({image.tobytes() for image in first}) > 25
    assert not np.array_equal(first, of_seeds(change, PHOTOGRAPH, range(1, 31)))


def test_magnitude_zero_leaves_what_has_a_strength_as_it_is():
    """Auto-contrast and equalisation have none."""
    for name, operation in rand_augment.operations_of(0.0).items():
        (result,) = of_seeds(operation, PHOTOGRAPH, range(1))
        if name not in ("auto_contrast", "equalization"):
            np.testing.assert_allclose(result, PHOTOGRAPH, atol=0.01, err_msg=name)
