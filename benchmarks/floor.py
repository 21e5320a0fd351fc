"""Lower bounds of run time on this machine, from its measured rates of multiply-adds and copying."""

from __future__ import annotations

import concurrent.futures
import dataclasses
from collections.abc import Callable, Mapping

import keras
import numpy as np

from benchmarks.measure import median_seconds
from benchmarks.workload import Workload

MATRIX_SIDE = 4096
COPIED_BYTES = 2**28
REPEATS = 5
FLOAT_BYTES = 4
PRECISIONS = ("float32", "bfloat16")
TRAINING_PASSES = 3  # forward pass; gradients of activations; gradients of weights


@dataclasses.dataclass(frozen=True)
class Rates:
    """Measured rates of one machine.

    Args:
        multiply_adds: multiply-adds per second in a product of two large matrices, by dtype: `"float32"`, `"bfloat16"`.
        bytes: bytes read and written per second when copying.
    """

    multiply_adds: Mapping[str, float]
    bytes: float


def machine_rates(threads: int) -> Rates:
    """Measures the rates of the CPU threads, or of the accelerator that the Keras backend uses.

    Products use the faster of the backend and, on a CPU, NumPy. Copying uses NumPy on all threads, or the accelerator itself.
    """
    has_gpu = _has_gpu()
    generator = np.random.default_rng(0)
    arrays = [generator.normal(size=(MATRIX_SIDE, MATRIX_SIDE)).astype(np.float32) for _ in range(2)]
    seconds = {precision: _seconds(_product([keras.ops.cast(array, precision) for array in arrays])) for precision in PRECISIONS}
    if not has_gpu:
        seconds["float32"] = min(seconds["float32"], _seconds(lambda: arrays[0] @ arrays[1]))
    copying = _accelerator_copying() if has_gpu else _cpu_copying(threads)
    return Rates({precision: MATRIX_SIDE**3 / value for precision, value in seconds.items()}, 2 * COPIED_BYTES / copying)


def _has_gpu() -> bool:
    if keras.backend.backend() == "torch":  # for which Keras lists no devices
        import torch

        return torch.cuda.is_available()
    return bool(keras.distribution.list_devices("gpu"))


def _product(tensors: list) -> Callable[[], object]:
    return lambda: _wait_for(keras.ops.matmul(*tensors))


def _cpu_copying(threads: int) -> float:
    share = (COPIED_BYTES // FLOAT_BYTES // threads,)
    pairs = [(np.zeros(share, np.float32), np.ones(share, np.float32)) for _ in range(threads)]
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return _seconds(lambda: list(pool.map(lambda pair: np.copyto(*pair), pairs)))


def _accelerator_copying() -> float:
    values = keras.ops.ones((1, COPIED_BYTES // FLOAT_BYTES))
    return _seconds(lambda: _wait_for(keras.ops.negative(values)))


def _wait_for(matrix) -> None:
    keras.ops.convert_to_numpy(matrix[:1, :1])


def floor_seconds(workload: Workload, rates: Rates, training: bool = False, precision: str = "float32") -> float:
    """Returns the lower bound of a batch's time: the longer of its multiply-adds and its memory traffic at the machine's rates.

    Memory traffic counts every weight once, and every convolution's input and output once; three times that in training, plus reading and
    writing weights, gradients and momenta; four bytes per value in either precision.
    """
    passes = TRAINING_PASSES if training else 1
    multiply_adds = passes * workload.batch_size * workload.multiply_adds
    weights = workload.parameters
    maps = sum(one.in_channels * one.in_cells**2 + one.filters * one.out_cells**2 for one in workload.convolutions)
    values = passes * (weights + workload.batch_size * maps) + (2 * weights if training else 0)
    return max(multiply_adds / rates.multiply_adds[precision], FLOAT_BYTES * values / rates.bytes)


def _seconds(call: Callable[[], object]) -> float:
    return median_seconds(call, REPEATS)
