"""Reports on a study of depth and width: tables, figures, and conclusions generated from the numbers."""

from __future__ import annotations

import itertools
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import spearmanr

from keras_widerresnet.files import replacing
from keras_widerresnet.reporting import markdown_table, settings_table, write_csv
from keras_widerresnet.runs import REPORT_FILE, RESULTS_FILE
from research import figures, ranking
from research.cells import Cell, Tuning
from research.config import StudyConfig
from research.plan import Point, folders, points, read_recipe, sizes_of
from research.study import SETTINGS_FILE, chosen_rates, final_error, read_tunings

NETWORK = ("units", "layers", "width", "multiply-adds", "parameters", "learning rate")
AT_BUDGET = ("test error %, {}", "effective depth, {}")
RUNS = ("row", "width", "layers", "budget", "seed", "learning rate", "test error", "effective depth")
HOW = (
    f"± and the whiskers of errors against the budget are Student's {ranking.CONFIDENCE:.0%} interval over the seeds. A difference is "
    "paired by seed; every interval stands by itself, uncorrected for their number. The intervals cover what the seed changes (initial "
    "weights, order and augmentation of the images), not the choice of the test images or of the learning rate."
)


def write_report(config: StudyConfig) -> pathlib.Path:
    """Writes the tables, the figures and, last, `report.md` of a finished study; returns the path of the report.

    `table.csv` has a line for each network, `runs.csv` for each run. `study.png` shows the grid at the longest budget, `budgets.png`, of
    several budgets, error and effective depth against the budget.
    """
    root = pathlib.Path(config.output_dir)
    cells, tunings = read_cells(config), list(read_tunings(config).values())
    rows, headers = table(cells)
    write_csv(root / "table.csv", headers, rows)
    write_csv(root / "runs.csv", RUNS, [line for cell in cells for line in _runs(cell)])
    pictures = []
    if len(config.budgets) > 1:
        figures.budgets(cells, root / "budgets")
        pictures.append("![error and effective depth against the budget](budgets.png)")
    if not (config.match and pictures):  # with equal costs, all that it would show is in the other
        figures.study([cell for cell in cells if cell.budget == config.budgets[-1]], root / "study")
        pictures.append("![error and effective depth](study.png)")
    settings = json.loads((root / SETTINGS_FILE).read_text())
    recipe = {name: value for name, value in settings.pop("recipe").items() if value != ""}
    parts = [f"# Depth and width on {config.data}", *conclusions(config, cells), markdown_table(rows, headers), *pictures]
    parts += [_pairs(cells), *_tuned(config, tunings)]
    for point in points(config):
        if point.is_deep:
            parts.append(f"The deep narrow network: [analysis]({folders(config, point)[1].relative_to(root) / REPORT_FILE}).")
    parts += ["## Settings", settings_table(settings), "## Recipe", settings_table(recipe)]
    with replacing(root / REPORT_FILE) as temporary:
        temporary.write_text("\n\n".join(part for part in parts if part) + "\n")
    return root / REPORT_FILE


def read_cells(config: StudyConfig) -> list[Cell]:
    """Returns the networks of the grid by row, depth and budget, with the results of their runs and analyses."""
    rates = chosen_rates(config, read_recipe(config))
    groups: dict[tuple[float, int, int], list[Point]] = {}
    for point in points(config):
        if not point.is_deep:
            groups.setdefault((point.row, point.depth, point.epochs), []).append(point)
    return [_cell(config, group, rates) for _, group in sorted(groups.items())]


def _cell(config: StudyConfig, group: list[Point], rates: Mapping[tuple[float, int], float]) -> Cell:
    first = group[0]
    structure, width = config.built(first.depth), first.width
    classes, errors, depths = sizes_of(config.data)[0], [], []
    for point in sorted(group, key=lambda point: point.seed):
        run, analysis = folders(config, point)
        errors.append(final_error(run))
        depths.append(json.loads((analysis / RESULTS_FILE).read_text())["effective_depth"][-1])
    return Cell(
        first.row,
        width,
        sum(structure.units),
        structure.depth,
        structure.multiply_adds(classes=classes, width=width),
        structure.parameters(classes=classes, width=width),
        tuple(errors),
        tuple(depths),
        first.epochs,
        rates[first.row, first.depth],
    )


