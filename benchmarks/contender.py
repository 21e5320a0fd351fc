"""One way to run a network, as a record."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from benchmarks.workload import Workload
from keras_widerresnet.cli import process

# Environment variables of commands that train, the part of them that concerns any library, and those of commands that only run inference.
TRAINING = process.training_environment()
HUGE_PAGES = {process.TUNABLES: process.HUGE_PAGES}
# glibc then gives freed memory back to the system beyond these sizes only.
KEPT_MEMORY = {process.TUNABLES: f"{process.HUGE_PAGES}:glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184"}
FROZEN_WEIGHTS = {process.FROZEN_WEIGHTS: "1"}


@dataclasses.dataclass(frozen=True)
class Contender:
    """One row of a benchmark's table.

    Args:
        name: its name in the table.
        start: called in a separate process; returns the call to time, whose result is compared with that of the other contenders.
        backend: Keras backend of that process.
        forms: the file formats of the network that it reads, see `workload.FORMS`.
        packages: optional packages that it needs.
        environment: environment variables of its process.
        is_ours: whether it runs this package.
        precision: precision of its products, a key of `floor.Rates.multiply_adds`.
        multiply_adds: multiply-adds per image, if its network is not the workload's; its results are then not compared.
    """

    name: str
    start: Callable[[Workload], Callable[[], np.ndarray]]
    backend: str
    forms: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    is_ours: bool = False
    precision: str = "float32"
    multiply_adds: Callable[[Workload], int] | None = None

    def missing_packages(self) -> list[str]:
        return missing((self.backend, *self.packages))


def missing(packages: Iterable[str]) -> list[str]:
    """Returns the packages that are not installed."""
    return [name for name in packages if importlib.util.find_spec(name) is None]
