"""Replication over the devices of one machine."""

from __future__ import annotations

import keras
import tensorflow as tf

from keras_widerresnet.errors import InputError


def make_strategy(logical_devices: int = 0) -> tf.distribute.MirroredStrategy:
    """A `MirroredStrategy` over the visible GPUs, or the CPU if there is none.

    Args:
        logical_devices: with 1 or more, split the CPU into so many devices and replicate over these instead.

    Raises:
        InputError: if TensorFlow has already started with another number of devices.
    """
    if not logical_devices:
        gpus = tf.config.list_logical_devices("GPU")
        return tf.distribute.MirroredStrategy([gpu.name for gpu in gpus] or ["/cpu:0"])
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * logical_devices)
    except RuntimeError:
        if len(tf.config.list_logical_devices("CPU")) < logical_devices:
            raise InputError(f"{logical_devices} logical devices must be asked for before TensorFlow is first used") from None
    # Without NCCL, so that CPU devices reduce without a warning.
    return tf.distribute.MirroredStrategy(
        [f"/cpu:{index}" for index in range(logical_devices)], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


def test_batch_size(images: int, batch_size: int, replicas: int) -> int:
    """The largest batch size up to `batch_size` whose last, partial batch still holds an image for every replica.

    TensorFlow hands the images of a partial batch to the first replicas, and kernels fail on the empty share of the others; Keras adds up
    the shares of the first batch, which must be equal.

    Raises:
        InputError: if there is none, for fewer test images than about the square of the replicas.
    """
    largest = min(batch_size, images)
    for size in range(largest - largest % replicas, 0, -replicas):
        last = images % size or size
        if last > size * (replicas - 1) // replicas:
            return size
    raise InputError(f"{images} test images cannot be shared out among {replicas} replicas: use more images or fewer replicas")


def synchronize_batch_norm(model: keras.Model) -> None:
    """Makes every batch norm of `model` use the statistics of the whole batch rather than of one replica's share."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
