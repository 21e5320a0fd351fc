"""The pictures of an analysis, each as PNG and SVG."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import matplotlib
import matplotlib.figure
import numpy as np
from matplotlib.patches import FancyBboxPatch, Patch
from matplotlib.patheffects import withStroke

from keras_widerresnet.analysis.effective_depth import EffectiveDepth
from keras_widerresnet.analysis.measure import Lesions
from keras_widerresnet.analysis.paths import PathLengths
from keras_widerresnet.analysis.unravel import Unravelled
from keras_widerresnet.colors import BLUE, GREY, SKY_BLUE, VERMILLION
from keras_widerresnet.reporting import STYLE, WIDTH, save_vector_figure

TRAINED, FIXED = "#9ad1f1", "#e8e8e8"


@matplotlib.rc_context(STYLE)
def unravelled(view: Unravelled, path: pathlib.Path) -> None:
    """The sub-networks M_0 … M_n, one a row; a grey block is not trained in that sub-network."""
    count = view.units
    figure = matplotlib.figure.Figure(figsize=(min(2.2 + 0.75 * count, 16), min(1.2 + 0.5 * count, 11)), layout="constrained")
    axes = figure.subplots()
    size = max(4.0, min(10.0, 160 / (count + 4)))
    for network in view.networks:
        row = -network.index
        axes.plot([-0.2, count + 0.8], [row, row], color="0.3", linewidth=0.8, zorder=0)
        axes.text(-0.9, row, f"$M_{{{network.index}}}$", ha="center", va="center", fontsize=size)
        for block, trained in enumerate(network.trained, start=1):
            if block < network.index:
                _arc(axes, block, row)
            box = FancyBboxPatch(
                (block - 0.24, row - 0.2), 0.48, 0.4, boxstyle="round,pad=0.04", facecolor=TRAINED if trained else FIXED, edgecolor="0.3"
            )
            axes.add_patch(box)
            color = "black" if trained else "0.55"
            axes.text(block, row, f"$f_{{{block}}}$", ha="center", va="center", fontsize=size, color=color)
    axes.plot([-0.2, -0.2], [0, -count], color="0.3", linewidth=0.8)
    axes.plot([count + 0.8, count + 0.8], [0, -count], color="0.3", linewidth=0.8)
    axes.text(-0.2, 0.45, "$y_0$", ha="center", fontsize=size)
    axes.text(count + 0.8, 0.45, f"$+\\,=\\,y_{{{count}}}$", ha="center", fontsize=size)
    axes.set(xlim=(-1.4, count + 1.5), ylim=(-count - 0.6, 1.0))
    axes.axis("off")
    axes.set_title(f"{count} units at effective depth {view.effective_depth}; blue: trained, grey: fixed")
    save_vector_figure(figure, path)


def _arc(axes, block: int, row: float) -> None:
    """The unit's shortcut, over its block."""
    angle = np.linspace(0, np.pi, 30)
    axes.plot(block + 0.42 * np.cos(angle), row + 0.4 * np.sin(angle), color="0.3", linewidth=0.8, zorder=0)


@matplotlib.rc_context(STYLE)
def gradient_shares(found: EffectiveDepth, path: pathlib.Path) -> None:
    """Share of each unit's gradient by later blocks crossed, with the effective depths; and the first unit's alone."""
    shares, count = found.shares, len(found.names)
    figure = matplotlib.figure.Figure(figsize=(WIDTH, max(3.8, min(6.5, 0.2 * count))), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(6, 5))
    unreachable = np.arange(count)[None] >= count - np.arange(count)[:, None]
    picture = left.imshow(np.ma.masked_where(unreachable, shares), aspect="auto", cmap="viridis", vmin=0)
    # White with a dark rim: seen on every colour of the map, and on white.
    (line,) = left.plot(np.array(found.units) - 0.5, range(count), "wo-", markersize=4, linewidth=1.5, label="effective depth")
    line.set(drawstyle="steps-mid", markeredgecolor="0.1", path_effects=[withStroke(linewidth=3, foreground="0.1")])
    left.set(xlabel="later blocks crossed, m", ylabel="unit", title="Share of each unit's gradient", yticks=range(count))
    left.set_yticklabels(found.names, fontsize=max(4, min(9, 220 / count)))
    left.legend(loc="lower right", facecolor="0.85")
    figure.colorbar(picture, ax=left)
    deepest = int(np.argmax(found.units))
    right.bar(range(count), 100 * shares[deepest], color=BLUE)
    label = f"effective depth {found.depth}:\nless than {found.threshold:.0%} beyond"
    right.axvline(found.depth - 0.5, color=VERMILLION, linestyle="--", label=label)
    right.set(xlabel="later blocks crossed, m", ylabel="share of the gradient, %", title=f"Unit {found.names[deepest]}")
    right.set_ylim(top=120 * shares[deepest].max())  # room for the legend
    right.legend()
    right.grid(alpha=0.3)
    save_vector_figure(figure, path)


