"""What the input pipelines of all tasks do with their batches: made ahead, shared out among workers, made by a `tf.data` service."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def streamed(batches: Callable[[int | tf.Tensor], tf.data.Dataset], seed: int, data_service: str) -> tf.data.Dataset:
    """`batches(seed)`, made ahead; or, by a `tf.data` service at the address `data_service`, those of a seed that each worker draws."""
    if not data_service:
        return unsharded(batches(seed))
    # Unseeded whatever TensorFlow's global seed: each of the service's workers must draw an order of its own.
    seeds = tf.data.Dataset.from_tensors(0).map(
        lambda _: tf.raw_ops.RandomUniformInt(shape=tf.zeros(0, tf.int32), minval=0, maxval=1 << 30)
    )
    served = seeds.flat_map(lambda drawn: batches(tf.cast(drawn, tf.int64)))
    off = tf.data.experimental.service.ShardingPolicy.OFF
    return served.apply(tf.data.experimental.service.distribute(off, data_service)).prefetch(tf.data.AUTOTUNE)


def unsharded(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Made ahead, and not shared out by TensorFlow, as every worker reads its share already."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.with_options(options).prefetch(tf.data.AUTOTUNE)


def test_steps(images: int, batch_size: int) -> int:
    """Steps in which all test images are seen, the last batch being filled up."""
    return -(-images // batch_size)
