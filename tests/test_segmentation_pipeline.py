import dataclasses
import functools

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from photographs import PHOTOGRAPHS
from PIL import Image

from keras_widerresnet.data import augment
from keras_widerresnet.data.pairs import SegmentationSplit
from keras_widerresnet.data.split import Share
from keras_widerresnet.label_maps import IGNORED, numbered
from keras_widerresnet.preprocessing import MEAN, STD, preprocess_input
from keras_widerresnet.tasks.segmentation import batches as pipeline
from keras_widerresnet.tasks.segmentation.config import Augmentation
from keras_widerresnet.tasks.segmentation.data import load_segmentation_data

AS_IT_IS = {"scale_low": 1.0, "scale_high": 1.0, "flip": False}


def split_of(examples, classes=254):
    """A split over lists of arrays that may differ in size."""
    images, masks = (tf.ragged.stack([tf.RaggedTensor.from_tensor(part) for part in parts]) for parts in zip(*examples, strict=True))

    def read(index):
        return tf.ensure_shape(images[index].to_tensor(), (None, None, 3)), masks[index].to_tensor()

    return SegmentationSplit([str(k) for k in range(len(examples))], read, numbered("", ("",) * classes))


def draws_of(seed, position):
    pair = tf.constant([seed, position], tf.int64)
    return [augment.uniform(shape, pair, step).numpy() for shape, step in (([], "scale"), ([2], "crop"), ([], "flip"))]


def nearest(mask, height, width):
    """By trying all pixels: at each pixel of the resized mask that whose centre is nearest, the later one of two."""

    def source(side, resized):
        distances = np.abs((2 * np.arange(resized)[:, None] + 1) * side - (2 * np.arange(side) + 1) * resized)
        return side - 1 - np.argmin(distances[:, ::-1], axis=1)

    return mask[source(mask.shape[0], height)][:, source(mask.shape[1], width)]


