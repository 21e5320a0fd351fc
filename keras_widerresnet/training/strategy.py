"""TensorFlow's distribution strategies, by name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable

import keras
import tensorflow as tf

from keras_widerresnet.errors import InputError
from keras_widerresnet.training.config import STRATEGIES


def make_strategy(name: str = "mirrored", logical_devices: int = 0) -> tf.distribute.Strategy:
    """Creates a distribution strategy by name.

    Args:
        name: `"mirrored"` (all GPUs of this machine, or its CPU), `"one_device"`, `"multi_worker"` (all GPUs of the machines in
            `TF_CONFIG`) or `"tpu"` (the TPU given by `TPU_NAME` or the machine itself).
        logical_devices: if not 0, number of logical CPU devices to create and replicate over instead.

    Raises:
        InputError: for an unknown name, a missing or invalid `TF_CONFIG`, no TPU, or if TensorFlow was already initialised with a
            different number of devices.
    """
    if name not in STRATEGIES:
        raise InputError(f"--strategy must be one of {STRATEGIES}. Received: {name!r}")
    if logical_devices:
        _split_cpu(logical_devices)
    devices = [f"/cpu:{index}" for index in range(logical_devices)] or [gpu.name for gpu in tf.config.list_physical_devices("GPU")]
    if name == "one_device":
        return tf.distribute.OneDeviceStrategy("/gpu:0" if devices and not logical_devices else "/cpu:0")
    if name == "multi_worker":
        _check_cluster()
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "tpu":
        return _tpu()
    if logical_devices:
        # Without NCCL, which would warn on CPU devices.
        return tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.ReductionToOneDevice())
    return tf.distribute.MirroredStrategy([f"/gpu:{index}" for index in range(len(devices))] or ["/cpu:0"])


def distributed(
    strategy: tf.distribute.Strategy, make_batches: Callable[[tf.distribute.InputContext], tf.data.Dataset]
) -> Iterable[tf.Tensor | tf.distribute.DistributedValues]:
    """Returns the batches of every replica; a CPU that is the only replica takes them as they are, without copies and threads for it."""
    is_one_cpu = strategy.num_replicas_in_sync == 1 and "CPU" in strategy.extended.worker_devices[0].upper()
    return make_batches(tf.distribute.InputContext()) if is_one_cpu else strategy.distribute_datasets_from_function(make_batches)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run directory: a single process, or the first of several workers."""
    resolver = strategy.cluster_resolver
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or resolver is None:
        return True
    has_chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_type == "chief" if has_chief else resolver.task_id == 0


def synchronize_batch_norm(model: keras.Model) -> None:
    """Makes every batch norm of `model` use the statistics of the whole batch instead of one replica's share."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def _split_cpu(devices: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
    except RuntimeError:
        if len(tf.config.list_logical_devices("CPU")) < devices:
            raise InputError(f"{devices} logical devices must be requested before TensorFlow is first used") from None


def _check_cluster() -> None:
    example = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
    try:
        config = json.loads(os.environ["TF_CONFIG"])
        addresses = config["cluster"][config["task"]["type"]]
        addresses[config["task"]["index"]]
    except (KeyError, ValueError, TypeError, IndexError):
        received = os.environ.get("TF_CONFIG", "no TF_CONFIG")
        raise InputError(f"--strategy=multi_worker needs TF_CONFIG on every machine, e.g. {example}. Received: {received}") from None


def _tpu() -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
    except Exception as error:  # TensorFlow raises many types
        raise InputError(f"--strategy=tpu found no TPU; set TPU_NAME. TensorFlow reports: {' '.join(str(error).split())[:300]}") from None
    return tf.distribute.TPUStrategy(resolver)
