import dataclasses
import functools
import io
import os

import numpy as np
import pytest
import tensorflow as tf
from photographs import PHOTOGRAPHS, REAL_PHOTOGRAPHS
from PIL import Image

from keras_widerresnet.data.images import decode_rgb
from keras_widerresnet.data.resize import center_crop, resize_shorter_side
from keras_widerresnet.data.resize import test_view as view_in_testing
from keras_widerresnet.data.sources.arrays import fake
from keras_widerresnet.data.split import IndexedSplit, Share
from keras_widerresnet.preprocessing import preprocess_input
from keras_widerresnet.tasks.classification import batches as pipeline
from keras_widerresnet.tasks.classification.config import TRAINING_CROPS, Augmentation
from keras_widerresnet.tasks.classification.data import load_data

# The alphas are high so that no batch stays as it is.
MODERN = Augmentation(color_jitter=0, lighting=0, rand_augment=2, random_erasing=0.5, mixup=1.0, cutmix=1.0)
PLAIN = Augmentation(crop="center", color_jitter=0, lighting=0, flip=False)


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
    """XLA takes a second or two for the last steps, which are the same for all tests of one augmentation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "finish", functools.cache(pipeline.finish))
        for name in ("image_steps", "batch_step"):
            cached = functools.cache(functools.partial(getattr(pipeline, name), state=0))
            patch.setattr(pipeline, name, lambda augmentation, state, cached=cached: cached(augmentation))
        yield


@pytest.mark.parametrize("encoded", [True, False])
def test_alternating_flips(encoded):
    """Each image is mirrored in every second pass, about half of them in the first, and another half with another seed."""
    split = fake(64, images=48).train
    if encoded:
        files = tf.constant([tf.io.encode_png(split.image(index)).numpy() for index in range(split.size)])
        split = IndexedSplit(split.labels, lambda index: files[index])
    upright = {np.asarray(images[0]).tobytes() for images, _ in passes(split, PLAIN, 1)}
    alternating = dataclasses.replace(PLAIN, flip=True, alternating_flip=True)
    mirrored = np.array([np.asarray(images[0]).tobytes() not in upright for images, _ in passes(split, alternating, 4)]).reshape(4, -1)
    order = np.array([np.asarray(images[0], float).sum() for images, _ in passes(split, alternating, 4)]).reshape(4, -1).argsort(1)
    mirrored = np.take_along_axis(mirrored, order, 1)
    np.testing.assert_array_equal(mirrored[::2], mirrored[[0, 0]])
    np.testing.assert_array_equal(mirrored[1::2], ~mirrored[[0, 0]])
    assert 12 <= mirrored[0].sum() <= 36
    other = [np.asarray(images[0]).tobytes() not in upright for images, _ in passes(split, alternating, 1, seed=1)]
    assert 12 <= sum(other) <= 36


def passes(split, augmentation, number, seed=0):
    options = {"classes": 10, "crop_size": 16, "batch_size": 1, "augmentation": augmentation, "seed": seed}
    return pipeline.train_batches(split, **options).take(number * split.size)


@pytest.mark.parametrize("crop", TRAINING_CROPS)
def test_batches_from_any_step_are_those_of_the_whole_run(crop):
    options = {"classes": 10, "crop_size": 16, "batch_size": 8, "augmentation": Augmentation(crop=crop), "seed": 3}
    split = fake(20, images=36).train
    whole = list(pipeline.train_batches(split, **options).take(8))
    for start in (1, 4, 7):  # 4: from the first to the second pass over the 36 images; 7: in the second
        images, labels = next(iter(pipeline.train_batches(split, start_step=start, **options)))
        np.testing.assert_array_equal(images, whole[start][0])
        np.testing.assert_array_equal(labels, whole[start][1])
    assert whole[0][0].shape == (8, 16, 16, 3) and whole[0][0].dtype == tf.float32 and whole[0][1].shape == (8, 10)


def test_workers_and_their_devices_share_the_batches_of_one_process():
    options = {"classes": 10, "crop_size": 16, "batch_size": 12, "augmentation": Augmentation(), "seed": 3, "start_step": 2}
    split = load_data("fake:20").train
    whole = list(pipeline.train_batches(split, **options).take(3))
    shares = [list(pipeline.train_batches(split, **options, share=Share(index, 2), parts=3).take(9)) for index in range(2)]
    for step, (images, labels) in enumerate(whole):
        parts = [part for worker in shares for part in worker[3 * step : 3 * step + 3]]
        assert [len(part_labels) for _, part_labels in parts] == [2] * 6
        np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), images)
        np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), labels)


MODERN_OPTIONS = {"classes": 10, "crop_size": 16, "batch_size": 8, "augmentation": MODERN, "seed": 3}


def test_modern_batches_from_any_step_are_those_of_the_whole_run_on_any_number_of_threads():
    split = fake(20, images=36).train
    whole = list(pipeline.train_batches(split, **MODERN_OPTIONS).take(8))
    assert all(np.count_nonzero(labels, axis=1).max() == 2 for _, labels in whole)
    assert len({np.asarray(images).tobytes() for images, _ in whole}) == 8
    one_thread = tf.data.Options()
    one_thread.threading.private_threadpool_size = 1
    for start, options in ((4, tf.data.Options()), (7, one_thread)):
        resumed = pipeline.train_batches(split, start_step=start, **MODERN_OPTIONS).with_options(options)
        images, labels = next(iter(resumed))
        np.testing.assert_array_equal(images, whole[start][0])
        np.testing.assert_array_equal(labels, whole[start][1])


def test_modern_parts_of_a_resumed_worker_are_those_of_its_whole_run():
    """Each part mixes its own images, by draws of its own."""
    split = load_data("fake:20").train
    options = {**MODERN_OPTIONS, "batch_size": 16, "share": Share(1, 2), "parts": 2}
    whole = list(pipeline.train_batches(split, **options).take(6))
    resumed = list(pipeline.train_batches(split, start_step=2, **options).take(2))
    for (images, labels), (again, same) in zip(whole[4:], resumed, strict=True):
        assert images.shape == (4, 16, 16, 3)
        np.testing.assert_array_equal(images, again)
        np.testing.assert_array_equal(labels, same)


def test_workers_share_the_batches_of_one_process_where_images_are_changed_one_by_one():
    split = load_data("fake:20").train
    options = {**MODERN_OPTIONS, "augmentation": dataclasses.replace(MODERN, mixup=0.0, cutmix=0.0)}
    images, labels = next(iter(pipeline.train_batches(split, **options)))
    parts = [next(iter(pipeline.train_batches(split, **options, share=Share(index, 2)))) for index in range(2)]
    np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), images)
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), labels)


def test_keras_cv_takes_the_same_options():
    augmentation = Augmentation(augmentations="keras_cv", rand_augment=1, mixup=1.0, color_jitter=0, lighting=0)
    images, labels = next(iter(pipeline.train_batches(load_data("fake:20").train, **{**MODERN_OPTIONS, "augmentation": augmentation})))
    assert images.shape == (8, 16, 16, 3) and np.isfinite(images).all()
    np.testing.assert_allclose(np.asarray(labels).sum(axis=1), 1, rtol=1e-5)


def test_seeds_draw_other_crops():
    split = load_data("fake:20").train
    options = {"classes": 10, "crop_size": 16, "batch_size": 8, "augmentation": Augmentation(crop="padded")}
    first, second = (next(iter(pipeline.train_batches(split, seed=seed, **options)))[0] for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_label_smoothing_spreads_its_share():
    split = load_data("fake:16").train
    smooth = Augmentation(crop="center", color_jitter=0, lighting=0, flip=False, label_smoothing=0.1)
    options = {"classes": 10, "crop_size": 16, "batch_size": 8, "seed": 0}
    (images, plain), (same, smoothed) = (next(iter(pipeline.train_batches(split, augmentation=a, **options))) for a in (PLAIN, smooth))
    np.testing.assert_array_equal(images, same)
    np.testing.assert_allclose(smoothed, np.asarray(plain) * 0.9 + 0.01, rtol=1e-6)


@pytest.mark.parametrize("workers", [1, 3])
def test_test_batches_hold_every_image_once_normalised(workers):
    data = load_data("fake:16")
    options = {"classes": 10, "crop_size": 16, "batch_size": 48}
    shares = [list(pipeline.test_batches(data.test, **options, share=Share(index, workers), parts=2)) for index in range(workers)]
    assert {len(share) for share in shares} == {2 * pipeline.test_steps(data.test.size, 48)} == {6}
    batches = [batch for share in shares for batch in share]
    assert {len(labels) for _, labels, _ in batches} == {48 // workers // 2}
    read, labels, weights = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    assert weights.sum() == data.test.size and set(weights) == {0.0, 1.0}
    images = preprocess_input(np.stack([image for image, _ in data.test.ordered().as_numpy_iterator()]))
    order = np.concatenate([np.arange(data.test.size)[index::workers] for index in range(workers)])
    np.testing.assert_allclose(read[weights == 1], images[order], atol=1e-5)
    np.testing.assert_array_equal(labels[weights == 1].argmax(axis=1), data.test.labels[order])


def test_data_service_gives_the_same_kind_of_batches():
    """TensorFlow's own service, its dispatcher and worker in this process: every image of a pass, augmented, in another order."""
    dispatcher = tf.data.experimental.service.DispatchServer()
    address = dispatcher.target.split("://")[1]
    worker = tf.data.experimental.service.WorkerServer(tf.data.experimental.service.WorkerConfig(dispatcher_address=address))
    data = load_data("fake:16")
    options = {"classes": 10, "crop_size": 16, "batch_size": 32, "augmentation": PLAIN, "seed": 0}
    served, local = (pipeline.train_batches(data.train, data_service=service, **options).take(16) for service in (dispatcher.target, ""))
    served, local = (np.concatenate([images for images, _ in batches]) for batches in (served, local))
    assert served.shape == local.shape == (512, 16, 16, 3)
    assert {image.tobytes() for image in served} == {image.tobytes() for image in local}
    assert not np.array_equal(served, local)
    del worker, dispatcher


