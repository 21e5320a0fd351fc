"""`keras-widerresnet list-weights`: the pretrained weights available by name."""

from __future__ import annotations

from keras_widerresnet.cli.command import Command, NoOptions


def run(_: NoOptions) -> None:
    """Prints the table of pretrained weights."""
    from keras_widerresnet.weights.listing import list_weights

    list_weights()


COMMAND = Command(
    "list-weights",
    "Prints the pretrained weights: network, classes, size, sources, licence and result.",
    "keras-widerresnet list-weights",
    NoOptions,
    run,
)