def table(cells: Sequence[Cell]) -> tuple[list[tuple], tuple[str, ...]]:
    """Returns the lines of the table, one for each network, and its headers, two for each budget."""
    budgets = sorted({cell.budget for cell in cells})
    headers = NETWORK + tuple(header.format(ranking.epochs(budget)) for budget in budgets for header in AT_BUDGET)
    lines = []
    for _, group in itertools.groupby(cells, key=lambda cell: (cell.row, cell.layers)):
        of_network = sorted(group, key=lambda cell: cell.budget)
        one = of_network[0]
        costs = f"{one.multiply_adds / 1e6:.1f} M", f"{one.parameters / 1e6:.3f} M"
        found = [(ranking.plus_minus(cell.errors), _depth(cell)) for cell in of_network]
        lines.append((one.units, one.layers, f"{one.width:g}", *costs, f"{one.rate:g}", *itertools.chain(*found)))
    return lines, headers


def _depth(cell: Cell) -> str:
    """The mean effective depth, and its lowest and highest where seeds differ."""
    low, high = min(cell.depths), max(cell.depths)
    return f"{cell.depth:.1f}" + (f" ({low} – {high})" if low < high else "")


def _runs(cell: Cell) -> list[tuple]:
    of_cell = (cell.row, cell.width, cell.layers, cell.budget)
    return [(*of_cell, seed, cell.rate, error, depth) for seed, (error, depth) in enumerate(zip(cell.errors, cell.depths, strict=True))]


def conclusions(config: StudyConfig, cells: Sequence[Cell]) -> list[str]:
    """States the ranking at each budget where costs are equal or budgets several, and where depth stops paying off where costs differ."""
    found = []
    if config.match or len(config.budgets) > 1:
        for row in _rows(cells):
            said = ranking.sentences(row)
            costs = [cell.multiply_adds if config.match != "parameters" else cell.parameters for cell in row]
            match = f", {config.match.replace('_', '-')} equal to within {max(costs) / min(costs) - 1:.1%}" if config.match else ""
            found += [f"**Width {row[0].row:g}**{match}. " + " ".join(said)] if said else []
    if not config.match:
        found += answers([cell for cell in cells if cell.budget == config.budgets[-1]])
    return [*found, HOW] if config.seeds > 1 else found


def _rows(cells: Sequence[Cell]) -> list[list[Cell]]:
    return [[cell for cell in cells if cell.row == row] for row in sorted({cell.row for cell in cells})]


def _pairs(cells: Sequence[Cell]) -> str:
    """The table of the paired differences, empty where there is only one depth."""
    pairs = [one for row in _rows(cells) for one in ranking.differences(row)]
    lines = [
        (
            f"{one.deep.row:g}",
            one.deep.budget,
            f"{one.shallow.layers} − {one.deep.layers}",
            ranking.plus_minus(one.values, "+.2f"),
            one.verdict,
        )
        for one in pairs
    ]
    headers = ("row of width", "epochs", "layers", "difference of test errors, points", f"{ranking.CONFIDENCE:.0%} interval")
    return "## Differences\n\n" + markdown_table(lines, headers) if lines else ""


def _tuned(config: StudyConfig, tunings: Sequence[Tuning]) -> list[str]:
    """The table of the learning rates that were tried, with a warning for a choice at the edge of the grid; empty for none."""
    if not tunings:
        return []
    lines = []
    for one in tunings:
        errors = ["diverged" if np.isinf(error) else f"{100 * error:.2f}" for error in one.errors]
        edge = " (at the edge of the grid)" if one.is_at_edge else ""
        lines.append((f"{one.row:g}", one.layers, f"{one.width:g}", *errors, f"{one.chosen:g}{edge}"))
    count = sum(one.is_at_edge for one in tunings)
    headers = ("row of width", "layers", "width", *(f"error %, rate {rate:g}" for rate in config.learning_rates), "chosen")
    return [
        "## Learning rates",
        f"Error on {config.validation:.0%} of the training images, held out, after {ranking.epochs(config.budgets[0])} with seed 0; the "
        "test images were not used. The chosen rate is the network's at every budget. "
        f"{count} of {len(tunings)} choices are at the edge of the grid" + (", beyond which a better rate may lie." if count else "."),
        markdown_table(lines, headers),
    ]


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
    rows = _rows(cells)
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