def by_pil(image, mask, augmentation, size, stride, draws):
    """By PIL: the whole image and mask resized, put on a canvas, mirrored, then cut."""
    scale, window, flip = draws
    low, high = augmentation.scale_low, augmentation.scale_high
    longer = int(np.floor(np.float32(augmentation.origin_size) * (low + scale * np.float32(high - low)) + 0.5))
    height, width = (max(1, int(np.floor(side * longer / max(mask.shape) + 0.5))) for side in mask.shape)
    resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR), np.float32)
    labels = nearest(mask, height, width)
    top, left = (
        int(min(room, 0) + np.floor(draw * np.float32(abs(room) + 1)))
        for draw, room in zip(window, (height - size, width - size), strict=True)
    )
    margin = size + max(height, width)
    canvas = np.pad((resized / 255 - MEAN) / STD, [(margin, margin), (margin, margin), (0, 0)])
    canvas_labels = np.pad(labels, margin, constant_values=IGNORED)
    cut = (slice(margin + top, margin + top + size), slice(margin + left, margin + left + size))
    canvas, canvas_labels = canvas[cut], canvas_labels[cut]
    if augmentation.flip and flip >= 0.5:
        canvas, canvas_labels = canvas[:, ::-1], canvas_labels[:, ::-1]
    return canvas, canvas_labels[stride // 2 :: stride, stride // 2 :: stride], (top, left, height, width)


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize(("origin_size", "size"), [(128, 64), (90, 96), (64, 112), (300, 48), (17, 32)])
@pytest.mark.parametrize("shape", [(101, 150), (150, 97)])
def test_rescaled_cropped_and_mirrored_as_pil_does(shape, origin_size, size, stride):
    """Image within 1/255 in the mean, labels exactly, outside exactly the mean colour and 255; crops smaller and larger than the image."""
    image = PHOTOGRAPHS[1][40 : 40 + shape[0], 60 : 60 + shape[1]]
    mask = np.random.default_rng(0).integers(0, 254, shape, np.uint8)
    augmentation = Augmentation(origin_size=origin_size)
    example = tf.function(pipeline.training_example(split_of([(image, mask)]), augmentation, size, stride))
    for position in range(8):
        draws = draws_of(5, position)
        theirs, their_labels, (top, left, height, width) = by_pil(image, mask, augmentation, size, stride, draws)
        ours, labels = example(tf.constant(image), tf.constant(mask), tf.constant([5, position], tf.int64))
        assert ours.dtype == tf.float32 and ours.shape == (size, size, 3) and labels.dtype == tf.int32
        np.testing.assert_array_equal(labels, their_labels)
        difference = np.abs(np.asarray(ours) - theirs) * np.asarray(STD) * 255
        assert difference.mean() < 1 and difference.max() < 3
        rows, columns = (np.arange(size) + offset for offset in (top, left))
        outside = ~(((rows >= 0) & (rows < height))[:, None] & (columns >= 0) & (columns < width))
        outside = outside[:, ::-1] if draws[2] >= 0.5 else outside
        assert np.all(np.asarray(ours)[outside] == 0)


@pytest.mark.parametrize("stride", [8, 16])
def test_labels_follow_the_pixels(stride):
    """A mask that is a function of its image's colours stays so in every window, mirrored or not."""
    ids = np.random.default_rng(1).integers(0, 6, (12, 16)).repeat(16, axis=0).repeat(16, axis=1).astype(np.uint8)
    colors = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 255, 255)], np.uint8)
    example = tf.function(pipeline.training_example(split_of([(colors[ids], ids)]), Augmentation(origin_size=256), 160, stride))
    checked = mirrored = 0
    for position in range(30):
        image, labels = example(tf.constant(colors[ids]), tf.constant(ids), tf.constant([0, position], tf.int64))
        pixels = (np.asarray(image) * STD + MEAN) * 255
        centres, labels = pixels[stride // 2 :: stride, stride // 2 :: stride], np.asarray(labels)
        pure = np.all((centres < 1) | (centres > 254), axis=-1) & (labels != IGNORED)  # not blended at a border
        np.testing.assert_allclose(centres[pure], colors[labels[pure]], atol=1)
        checked += pure.sum()
        mirrored += draws_of(0, position)[2] >= 0.5
    assert checked > 0.6 * 30 * (160 // stride) ** 2 and 8 < mirrored < 22


def test_windows_at_full_size_are_cut_unchanged():
    """With factor 1 and no mirroring the window is the photograph's pixels, and the labels those at the cells' centres."""
    image, mask = PHOTOGRAPHS[0][:70, :90], np.random.default_rng(0).integers(0, 9, (70, 90), np.uint8)
    example = pipeline.training_example(split_of([(image, mask)]), Augmentation(origin_size=90, **AS_IT_IS), 48, 8)
    for position in range(5):
        window, labels = example(tf.constant(image), tf.constant(mask), tf.constant([1, position], tf.int64))
        top, left = (int(draw * (room + 1)) for draw, room in zip(draws_of(1, position)[1], (22, 42), strict=True))
        np.testing.assert_allclose(window, preprocess_input(image[top : top + 48, left : left + 48]), atol=1e-5)
        np.testing.assert_array_equal(labels, mask[top + 4 : top + 48 : 8, left + 4 : left + 48 : 8])


def test_draws_are_spread_evenly():
    """Factors over 0.7 to 1.3 (Kolmogorov-Smirnov), offsets over all windows that fit, or that hold a smaller image (chi-squared)."""
    augmentation = Augmentation(origin_size=10_000)

    @tf.function
    def drawn(position):
        seed = tf.stack([tf.constant(9, tf.int64), position])
        rescaled = pipeline.rescaled_size(tf.constant([500, 1000]), augmentation, augment.uniform([], seed, "scale"))
        window = augment.uniform([2], seed, "crop")
        offsets = [pipeline.window_offset(tf.constant(size), 32, window) for size in ([41, 32], [25, 30])]
        return rescaled, *offsets, augment.uniform([], seed, "flip")

    rescaled, larger, smaller, flips = (
        np.array(part) for part in zip(*(drawn(tf.constant(k, tf.int64)) for k in range(2000)), strict=True)
    )
    assert np.all(np.abs(rescaled[:, 0] - rescaled[:, 1] / 2) <= 0.5)
    assert scipy.stats.kstest(rescaled[:, 1] / 10_000, scipy.stats.uniform(0.7, 0.6).cdf).pvalue > 0.01
    assert set(larger[:, 1]) == {0}
    for offsets, possible in ((larger[:, 0], range(10)), (smaller[:, 0], range(-7, 1)), (smaller[:, 1], range(-2, 1))):
        counts = [np.sum(offsets == offset) for offset in possible]
        assert sum(counts) == 2000 and scipy.stats.chisquare(counts).pvalue > 0.01
    # The draws do not go together.
    factors = rescaled[:, 1]
    assert all(abs(np.corrcoef(factors, other)[0, 1]) < 0.08 for other in (larger[:, 0], smaller[:, 1], flips))


def test_colours_change_inside_the_image_alone():
    image, mask = PHOTOGRAPHS[0][:60, :80], np.zeros((60, 80), np.uint8)
    seed = tf.constant([0, 1], tf.int64)
    windows = []
    for jitter in (0.0, 0.4):
        example = pipeline.training_example(split_of([(image, mask)]), Augmentation(origin_size=80, **AS_IT_IS, color_jitter=jitter), 88, 8)
        window, labels = example(tf.constant(image), tf.constant(mask), seed)
        outside = np.all(np.asarray(windows[0] if windows else window) == 0, axis=-1)
        assert outside.sum() == 88 * 88 - 60 * 80 and np.all(np.asarray(window)[outside] == 0)
        assert np.sum(np.asarray(labels) == 0) > 50
        windows.append(np.asarray(window))
    plain, changed = ((window[~outside] * STD + MEAN) * 255 for window in windows)
    filled = np.full((88 * 88, 3), 255 * np.asarray(MEAN))
    filled[: 60 * 80] = plain
    expected = augment.random_color(tf.constant(filled[None], tf.float32), 0.4, 0.0, augment.uniform([7], seed, "color"))[0, : 60 * 80]
    assert np.abs(plain - changed).mean() > 2
    np.testing.assert_allclose(changed, expected, atol=0.05)


@functools.cache
def shapes():
    return load_segmentation_data("shapes")


OPTIONS = {"crop_size": 50, "stride": 8, "augmentation": Augmentation(origin_size=96), "seed": 3}


def test_batches_from_any_step_are_those_of_the_whole_run():
    split = dataclasses.replace(shapes().train, names=shapes().train.names[:20])
    options = OPTIONS | {"augmentation": Augmentation(origin_size=96, color_jitter=0.4)}
    batches = functools.partial(pipeline.train_batches, split, batch_size=8, **options)
    whole = list(batches().take(5))
    for start in (1, 4):  # 4: in the second pass over the 20 images
        images, labels = next(iter(batches(start_step=start)))
        np.testing.assert_array_equal(images, whole[start][0])
        np.testing.assert_array_equal(labels, whole[start][1])
    assert whole[0][0].shape == (8, 56, 56, 3) and whole[0][1].shape == (8, 7, 7)
    assert not np.array_equal(whole[0][0], next(iter(pipeline.train_batches(split, batch_size=8, **(options | {"seed": 4}))))[0])


def test_workers_and_their_devices_share_the_batches_of_one_process():
    batches = functools.partial(pipeline.train_batches, shapes().train, batch_size=12, start_step=2, **OPTIONS)
    whole = list(batches().take(3))
    shares = [list(batches(share=Share(index, 2), parts=3).take(9)) for index in range(2)]
    for step, (images, labels) in enumerate(whole):
        parts = [part for worker in shares for part in worker[3 * step : 3 * step + 3]]
        assert [len(part_labels) for _, part_labels in parts] == [2] * 6
        np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), images)
        np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), labels)


