"""One network of a study's grid."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Cell:
    """One network of the grid, trained with several seeds.

    Args:
        row: the width that names its row of the grid.
        width: its own width.
        units, layers: number of residual units and of weighted layers.
        multiply_adds, parameters: cost of the network.
        errors: share of misclassified test images, one per seed.
        depths: measured effective depths, one per seed.
    """

    row: float
    width: float
    units: int
    layers: int
    multiply_adds: int
    parameters: int
    errors: tuple[float, ...]
    depths: tuple[int, ...]

    @property
    def error(self) -> float:
        return float(np.mean(self.errors))

    @property
    def depth(self) -> float:
        return float(np.mean(self.depths))
