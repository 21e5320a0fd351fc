"""Scaling of the cost of the networks with batch size, image size and width."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from benchmarks import inference, training
from benchmarks.floor import TRAINING_PASSES
from benchmarks.passes import measure
from benchmarks.workload import Workload, prepare

# The common point of all curves: 8 images of 224 pixels at a quarter of the width.
BASE = {"batch_size": 8, "size": 224, "width": 0.25}
AXES = {"batch_size": (1, 2, 4, 8, 16, 32), "size": (64, 96, 128, 224, 320, 448), "width": (0.125, 0.25, 0.5, 0.75, 1.0)}
# Contender, and its multiply-adds relative to a forward pass.
TASKS = {"inference": (inference.CONTENDERS[0], 1), "training step": (training.OURS, TRAINING_PASSES)}


@dataclasses.dataclass(frozen=True)
class Growth:
    """One curve of the figure.

    Args:
        task: key of `TASKS`.
        axis: key of `AXES`, the setting that varies; the others are as in `BASE`.
        values, seconds: the points of the curve; median seconds per batch.
        multiply_adds: multiply-adds of the whole batch at each point.
    """

    task: str
    axis: str
    values: tuple[float, ...]
    seconds: tuple[float, ...]
    multiply_adds: tuple[int, ...]

    @property
    def exponent(self) -> float:
        """The exponent p of the least-squares fit of seconds = a · value**p on logarithmic axes."""
        return fitted_exponent(self.values, self.seconds)

    @property
    def expected_exponent(self) -> float:
        """The exponent of the multiply-adds."""
        return fitted_exponent(self.values, self.multiply_adds)


def fitted_exponent(values: Sequence[float], results: Sequence[float]) -> float:
    return float(np.polyfit(np.log(values), np.log(results), 1)[0])


def growth(structure: str, threads: int, folder: str, passes: int, repeats: int) -> list[Growth]:
    """Measures all curves; each network has its own random weights, stored in `folder`."""
    curves = []
    for axis, values in AXES.items():
        points = [_prepared(structure, threads, folder, {**BASE, axis: value}) for value in values]
        for task, (contender, times) in TASKS.items():
            counts = tuple(times * point.batch_size * point.multiply_adds for point in points)
            seconds = tuple(measured.median for measured in measure([(contender, point) for point in points], passes, repeats))
            curves.append(Growth(task, axis, tuple(map(float, values)), seconds, counts))
    return curves


def _prepared(structure: str, threads: int, folder: str, point: dict[str, float]) -> Workload:
    place = pathlib.Path(folder) / f"{point['size']}-{point['width']}"
    workload = Workload(structure, threads=threads, folder=str(place), **point)
    if not place.exists():
        prepare(workload, set())
    return workload
