"""What reports are made of: Markdown and CSV tables, settings in words, and figures."""

from __future__ import annotations

import csv
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.axes
import matplotlib.figure
import numpy as np
from matplotlib.rcsetup import cycler
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from tabulate import tabulate

from keras_widerresnet.colors import BLUE, LINES, VERMILLION
from keras_widerresnet.files import VECTOR_SUFFIXES, replacing

# A page shows a picture some 850 pixels wide: at this width letters of 10 points stay readable there.
WIDTH = 9.0
DPI = 150
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "figure.titlesize": 11,
    "legend.fontsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "axes.prop_cycle": cycler(color=LINES),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
}
# For pictures that show the names of classes and files, in which a dollar is a dollar and begins no formula.
PLAIN_TEXT: dict[Any, Any] = STYLE | {"text.parse_math": False}
# Of a line's name at its end: how far two are apart, as a share of the axes' height for each inch of it.
_LABEL_INCHES = 0.19


def write_csv(path: pathlib.Path, headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a table, whole or not at all."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(headers)
        writer.writerows(rows)


def markdown_table(rows: Iterable[Sequence[object]], headers: Sequence[str]) -> str:
    """A table for Markdown, in which numbers stay as they are."""
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def settings_table(settings: Mapping[str, object]) -> str:
    """Settings in words, one a line."""
    return markdown_table([(key.replace("_", " "), _in_words(value)) for key, value in settings.items()], ("setting", ""))


def _in_words(value: object) -> str:
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def percent(share: float) -> str:
    """A share in percent with two digits, or a dash where it is NaN."""
    return "–" if math.isnan(share) else f"{share * 100:.2f}"


def save_figure(figure: matplotlib.figure.Figure, path: pathlib.Path) -> None:
    """Writes a figure, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI, bbox_inches="tight")


def save_vector_figure(figure: matplotlib.figure.Figure, path: pathlib.Path) -> None:
    """Writes a figure with each of `VECTOR_SUFFIXES`; an SVG of the same data has the same bytes."""
    with matplotlib.rc_context({"svg.hashsalt": path.name}):
        for suffix in VECTOR_SUFFIXES:
            with replacing(path.with_suffix(suffix)) as temporary:
                figure.savefig(temporary, dpi=DPI, bbox_inches="tight", metadata={"Date": None} if suffix == ".svg" else None)


@matplotlib.rc_context(PLAIN_TEXT)
def learning_curves(
    rows: Sequence[dict[str, float]],
    path: pathlib.Path,
    scored_on: str,
    score: str = "accuracy",
    label: str = "accuracy",
    loss_label: str = "loss (cross-entropy)",
    title: str = "",
) -> None:
    """Loss, score and, smaller, the learning rate against the epoch, of training and of the images on which the epochs are scored.

    Args:
        rows: `runs.Run.metrics`.
        path: PNG file to write.
        scored_on: what to call those images, `"validation"` or `"test"`.
        score: the column of the score, a share that is shown in percent.
        label, loss_label: what to call it and the loss.
        title: what was trained on what.
    """
    figure = matplotlib.figure.Figure(figsize=(WIDTH, 3.3), layout="constrained")
    loss, scores, rate = figure.subplots(1, 3, width_ratios=(5, 5, 2.2))
    epochs = [row["epoch"] + 1 for row in rows]
    marks = {"markersize": 4, "markevery": max(1, len(epochs) // 12)}
    for axes, key, factor, name in ((loss, "loss", 1, loss_label), (scores, score, 100, f"{label}, %")):
        axes.plot(epochs, [factor * row[key] for row in rows], "o--", color=BLUE, label="training (running mean)", **marks)
        axes.plot(epochs, [factor * row[f"val_{key}"] for row in rows], "s-", color=VERMILLION, label=scored_on, **marks)
        axes.set(xlabel="epoch", title=name)
    loss.set_yscale("log")
    plain_log_ticks(loss.yaxis)
    rate.plot(epochs, [row["learning_rate"] for row in rows], color="0.35")
    rate.set(xlabel="epoch", title="learning rate")
    for axes in (loss, scores, rate):
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(3 if axes is rate else 6, integer=True, min_n_ticks=1))
    figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(title or "Learning curves")
    save_figure(figure, path)


def plain_log_ticks(axis: Any) -> None:
    """Labels of a logarithmic axis as numbers, at some five places whatever its range."""
    low, high = sorted(axis.get_view_interval())
    decades = math.log10(high / low) if low > 0 and math.isfinite(high / low) else 0.0
    steps = (1,) if decades > 3 else (1, 3) if decades > 1.7 else (1, 2, 5) if decades > 0.9 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) if decades else ()
    ticks = [step * 10.0**exponent for exponent in exponents for step in steps]
    ticks = [tick for tick in ticks if low <= tick <= high]
    if len(ticks) > 1:
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())


def label_ends(axes: matplotlib.axes.Axes, names: Sequence[str], ends: Sequence[tuple[float, float]], colors: Sequence[Any]) -> None:
    """Writes the name of each line beside its end, one above the other where ends are close; the axes' limits must be final.

    Args:
        axes: on which the lines are.
        names: of the lines.
        ends: x and y of their last points.
        colors: of the lines that lead to them.
    """
    low, high = axes.get_ylim()
    heights = np.array([(y - low) / (high - low) for _, y in ends])
    figure = axes.get_figure(root=True)
    assert figure is not None
    gap = _LABEL_INCHES / (figure.get_size_inches()[1] * axes.get_position().height)
    for index, place in zip(np.argsort(heights, kind="stable"), spread(np.sort(heights), gap), strict=True):
        axes.annotate(
            names[index],
            ends[index],
            xytext=(1.03, place),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            arrowprops={"arrowstyle": "-", "color": colors[index], "linewidth": 1, "shrinkA": 0, "shrinkB": 3, "relpos": (0, 0.5)},
            annotation_clip=False,
        )


def spread(places: np.ndarray, gap: float) -> np.ndarray:
    """Ascending places in 0..1 moved as little as may be so that neighbours are `gap` apart, all within 0..1 if they fit."""
    places = np.asarray(places, float)
    groups: list[tuple[float, int]] = []  # mean of the first place that each member would ask for, and members
    for index, place in enumerate(places):
        wish, count = place - gap * index, 1
        while groups and groups[-1][0] > wish:
            other, members = groups.pop()
            wish = (wish * count + other * members) / (count + members)
            count += members
        groups.append((wish, count))
    firsts = np.repeat([wish for wish, _ in groups], [count for _, count in groups])
    steps = gap * np.arange(len(places))
    return np.clip(firsts, min(0, 1 - steps[-1]), max(0, 1 - steps[-1])) + steps