@matplotlib.rc_context(STYLE)
def path_lengths(found: PathLengths, path: pathlib.Path) -> None:
    """After Veit et al. 2016: how many paths of each length there are, what one carries, and both together."""
    figure = matplotlib.figure.Figure(figsize=(WIDTH, 3.2), layout="constrained")
    counts, one, all_paths = figure.subplots(1, 3)
    lengths = np.arange(found.units + 1)
    low, high = np.percentile(found.magnitudes, (25, 75), axis=1)
    factor, fit = found.decay()
    first, last = found.carrying()
    counts.bar(lengths, found.counts, color=GREY)
    counts.set(title="Number of paths")
    one.semilogy(lengths, found.one_path, "o-", color=BLUE, markersize=3)
    one.fill_between(lengths, np.maximum(low, 1e-45), high, color=BLUE, alpha=0.2, linewidth=0)
    one.set(title=f"Gradient by one path\n× {factor:.3g} a block (R² {fit:.3f})")
    all_paths.axvspan(first - 0.5, last + 0.5, color=SKY_BLUE, alpha=0.25, linewidth=0)
    all_paths.bar(lengths, found.all_paths, color=BLUE)
    all_paths.set(title=f"Number × gradient\n(shaded: {first} to {last} hold 95 %)")
    for axes in (counts, one, all_paths):
        axes.set_xlabel("blocks on the path")
        axes.grid(alpha=0.3)
    save_vector_figure(figure, path)


@matplotlib.rc_context(STYLE)
def depth_over_training(names: Sequence[str], found: Sequence[EffectiveDepth], path: pathlib.Path) -> None:
    """Effective depth of several states of a network, in order, with the bootstrap interval."""
    figure = matplotlib.figure.Figure(figsize=(max(5, min(WIDTH, 0.9 * len(names))), 3.8), layout="constrained")
    axes = figure.subplots()
    depths = np.array([one.depth for one in found])
    spread = np.abs(np.array([one.interval for one in found]).T - depths)
    axes.errorbar(range(len(names)), depths, yerr=spread, fmt="o-", color=BLUE, capsize=3, label="network")
    axes.plot([np.median(one.units) for one in found], "s--", color=VERMILLION, label="median of its units")
    axes.axhline(len(found[-1].names), color="0.6", linestyle=":", label="number of units")
    axes.set(ylabel="effective depth", title="Effective depth over training", ylim=(0, 1.25 * len(found[-1].names)))
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)
    axes.legend()
    axes.grid(alpha=0.3)
    save_vector_figure(figure, path)


@matplotlib.rc_context(STYLE)
def lesions(names: Sequence[str], stage_begins: Sequence[bool], found: Lesions, path: pathlib.Path) -> None:
    """Error in percent without each unit, and without random sets of more and more; the first units of stages are orange."""
    figure = matplotlib.figure.Figure(figsize=(WIDTH, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    hatches = ["//" if begins else "" for begins in stage_begins]
    colors = [VERMILLION if begins else BLUE for begins in stage_begins]
    left.bar(range(len(names)), 100 * found.single, color=colors, hatch=hatches, edgecolor="white", linewidth=0)
    line = left.axhline(100 * found.intact, color="black", linestyle=":", label=f"whole network, {100 * found.intact:.1f} %")
    left.set_xticks(range(len(names)), names, rotation=90, fontsize=max(5, min(9, 220 / len(names))))
    left.set(ylabel="error, %", title="One unit dropped")
    first = Patch(facecolor=VERMILLION, hatch="//", edgecolor="white", linewidth=0, label="first unit of a stage")
    left.legend(handles=[first, Patch(facecolor=BLUE, label="other unit"), line], fontsize=8)
    low, middle, high = 100 * np.percentile(found.several, (0, 50, 100), axis=1)
    intact = 100 * found.intact
    right.plot([0, *found.counts], [intact, *middle], "o-", color=BLUE, markersize=3, label="median")
    right.fill_between([0, *found.counts], [intact, *low], [intact, *high], color=BLUE, alpha=0.2, linewidth=0, label="lowest to highest")
    if len(found.swapped):
        right.axhline(100 * np.median(found.swapped), color=VERMILLION, linestyle="--", label="two units swapped,\nmedian")
    right.set(xlabel="units dropped", ylabel="error, %", title="Random sets of units dropped")
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    save_vector_figure(figure, path)
