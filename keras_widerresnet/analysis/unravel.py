"""The unravelled view: n residual units as an ensemble of n + 1 sub-networks, and which blocks are trained at an effective depth."""

from __future__ import annotations

import dataclasses

from keras_widerresnet.errors import InputError


@dataclasses.dataclass(frozen=True)
class SubNetwork:
    """M_k: block k applied to the whole output of units 1 to k - 1; M_0 is the identity (paper).

    Args:
        index: the index k.
        trained: for blocks 1 to k, whether the gradient through this sub-network is non-negligible.
    """

    index: int
    trained: tuple[bool, ...]

    @property
    def fixed_blocks(self) -> tuple[int, ...]:
        """Numbers, starting from 1, of the blocks that are not trained in this sub-network."""
        return tuple(block for block, trained in enumerate(self.trained, start=1) if not trained)

    @property
    def trained_end_to_end(self) -> bool:
        return all(self.trained)

    def __str__(self) -> str:
        blocks = [f"f{block}" if trained else f"[f{block}]" for block, trained in enumerate(self.trained, start=1)]
        return f"M_{self.index}: " + " → ".join(["y0", *blocks])


@dataclasses.dataclass(frozen=True)
class Unravelled:
    """y_n = M_0 + M_1 + … + M_n at an effective depth; `str` returns one line per sub-network, with fixed blocks in brackets."""

    effective_depth: int
    networks: tuple[SubNetwork, ...]

    @property
    def units(self) -> int:
        return len(self.networks) - 1

    @property
    def over_deepened(self) -> bool:
        return self.effective_depth < self.units

    def __str__(self) -> str:
        whole = sum(network.trained_end_to_end for network in self.networks[1:])
        title = (
            f"{self.units} units at effective depth {self.effective_depth}: {len(self.networks)} sub-networks, {whole} of the "
            f"{self.units} with blocks trained end to end. [f]: not trained in that sub-network."
        )
        return "\n".join([title, *map(str, self.networks)])


def unravel(units: int, effective_depth: int | None = None) -> Unravelled:
    """Returns the ensemble that `units` residual units form.

    Args:
        units: number n of units, 1 or more.
        effective_depth: l, 1 or more: block j of M_k, whose gradient crosses k - j later blocks, is not trained if k - j >= l. If None,
            all blocks are trained in all sub-networks.

    Raises:
        InputError: if a number is below 1.
    """
    depth = units if effective_depth is None else effective_depth
    if units < 1 or depth < 1:
        raise InputError(f"The number of units and the effective depth must be 1 or more. Received: {units}, {effective_depth}")
    return Unravelled(depth, tuple(SubNetwork(k, tuple(k - block < depth for block in range(1, k + 1))) for k in range(units + 1)))
