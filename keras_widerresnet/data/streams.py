"""Common parts of the input pipelines of all tasks: prefetching, sharding among workers, the `tf.data` service, and no autotuning."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

_CALLS_UNTUNED = 16  # of a mapped function at a time, at most, where tf.data does not tune their number


def streamed(batches: Callable[[int | tf.Tensor], tf.data.Dataset], seed: int, data_service: str) -> tf.data.Dataset:
    """Returns `batches(seed)` with prefetching.

    If `data_service` is the address of a `tf.data` service, its workers make the batches instead, each from a seed that it draws itself.
    """
    if not data_service:
        return unsharded(batches(seed))
    # Not seeded, whatever TensorFlow's global seed: each worker of the service must draw its own order.
    seeds = tf.data.Dataset.from_tensors(0).map(
        lambda _: tf.raw_ops.RandomUniformInt(shape=tf.zeros(0, tf.int32), minval=0, maxval=1 << 30)
    )
    served = seeds.flat_map(lambda drawn: batches(tf.cast(drawn, tf.int64)))
    off = tf.data.experimental.service.ShardingPolicy.OFF
    return served.apply(tf.data.experimental.service.distribute(off, data_service)).prefetch(tf.data.AUTOTUNE)


def unsharded(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Prefetches batches and turns off TensorFlow's auto-sharding, because each worker already reads only its share."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return without_autotune(batches.with_options(options).prefetch(tf.data.AUTOTUNE))


def without_autotune(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Turns off tf.data's autotuning on up to 16 cores, where its default of as many parallel calls as there are cores is right anyway.

    Its thread waits for twice as long each time, up to a minute, and often misses that the iterator is to be deleted (TensorFlow 2.21):
    deleting one, as every validation does, then takes about as long as it had been in use.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores > _CALLS_UNTUNED:
        return dataset
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def elements(dataset: tf.data.Dataset) -> Iterator[Any]:
    """Returns an iterator over a data set's elements, as NumPy arrays."""
    return without_autotune(dataset).as_numpy_iterator()


def test_steps(images: int, batch_size: int) -> int:
    """Returns the number of steps that cover all test images; the last batch is padded."""
    return -(-images // batch_size)
