"""Tables and pictures of what was measured."""

from __future__ import annotations

import json
import os
import pathlib
import platform
from collections.abc import Sequence
from importlib import metadata

import matplotlib
import matplotlib.figure
import matplotlib.patches
import numpy as np

from benchmarks.floor import TRAINING_PASSES, Rates, floor_seconds
from benchmarks.passes import Measured
from benchmarks.scaling import Growth
from keras_widerresnet import reporting
from keras_widerresnet.colors import BLUE, GREY, VERMILLION, YELLOW
from keras_widerresnet.files import replacing

PACKAGES = (
    "keras-widerresnet",
    "keras",
    "tensorflow",
    "tensorflow-cpu",
    "jax",
    "torch",
    "torchvision",
    "onnxruntime",
    "openvino",
    "timm",
    "numpy",
)
OURS, OTHERS, ANOTHER = BLUE, GREY, YELLOW
KEY = {OURS: "ours", OTHERS: "the same network by others", ANOTHER: "another network"}
HATCHES = {OURS: "", OTHERS: "", ANOTHER: "//"}
# Median, lowest and highest, of inference and of training steps, and what they are called in a picture.
PER_IMAGE, PER_STEP = ("ms_per_image", "ms_lowest", "ms_highest"), ("s_per_step", "s_lowest", "s_highest")
UNITS = {PER_IMAGE: "ms an image", PER_STEP: "s a step"}
COLUMNS = ("workload", "contender", "batch", *PER_IMAGE, *PER_STEP, "images_per_second", "gmac_per_second")
COLUMNS += ("speed", "share_of_floor", "difference", "peak_gb", "memory", "first_call_s", "note")
AXIS_NAMES = {"batch_size": "images in a batch", "size": "side of the images, pixels", "width": "width factor"}


def comparison(found: Sequence[Measured], rates: Rates, training: bool = False) -> list[dict[str, object]]:
    """One row for each contender, workload and batch size; a workload's first contender is what its others are compared with.

    Args:
        found: from `passes.measure`.
        rates: of the same machine in the same run.
        training: whether these were training steps.

    Returns:
        Rows of: `workload` (if it has a name), `contender`, `batch`, `ms_per_image` (median), `ms_lowest` and `ms_highest`, or of training
        steps `s_per_step`, `s_lowest` and `s_highest`; `images_per_second`, `gmac_per_second` (10**9 multiply-adds of the network a
        second), `speed` (images a second over the first contender's), `share_of_floor` (the floor's time over that measured), `peak_gb`,
        `memory` (over the first contender's), `difference` (of the outputs from the first's, relative to the largest), `first_call_s` and
        `note`. Without the first contender's figures there is nothing to compare with.
    """
    rows = []
    for measured in found:
        workload = measured.workload
        row = {"workload": workload.name} if workload.name else {}
        row |= {"contender": measured.contender.name, "batch": workload.batch_size}
        if measured.error:
            rows.append({**row, "note": measured.error})
            continue
        seconds = (measured.median, min(measured.seconds), max(measured.seconds))
        scale = 1 if training else 1e3 / workload.batch_size
        row |= dict(zip(PER_STEP if training else PER_IMAGE, (scale * value for value in seconds), strict=True))
        is_other_network = measured.contender.multiply_adds is not None
        multiply_adds = measured.multiply_adds * (TRAINING_PASSES if training else 1)
        per_second = workload.batch_size / measured.median
        row |= {"images_per_second": per_second, "gmac_per_second": per_second * multiply_adds / 1e9}
        row |= {"peak_gb": measured.peak_bytes / 1e9, "first_call_s": measured.first_seconds}
        row["note"] = "another network" if is_other_network else ""
        if not is_other_network:
            row["share_of_floor"] = floor_seconds(workload, rates, training, measured.contender.precision) / measured.median
        first = next(other for other in found if other.workload == workload)
        if not first.error:
            row |= {"speed": first.median / measured.median, "memory": measured.peak_bytes / first.peak_bytes}
            row |= {} if is_other_network else {"difference": measured.differs_from(first)}
        rows.append({name: row[name] for name in COLUMNS if name in row})
    return rows


def write_csv(rows: Sequence[dict[str, object]], path: pathlib.Path) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as temporary:
        reporting.write_csv(temporary, columns, ([row.get(name, "") for name in columns] for row in rows))


