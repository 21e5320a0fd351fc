"""What reports are made of: Markdown and CSV tables, settings in words, and figures."""

from __future__ import annotations

import csv
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.figure
from tabulate import tabulate

from keras_widerresnet.files import VECTOR_SUFFIXES, replacing

DPI = 110
# For pictures that show the names of classes and files, in which a dollar is a dollar and begins no formula.
PLAIN_TEXT: dict[Any, Any] = {"text.parse_math": False}


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


def learning_curves(
    rows: Sequence[dict[str, float]],
    path: pathlib.Path,
    scored_on: str,
    score: str = "accuracy",
    label: str = "accuracy",
    loss_label: str = "loss (cross-entropy)",
) -> None:
    """Loss, score and learning rate against the epoch, of training and of the images on which the epochs are scored.

    Args:
        rows: `runs.Run.metrics`.
        path: PNG file to write.
        scored_on: what to call those images, `"validation"` or `"test"`.
        score: the column of the score.
        label, loss_label: what to call it and the loss.
    """
    figure = matplotlib.figure.Figure(figsize=(11, 3.6), layout="constrained")
    loss, scores, rate = figure.subplots(1, 3)
    epochs = [row["epoch"] + 1 for row in rows]
    for axes, key, name in ((loss, "loss", loss_label), (scores, score, label)):
        axes.plot(epochs, [row[key] for row in rows], label="training (running mean)")
        axes.plot(epochs, [row[f"val_{key}"] for row in rows], label=scored_on)
        axes.set(xlabel="epoch", ylabel=name)
        axes.legend()
    loss.set_yscale("log")
    rate.plot(epochs, [row["learning_rate"] for row in rows], color="tab:green")
    rate.set(xlabel="epoch", ylabel="learning rate at the epoch's end")
    for axes in (loss, scores, rate):
        axes.grid(alpha=0.3)
        axes.locator_params(axis="x", integer=True)
    save_figure(figure, path)
