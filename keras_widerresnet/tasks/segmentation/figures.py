"""The pictures of a segmentation network: overlays on test images, and the IoU of each class."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Sequence

import matplotlib.figure
import numpy as np
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from PIL import Image

from keras_widerresnet.colors import RGB, WRONG_COLOR, class_colors, fractions
from keras_widerresnet.label_maps import IGNORED, LabelMap
from keras_widerresnet.reporting import PLAIN_TEXT, WIDTH, save_figure
from keras_widerresnet.texts import short

PANELS = ("image", "truth", "prediction", "errors")
PANEL_INCHES = WIDTH / len(PANELS)
PANEL_PIXELS = 480  # of the longer side: a larger image is shrunk
OPACITY = 0.8  # of class colours over the grey image
PALE = 0.75  # of white over the grey image where the prediction is right
STRIPES, STRIPE_PIXELS = (190, 235), 5  # greys of ignored pixels
MAX_LEGEND = 40
LEGEND_COLUMNS, LEGEND_LETTERS = 6, 20
MAX_BAR_NAME = 30


@dataclasses.dataclass(frozen=True)
class Example:
    """One row of `overlays`: uint8 image (H, W, 3), and uint8 train ids (H, W) of truth and prediction, 255 where ignored."""

    caption: str
    image: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray


@matplotlib.rc_context(PLAIN_TEXT)
def overlays(examples: Sequence[Example], labels: LabelMap, path: pathlib.Path) -> None:
    """A contact sheet: a row of `PANELS` for each example, and a legend of the classes that occur, the most frequent first.

    Classes have the colours of `colors.class_colors`, whatever those of the data set's own mask files are. Errors are black on a pale
    image; ignored pixels are striped grey, in the truth and among the errors.
    """
    examples = [_shrunk(example) for example in examples]
    heights = [PANEL_INCHES * example.image.shape[0] / example.image.shape[1] for example in examples]
    figure = matplotlib.figure.Figure(figsize=(WIDTH, sum(heights) + 0.3 * len(heights) + 0.8))
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01))
    if not examples:
        figure.text(0.5, 0.5, "All pixels of the test images are ignored.", ha="center", va="center")
    grid = figure.subplots(max(1, len(examples)), len(PANELS), squeeze=False, height_ratios=heights or None)
    for axes in grid.flat:
        axes.axis("off")
    for row, example in zip(grid, examples, strict=False):
        for axes, panel in zip(row, panels(example, labels), strict=True):
            axes.imshow(panel, interpolation="antialiased")
        for axes, name in zip(row[1:], PANELS[1:], strict=True):
            axes.set_title(name, loc="right", fontsize=9, color="0.35")
        row[0].set_title(short(example.caption, 62), loc="left", fontsize=9)
    handles = _legend(examples, labels)
    figure.legend(handles=handles, loc="outside lower center", ncols=min(LEGEND_COLUMNS, len(handles)), frameon=False, fontsize=9)
    save_figure(figure, path)


def panels(example: Example, labels: LabelMap) -> list[np.ndarray]:
    """The four pictures of an example, uint8 (H, W, 3) each, in the order of `PANELS`."""
    grey = np.asarray(Image.fromarray(example.image).convert("L"), np.float32)[..., None]
    colors = np.zeros((256, 3), np.float32)
    colors[: labels.classes] = class_colors(labels.class_names)
    rows, columns = np.indices(example.truth.shape)
    stripes = np.take(STRIPES, (rows + columns) // STRIPE_PIXELS % 2)[..., None]
    ignored = (example.truth == IGNORED)[..., None]
    wrong = (example.truth != example.predicted)[..., None]

    def mixed(over, opacity):
        return opacity * np.asarray(over, np.float32) + (1 - opacity) * grey

    truth = np.where(ignored, stripes, mixed(colors[example.truth], OPACITY))
    errors = np.where(ignored, stripes, np.where(wrong, np.asarray(WRONG_COLOR, np.float32), mixed(255, PALE)))
    return [example.image, *(picture.round().astype(np.uint8) for picture in (truth, mixed(colors[example.predicted], OPACITY), errors))]


@matplotlib.rc_context(PLAIN_TEXT)
def class_iou_bars(rows: Sequence[tuple[str, int, float, float]], path: pathlib.Path) -> None:
    """Bars of the IoU of each class in the colours of the overlays, the best on top, and a line at their mean.

    Args:
        rows: (name, pixels, accuracy, IoU) of each class; those whose IoU is NaN are left out.
        path: PNG file to write.
    """
    colors = class_colors([name for name, *_ in rows])
    order = sorted((k for k, row in enumerate(rows) if not math.isnan(row[3])), key=lambda k: rows[k][3])
    ious = [rows[k][3] for k in order]
    figure = matplotlib.figure.Figure(figsize=(7, 1.1 + 0.27 * len(order)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(order)), ious, color=[fractions(colors[k]) for k in order], edgecolor="0.4", linewidth=0.6)
    for place, iou in enumerate(ious):
        axes.text(
            iou + 0.01, place, f"{iou * 100:.1f}", va="center", fontsize=9, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        )
    axes.set_yticks(range(len(order)), [short(rows[k][0], MAX_BAR_NAME) for k in order])
    axes.set(xlim=(0, 1.08), ylim=(-0.7, max(1, len(order)) - 0.3), xlabel="intersection over union, %")
    axes.set_xticks(np.linspace(0, 1, 6), [f"{tick:.0f}" for tick in np.linspace(0, 100, 6)])
    if ious:
        mean = float(np.mean(ious))
        axes.axvline(mean, color="0.25", linewidth=1, linestyle="--", zorder=0)
        axes.set_title(f"Mean IoU {mean * 100:.2f} % over {len(ious)} classes")
    save_figure(figure, path)


def _legend(examples: Sequence[Example], labels: LabelMap) -> list[Patch]:
    """Patches of the classes that occur, and of what is no class."""
    counts = sum((np.bincount(ids.ravel(), minlength=256) for one in examples for ids in (one.truth, one.predicted)), np.zeros(256, int))
    classes = [k for k in np.argsort(-counts[: labels.classes], kind="stable") if counts[k]]
    colors = class_colors(labels.class_names)
    entries: list[tuple[RGB, str]] = [(colors[k], short(labels.class_names[k], LEGEND_LETTERS)) for k in classes[:MAX_LEGEND]]
    if len(classes) > MAX_LEGEND:
        entries.append(((255, 255, 255), f"and {len(classes) - MAX_LEGEND} more"))
    patches = [Patch(facecolor=fractions(color), edgecolor="0.4", label=name) for color, name in [*entries, (WRONG_COLOR, "wrong")]]
    if any((one.truth == IGNORED).any() for one in examples):
        patches.append(Patch(facecolor="0.92", edgecolor="0.7", hatch="////", label="ignored"))
    return patches


def _shrunk(example: Example) -> Example:
    """The example at a size for a panel; labels are those of the nearest pixels."""
    height, width = example.image.shape[:2]
    factor = PANEL_PIXELS / max(height, width)
    if factor >= 1:
        return example
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    image = np.asarray(Image.fromarray(example.image).resize(size, Image.Resampling.LANCZOS))
    ids = [np.asarray(Image.fromarray(one).resize(size, Image.Resampling.NEAREST)) for one in (example.truth, example.predicted)]
    return Example(example.caption, image, *ids)
