"""How the networks of a row rank at each budget, with intervals over seeds, in sentences generated from the numbers."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from research.cells import Cell

CONFIDENCE = 0.95


def half_width(values: Sequence[float]) -> float:
    """Returns half the width of Student's t interval for the mean of independent values; NaN for a single one."""
    if len(values) < 2:
        return math.nan
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    return float(quantile * np.std(values, ddof=1) / math.sqrt(len(values)))


def plus_minus(values: Sequence[float], form: str = ".2f") -> str:
    """Returns the mean of shares and its interval in percent or, of differences, points; without an interval for a single one."""
    half = half_width(values)
    return f"{100 * np.mean(values):{form}}" + ("" if math.isnan(half) else f" ± {100 * half:.2f}")


@dataclasses.dataclass(frozen=True)
class Difference:
    """Test error of one network minus that of another with more layers, paired by seed.

    Args:
        shallow, deep: the networks, with the same seeds.
    """

    shallow: Cell
    deep: Cell

    @property
    def values(self) -> tuple[float, ...]:
        return tuple(a - b for a, b in zip(self.shallow.errors, self.deep.errors, strict=True))

    @property
    def verdict(self) -> str:
        return verdict(self.values)


def excludes_0(values: Sequence[float]) -> bool:
    """Returns whether the interval of a mean excludes 0; never for a single value."""
    return bool(abs(np.mean(values)) > half_width(values))


def verdict(values: Sequence[float]) -> str:
    """Says whether the interval of the mean of some differences excludes 0."""
    return "no interval from one seed" if len(values) < 2 else "excludes 0" if excludes_0(values) else "includes 0"


def by_budget(row: Sequence[Cell]) -> dict[int, list[Cell]]:
    """Returns budget -> the networks of a row by number of layers."""
    budgets = sorted({cell.budget for cell in row})
    return {budget: sorted((cell for cell in row if cell.budget == budget), key=lambda cell: cell.layers) for budget in budgets}


def differences(row: Sequence[Cell]) -> list[Difference]:
    """Returns the differences of all pairs of networks of a row, at each budget."""
    return [Difference(a, b) for cells in by_budget(row).values() for a, b in itertools.combinations(cells, 2)]


def sentences(row: Sequence[Cell]) -> list[str]:
    """States, for one row of the grid, the ranking at each budget, whether it holds as budgets grow, and the effective depths."""
    budgets = by_budget(row)
    lists = list(budgets.values())
    if len(lists[0]) < 2:
        return []
    orders = {budget: sorted(cells, key=lambda cell: cell.error) for budget, cells in budgets.items()}
    found = [
        f"{epochs(budget)}: " + ", ".join(f"{cell.layers} layers {plus_minus(cell.errors)} %" for cell in order) + ", from the lowest mean."
        for budget, order in orders.items()
    ]
    ends = [Difference(cells[0], cells[-1]) for cells in lists]
    pair = f"{ends[0].shallow.layers} layers minus {ends[0].deep.layers} layers"
    told = [f"{plus_minus(one.values, '+.2f')} points at {epochs(one.deep.budget)} ({one.verdict})" for one in ends]
    found.append(f"Test error of {pair}, paired by seed, negative where the shallower is better: {'; '.join(told)}.")
    if len(orders) > 1:
        found += [_held(orders, ends), _change(ends)]
    depths = [
        f"{one[0].layers} layers {' → '.join(f'{cell.depth:.1f}' for cell in one)} of {one[0].units} units"
        for one in zip(*lists, strict=True)
    ]
    found.append(f"Effective depth, mean over seeds, at {epochs(*budgets)}: {'; '.join(depths)}.")
    return found


def epochs(*budgets: int) -> str:
    """Returns budgets in words."""
    return f"{', '.join(map(str, budgets))} epoch{'' if budgets == (1,) else 's'}"


def _held(orders: dict[int, list[Cell]], ends: Sequence[Difference]) -> str:
    """Says whether the order of the means, and the sign of the clear differences, is the same at every budget."""
    ranked = {tuple(cell.layers for cell in order) for order in orders.values()}
    order = "The order of the means is the same at every budget" if len(ranked) == 1 else "The order of the means changes with the budget"
    signs = {bool(np.mean(one.values) < 0) for one in ends}
    names = f"{ends[0].shallow.layers} and {ends[0].deep.layers} layers"
    if len(signs) > 1:
        return f"{order}; {names} change places."
    if not all(excludes_0(one.values) for one in ends):
        return f"{order}; between {names} it cannot be told from chance at every budget."
    return f"{order}; that of {names} is beyond chance at each."


def _change(ends: Sequence[Difference]) -> str:
    """Says by how much the difference between the ends of a row changes from the shortest budget to the longest."""
    first, last = ends[0], ends[-1]
    change = [b - a for a, b in zip(first.values, last.values, strict=True)]
    return (
        f"From {first.deep.budget} to {epochs(last.deep.budget)} that difference changes by {plus_minus(change, '+.2f')} points "
        f"({verdict(change)})."
    )
