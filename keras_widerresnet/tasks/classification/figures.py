"""The pictures of a classification network: confusion matrix, worst mistakes, contact sheets, curves of several runs."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import matplotlib.figure
import numpy as np
from sklearn.metrics import ConfusionMatrixDisplay

from keras_widerresnet.reporting import PLAIN_TEXT, save_figure

MAX_NUMBERED_CLASSES = 20
GRID_COLUMNS = 6
SHEET_COLUMNS = 4


@matplotlib.rc_context(PLAIN_TEXT)
def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str], path: pathlib.Path) -> None:
    """Test images by true class (rows) and predicted class (columns); with many classes, shares of each row without numbers."""
    few = len(class_names) <= MAX_NUMBERED_CLASSES
    side = 2.5 + 0.5 * len(class_names) if few else 10
    figure = matplotlib.figure.Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    ConfusionMatrixDisplay.from_predictions(
        labels,
        predicted,
        labels=np.arange(len(class_names)),
        display_labels=class_names,
        normalize=None if few else "true",
        include_values=few,
        cmap="Blues",
        xticks_rotation="vertical" if few else "horizontal",
        colorbar=not few,
        ax=axes,
    )
    if not few:
        axes.set(xticks=[], yticks=[])
    save_figure(figure, path)


@matplotlib.rc_context(PLAIN_TEXT)
def mistakes_grid(images: Sequence[np.ndarray], captions: Sequence[str], path: pathlib.Path) -> None:
    """Images (uint8 RGB) with captions, `GRID_COLUMNS` to a row."""
    rows = max(1, -(-len(images) // GRID_COLUMNS))
    figure = matplotlib.figure.Figure(figsize=(1.9 * GRID_COLUMNS, 2.5 * rows), layout="constrained")
    for axes in figure.subplots(rows, GRID_COLUMNS, squeeze=False).flat:
        axes.axis("off")
    for axes, image, caption in zip(figure.axes, images, captions, strict=False):
        axes.imshow(image)
        axes.set_title(caption, fontsize=8)
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
    figure = matplotlib.figure.Figure(figsize=(3.6 * columns, 4.8 * rows), layout="constrained")
    panels = figure.subfigures(rows, columns, squeeze=False)
    for panel, image, decoded, caption in zip(panels.flat, images, predictions, captions, strict=False):
        top, bottom = panel.subplots(2, height_ratios=(3, 1.3))
        top.imshow(image)
        top.set_title(caption, fontsize=9)
        top.axis("off")
        scores = [score for *_, score in decoded]
        bottom.barh(range(len(decoded)), scores, color="tab:blue", alpha=0.35)
        for place, (_, name, score) in enumerate(decoded):
            bottom.text(0.02, place, f"{name} {score:.1%}", va="center", fontsize=8)
        bottom.set(xlim=(0, 1), xlabel="probability")
        bottom.set_yticks([])
        bottom.invert_yaxis()
    save_figure(figure, path)


def accuracy_curves(curves: dict[str, np.ndarray], path: pathlib.Path) -> None:
    """Accuracy against the epoch; a curve is the mean over its runs (runs, epochs) within their range."""
    figure = matplotlib.figure.Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, accuracies in curves.items():
        epochs = np.arange(1, accuracies.shape[1] + 1)
        (line,) = axes.plot(epochs, accuracies.mean(axis=0), label=f"{name} ({len(accuracies)} seed{'s' if len(accuracies) > 1 else ''})")
        axes.fill_between(epochs, accuracies.min(axis=0), accuracies.max(axis=0), color=line.get_color(), alpha=0.2)
    axes.set(xlabel="epoch", ylabel="accuracy")
    axes.grid(alpha=0.3)
    axes.legend()
    axes.locator_params(axis="x", integer=True)
    save_figure(figure, path)