def as_text(rows: Sequence[dict[str, object]]) -> str:
    """The rows as a Markdown table, three significant digits."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_in_words(row.get(name, "")) for name in columns] for row in rows]
    return reporting.markdown_table(cells, [name.replace("_", " ") for name in columns])


def write_machine(path: pathlib.Path, rates: Rates | None, threads: int) -> None:
    """What the figures were measured on: processor, threads, versions, and the measured rates."""
    machine = {"processor": _processor(), "threads": threads, "cores": os.cpu_count(), "python": platform.python_version()}
    installed = {distribution.metadata["Name"].replace("_", "-"): distribution.version for distribution in metadata.distributions()}
    machine["versions"] = {name: installed[name] for name in PACKAGES if name in installed}
    if rates:
        machine["gmac_per_second"] = {precision: rate / 1e9 for precision, rate in rates.multiply_adds.items()}
        machine["copied_gb_per_second"] = rates.bytes / 1e9
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(machine, indent=2) + "\n")


@matplotlib.rc_context(reporting.STYLE)
def bars(rows: Sequence[dict[str, object]], ours: set[str], floors: dict[tuple[str, int], float], title: str, path: pathlib.Path) -> None:
    """The time of every contender in the unit of the table, one panel for each workload and batch size; a line shows the network's floor.

    Rows without figures are left out; nothing is drawn if no other is there.

    Args:
        rows: from `comparison`.
        ours: names of our own contenders.
        floors: of each workload's name and batch size, in the unit of the rows.
        title: of the picture.
        path: PNG file to write.
    """
    rows = [row for row in rows if PER_IMAGE[0] in row or PER_STEP[0] in row]
    if not rows:
        return
    panels: dict[tuple[str, int], list[dict[str, object]]] = {}
    for row in rows:
        panels.setdefault((row.get("workload", ""), row["batch"]), []).append(row)
    heights = [0.3 * len(shown) + 1.1 for shown in panels.values()]
    figure = matplotlib.figure.Figure(figsize=(reporting.WIDTH, sum(heights) + 0.5), layout="constrained")
    for axes, key in zip(figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0], panels, strict=True):
        _panel(axes, panels[key], ours, floors[key])
        axes.set_title(", ".join(filter(None, (key[0], f"batch {key[1]}"))), loc="left", pad=18)  # above the floor's name
    shown_colors = {_color(row, ours) for row in rows}
    patches = [
        matplotlib.patches.Patch(facecolor=color, hatch=HATCHES[color], edgecolor="0.35", linewidth=0.4, label=label)
        for color, label in KEY.items()
        if color in shown_colors
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False)
    figure.suptitle(title)
    reporting.save_figure(figure, path)


def _panel(axes, rows: Sequence[dict[str, object]], ours: set[str], floor: float) -> None:
    """Draws the bars of one workload, the fastest first and other networks last."""
    columns = PER_IMAGE if PER_IMAGE[0] in rows[0] else PER_STEP
    rows = sorted(rows, key=lambda row: (row["note"] != "", row[columns[0]]))
    times, lowest, highest = (np.array([row[column] for row in rows]) for column in columns)
    colors = [_color(row, ours) for row in rows]
    axes.barh(
        range(len(rows)),
        times,
        color=colors,
        hatch=[HATCHES[color] for color in colors],
        edgecolor="0.35",
        linewidth=0.4,
        xerr=[times - lowest, highest - times],
        error_kw={"ecolor": "#222222", "elinewidth": 1},
    )
    axes.set_yticks(range(len(rows)), [row["contender"] for row in rows])
    axes.invert_yaxis()
    for place, (time, high) in enumerate(zip(times, highest, strict=True)):
        axes.text(high, place, f"  {_time(time, columns)}", va="center", fontsize=9)
    axes.axvline(floor, color="black", linewidth=1.2, linestyle=":")
    axes.annotate("floor in float32", (floor, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=9)
    axes.set_xlabel(f"{UNITS[columns]}: median, lowest and highest")
    axes.set_xlim(0, 1.12 * highest.max())


def _time(value: float, columns: tuple[str, ...]) -> str:
    return f"{value:.0f}" if columns == PER_IMAGE else f"{value:#.3g}"


@matplotlib.rc_context(reporting.STYLE)
def growth_curves(curves: Sequence[Growth], title: str, path: pathlib.Path) -> None:
    """Seconds against what grows, on logarithmic axes, with the fitted exponents and the multiply-adds' own."""
    axes_names = list(dict.fromkeys(curve.axis for curve in curves))
    figure = matplotlib.figure.Figure(figsize=(reporting.WIDTH, 3.8), layout="constrained")
    panels = figure.subplots(1, len(axes_names), squeeze=False, sharey=True)[0]
    for panel, name in zip(panels, axes_names, strict=True):
        looks = ((BLUE, "o"), (VERMILLION, "s"))
        for curve, (color, marker) in zip([curve for curve in curves if curve.axis == name], looks, strict=False):
            label = f"{curve.task}: exponent {curve.exponent:.2f}"
            panel.plot(curve.values, curve.seconds, f"{marker}-", color=color, markersize=4, linewidth=1.2, label=label)
            proportional = [curve.seconds[-1] * count / curve.multiply_adds[-1] for count in curve.multiply_adds]
            panel.plot(curve.values, proportional, ":", color=color, linewidth=1)
        expected = next(curve.expected_exponent for curve in curves if curve.axis == name)
        panel.plot([], [], ":", color="#444444", label=f"as multiply-adds: {expected:.2f}")
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xticks(curve.values, [f"{value:g}" for value in curve.values], fontsize=8)
        panel.minorticks_off()
        panel.set_xlabel(AXIS_NAMES[name])
        panel.legend(fontsize=8, frameon=False, loc="upper left")
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("seconds a batch")
    low, high = panels[0].get_ylim()
    panels[0].set_ylim(low, high * (high / low) ** 0.3)  # room for the legends
    figure.suptitle(title)
    reporting.save_figure(figure, path)


def _color(row: dict[str, object], ours: set[str]) -> str:
    if row["contender"] in ours:
        return OURS
    return ANOTHER if row["note"] else OTHERS


def growth_rows(curves: Sequence[Growth]) -> list[dict[str, object]]:
    """One row for each point."""
    return [
        {
            "task": curve.task,
            "axis": curve.axis,
            "value": value,
            "seconds": seconds,
            "gmac_per_second": count / seconds / 1e9,
            "fitted_exponent": curve.exponent,
            "exponent_of_multiply_adds": curve.expected_exponent,
        }
        for curve in curves
        for value, seconds, count in zip(curve.values, curve.seconds, curve.multiply_adds, strict=True)
    ]


def _in_words(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1e}" if value and abs(value) < 1e-3 else f"{value:#.3g}".rstrip(".") if abs(value) < 1000 else f"{value:.0f}"


def _processor() -> str:
    """The model's name where the system tells it."""
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
