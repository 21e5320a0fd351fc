"""Each augmentation against NumPy or PIL with the same draws."""

import io

import numpy as np
import pytest
import tensorflow as tf
from photographs import PHOTOGRAPHS, jpeg
from PIL import Image, ImageEnhance
from scipy import stats

from keras_widerresnet.data import augment, images, pipeline

SEED = tf.constant([3, 14], tf.int64)
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
        np.testing.assert_array_equal(augment.window_of_draws(tf.constant(size), tf.constant(draws)), numpy_window(size, draws))


def test_area_and_aspect_follow_their_exact_distribution():
    """In closed form for a square image: a try of aspect a fits if its share of the area is at most min(a, 1/a).

    So the density of the first fitting try's area s is proportional to P(min(a, 1/a) >= s) on [0.08, 1], and that of its aspect to
    min(a, 1/a) − 0.08.
    """
    side = 2000  # rounding to pixels is then negligible
    sizes = tf.constant([side, side])
    seeds = tf.data.Dataset.range(4000).map(lambda position: tf.stack([tf.constant(5, tf.int64), position]))
    windows = np.array(list(seeds.map(lambda seed: augment.random_sized_window(sizes, seed)).as_numpy_iterator()))
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


def test_random_sized_crop_is_pils_crop_and_resize():
    """From JPEG bytes: the drawn window, cut and resized (bicubic) by PIL; ours rounds to bytes once, PIL after each direction."""
    encoded = jpeg(PHOTOGRAPHS[0])
    with Image.open(io.BytesIO(encoded)) as opened:
        whole = opened.convert("RGB")
    for position in range(6):
        draws = tf.constant([1, position], tf.int64)
        ours = np.asarray(pipeline.training_crop(tf.constant(encoded), 64, "random_sized", draws))
        top, left, height, width = np.asarray(augment.random_sized_window(tf.constant(whole.size[::-1]), augment.stream(draws, "crop")))
        theirs = whole.crop((left, top, left + width, top + height)).resize((64, 64), Image.Resampling.BICUBIC)
        difference = np.abs(ours - np.asarray(theirs, np.float32))
        assert difference.mean() < 0.5 and np.quantile(difference, 0.99) <= 2


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
    ours = through_map(augment.jitter_of_draws(mean, tf.constant(factors), tf.constant(order)), PHOTOGRAPH)
    np.testing.assert_allclose(ours, numpy_colour(PHOTOGRAPH, factors, augment.ORDERS[order]).reshape(-1, 3), atol=0.01)


def test_jitter_draws_uniform_factors_and_every_order():
    """Factors are uniform in 1 ± 0.4, all six orders occur equally often, and both are what the map is made of."""
    mean = tf.constant([10.0, 100.0, 200.0])
    seen = {}
    offsets = []
    for position in range(1200):
        seed = tf.constant([0, position], tf.int64)
        draws = np.asarray(tf.random.stateless_uniform([4], seed))
        factors, order = 1 + 0.4 * (2 * draws[:3] - 1), int(draws[3] * 6)
        seen[order] = seen.get(order, 0) + 1
        offsets.append(draws[:3])
        if position < 20:
            ours = augment.color_jitter(mean, 0.4, seed)
            expected = augment.jitter_of_draws(mean, tf.constant(factors), tf.constant(order))
            for a, b in zip(ours, expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-3)
    assert set(seen) == set(range(6)) and stats.chisquare(list(seen.values())).pvalue > 0.001
    assert stats.kstest(np.ravel(offsets), "uniform").pvalue > 0.001


def test_lighting_is_the_releases_noise_along_the_principal_colours():
    noise = np.array([0.12, -0.3, 0.05], np.float32)
    vectors = np.array([(-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203)])
    expected = (vectors * noise * np.array([0.2175, 0.0188, 0.0045])).sum(axis=1)
    np.testing.assert_allclose(augment.lighting_offset(tf.constant(noise)), expected, rtol=1e-5)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-3)  # the columns are unit vectors at right angles
    grey = np.abs(vectors[:, 0])
    assert np.allclose(grey, 3**-0.5, atol=0.02)  # and the first is grey


