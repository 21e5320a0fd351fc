"""The picture of a study."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Sequence

import matplotlib
import matplotlib.figure
import numpy as np

from keras_widerresnet.colors import LINES, MARKERS
from keras_widerresnet.reporting import STYLE, WIDTH, plain_log_ticks, save_vector_figure
from research.cells import Cell

APART = 0.15  # between the widths' points of one depth, as a share of a doubling


@matplotlib.rc_context(STYLE)
def study(cells: Sequence[Cell], path: pathlib.Path) -> None:
    """Error against depth, error against cost, and the measured effective depth; whiskers are lowest and highest seed.

    Points of one depth stand side by side, so that none hides another.
    """
    figure = matplotlib.figure.Figure(figsize=(WIDTH, 3.8), layout="constrained")
    by_depth, by_cost, effective = figure.subplots(1, 3)
    by_cost.sharey(by_depth)
    widths = sorted({cell.row for cell in cells})
    for index, (row, color, marker) in enumerate(zip(widths, itertools.cycle(LINES), itertools.cycle(MARKERS), strict=False)):
        line = [cell for cell in cells if cell.row == row]
        aside = 2.0 ** (APART * (index - (len(widths) - 1) / 2))
        units = [aside * cell.units for cell in line]
        errors = 100 * np.array([cell.errors for cell in line])
        depths = np.array([cell.depths for cell in line])
        look = {"fmt": f"{marker}-", "color": color, "capsize": 3, "markersize": 5, "linewidth": 1.2, "label": f"width {row:g}"}
        by_depth.errorbar(units, errors.mean(axis=1), _whiskers(errors), **look)
        by_cost.errorbar([cell.multiply_adds / 1e6 for cell in line], errors.mean(axis=1), _whiskers(errors), **look)
        for cell, error in zip(line, errors.mean(axis=1), strict=True):
            by_cost.annotate(f"{cell.units}", (cell.multiply_adds / 1e6, error), xytext=(5, 5), textcoords="offset points", fontsize=8)
        effective.errorbar(units, depths.mean(axis=1), _whiskers(depths), **look)
    all_units = sorted({cell.units for cell in cells})
    effective.plot(all_units, all_units, color="0.5", linestyle=":", label="all units")
    by_depth.set(xlabel="residual units", ylabel="test error, %", title="Error against depth")
    by_cost.set(xlabel="million multiply-adds\n(labels: residual units)", xscale="log", title="Error against cost")
    by_cost.margins(x=0.12)
    plain_log_ticks(by_cost.xaxis)
    effective.set(xlabel="residual units", title="Effective depth, in units")
    for axes in (by_depth, effective):
        axes.set_xscale("log", base=2)
        axes.set_xticks(all_units, map(str, all_units))
    for axes in (by_depth, by_cost, effective):
        axes.grid(alpha=0.3)
    figure.legend(*effective.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    save_vector_figure(figure, path)


def _whiskers(values: np.ndarray) -> np.ndarray:
    middle = values.mean(axis=1)
    return np.stack([middle - values.min(axis=1), values.max(axis=1) - middle])
