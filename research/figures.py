"""The pictures of a study."""

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
from research.ranking import CONFIDENCE, half_width

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


@matplotlib.rc_context(STYLE)
def budgets(cells: Sequence[Cell], path: pathlib.Path) -> None:
    """Error with its interval, and effective depth from the lowest to the highest seed, against the budget; a line for each depth.

    Each row of the grid has a row of panels. Points of one budget stand side by side, so that none hides another.
    """
    rows, layers = sorted({cell.row for cell in cells}), sorted({cell.layers for cell in cells})
    figure = matplotlib.figure.Figure(figsize=(WIDTH, 0.6 + 3.2 * len(rows)), layout="constrained")
    for panels, row in zip(figure.subplots(len(rows), 2, squeeze=False), rows, strict=True):
        for index, (depth, color, marker) in enumerate(zip(layers, itertools.cycle(LINES), itertools.cycle(MARKERS), strict=False)):
            line = [cell for cell in cells if (cell.row, cell.layers) == (row, depth)]
            aside = 2.0 ** (APART / 2 * (index - (len(layers) - 1) / 2))
            at = [aside * cell.budget for cell in line]
            depths = np.array([cell.depths for cell in line])
            look = {"fmt": f"{marker}-", "color": color, "capsize": 3, "markersize": 5, "linewidth": 1.2}
            look["label"] = f"{depth} layers, {line[0].units} units"
            halves = np.nan_to_num([100 * half_width(cell.errors) for cell in line])
            panels[0].errorbar(at, [100 * cell.error for cell in line], halves, **look)
            panels[1].errorbar(at, depths.mean(axis=1), _whiskers(depths), **look)
        of_row = f", row of width {row:g}" if len(rows) > 1 else ""
        interval = f" (whiskers: {CONFIDENCE:.0%} interval)" if len(cells[0].errors) > 1 else ""
        panels[0].set(ylabel="test error, %", title=f"Test error{of_row}{interval}")
        panels[1].set(ylabel="units", title=f"Effective depth{of_row}" + (" (lowest – highest)" if interval else ""))
        for axes in panels:
            axes.set_xscale("log", base=2)
            ticks = sorted({cell.budget for cell in cells})
            axes.set_xticks(ticks, map(str, ticks))
            axes.set_xlabel("epochs")
            axes.minorticks_off()
            axes.margins(0.12)
            axes.grid(alpha=0.3)
        panels[1].set_ylim(bottom=0)
    handles = figure.axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=min(4, len(layers)), frameon=False)
    save_vector_figure(figure, path)


def _whiskers(values: np.ndarray) -> np.ndarray:
    middle = values.mean(axis=1)
    return np.stack([middle - values.min(axis=1), values.max(axis=1) - middle])
