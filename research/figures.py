"""The picture of a study."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import matplotlib.figure
import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

from keras_widerresnet.reporting import save_vector_figure
from research.cells import Cell


def study(cells: Sequence[Cell], path: pathlib.Path) -> None:
    """Error against depth, error against cost, and the measured effective depth beside them; whiskers are lowest and highest seed."""
    figure = matplotlib.figure.Figure(figsize=(14, 4.2), layout="constrained")
    by_depth, by_cost, effective = figure.subplots(1, 3)
    for row in sorted({cell.row for cell in cells}):
        line = [cell for cell in cells if cell.row == row]
        units, label = [cell.units for cell in line], f"width {row:g}"
        errors = 100 * np.array([cell.errors for cell in line])
        depths = np.array([cell.depths for cell in line])
        by_depth.errorbar(units, errors.mean(axis=1), _whiskers(errors), fmt="o-", capsize=3, label=label)
        by_cost.errorbar(
            [cell.multiply_adds / 1e6 for cell in line], errors.mean(axis=1), _whiskers(errors), fmt="o-", capsize=3, label=label
        )
        for cell, error in zip(line, errors.mean(axis=1), strict=True):
            by_cost.annotate(f"{cell.units}", (cell.multiply_adds / 1e6, error), xytext=(4, 4), textcoords="offset points", fontsize=8)
        effective.errorbar(units, depths.mean(axis=1), _whiskers(depths), fmt="o-", capsize=3, label=label)
    all_units = sorted({cell.units for cell in cells})
    effective.plot(all_units, all_units, color="0.6", linestyle=":", label="all units")
    by_depth.set(xlabel="residual units", ylabel="test error %")
    by_cost.set(xlabel="multiply-adds of an image, millions (labels: units)", ylabel="test error %", xscale="log")
    # Plain numbers at 1, 2 and 5 of each decade: labels of all minor ticks would run into one another.
    by_cost.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    by_cost.xaxis.set_major_formatter("{x:g}")
    by_cost.xaxis.set_minor_formatter(NullFormatter())
    effective.set(xlabel="residual units", ylabel="effective depth")
    for axes in (by_depth, effective):
        axes.set_xscale("log", base=2)
        axes.set_xticks(all_units, map(str, all_units))
    for axes in (by_depth, by_cost, effective):
        axes.grid(alpha=0.3)
        axes.legend()
    save_vector_figure(figure, path)


def _whiskers(values: np.ndarray) -> np.ndarray:
    middle = values.mean(axis=1)
    return np.stack([middle - values.min(axis=1), values.max(axis=1) - middle])
