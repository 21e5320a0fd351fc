"""The pictures of a classification network: confusion matrix, worst mistakes, contact sheets, curves of several runs."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Sequence

import matplotlib.figure
import numpy as np
import sklearn.metrics
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator

from keras_widerresnet.colors import BLUE, LINES, MARKERS, SKY_BLUE, VERMILLION
from keras_widerresnet.reporting import PLAIN_TEXT, WIDTH, label_ends, save_figure
from keras_widerresnet.texts import short

MAX_NAMED_CLASSES = 40
MATRIX_INCHES, CELL_INCHES = 6.8, 0.55  # at most
NAME_LETTERS = 20
MATRIX_TITLE = "Test images by true and predicted class"
SHOWN_CONFUSIONS = 18
GRID_COLUMNS = 5
SHEET_COLUMNS = 3
MAP_COLUMNS = 3
MAP_COLORS, MAP_OPACITY = "inferno", 0.6  # lightness rises with the value: readable without colour vision
LINE_STYLES = ("-", "--", "-.", ":")


@matplotlib.rc_context(PLAIN_TEXT)
def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str], path: pathlib.Path) -> None:
    """Test images by true class (rows) and predicted class (columns): what is right blue, every error orange, zeros empty.

    Up to `MAX_NAMED_CLASSES` classes have their names and numbers. Of more, an error is a dot, and the most
    frequent ones are listed by name.
    """
    counts = sklearn.metrics.confusion_matrix(labels, predicted, labels=np.arange(len(class_names)))
    save_figure((_small_matrix if len(class_names) <= MAX_NAMED_CLASSES else _large_matrix)(counts, class_names), path)


def cell_colors(counts: np.ndarray) -> np.ndarray:
    """RGB of 0..1 for each cell of a confusion matrix: white for none, else darker for a larger share of its row."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    inks = np.where(np.eye(len(counts), dtype=bool)[..., None], to_rgb(BLUE), to_rgb(VERMILLION))
    # A single error among thousands of images is seen too.
    strength = np.where(counts > 0, 0.3 + 0.7 * np.sqrt(shares), 0)[..., None]
    return strength * inks + (1 - strength)


def _small_matrix(counts: np.ndarray, class_names: Sequence[str]) -> matplotlib.figure.Figure:
    classes = len(class_names)
    cell = min(CELL_INCHES, MATRIX_INCHES / classes)
    names = [short(name, NAME_LETTERS) for name in class_names]
    name_size = min(9.0, max(5.0, 62 * cell))
    beside = 0.7 + max(map(len, names)) * name_size * 0.6 / 72
    figure = matplotlib.figure.Figure(figsize=(max(4.5, cell * classes + beside), cell * classes + beside + 0.6), layout="constrained")
    axes = figure.subplots()
    colors = cell_colors(counts)
    axes.imshow(colors)
    digits = len(str(counts.max()))
    number_size = min(10.0, 72 * cell / (0.65 * digits + 0.5))
    for row, column in zip(*np.nonzero(counts), strict=True):
        ink = "white" if colors[row, column].mean() < 0.6 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=number_size, color=ink)
    axes.set_xticks(range(classes), names, rotation=0 if max(map(len, names)) * name_size * 0.6 < 72 * cell else 90, fontsize=name_size)
    axes.set_yticks(range(classes), names, fontsize=name_size)
    axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.85", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="predicted class (blue: right, orange: wrong)", ylabel="true class", title=MATRIX_TITLE)
    return figure


def _large_matrix(counts: np.ndarray, class_names: Sequence[str]) -> matplotlib.figure.Figure:
    figure = matplotlib.figure.Figure(figsize=(WIDTH, 5.6), layout="constrained")
    axes, listed = figure.subplots(1, 2, width_ratios=(5.2, 3.8))
    right = counts.diagonal()
    shares = right / np.maximum(counts.sum(axis=1), 1)
    places = np.flatnonzero(right)
    area = (340 / len(counts)) ** 2  # of a cell, in points
    axes.scatter(places, places, s=max(1.5, area), c=BLUE, alpha=0.2 + 0.8 * shares[places], marker="s", linewidths=0, label="right")
    wrong = counts - np.diag(right)
    rows, columns = np.nonzero(wrong)
    sizes = np.clip(6 * np.sqrt(wrong[rows, columns]), max(5, area), 120)
    axes.scatter(columns, rows, s=sizes, c=VERMILLION, alpha=0.7, linewidths=0, label="wrong (larger: more images)")
    axes.set(xlim=(-1, len(counts)), ylim=(len(counts), -1), aspect="equal")
    axes.set(xlabel="predicted class, by number", ylabel="true class, by number", title=MATRIX_TITLE)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))
    axes.legend(loc="upper right")
    listed.axis("off")
    order = np.argsort(-wrong[rows, columns], kind="stable")[:SHOWN_CONFUSIONS]
    lines = [
        f"{wrong[rows[k], columns[k]]} × {short(class_names[rows[k]], NAME_LETTERS)} → {short(class_names[columns[k]], NAME_LETTERS)}"
        for k in order
    ]
    listed.set_title("Most frequent errors: true → predicted", loc="left")
    listed.text(0, 1, "\n".join(lines) or "none", va="top", fontsize=8.5, linespacing=1.5, transform=listed.transAxes)
    return figure


