"""Each augmentation against NumPy or PIL with the same draws."""

import io

import numpy as np
import pytest
import tensorflow as tf
from photographs import PHOTOGRAPHS, jpeg
from PIL import Image, ImageEnhance
from scipy import stats

from keras_widerresnet.data import augment, images
from keras_widerresnet.data.resize import normalise
from keras_widerresnet.tasks.classification import batches as pipeline
from keras_widerresnet.tasks.classification.config import Augmentation

PHOTOGRAPH = PHOTOGRAPHS[0][:120, :160]


def numpy_window(size, draws):
    """The release's rule, written as it is told: ten tries, then the centre square."""
    height, width = size
    for area_draw, aspect_draw, swap, top, left in draws.astype(np.float64):
        area = height * width * (0.08 + 0.92 * area_draw)
        aspect = 3 / 4 + (4 / 3 - 3 / 4) * aspect_draw
        h, w = round(np.sqrt(area / aspect)), round(np.sqrt(area * aspect))
        if swap >= 0.5:
            h, w = w, h
        if h <= height and w <= width:
            return int(top * (height - h + 1)), int(left * (width - w + 1)), h, w
    side = min(size)
    return (height - side + 1) // 2, (width - side + 1) // 2, side, side


@pytest.mark.parametrize("size", [(375, 500), (500, 333), (64, 64), (40, 400), (1, 9)])
def test_windows_of_the_same_draws(size):
    rng = np.random.default_rng(0)
    for _ in range(200):
        draws = rng.random((10, 5), np.float32)
        np.testing.assert_array_equal(augment.random_sized_window(tf.constant(size), tf.constant(draws)), numpy_window(size, draws))


def test_area_and_aspect_follow_their_exact_distribution():
    """In closed form for a square image: a try of aspect a fits if its share of the area is at most min(a, 1/a).

    So the density of the first fitting try's area s is proportional to P(min(a, 1/a) >= s) on [0.08, 1], and that of its aspect to
    min(a, 1/a) − 0.08.
    """
    side = 2000  # rounding to pixels is then negligible
    sizes = tf.constant([side, side])

    def window(position):
        draws = augment.uniform([10, 5], tf.stack([tf.constant(5, tf.int64), position]), "crop")
        return augment.random_sized_window(sizes, draws)

    windows = np.array(list(tf.data.Dataset.range(4000).map(window).as_numpy_iterator()))
    areas = windows[:, 2] * windows[:, 3] / side**2
    ratios = np.maximum(windows[:, 2], windows[:, 3]) / np.minimum(windows[:, 2], windows[:, 3])

    # aspect a is uniform on [3/4, 4/3] and m = min(a, 1/a); P(m >= t) for t in [3/4, 1]
    def fits(area):
        a_range = 4 / 3 - 3 / 4
        return np.where(area <= 3 / 4, 1.0, (np.minimum(1 / area, 4 / 3) - np.maximum(area, 3 / 4)) / a_range)

    grid = np.linspace(0.08, 1, 20001)
    density = fits(grid)
    cumulative = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    cumulative /= cumulative[-1]
    assert stats.kstest(areas, lambda x: np.interp(x, grid, cumulative)).pvalue > 0.01

    # P(aspect) given that it fits is proportional to the admitted areas, min(a, 1/a) − 0.08; the ratio r = max(a, 1/a)
    aspects = np.linspace(3 / 4, 4 / 3, 200001)
    weights = np.minimum(aspects, 1 / aspects) - 0.08
    folded = np.maximum(aspects, 1 / aspects)
    order = np.argsort(folded)
    ratio_cumulative = np.cumsum(weights[order]) / weights.sum()
    assert stats.kstest(ratios, lambda x: np.interp(x, folded[order], ratio_cumulative)).pvalue > 0.01
    swapped = (windows[:, 2] > windows[:, 3]).mean()
    assert abs(swapped - 0.5) < 0.03  # wide and tall equally often, thanks to the swap
    corners = windows[:, :2] / np.maximum(side - windows[:, 2:], 1)
    assert stats.kstest(corners[areas < 0.8].ravel(), "uniform").pvalue > 0.01