def test_random_color_is_jitter_then_lighting_then_clipping():
    image = PHOTOGRAPH.astype(np.float32)
    for position in range(5):
        seed = tf.constant([2, position], tf.int64)
        draws = np.asarray(tf.random.stateless_uniform([4], augment.stream(seed, "jitter")))
        noise = 0.1 * np.asarray(tf.random.stateless_normal([3], augment.stream(seed, "lighting")))
        expected = numpy_colour(image, 1 + 0.4 * (2 * draws[:3] - 1), augment.ORDERS[int(draws[3] * 6)])
        expected = np.clip(expected + 255 * np.asarray(augment.lighting_offset(tf.constant(noise))), 0, 255)
        np.testing.assert_allclose(augment.random_color(tf.constant(image), 0.4, 0.1, seed), expected, atol=0.02)
    assert augment.random_color(image, 0.0, 0.0, SEED) is image


def test_steps_draw_from_streams_of_their_own():
    streams = [tuple(np.asarray(augment.stream(SEED, name))) for name in augment.STREAMS]
    assert len(set(streams)) == len(augment.STREAMS)


def test_padded_crop_is_a_window_of_the_mirrored_image():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    windows = {padded[i : i + 32, j : j + 32].tobytes(): (i, j) for i in range(9) for j in range(9)}
    drawn = [windows[np.asarray(augment.padded_crop(image, 32, [0, k])).tobytes()] for k in range(400)]
    assert {i for i, _ in drawn} == {j for _, j in drawn} == set(range(9))
    assert abs(np.mean(drawn) - 4) < 0.3


def test_flip_mirrors_half():
    image = PHOTOGRAPH[:8, :8].astype(np.float32)
    flipped = [np.array_equal(augment.random_flip(tf.constant(image), [0, k]), image[:, ::-1]) for k in range(400)]
    kept = [np.array_equal(augment.random_flip(tf.constant(image), [0, k]), image) for k in range(400)]
    assert sum(flipped) + sum(kept) == 400 and 160 < sum(flipped) < 240


def test_without_keras_cv_its_augmentations_name_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "keras_cv", None)
    with pytest.raises(ValueError, match=r"keras_widerresnet\[augment\]"):
        augment.rand_augment(2, 0.3, 0)
    with pytest.raises(ValueError, match=r"keras_widerresnet\[augment\]"):
        augment.mix_batches(0.2, 1.0, 0)


def mixing_batch():
    pixels = np.arange(8, dtype=np.float32)[:, None, None, None] * np.ones((8, 6, 6, 3), np.float32)
    return tf.constant(pixels), tf.eye(8)


def test_mixup_mixes_labels_as_it_mixes_images():
    """Image k is k everywhere: a mixed image's value is the label-weighted mean of the classes."""
    pytest.importorskip("keras_cv")
    pixels, labels = augment.mix_batches(0.5, 0.0, 1)(*mixing_batch())
    np.testing.assert_allclose(np.asarray(labels).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(pixels[:, 0, 0, 0], np.asarray(labels) @ np.arange(8), rtol=1e-4, atol=1e-4)
    assert np.count_nonzero((np.asarray(labels) > 0.01).sum(axis=1) == 2) >= 2


def test_cutmix_labels_name_the_two_images_in_the_pixels():
    """keras-cv gives the window's share before it is cut at the border: never less than the pixels', and equal where nothing is cut."""
    pytest.importorskip("keras_cv")
    mix = augment.mix_batches(0.0, 1.0, 1)
    equal = 0
    for _ in range(4):
        pixels, labels = (np.asarray(part) for part in mix(*mixing_batch()))
        shares = np.stack([(pixels[..., 0] == k).mean(axis=(1, 2)) for k in range(8)], axis=1)
        np.testing.assert_allclose(shares.sum(axis=1), 1)
        np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)
        others = ~np.eye(8, dtype=bool)
        assert np.all(shares[others] <= labels[others] + 1e-5)
        assert np.all((shares > 0) <= (labels > 0))
        equal += np.isclose(shares, labels).all(axis=1).sum()
    assert equal >= 3


def test_rand_augment_stays_in_range_and_changes_most_images():
    pytest.importorskip("keras_cv")
    change = augment.rand_augment(2, 0.3, 0)
    image = tf.constant(PHOTOGRAPH, tf.float32)
    changed = [np.asarray(change(image)) for _ in range(10)]
    assert all(one.shape == PHOTOGRAPH.shape and one.min() >= 0 and one.max() <= 255 for one in changed)
    assert sum(not np.allclose(one, image) for one in changed) >= 7
