"""`keras-widerresnet describe-networks`: the table of networks."""

from __future__ import annotations

from keras_widerresnet.cli.command import Command, NoOptions


def run(_: NoOptions) -> None:
    """Prints the table of networks, computed from their definitions."""
    from tabulate import tabulate

    from keras_widerresnet.structures import STRUCTURES

    rows = []
    for name, structure in STRUCTURES.items():
        published = structure.published
        rows.append(
            (
                f"`WideResNet{name}`" if name.isalnum() else f'`WiderResNet("{name}")`',
                str(structure),
                structure.depth,
                f"{structure.parameters() / 1e6:.1f} M",
                f"{structure.multiply_adds() / 1e9:.1f} G at {structure.crop_size}",
                f"{published.top1_error} / {published.top5_error}" if published else "–",
            )
        )
    headers = ("network", "structure", "depth", "parameters", "multiply-adds", "top-1 / top-5 error %, *published*")
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


COMMAND = Command(
    "describe-networks",
    "Prints the networks of the paper and the release: structure, depth, size, cost and published errors.",
    "keras-widerresnet describe-networks",
    NoOptions,
    run,
)