def cut_by_pil(encoded, position):
    """The window that a position draws, cut by PIL."""
    draws = tf.constant([1, position], tf.int64)
    with Image.open(io.BytesIO(encoded)) as opened:
        whole = opened.convert("RGB")
    drawn = augment.random_sized_window(tf.constant(whole.size[::-1]), augment.uniform([10, 5], draws, "crop"))
    top, left, height, width = np.asarray(drawn)
    return draws, whole.crop((left, top, left + width, top + height))


def test_enlarged_random_sized_crop_is_pils_crop_and_resize():
    """From JPEG bytes to the drawn window, resized (bicubic) by PIL; PIL rounds to bytes between the directions, we do not."""
    encoded = jpeg(PHOTOGRAPHS[0])
    for position in range(6):
        draws, window = cut_by_pil(encoded, position)
        ours = np.asarray(pipeline.training_crop(tf.constant(encoded), 700, "random_sized", draws))
        theirs = window.resize((700, 700), Image.Resampling.BICUBIC)
        difference = np.abs(ours - np.asarray(theirs, np.float32))
        assert difference.mean() < 0.5 and np.quantile(difference, 0.999) <= 3


def area_weights(size, target):
    """Share of each cell that each pixel covers."""
    edges = np.arange(target + 1) * size / target
    overlap = np.minimum(edges[1:, None], np.arange(1, size + 1)) - np.maximum(edges[:-1, None], np.arange(size))
    return np.maximum(overlap, 0) * target / size


def test_shrunk_random_sized_crop_is_the_mean_over_each_cell():
    encoded = jpeg(PHOTOGRAPHS[0])
    for position in range(6):
        draws, window = cut_by_pil(encoded, position)
        ours = np.asarray(pipeline.training_crop(tf.constant(encoded), 64, "random_sized", draws))
        rows, columns = (area_weights(side, 64) for side in window.size[::-1])
        theirs = np.einsum("yh,xw,hwc->yxc", rows, columns, np.asarray(window, np.float64), optimize=True)
        difference = np.abs(ours - theirs)
        assert difference.mean() < 0.1 and difference.max() < 2  # colours at the window's edge


def test_compiled_steps_are_the_same_as_one_by_one():
    image = tf.constant(PHOTOGRAPH[:100, :100], tf.float32)
    finishing = pipeline.finish(Augmentation())
    for position in range(6):
        draws = tf.constant([4, position], tf.int64)
        plain = augment.random_color(image, 0.4, 0.1, augment.uniform([7], draws, "color"))
        plain = augment.random_flip(plain, augment.uniform([], draws, "flip"))
        np.testing.assert_allclose(finishing(image, draws), normalise(plain), atol=1e-4)


