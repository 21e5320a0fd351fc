"""One network of the study's grid."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Cell:
    """One network of the grid over its seeds.

    Args:
        row: the width by which its row is called.
        width: its own.
        units, layers: residual units, weighted layers.
        multiply_adds, parameters: of the network.
        errors: share of wrong test images, one for each seed.
        depths: measured effective depths, one for each seed.
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