@pytest.mark.parametrize(("shape", "size", "offsets"), [((7, 4), 4, (2, 0)), ((8, 9), 4, (2, 3)), ((5, 5), 5, (0, 0))])
def test_centre_crop_rounds_its_offset_up(shape, size, offsets):
    image = np.arange(shape[0] * shape[1] * 3).reshape(*shape, 3)
    top, left = offsets
    np.testing.assert_array_equal(center_crop(tf.constant(image), size), image[top : top + size, left : left + size])


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
    ours = view_in_testing(decode_rgb(tf.constant(encoded)), size, interpolation)
    assert_like_pil(ours, theirs.crop((left, top, left + size, top + size)))


def test_auto_is_lanczos_when_shrinking_and_bicubic_when_enlarging():
    image = tf.constant(PHOTOGRAPHS[0][:101, :90])
    for size, method in ((64, "lanczos"), (200, "bicubic")):
        chosen = resize_shorter_side(image, size, "auto")
        np.testing.assert_array_equal(chosen, resize_shorter_side(image, size, method))
        others = {"lanczos", "bicubic", "bilinear"} - {method}
        assert all(not np.array_equal(chosen, resize_shorter_side(image, size, other)) for other in others)
    with pytest.raises(ValueError, match="interpolation"):
        resize_shorter_side(image, 64, "nearest")