@matplotlib.rc_context(PLAIN_TEXT)
def mistakes_grid(images: Sequence[np.ndarray], captions: Sequence[str], path: pathlib.Path) -> None:
    """Images (uint8 RGB) with captions, `GRID_COLUMNS` to a row."""
    rows = max(1, -(-len(images) // GRID_COLUMNS))
    figure = matplotlib.figure.Figure(figsize=(WIDTH, 2.2 * rows), layout="constrained")
    for axes in figure.subplots(rows, GRID_COLUMNS, squeeze=False).flat:
        axes.axis("off")
    for axes, image, caption in zip(figure.axes, images, captions, strict=False):
        axes.imshow(image)
        axes.set_title(caption, fontsize=7)  # the longest caption is as wide as its image
    if not images:
        figure.text(0.5, 0.5, "No test image is classified wrongly.", ha="center", va="center")
    save_figure(figure, path)


@matplotlib.rc_context(PLAIN_TEXT)
def contact_sheet(
    images: Sequence[np.ndarray], predictions: Sequence[Sequence[tuple]], captions: Sequence[str], path: pathlib.Path
) -> None:
    """Images (uint8 RGB) with bars of their most probable classes (as of `decode_predictions`), `SHEET_COLUMNS` to a row."""
    columns = min(SHEET_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    figure = matplotlib.figure.Figure(figsize=(WIDTH / SHEET_COLUMNS * columns, 4.2 * rows), layout="constrained")
    panels = figure.subfigures(rows, columns, squeeze=False)
    for panel, image, decoded, caption in zip(panels.flat, images, predictions, captions, strict=False):
        top, bottom = panel.subplots(2, height_ratios=(3, 1.4))
        top.imshow(image)
        top.set_title(short(caption, 34))
        top.axis("off")
        scores = [score for *_, score in decoded]
        bottom.barh(range(len(decoded)), scores, color=SKY_BLUE, alpha=0.6)
        for place, (_, name, score) in enumerate(decoded):
            bottom.text(0.02, place, f"{short(name, 26)}  {100 * score:.1f} %", va="center", fontsize=9)
        bottom.set(xlim=(0, 1), xlabel="probability")
        bottom.set_yticks([])
        bottom.invert_yaxis()
    save_figure(figure, path)


@matplotlib.rc_context(PLAIN_TEXT)
def activation_overlay(image: np.ndarray, maps: np.ndarray, titles: Sequence[str], path: pathlib.Path) -> None:
    """An image (uint8 RGB) and beside it, laid over it in colours, its maps (H, W, n) of 0 to 1, each with a title."""
    panels = 1 + len(titles)
    columns = min(MAP_COLUMNS, panels)
    rows = -(-panels // columns)
    inches = WIDTH / MAP_COLUMNS
    height, width = image.shape[:2]
    figure = matplotlib.figure.Figure(figsize=(inches * columns, rows * (inches * min(height / width, 2) + 0.3)), layout="constrained")
    all_axes = figure.subplots(rows, columns, squeeze=False).flat
    for axes in all_axes:
        axes.axis("off")
    for axes, title in zip(figure.axes, ("image", *titles), strict=False):
        axes.imshow(image)
        axes.set_title(short(title, 34))
    shown = None
    for axes, one in zip(figure.axes[1:], np.moveaxis(maps, -1, 0), strict=False):
        # Pixels of the image's own grid, so that the map lies where it was computed.
        shown = axes.imshow(one, cmap=MAP_COLORS, vmin=0, vmax=1, alpha=MAP_OPACITY, interpolation="nearest")
    if shown is not None:
        figure.colorbar(shown, ax=figure.axes, shrink=0.8, pad=0.01, label="activation / its maximum")
    save_figure(figure, path)


@matplotlib.rc_context(PLAIN_TEXT)
def accuracy_curves(curves: dict[str, np.ndarray], path: pathlib.Path) -> None:
    """Accuracy against the epoch; a curve is the mean over its runs (runs, epochs) within their range, with its name at its end."""
    figure = matplotlib.figure.Figure(figsize=(WIDTH, max(4.5, 1.2 + 0.21 * len(curves))), layout="constrained")
    axes = figure.subplots()
    names, ends, colors = [], [], []
    looks = zip(itertools.cycle(LINES), itertools.cycle(MARKERS), strict=False)
    for index, (name, accuracies) in enumerate(curves.items()):
        color, marker = next(looks)
        epochs, percents = np.arange(1, accuracies.shape[1] + 1), 100 * accuracies
        style = LINE_STYLES[index // len(LINES) % len(LINE_STYLES)]
        mean = percents.mean(axis=0)
        axes.plot(epochs, mean, linestyle=style, color=color, marker=marker, markersize=5, markevery=max(1, len(epochs) // 12))
        axes.fill_between(epochs, percents.min(axis=0), percents.max(axis=0), color=color, alpha=0.15, linewidth=0)
        names.append(f"{short(name, 32)} ({len(accuracies)} seed{'s' if len(accuracies) > 1 else ''})")
        ends.append((epochs[-1], mean[-1]))
        colors.append(color)
    axes.set(xlabel="epoch", ylabel="accuracy, %", title="Accuracy after each epoch: mean and range over the seeds")
    axes.grid(alpha=0.3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    label_ends(axes, names, ends, colors)
    save_figure(figure, path)
