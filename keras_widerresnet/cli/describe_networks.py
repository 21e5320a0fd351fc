"""`keras-widerresnet describe-networks`: the table of networks."""

from __future__ import annotations

from keras_widerresnet.cli.command import Command, NoOptions

# Processor time of `predict` for one image of the crop size over the two cores that it ran on, in ms: see docs/performance.md.
MEASURED_MS = {"A": 518, "B": 204, "C": 183, "D": 156, "E": 130, "F": 131, "224-0-1-1-1-1-1-1": 164}


def run(_: NoOptions) -> None:
    """Prints the table of networks, computed from their definitions."""
    from tabulate import tabulate

    from keras_widerresnet.structures import STRUCTURES

    rows = []
    for name, structure in STRUCTURES.items():
        errors = structure.published
        rows.append(
            (
                f"`WideResNet{name}`" if name.isalnum() else f'`WiderResNet("{name}")`',
                str(structure),
                structure.depth,
                f"{structure.parameters() / 1e6:.1f} M",
                f"{(structure.parameters() + structure.statistics()) * 4 / 1e6:.0f} MB",
                f"{structure.multiply_adds() / 1e9:.1f} G at {structure.crop_size}",
                f"{MEASURED_MS[name]} ms" if name in MEASURED_MS else "–",
                f"{errors.top1_error} / {errors.top5_error}" if errors else "–",
            )
        )
    published = "top-1 / top-5 error %, *published*"
    headers = ("network", "structure", "depth", "parameters", "size", "multiply-adds", "two cores, *measured here*", published)
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


COMMAND = Command(
    "describe-networks",
    "Prints the networks of the paper and the release: structure, depth, size, cost, CPU time and published errors.",
    "keras-widerresnet describe-networks",
    NoOptions,
    run,
)
