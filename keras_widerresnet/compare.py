"""Comparison of arrays."""

from __future__ import annotations

import numpy as np


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest absolute difference, relative to the largest absolute expected value."""
    return float(np.abs(np.asarray(found, np.float64) - expected).max() / np.abs(expected).max())
