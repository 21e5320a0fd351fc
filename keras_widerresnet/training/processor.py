"""Measures whether 16-bit training is slower on this CPU: without native instructions every operation is emulated."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import tensorflow as tf

logger = logging.getLogger(__name__)

SLOWER = 1.5  # ratio to the float32 time; a smaller one may be noise
_SHAPE, _REPEATS = (4, 28, 28, 64), 3


def warn_of_slow_precision(precision: str, devices: Sequence[str]) -> float:
    """Logs a warning if a convolution is slower in 16 bits than in float32 on this CPU.

    Args:
        precision: `"bfloat16"` or `"float16"`.
        devices: names of the training devices; only CPUs are measured, as other devices have native 16-bit instructions.

    Returns:
        The ratio of the 16-bit time to the float32 time; 1 if nothing was measured.
    """
    if precision not in ("bfloat16", "float16") or not any("CPU" in device.upper() for device in devices):
        return 1.0
    try:
        wide, narrow = (_seconds(dtype) for dtype in ("float32", precision))
    except tf.errors.OpError:  # a failed measurement must not end a run
        return 1.0
    if narrow > SLOWER * wide:
        logger.warning(
            "--mixed_precision=%s is %.1f times slower than none on this processor (forward and backward pass of a convolution: %.1f ms "
            "against %.1f ms, measured now): it has no fast instructions for that type; omit the flag",
            precision, narrow / wide, 1e3 * narrow, 1e3 * wide,
        )  # fmt: skip
    return narrow / wide


def training_devices() -> tuple[str, ...]:
    """Returns the device names of the current strategy; outside of a strategy's scope, TensorFlow's default device."""
    if tf.distribute.has_strategy():
        return tuple(tf.distribute.get_strategy().extended.worker_devices)
    return ("GPU:0",) if tf.config.list_physical_devices("GPU") else ("CPU:0",)


def _seconds(dtype: str) -> float:
    """Returns the shortest time of a forward and backward pass of one 3x3 convolution, in seconds."""
    with tf.device("/CPU:0"):
        images, kernel = tf.fill(_SHAPE, tf.cast(0.5, dtype)), tf.fill((3, 3, _SHAPE[-1], _SHAPE[-1]), tf.cast(0.01, dtype))

        @tf.function(autograph=False)
        def gradients():
            with tf.GradientTape() as tape:
                tape.watch((images, kernel))
                total = tf.reduce_sum(tf.nn.conv2d(images, kernel, 1, "SAME"))
            return tape.gradient(total, (images, kernel))

        def once() -> float:
            start = time.perf_counter()
            for gradient in gradients():
                gradient.numpy()
            return time.perf_counter() - start

        once()  # builds the graph
        return min(once() for _ in range(_REPEATS))