def test_data_service_gives_every_image_of_a_pass():
    dispatcher = tf.data.experimental.service.DispatchServer()
    address = dispatcher.target.split("://")[1]
    worker = tf.data.experimental.service.WorkerServer(tf.data.experimental.service.WorkerConfig(dispatcher_address=address))
    options = {"crop_size": 96, "stride": 8, "batch_size": 32, "augmentation": Augmentation(origin_size=96, **AS_IT_IS), "seed": 0}
    served, local = (
        [
            np.concatenate(parts)
            for parts in zip(*pipeline.train_batches(shapes().train, data_service=address, **options).take(10), strict=True)
        ]
        for address in (dispatcher.target, "")
    )
    for theirs, ours in zip(served, local, strict=True):
        assert theirs.shape == ours.shape and {row.tobytes() for row in theirs} == {row.tobytes() for row in ours}
        assert not np.array_equal(theirs, ours)
    del worker, dispatcher


# ---- testing


SIZES = ((61, 90), (77, 50), (40, 40), (9, 64), (64, 3))


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("origin_size", [64, 75, 120])
def test_test_images_are_whole_resized_and_filled_up(origin_size, stride):
    generator = np.random.default_rng(0)
    examples = [(PHOTOGRAPHS[k % 2][k : k + h, :w], generator.integers(0, 254, (h, w), np.uint8)) for k, (h, w) in enumerate(SIZES)]
    batches = list(pipeline.test_batches(split_of(examples), origin_size=origin_size, stride=stride, batch_size=1))
    assert len(batches) == len(SIZES)
    for (image, mask), (ours, labels, weights) in zip(examples, batches, strict=True):
        height, width = (max(1, int(np.floor(side * origin_size / max(mask.shape) + 0.5))) for side in mask.shape)
        rows, columns = (-(-side // stride) * stride for side in (height, width))
        assert ours.shape == (1, rows, columns, 3) and labels.shape == (1, rows // stride, columns // stride) and weights.numpy() == [1.0]
        resized = preprocess_input(np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)))
        difference = np.abs(ours[0, :height, :width] - resized) * np.asarray(STD) * 255
        assert difference.mean() < 1 and np.quantile(difference, 0.99) <= 2
        assert np.all(ours[0, height:].numpy() == 0) and np.all(ours[0, :, width:].numpy() == 0)
        theirs = np.full((rows, columns), IGNORED)
        theirs[:height, :width] = nearest(mask, height, width)
        np.testing.assert_array_equal(labels[0], theirs[stride // 2 :: stride, stride // 2 :: stride])


def test_every_device_gets_every_image_once():
    """Of 48 images over two workers of five devices each: 50 elements, two of weight 0."""
    batches = functools.partial(pipeline.test_batches, shapes().test, origin_size=96, stride=8)
    whole = list(batches(batch_size=1))
    shares = [list(batches(batch_size=10, share=Share(index, 2), parts=5)) for index in range(2)]
    assert [len(share) for share in shares] == [pipeline.test_steps(48, 10) * 5] * 2 == [25, 25]
    assert all([float(weights[0]) for _, _, weights in share] == [1.0] * 24 + [0.0] for share in shares)
    for index, share in enumerate(shares):
        for k, (images, labels, _) in enumerate(share[:24]):
            np.testing.assert_array_equal(images, whole[2 * k + index][0])
            np.testing.assert_array_equal(labels, whole[2 * k + index][1])
        images, labels, _ = share[24]
        assert images.shape == (1, 8, 8, 3) and np.all(labels.numpy() == IGNORED)
    with pytest.raises(ValueError, match=r"one image for each of 10 devices\. Received: batch_size=12"):
        batches(batch_size=12, share=Share(0, 2), parts=5)


def test_rounded_up():
    assert [pipeline.rounded_up(*pair) for pair in ((500, 8), (504, 8), (505, 8), (1, 16))] == [504, 504, 512, 16]


def test_sizes_that_differ_stop_the_training():
    split = split_of([(PHOTOGRAPHS[0][:40, :40], np.zeros((40, 41), np.uint8))])
    with pytest.raises(tf.errors.InvalidArgumentError, match="differ in size"):
        next(iter(pipeline.train_batches(split, batch_size=1, **OPTIONS)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"origin_size": 0}, r"--origin_size must be at least 1\. Received: 0"),
        ({"scale_low": 0.0}, r"--scale_low must be above 0 and at most --scale_high\. Received: 0\.0, 1\.3"),
        ({"scale_low": 1.3, "scale_high": 0.7}, r"at most --scale_high\. Received: 1\.3, 0\.7"),
        ({"scale_high": -1.0}, r"--scale_high must not be negative\. Received: -1\.0"),
    ],
)
def test_augmentations_that_make_no_sense(wrong, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**wrong)