def test_only_the_window_is_decoded_and_it_is_the_same():
    encoded = tf.constant(jpeg(PHOTOGRAPHS[1]))
    window = images.decode_window(encoded, lambda size: tf.stack([size[0] // 4, 33, 101, 77]))
    top = PHOTOGRAPHS[1].shape[0] // 4
    whole = np.asarray(images.decode_rgb(encoded), int)[top : top + 101, 33:110]
    difference = np.abs(np.asarray(window, int) - whole)
    assert difference.max() <= 4 and difference.mean() < 0.01  # colours are interpolated over the window's edge


def through_map(colour, image):
    matrix, offset = (np.asarray(part, np.float64) for part in colour)
    return image.reshape(-1, 3).astype(np.float64) @ matrix + offset


def identity():
    return tf.eye(3), tf.zeros(3)


@pytest.mark.parametrize("factor", [0.6, 0.93, 1.0, 1.4])
@pytest.mark.parametrize(("step", "enhancer"), [("brightness", "Brightness"), ("contrast", "Contrast"), ("saturation", "Color")])
def test_colour_step_is_pils_enhancer(step, enhancer, factor):
    """PIL rounds its grey values (and the mean grey) to bytes, we do not: within 1.5 levels where nothing is clipped."""
    image = PHOTOGRAPH
    mean = tf.constant(image.reshape(-1, 3).mean(axis=0), tf.float32)
    ours = through_map(getattr(augment, step)(identity(), mean, tf.constant(factor)), image)
    theirs = np.asarray(getattr(ImageEnhance, enhancer)(Image.fromarray(image)).enhance(factor), np.float64).reshape(-1, 3)
    inside = (ours > 1) & (ours < 254)
    assert np.abs(ours - theirs)[inside].max() < 1.5


def numpy_colour(image, factors, order):
    """Brightness, contrast and saturation on every pixel in turn, as the release does them."""
    grey_of = np.array([0.299, 0.587, 0.114])
    image = image.astype(np.float64)
    for step in order:
        other = (0.0, (image @ grey_of).mean(), (image @ grey_of)[..., None])[step]
        image = factors[step] * image + (1 - factors[step]) * other
    return image


@pytest.mark.parametrize("order", range(6))
def test_jitter_of_the_same_draws(order):
    factors = np.array([0.7, 1.35, 0.62], np.float32)
    mean = tf.constant(PHOTOGRAPH.reshape(-1, 3).mean(axis=0), tf.float32)
    ours = through_map(augment.color_jitter(mean, tf.constant(factors), tf.constant(order)), PHOTOGRAPH)
    np.testing.assert_allclose(ours, numpy_colour(PHOTOGRAPH, factors, augment.ORDERS[order]).reshape(-1, 3), atol=0.01)


def test_lighting_is_the_releases_noise_along_the_principal_colours():
    noise = np.array([0.12, -0.3, 0.05], np.float32)
    vectors = np.array([(-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203)])
    expected = (vectors * noise * np.array([0.2175, 0.0188, 0.0045])).sum(axis=1)
    np.testing.assert_allclose(augment.lighting_offset(tf.constant(noise)), expected, rtol=1e-5)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-3)  # the columns are unit vectors at right angles
    grey = np.abs(vectors[:, 0])
    assert np.allclose(grey, 3**-0.5, atol=0.02)  # and the first is grey


def test_random_color_is_jitter_then_lighting_then_clipping():
    """Factors uniform in 1 ± 0.4, one of the six orders, normal noise of deviation 0.1: all from the same draws."""
    image = PHOTOGRAPH.astype(np.float32)
    rng = np.random.default_rng(0)
    for _ in range(12):
        draws = rng.random(7, np.float32)
        expected = numpy_colour(image, 1 + 0.4 * (2 * draws[:3] - 1), augment.ORDERS[int(draws[3] * 6)])
        noise = (0.1 * stats.norm.ppf(draws[4:])).astype(np.float32)
        expected = np.clip(expected + 255 * np.asarray(augment.lighting_offset(tf.constant(noise))), 0, 255)
        np.testing.assert_allclose(augment.random_color(tf.constant(image), 0.4, 0.1, tf.constant(draws)), expected, atol=0.02)
    assert augment.random_color(image, 0.0, 0.0, None) is image
    assert sorted(augment.ORDERS) == [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    lowest = augment.random_color(tf.constant(image), 0.0, 0.1, tf.zeros(7))
    assert np.isfinite(lowest).all()  # the normal quantile of 0 is not


def test_draws_are_uniform_and_each_step_has_its_own():
    seeds = [tf.constant([3, position], tf.int64) for position in range(300)]
    drawn = {step: np.array([np.asarray(augment.uniform([4], seed, step)) for seed in seeds]) for step in augment.STREAMS}
    for step in augment.STREAMS:
        assert stats.kstest(drawn[step].ravel(), "uniform").pvalue > 0.001
    for first, second in ((0, 1), (0, 2), (1, 2)):
        pair = [drawn[augment.STREAMS[k]].ravel() for k in (first, second)]
        assert abs(np.corrcoef(pair)[0, 1]) < 0.1


def test_padded_crop_is_a_window_of_the_mirrored_image():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    windows = {padded[i : i + 32, j : j + 32].tobytes(): (i, j) for i in range(9) for j in range(9)}
    drawn = [windows[np.asarray(augment.padded_crop(image, 32, augment.uniform([2], [0, k], "crop"))).tobytes()] for k in range(400)]
    assert {i for i, _ in drawn} == {j for _, j in drawn} == set(range(9))
    assert abs(np.mean(drawn) - 4) < 0.3


def test_flip_mirrors_half():
    image = PHOTOGRAPH[:8, :8].astype(np.float32)
    np.testing.assert_array_equal(augment.random_flip(tf.constant(image), tf.constant(0.49)), image)
    np.testing.assert_array_equal(augment.random_flip(tf.constant(image), tf.constant(0.5)), image[:, ::-1])
