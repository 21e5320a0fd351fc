"""One network of a study's grid at one budget, and the choice of its learning rate."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from keras_widerresnet.errors import InputError


@dataclasses.dataclass(frozen=True)
class Cell:
    """One network of the grid, trained for one budget with several seeds.

    Args:
        row: the width that names its row of the grid.
        width: its own width.
        units, layers: number of residual units and of weighted layers.
        multiply_adds, parameters: cost of the network.
        errors: share of misclassified test images, one per seed.
        depths: measured effective depths, one per seed.
        budget: epochs of each run.
        rate: learning rate.
    """

    row: float
    width: float
    units: int
    layers: int
    multiply_adds: int
    parameters: int
    errors: tuple[float, ...]
    depths: tuple[int, ...]
    budget: int
    rate: float

    @property
    def error(self) -> float:
        return float(np.mean(self.errors))

    @property
    def depth(self) -> float:
        return float(np.mean(self.depths))


@dataclasses.dataclass(frozen=True)
class Tuning:
    """The learning rates that were tried for one network.

    Args:
        row, width, layers: as of `Cell`.
        rates: in increasing order.
        errors: share of misclassified held-out training images with each; infinite where the loss diverged.

    Raises:
        InputError: if the loss diverged with each of them.
    """

    row: float
    width: float
    layers: int
    rates: tuple[float, ...]
    errors: tuple[float, ...]

    def __post_init__(self):
        if not any(map(math.isfinite, self.errors)):
            raise InputError(
                f"The loss of the network of {self.layers} layers diverged with each of --learning_rates="
                f"{','.join(map(str, self.rates))}: start another study with lower ones"
            )

    @property
    def chosen(self) -> float:
        """The rate with the lowest error, the lowest of several."""
        return self.rates[int(np.argmin(self.errors))]

    @property
    def is_at_edge(self) -> bool:
        """Whether a rate beyond the grid might have been better."""
        return self.chosen in (self.rates[0], self.rates[-1])