def test_image_of_the_right_size_is_not_resampled():
    image = PHOTOGRAPHS[0][:50, :60]
    np.testing.assert_array_equal(resize_shorter_side(tf.constant(image), 50), image)


def test_long_strip_falls_back_to_the_centre():
    image = PHOTOGRAPHS[0][:20, :600]  # no crop of the allowed aspects with 8 % of the area fits
    expected = Image.fromarray(image[:, 290:310]).resize((16, 16), Image.Resampling.BICUBIC)
    for draw in range(20):
        crop = pipeline.training_crop(tf.constant(image), 16, "random_sized", tf.constant([0, draw], tf.int64))
        assert np.abs(np.asarray(crop) - np.asarray(expected, np.float32)).max() <= 2


def test_erasing_is_keras_alone():
    with pytest.raises(ValueError, match=r"--random_erasing needs --augmentations=keras\. Received: 'keras_cv'"):
        Augmentation(augmentations="keras_cv", random_erasing=0.1)


def test_unknown_crop():
    with pytest.raises(ValueError, match=r"--crop must be one of center, padded, random_sized\. Received: 'corner'"):
        Augmentation(crop="corner")


@pytest.mark.parametrize("cores", [16, 17])
def test_autotuning_is_off_where_it_has_nothing_to_tune(monkeypatch, cores):
    """Up to 16 cores tf.data's default is a parallel call for each."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    split = fake(64, images=8).train
    for batches in (passes(split, PLAIN, 1), pipeline.test_batches(split, classes=10, crop_size=16, batch_size=4)):
        assert (batches.options().autotune.enabled is False) == (cores == 16)
