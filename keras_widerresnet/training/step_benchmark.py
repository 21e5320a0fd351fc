"""Time and memory of a training step."""

from __future__ import annotations

import resource
import time

import numpy as np
import tensorflow as tf

from keras_widerresnet.structures import find_structure
from keras_widerresnet.training.config import TrainingConfig
from keras_widerresnet.training.network import make_network
from keras_widerresnet.training.remat import give_back_freed_memory
from keras_widerresnet.training.steps import Steps
from keras_widerresnet.training.strategy import make_strategy


def step_cost(config: TrainingConfig, classes: int = 1000, repeats: int = 5) -> dict[str, float]:
    """Costs of one training step on random images, on one device.

    Args:
        config: the network, `batch_size`, and how the step is run.
        classes: number of classes.
        repeats: steps after the first, which also traces.

    Returns:
        `seconds` of the median step, and `peak_gigabytes`, the most memory that this process has ever held (main memory, not a GPU's).
    """
    if config.remat:
        give_back_freed_memory()
    size = config.crop_size or find_structure(config.structure).crop_size
    strategy = make_strategy("one_device")
    with strategy.scope():
        network = make_network(config, classes, size, repeats)
    options = {"batch_size": config.batch_size, "accumulate_steps": config.accumulate_steps}
    steps = Steps(network, strategy, remat=config.remat, jit_compile=config.jit_compile, **options)
    images = tf.random.normal([config.batch_size, size, size, 3])
    labels = tf.one_hot(tf.range(config.batch_size) % classes, classes)
    iterator = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())
    float(steps.train(iterator))
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        float(steps.train(iterator))
        seconds.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": float(np.median(seconds)), "peak_gigabytes": peak / 1e9}
