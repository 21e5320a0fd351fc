"""The geometry of dense evaluation: which cell stands for which pixel, with shifts, mirroring, sizes, tiles and enlargement."""

import keras
import numpy as np
import pytest
from photographs import PHOTOGRAPHS
from PIL import Image
from scipy.special import softmax

from keras_widerresnet import preprocess_input
from keras_widerresnet.data.resize import resize_longer_side
from keras_widerresnet.enlarge import enlarge
from keras_widerresnet.protocols import SegmentationProtocol
from keras_widerresnet.tasks.segmentation import views as dense
from keras_widerresnet.tasks.segmentation.views import cell_scores, enlargement, pixel_classes, pixel_scores, resampling

# Multiples of the strides, odd sizes, one pixel more and one less, sides smaller than a stride.
SHAPES = [(48, 64), (47, 65), (33, 31), (49, 63), (5, 50)]


def photograph(height, width):
    return PHOTOGRAPHS[0][100 : 100 + height, 200 : 200 + width]


def sampler(stride):
    """A 'network' whose logits are its input at the pixel that each cell stands for."""
    return lambda images: images[:, stride // 2 :: stride, stride // 2 :: stride]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("stride", "steps"), [(8, 1), (8, 2), (8, 4), (8, 8), (16, 4), (6, 2), (6, 6), (5, 5), (5, 1), (4, 4), (1, 1)])
def test_fine_cells_are_the_pixels_that_they_stand_for(shape, flip, stride, steps):
    image = photograph(*shape)
    exact = softmax(preprocess_input(image), axis=-1)
    scores = pixel_scores(sampler(stride), image, SegmentationProtocol((), steps, flip), stride)
    assert scores.shape == exact.shape and scores.dtype == np.float32
    step = stride // steps
    known = np.s_[step // 2 :: step, step // 2 :: step]
    np.testing.assert_allclose(scores[known], exact[known], atol=1e-6)


def test_tiles_of_samples_are_exact_too():
    image = photograph(75, 101)
    exact = softmax(preprocess_input(image), axis=-1)
    for tile, overlap in ((32, 8), (40, 20), (96, 48), (24, 16), (16, 8)):
        scores = pixel_scores(sampler(8), image, SegmentationProtocol((), 8, True, tile, overlap), 8)
        np.testing.assert_allclose(scores, exact, atol=1e-6)


def test_mirrored_passes_count_as_much_as_the_others():
    """A network that sees which way the image lies: the mean of its two answers."""

    def side(images):
        is_left_bright = images[:, :1, :1, 0] > images[:, :1, -1:, 0]
        return np.where(is_left_bright[..., None], [3.0, 0.0], [0.0, 1.0]) * np.ones((1, 2, 4, 1))

    image = np.zeros((16, 32, 3), np.uint8)
    image[:, :16] = 200
    image[:, 16:] = 50
    seen, mirrored = softmax([3.0, 0.0]), softmax([0.0, 1.0])
    np.testing.assert_allclose(pixel_scores(side, image, SegmentationProtocol(), 8), np.broadcast_to(seen, (16, 32, 2)), atol=1e-6)
    both = pixel_scores(side, image, SegmentationProtocol(flip=True), 8)
    np.testing.assert_allclose(both, np.broadcast_to((seen + mirrored) / 2, (16, 32, 2)), atol=1e-6)


def keys_enlarged(cells, step, pixels):
    """Keys' cubic convolution of 1981, one pixel and one tap at a time."""
    result = np.zeros((pixels, cells.shape[1]))
    for p in range(pixels):
        place = (p - step // 2) / step
        for tap in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            s = abs(place - tap)
            weight = 1.5 * s**3 - 2.5 * s**2 + 1 if s <= 1 else -0.5 * s**3 + 2.5 * s**2 - 4 * s + 2 if s < 2 else 0
            result[p] += weight * cells[min(max(tap, 0), len(cells) - 1)]
    return result


@pytest.mark.parametrize(("step", "cells", "pixels"), [(8, 6, 48), (8, 6, 43), (16, 3, 41), (4, 1, 3), (1, 5, 5), (3, 7, 20)])
def test_enlargement_is_keys_cubic(step, cells, pixels):
    values = np.random.default_rng(0).normal(size=(cells, 4)).astype(np.float32)
    ours = enlargement(pixels, cells, step) @ values
    np.testing.assert_allclose(ours, keys_enlarged(values, step, pixels), atol=2e-6)
    np.testing.assert_allclose(enlargement(pixels, cells, step).sum(axis=1), 1, atol=1e-6)


def test_enlargement_is_that_of_the_networks_own_layer():
    values = np.random.default_rng(0).normal(size=(1, 5, 4, 2)).astype(np.float32)
    rows, columns = enlargement(40, 5, 8), enlargement(32, 4, 8)
    ours = np.einsum("ph,hwc,qw->pqc", rows.toarray(), values[0], columns.toarray())
    np.testing.assert_allclose(ours, keras.ops.convert_to_numpy(enlarge(values, 8))[0], atol=1e-5)


@pytest.mark.parametrize(("source", "target"), [(30, 30), (30, 47), (47, 30), (100, 33), (7, 100), (64, 1)])
def test_resampling_is_pils(source, target):
    values = np.random.default_rng(0).random((5, source)).astype(np.float32)
    theirs = np.asarray(Image.fromarray(values).resize((target, 5), Image.Resampling.BICUBIC))
    np.testing.assert_allclose((resampling(target, source) @ values.T).T, theirs, atol=1e-6)


@pytest.mark.parametrize(("height", "width", "size"), [(101, 150, 64), (151, 90, 100), (64, 64, 200), (3, 150, 20), (427, 640, 513)])
def test_longer_side_is_resized_as_pil_does(height, width, size):
    image = PHOTOGRAPHS[0][:height, :width]
    target = [max(1, int(side * size / max(image.shape[:2]) + 0.5)) for side in (image.shape[1], image.shape[0])]
    theirs = np.asarray(Image.fromarray(image).resize(target, Image.Resampling.BICUBIC), np.float32)
    ours = resize_longer_side(image, size).numpy()
    assert ours.shape == theirs.shape and max(ours.shape) == size
    difference = np.abs(ours - theirs)
    assert difference.mean() < 0.2 and difference.max() <= 3


def test_sizes_are_averaged_at_the_original_size():
    """PIL resizes the image and, class by class, the probabilities; the network samples every pixel, so nothing is enlarged."""
    image = photograph(61, 90)
    expected = []
    for size in (45, 120):
        seen = resize_longer_side(image, size).numpy()
        probabilities = softmax(preprocess_input(seen), axis=-1)
        back = [Image.fromarray(probabilities[..., k]).resize((90, 61), Image.Resampling.BICUBIC) for k in range(3)]
        expected.append(np.stack([np.asarray(channel) for channel in back], axis=-1))
    scores = pixel_scores(sampler(4), image, SegmentationProtocol((45, 120), 4, True), 4)
    np.testing.assert_allclose(scores, np.mean(expected, axis=0), atol=2e-6)


def test_classes_in_bands_are_those_of_the_whole(monkeypatch):
    image, protocol = photograph(47, 65), SegmentationProtocol((40, 90), 2, True)
    whole = pixel_scores(sampler(8), image, protocol, 8)
    monkeypatch.setattr(dense, "BAND_VALUES", 7 * 65 * 3)
    classes = pixel_classes(sampler(8), image, protocol, 8)
    assert classes.dtype == np.uint8
    np.testing.assert_array_equal(classes, whole.argmax(axis=-1))
    np.testing.assert_array_equal(pixel_scores(sampler(8), image, protocol, 8), whole)


def test_passes_together_or_one_by_one(monkeypatch):
    """Every batch of passes gives the same, none larger than allowed unless it is one pass."""
    image, protocol, counts = photograph(32, 40), SegmentationProtocol((), 4, True), []

    def counting(images):
        counts.append(len(images))
        return sampler(8)(images)

    together = pixel_scores(counting, image, protocol, 8)
    assert counts == [32]
    monkeypatch.setattr(dense, "PIXELS_TOGETHER", 7 * 32 * 40 + 5)
    np.testing.assert_array_equal(pixel_scores(counting, image, protocol, 8), together)
    assert counts == [32, 7, 7, 7, 7, 4]


REACH = 1 + 1 + 2 + 4 + 8  # pixels to each side that an output of `convolutional` depends on


@pytest.fixture(scope="module")
def convolutional():
    """Output stride 4, as the networks are built: symmetrically padded strided convolutions, then a dilated one."""
    keras.utils.set_random_seed(3)
    x = inputs = keras.Input((None, None, 3))
    for stride, dilation in ((1, 1), (2, 1), (2, 1), (1, 1), (1, 2)):
        x = keras.layers.ZeroPadding2D(dilation)(x)
        x = keras.layers.Conv2D(6, 3, strides=stride, dilation_rate=dilation, activation="tanh")(x)
    model = keras.Model(inputs, keras.layers.Conv2D(5, 1, kernel_initializer=keras.initializers.RandomNormal(stddev=3))(x))
    return lambda images: model.predict_on_batch(images)


@pytest.mark.parametrize(("steps", "flip"), [(1, False), (2, True), (4, True)])
@pytest.mark.parametrize(("tile", "overlap"), [(64, 40), (48, 44), (88, 48)])
def test_overlapping_tiles_equal_the_whole(convolutional, steps, flip, tile, overlap):
    """Half an overlap is the reach, and a stride for where the reach's centre lies and what a shift loses."""
    assert overlap // 2 >= REACH + 4
    image = photograph(97, 150)
    whole = pixel_scores(convolutional, image, SegmentationProtocol((), steps, flip), 4)
    tiled = pixel_scores(convolutional, image, SegmentationProtocol((), steps, flip, tile, overlap), 4)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    cut = pixel_scores(convolutional, image, SegmentationProtocol((), steps, flip, tile, 0), 4)
    assert np.abs(cut - whole).max() > 0.05


def test_each_cell_is_taken_where_it_is_farthest_from_a_border():
    """A network that tells each cell's distance from its tile's border: along a line of tiles it must be the largest possible."""

    def distance(images):
        count = images.shape[2] // 8
        one = np.minimum(np.arange(count) + 0.5, count - np.arange(count) - 0.5)
        return np.stack([np.zeros(count), np.log(one)], axis=-1)[None, None] * np.ones((len(images), images.shape[1] // 8, 1, 1))

    cells = cell_scores(distance, np.zeros((8, 168, 3), np.float32), SegmentationProtocol(tile=64, overlap=24), 8)
    told = (cells[0, :, 1] / cells[0, :, 0]).round(3)
    starts, centres = (0, 5, 10, 13), np.arange(21) + 0.5
    best = np.max([np.minimum(centres - start, start + 8 - centres) for start in starts], axis=0)
    np.testing.assert_allclose(told, best)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": (0,)}, "positive whole numbers"),
        ({"sizes": (20, 20)}, "Sizes must be different"),
        ({"test_steps": 0}, "1 or more"),
        ({"test_steps": 3}, "divisor of the output stride, 8"),
        ({"tile": -8}, "0 or more"),
        ({"tile": 20}, "multiple of the output stride, 8"),
        ({"tile": 16, "overlap": 16}, "larger than `overlap`"),
        ({"overlap": 8}, "larger than `overlap`"),
        ({"tile": 16, "overlap": 12}, "by at least the output stride, 8"),
    ],
)
def test_protocols_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        SegmentationProtocol(**options).check(8)


def test_outputs_of_another_size_or_not_finite_are_named():
    image = photograph(16, 16)
    with pytest.raises(ValueError, match="output stride 8 must return"):
        pixel_scores(sampler(4), image, SegmentationProtocol(), 8)
    with pytest.raises(ValueError, match="NaN or infinite"):
        pixel_scores(lambda images: sampler(8)(images) * np.nan, image, SegmentationProtocol(), 8)
