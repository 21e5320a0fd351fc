"""Writes the folder of an analysis: tables, figures, and a report whose text is generated from the numbers."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from keras_widerresnet.analysis import figures
from keras_widerresnet.analysis.config import DEPTHS_FILE, LESIONS_FILE, PATHS_FILE, SHARES_FILE
from keras_widerresnet.analysis.measure import Analysis, Lesions
from keras_widerresnet.analysis.paths import PathLengths
from keras_widerresnet.analysis.unravel import unravel
from keras_widerresnet.reporting import markdown_table, settings_table, write_csv
from keras_widerresnet.runs import REPORT_FILE, RESULTS_FILE

SHOWN_TERMS = 8


def write_analysis(folder: pathlib.Path, found: Analysis) -> None:
    """Writes `FILES` and those of `OPTIONAL` that were measured into an existing folder."""
    last, paths, lesions = found.last, found.paths, found.lesions
    count = len(found.units)
    figures.unravelled(unravel(count, last.depth), folder / "unravelled")
    figures.gradient_shares(last, folder / "gradient_shares")
    if len(found.depths) > 1:
        figures.depth_over_training(found.names, found.depths, folder / "effective_depth")
    write_csv(folder / SHARES_FILE, ("unit", *(f"crosses {m}" for m in range(count))), zip(last.names, *last.shares.T, strict=True))
    longest = max(len(one.names) for one in found.depths)
    rows = [(name, len(one.names), one.depth, *one.interval, *one.units) for name, one in zip(found.names, found.depths, strict=True)]
    write_csv(
        folder / DEPTHS_FILE, ("network", "units", "effective depth", "low", "high", *(f"unit {k + 1}" for k in range(longest))), rows
    )
    if paths:
        figures.path_lengths(paths, folder / "path_lengths")
        table = zip(range(count + 1), paths.counts, paths.one_path, paths.all_paths, paths.sampled, strict=True)
        write_csv(folder / PATHS_FILE, ("blocks", "paths", "gradient by one path", "paths x gradient", "paths measured"), table)
    if lesions:
        figures.lesions(found.units, found.stage_begins, lesions, folder / "lesions")
        write_csv(folder / LESIONS_FILE, ("lesion", "error"), _lesion_rows(found.units, lesions))
    (folder / RESULTS_FILE).write_text(json.dumps(_numbers(found), indent=2) + "\n")
    (folder / REPORT_FILE).write_text(_report(found))


def _numbers(found: Analysis) -> dict[str, object]:
    return {
        "networks": found.names,
        "data": found.data,
        **dataclasses.asdict(found.settings),
        "units": [len(one.names) for one in found.depths],
        "effective_depth": [one.depth for one in found.depths],
        "interval": [one.interval for one in found.depths],
        "units_effective_depth": found.last.units,
        "path_decay": found.paths and found.paths.decay(),
        "paths_carrying": found.paths and found.paths.carrying(),
        "error": found.lesions and found.lesions.intact,
    }


def _lesion_rows(units: Sequence[str], lesions: Lesions) -> Iterator[tuple[str, float]]:
    yield "none", lesions.intact
    yield from ((f"without {name}", error) for name, error in zip(units, lesions.single, strict=True))
    for count, errors in zip(lesions.counts, lesions.several, strict=True):
        yield from ((f"without {count} random units", error) for error in errors)
    for pair, error in zip(lesions.pairs, lesions.swapped, strict=True):
        yield f"{' and '.join(units[index] for index in pair.swapped or ())} swapped", error


def _report(found: Analysis) -> str:
    last = found.last
    states = [
        (name, len(d.names), d.depth, f"{d.interval[0]} – {d.interval[1]}") for name, d in zip(found.names, found.depths, strict=True)
    ]
    shown = min(len(last.names), SHOWN_TERMS)
    rows = zip(last.names, last.units, last.shares[:, :shown], strict=True)
    shares = [(name, depth, *(f"{share:.1%}" for share in row)) for name, depth, row in rows]
    over_training = "![effective depth over training](effective_depth.png)\n\n" if len(states) > 1 else ""
    sections = [
        f"# Effective depth of {found.names[-1]} on {found.data}",
        last.over_deepened(),
        markdown_table(states, ("network", "units", "effective depth", "95 % interval")),
        over_training
        + "Share of each unit's gradient in the terms that cross m later blocks (exact; norms of each image's gradient of the unit's "
        "weights, summed over the images; batch norm with its running statistics; shortcuts, projections and pools are not blocks).",
        "![shares of the gradient](gradient_shares.png)",
        markdown_table(shares, ("unit", "effective depth", *(f"m = {m}" for m in range(shown)))),
        _path_section(found.paths) if found.paths else "",
        _lesion_section(found.lesions, found.stage_begins) if found.lesions else "",
        "## The network as an ensemble",
        "![the unravelled network](unravelled.png)",
        f"```\n{unravel(len(found.units), last.depth)}\n```",
        "## Settings",
        settings_table({"data": found.data, **dataclasses.asdict(found.settings)}),
        f"All numbers: [{RESULTS_FILE}]({RESULTS_FILE}), [{DEPTHS_FILE}]({DEPTHS_FILE}), [{SHARES_FILE}]({SHARES_FILE})"
        + (f", [{PATHS_FILE}]({PATHS_FILE})" if found.paths else "")
        + (f", [{LESIONS_FILE}]({LESIONS_FILE})" if found.lesions else "")
        + ". Figures are also available as SVG.",
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def _path_section(paths: PathLengths) -> str:
    factor, fit = paths.decay()
    first, last = paths.carrying()
    return f"""## Gradient by path length

Norm of the gradient at the first unit's input along single paths through k blocks and the shortcuts of all other units (Veit et al.
2016). Each further block changes it by the factor {factor:.3g} (R² of the exponential fit: {fit:.3f}). Multiplied by the number of
paths, the lengths {first} to {last} of {paths.units} account for 95 %.

![gradient by path length](path_lengths.png)"""


def _lesion_section(lesions: Lesions, stage_begins: Sequence[bool]) -> str:
    begins = np.array(stage_begins)
    cost = 100 * (lesions.single - lesions.intact)
    groups = [
        f"{words} {np.median(cost[chosen]):.2f} points (median; {cost[chosen].max():.2f} at most)"
        for words, chosen in (("a unit within a stage costs", ~begins), ("the first unit of a stage costs", begins))
        if chosen.any()
    ]
    medians = ", ".join(
        f"{count}: {100 * error:.1f} %" for count, error in zip(lesions.counts, np.median(lesions.several, axis=1), strict=True)
    )
    swaps = (
        f" Two units of one stage swapped: {np.median(lesions.swapped):.1%} (median of {len(lesions.pairs)} pairs)."
        if lesions.pairs
        else ""
    )
    return f"""## Lesions

The whole network misclassifies {lesions.intact:.1%} of {lesions.images:,} test images. Dropped on its own, {"; ".join(groups)}.
Median error by number of randomly dropped units: {medians}.{swaps}

![lesions](lesions.png)"""
