import io

import numpy as np
import pytest
import tensorflow as tf
from photographs import PHOTOGRAPHS, REAL_PHOTOGRAPHS
from PIL import Image

from keras_widerresnet.data import load_data, pipeline
from keras_widerresnet.data.folder import decode_rgb
from keras_widerresnet.preprocessing import preprocess_input


@pytest.mark.parametrize("crop", pipeline.CROPS)
def test_batches_from_any_step_are_those_of_the_whole_run(crop):
    options = {"crop_size": 16, "batch_size": 8, "crop": crop, "flip": True, "seed": 3}
    split = load_data("fake:20").train
    whole = list(pipeline.train_batches(split, **options).take(70))
    for start in (1, 66):  # 66: in the second pass over the 512 images
        images, labels = next(iter(pipeline.train_batches(split, start_step=start, **options)))
        np.testing.assert_array_equal(images, whole[start][0])
        np.testing.assert_array_equal(labels, whole[start][1])
    assert whole[0][0].shape == (8, 16, 16, 3) and whole[0][0].dtype == tf.float32


def test_seeds_draw_other_crops():
    split = load_data("fake:20").train
    first, second = (
        next(iter(pipeline.train_batches(split, crop_size=16, batch_size=8, crop="padded", flip=True, seed=seed)))[0] for seed in (0, 1)
    )
    assert not np.array_equal(first, second)


def test_test_batches_hold_every_image_once_normalised():
    data = load_data("fake:16")
    batches = list(pipeline.test_batches(data.test, crop_size=16, batch_size=50))
    assert [len(labels) for _, labels in batches] == [50, 50, 28]
    images = np.stack([image for image, _ in data.test.ordered().as_numpy_iterator()])
    np.testing.assert_allclose(np.concatenate([batch for batch, _ in batches]), preprocess_input(images), atol=1e-5)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), data.test.labels)


@pytest.mark.parametrize(("shape", "size", "offsets"), [((7, 4), 4, (2, 0)), ((8, 9), 4, (2, 3)), ((5, 5), 5, (0, 0))])
def test_centre_crop_rounds_its_offset_up(shape, size, offsets):
    image = np.arange(shape[0] * shape[1] * 3).reshape(*shape, 3)
    top, left = offsets
    np.testing.assert_array_equal(pipeline.center_crop(tf.constant(image), size), image[top : top + size, left : left + size])


def assert_like_pil(ours, theirs):
    """Within 1/255 in the mean and 2/255 at the 99.9th percentile."""
    ours, theirs = np.asarray(ours, np.float32), np.asarray(theirs, np.float32)
    assert ours.shape == theirs.shape
    difference = np.abs(ours - theirs)
    assert difference.mean() < 1 and np.quantile(difference, 0.999) <= 2


@pytest.mark.parametrize("photograph", REAL_PHOTOGRAPHS, ids=list(REAL_PHOTOGRAPHS))
@pytest.mark.parametrize(("interpolation", "size"), [(name, size) for name in ("bicubic", "lanczos") for size in (63, 224, 320, 499)])
def test_decoded_resized_and_cropped_as_pil_does(photograph, interpolation, size):
    """From JPEG bytes to the centre crop, shrinking and enlarging, from odd sizes too."""
    encoded = REAL_PHOTOGRAPHS[photograph]
    with Image.open(io.BytesIO(encoded)) as opened:
        theirs = opened.convert("RGB")
    scale = size / min(theirs.size)
    theirs = theirs.resize([max(size, int(side * scale + 0.5)) for side in theirs.size], Image.Resampling[interpolation.upper()])
    left, top = ((side - size + 1) // 2 for side in theirs.size)
    ours = pipeline.test_view(decode_rgb(tf.constant(encoded)), size, interpolation)
    assert_like_pil(ours, theirs.crop((left, top, left + size, top + size)))


def test_auto_is_lanczos_when_shrinking_and_bicubic_when_enlarging():
    image = tf.constant(PHOTOGRAPHS[0][:101, :90])
    for size, method in ((64, "lanczos"), (200, "bicubic")):
        chosen = pipeline.resize_shorter_side(image, size, "auto")
        np.testing.assert_array_equal(chosen, pipeline.resize_shorter_side(image, size, method))
        others = {"lanczos", "bicubic", "bilinear"} - {method}
        assert all(not np.array_equal(chosen, pipeline.resize_shorter_side(image, size, other)) for other in others)
    with pytest.raises(ValueError, match="interpolation"):
        pipeline.resize_shorter_side(image, 64, "nearest")


def test_image_of_the_right_size_is_not_resampled():
    image = PHOTOGRAPHS[0][:50, :60]
    np.testing.assert_array_equal(pipeline.resize_shorter_side(tf.constant(image), 50), image)


def test_padded_crop_is_a_window_of_the_mirrored_image():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    windows = {padded[i : i + 32, j : j + 32].tobytes(): (i, j) for i in range(9) for j in range(9)}
    drawn = [windows[np.asarray(pipeline.padded_crop(image, 32, [0, k])).astype(np.uint8).tobytes()] for k in range(400)]
    assert {i for i, _ in drawn} == {j for _, j in drawn} == set(range(9))
    assert abs(np.mean(drawn) - 4) < 0.3


def test_random_sized_crop_covers_the_releases_range():
    """On an image that holds its own coordinates, a crop's corners tell its area and aspect."""
    height, width = 300, 400
    coordinates = np.stack([*np.mgrid[:height, :width], np.zeros((height, width))], axis=-1)
    image = tf.constant(coordinates * [255 / height, 255 / width, 0], tf.float32)
    areas, aspects = [], []
    for draw in range(300):
        crop = np.asarray(pipeline.random_sized_crop(image, 32, tf.constant([1, draw], tf.int64)))
        spans = [(crop[..., axis].max() - crop[..., axis].min()) * side / 255 * 32 / 31 for axis, side in enumerate((height, width))]
        areas.append(spans[0] * spans[1] / (height * width))
        aspects.append(spans[1] / spans[0])
    assert 0.07 < min(areas) < 0.15 and 0.85 < max(areas) < 1.03
    assert 0.7 < min(aspects) < 0.8 and 1.27 < max(aspects) < 1.42


def test_long_strip_falls_back_to_the_centre():
    image = PHOTOGRAPHS[0][:20, :600]  # no crop of the allowed aspects with 8 % of the area fits
    expected = pipeline.center_crop(pipeline.resize_shorter_side(tf.constant(image), 16), 16)
    for draw in range(20):
        np.testing.assert_array_equal(pipeline.random_sized_crop(tf.constant(image), 16, tf.constant([0, draw], tf.int64)), expected)


def test_flip_mirrors_half():
    image = PHOTOGRAPHS[0][:8, :8].astype(np.float32)
    flipped = [np.array_equal(pipeline.random_flip(tf.constant(image), [0, k]), image[:, ::-1]) for k in range(400)]
    kept = [np.array_equal(pipeline.random_flip(tf.constant(image), [0, k]), image) for k in range(400)]
    assert sum(flipped) + sum(kept) == 400 and 160 < sum(flipped) < 240


def test_unknown_crop():
    with pytest.raises(ValueError, match="center"):
        pipeline.train_batches(load_data("fake:20").train, crop_size=16, batch_size=8, crop="corner", flip=False, seed=0)
