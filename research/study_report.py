"""Reports on a study of depth and width: table, figure, and conclusions generated from the numbers."""

from __future__ import annotations

import itertools
import json
import pathlib
from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

from keras_widerresnet.files import replacing
from keras_widerresnet.reporting import markdown_table, settings_table, write_csv
from keras_widerresnet.runs import REPORT_FILE, RESULTS_FILE
from research import figures
from research.cells import Cell
from research.config import StudyConfig
from research.study import Point, classes_of, final_error, folders, points

HEADERS = ("units", "layers", "width", "multiply-adds", "parameters", "test error %", "lowest – highest", "effective depth", "% of units")


def write_report(config: StudyConfig) -> pathlib.Path:
    """Writes `table.csv`, `study.png`, `study.svg` and, last, `report.md` of a finished study; returns the path of the report."""
    root = pathlib.Path(config.output_dir)
    cells = read_cells(config)
    figures.study(cells, root / "study")
    rows = [_row(cell) for cell in cells]
    with replacing(root / "table.csv") as temporary:
        write_csv(temporary, HEADERS, rows)
    deep = [folders(config, point)[1] for point in points(config) if point.is_deep]
    link = f"The deep narrow network: [analysis]({deep[0].relative_to(root) / REPORT_FILE})." if deep else ""
    text = "\n\n".join(
        [
            f"# Depth and width on {config.data}",
            *answers(cells),
            markdown_table(rows, HEADERS),
            "![error and effective depth](study.png)",
            link,
            "## Settings",
            settings_table(config.settings()),
        ]
    )
    with replacing(root / REPORT_FILE) as temporary:
        temporary.write_text(text + "\n")
    return root / REPORT_FILE


def read_cells(config: StudyConfig) -> list[Cell]:
    """Returns the networks of the grid by row and depth, with the results of their runs and analyses."""
    groups: dict[tuple[float, int], list[Point]] = {}
    for point in points(config):
        if not point.is_deep:
            groups.setdefault((point.row, point.depth), []).append(point)
    return [_cell(config, group) for _, group in sorted(groups.items())]


def _cell(config: StudyConfig, group: list[Point]) -> Cell:
    structure, width = config.built(group[0].depth), group[0].width
    classes, errors, depths = classes_of(config.data), [], []
    for point in sorted(group, key=lambda point: point.seed):
        run, analysis = folders(config, point)
        errors.append(final_error(run))
        depths.append(json.loads((analysis / RESULTS_FILE).read_text())["effective_depth"][-1])
    return Cell(
        group[0].row,
        width,
        sum(structure.units),
        structure.depth,
        structure.multiply_adds(classes=classes, width=width),
        structure.parameters(classes=classes, width=width),
        tuple(errors),
        tuple(depths),
    )


def _row(cell: Cell) -> tuple:
    costs = f"{cell.multiply_adds / 1e6:.1f} M", f"{cell.parameters / 1e6:.3f} M"
    spread = f"{100 * min(cell.errors):.2f} – {100 * max(cell.errors):.2f}"
    share = f"{cell.depth / cell.units:.0%}"
    return cell.units, cell.layers, f"{cell.width:g}", *costs, f"{100 * cell.error:.2f}", spread, f"{cell.depth:.1f}", share


def noise(cells: Sequence[Cell]) -> float:
    """Returns the standard error of the difference of two mean errors, from the pooled variance over seeds; 0 for one seed."""
    seeds = len(cells[0].errors)
    if seeds < 2:
        return 0.0
    return float(np.sqrt(np.mean([np.var(cell.errors, ddof=1) for cell in cells]) * 2 / seeds))


def stops_paying(row: Sequence[Cell], tolerance: float) -> Cell:
    """Returns the shallowest network of a row whose error is within `tolerance` of the lowest in the row."""
    lowest = min(cell.error for cell in row)
    return next(cell for cell in row if cell.error <= lowest + tolerance)


def answers(cells: Sequence[Cell]) -> list[str]:
    """States where depth stops paying off, and whether effective depth predicts it, in sentences generated from the numbers.

    The prediction is tested on every step from one depth to the next, by the rank correlation between the decrease of the error and the
    effective depth of the shallower network as a share of its units. The baseline is the correlation with the number of units alone,
    which any law of diminishing returns would produce.
    """
    rows = [[cell for cell in cells if cell.row == row] for row in sorted({cell.row for cell in cells})]
    tolerance = 2 * noise(cells)
    found = [
        f"Depth stops paying off where no deeper network of the row is better by more than {100 * tolerance:.2f} points (twice the "
        f"standard error of a difference, from the spread over {len(cells[0].errors)} seeds)."
    ]
    for row in rows:
        best, deepest = stops_paying(row, tolerance), row[-1]
        end = "at the deepest tried" if best is deepest else f"of {deepest.units} tried"
        found.append(
            f"Width {row[0].row:g}: depth stops paying off at {best.units} units ({end}), {100 * best.error:.2f} % error; there the "
            f"effective depth is {best.depth:.1f}, and {deepest.depth:.1f} in the network of {deepest.units} units "
            f"({100 * deepest.error:.2f} % error)."
        )
    steps = [(a, b) for row in rows for a, b in itertools.pairwise(row)]
    gains = [a.error - b.error for a, b in steps]
    if len(steps) >= 3 and len(set(gains)) > 1:
        by_depth, p_depth = _rank(gains, [a.depth / a.units for a, _ in steps])
        by_units, p_units = _rank(gains, [-a.units for a, _ in steps])
        found.append(
            f"Gain of a step to the next depth, against the effective depth as a share of the units before it: rank correlation "
            f"{by_depth:+.2f} (p = {p_depth:.3f}, {len(steps)} steps). Against the negative number of units alone: {by_units:+.2f} "
            f"(p = {p_units:.3f}). " + _verdict(by_depth, p_depth, by_units)
        )
    return found


def _rank(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    if len(set(others)) < 2:
        return 0.0, 1.0
    result = spearmanr(values, others)
    return float(result.statistic), float(result.pvalue)


def _verdict(by_depth: float, p: float, by_units: float) -> str:
    if p >= 0.05 or by_depth <= 0:
        return "So effective depth does not predict, at this scale, where depth stops paying off."
    if by_depth > by_units:
        return "So effective depth predicts where depth stops paying off, and better than the number of units does."
    return "So effective depth correlates with it, but predicts it no better than the number of units does."
