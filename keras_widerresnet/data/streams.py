"""Common parts of the input pipelines of all tasks: prefetching, sharding among workers, and the `tf.data` service."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


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
    return batches.with_options(options).prefetch(tf.data.AUTOTUNE)


def test_steps(images: int, batch_size: int) -> int:
    """Returns the number of steps that cover all test images; the last batch is padded."""
    return -(-images // batch_size)
