"""A network as a chain of residual units, each with the layers before it, its shortcut and its block."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras
from keras import layers

from keras_widerresnet.errors import InputError

# Only these layers, the pre-activation (paper), belong to the unit if they precede the fork.
_PREACTIVATION = (layers.BatchNormalization, layers.LayerNormalization, layers.Activation, layers.ReLU, layers.LeakyReLU)


@dataclasses.dataclass(frozen=True)
class Link:
    """One residual unit and the layers before it.

    Args:
        name: name of the unit's `Add` layer.
        before: model from the previous unit's sum (or the network's input) to this unit's input, e.g. the stem or a pool; None if empty.
        shortcut: model from the unit's input to one summand of its output; None for the identity.
        block: model from the unit's input to the other summand, f_i. Both may begin with the same normalisation (of a projection).
    """

    name: str
    before: keras.Model | None
    shortcut: keras.Model | None
    block: keras.Model

    @property
    def shapes(self) -> tuple[tuple, tuple]:
        """Shapes of the unit's input and output, without the batch axis."""
        return tuple(self.block.input.shape[1:]), tuple(self.block.output.shape[1:])


@dataclasses.dataclass(frozen=True)
class ResidualChain:
    """A network cut after the sum of every residual unit, as models that share its layers.

    Args:
        links: the units, first to last.
        head: model from the last unit's output to the network's output.
    """

    links: tuple[Link, ...]
    head: keras.Model

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(link.name for link in self.links)


def residual_chain(network: keras.Model, units: Sequence[str] | None = None) -> ResidualChain:
    """Cuts a network into its residual units.

    The shortcut is the branch with fewer weighted layers. A unit begins where its two branches fork, or before the normalisation and
    activation that precede the fork (a projection of the pre-activated input); earlier layers (stem, pools) do not belong to the unit.

    Args:
        network: a functional model with one input and one output that is a chain of residual units, of this package or any other.
        units: names of the `Add` layers that end the units, in order; None for all `Add` layers.

    Raises:
        InputError: if the network is not such a chain.
    """
    if not isinstance(network, keras.Model) or not hasattr(network, "operations") or len(network.inputs) != 1 or len(network.outputs) != 1:
        raise InputError(f"The network must be a functional Keras model with one input and one output. Received: {network!r}")
    known = {layer.name: layer for layer in network.layers if isinstance(layer, layers.Add)}
    missing = [name for name in units or () if name not in known]
    if missing or not known:
        raise InputError(f"Residual units end in Add layers; {network.name!r} has {list(known) or 'none'}. Received: {missing or 'all'}")
    links, start = [], network.input
    try:
        for name in units if units is not None else known:
            links.append(_link(start, known[name]))
            start = known[name].output
        return ResidualChain(tuple(links), keras.Model(start, network.output))
    except ValueError as error:  # Keras detects a cut that does not separate the network
        raise InputError(f"{network.name!r} is not a chain of residual units: {str(error).splitlines()[0]}") from None


def _link(start: keras.KerasTensor, add: layers.Add) -> Link:
    if len(add.input) != 2:
        raise InputError(f"A residual unit is the sum of a shortcut and a branch. Layer {add.name!r} adds {len(add.input)} tensors")
    ways = sorted(add.input, key=lambda way: sum(bool(layer.weights) for layer in _layers(start, way)))
    paths = [_layers(start, way) for way in ways]
    fork = _unit_input(start, [layer for layer in paths[1] if layer in paths[0]])
    shortcut, block = (None if way is fork else keras.Model(fork, way) for way in ways)
    if block is None:
        raise InputError(f"Layer {add.name!r} adds a tensor to itself: that is not a residual unit")
    return Link(add.name, None if fork is start else keras.Model(start, fork), shortcut, block)


def _layers(start: keras.KerasTensor, end: keras.KerasTensor) -> list[layers.Layer]:
    """Returns the layers from one tensor to another, in order."""
    if end is start:
        return []
    return [layer for layer in keras.Model(start, end).layers if not isinstance(layer, layers.InputLayer)]


def _unit_input(start: keras.KerasTensor, common: list[layers.Layer]) -> keras.KerasTensor:
    while common and isinstance(common[-1], _PREACTIVATION):
        common = common[:-1]
    return common[-1].output if common else start
