"""An independent PyTorch implementation of the networks, as a baseline for comparison."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from benchmarks.workload import CLASSES, Workload
from keras_widerresnet.structures import Pool, Structure, Unit, stage_filters
from keras_widerresnet.units import BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM
from keras_widerresnet.weights.original import TORCH_BATCH_NORM


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPSILON, momentum=1 - BATCH_NORM_MOMENTUM)


def _conv(in_channels: int, filters: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (kernel // 2)
    return nn.Conv2d(in_channels, filters, kernel, stride, padding, dilation, bias=False)


class TorchUnit(nn.Module):
    """One pre-activation unit; the modules have the official names."""

    def __init__(self, unit: Unit):
        super().__init__()
        channels = (unit.in_channels, *unit.filters)
        suffixes = [f"{unit.name}_branch2" + (f"b{index}" if index else "a") for index in range(len(unit.filters))]
        self.steps = [(f"bn{suffix}", f"res{suffix}") for suffix in suffixes]
        for index, (norm, conv) in enumerate(self.steps):
            stride = unit.stride if index == 0 else 1
            setattr(self, norm, _batch_norm(channels[index]))
            setattr(self, conv, _conv(*channels[index : index + 2], unit.kernels[index], stride, unit.dilations[index]))
        self.projection = f"res{unit.name}_branch1" if unit.projection else None
        if self.projection:
            setattr(self, self.projection, _conv(unit.in_channels, unit.filters[-1], 1, unit.stride))

    def forward(self, x):
        branch = shortcut = x
        for index, (norm, conv) in enumerate(self.steps):
            branch = nn.functional.relu(getattr(self, norm)(branch), inplace=True)
            if index == 0 and self.projection:
                shortcut = getattr(self, self.projection)(branch)
            branch = getattr(self, conv)(branch)
        return shortcut + branch


class TorchNetwork(nn.Module):
    """From images (batch, 3, H, W), as `preprocess_input` makes them but channels first, to logits (batch, classes).

    Halvings by pools follow the `"ceil"` convention (see `units.MaxPool`). While `checkpointed` is set, the backward pass recomputes
    the units' activations.
    """

    def __init__(self, structure: Structure, width: float = 1.0, classes: int = 1000):
        super().__init__()
        plan = structure.plan(width=width)
        self.checkpointed = False
        self.conv1a = _conv(3, stage_filters(width)[1][0], 3)
        self.trunk = nn.Sequential(*(self._pool(item) if isinstance(item, Pool) else TorchUnit(item) for item in plan))
        channels = [item for item in plan if isinstance(item, Unit)][-1].filters[-1]
        self.bn7 = _batch_norm(channels)
        self.head = f"linear{classes}"
        setattr(self, self.head, nn.Linear(channels, classes))

    @staticmethod
    def _pool(pool: Pool) -> nn.MaxPool2d:
        return nn.MaxPool2d(3, pool.stride, ceil_mode=True)

    def forward(self, images):
        x = self.conv1a(images)
        for part in self.trunk:
            x = checkpoint(part, x, use_reentrant=False) if self.checkpointed else part(x)
        x = nn.functional.relu(self.bn7(x), inplace=True)
        return getattr(self, self.head)(x.mean((2, 3)))

    def assign(self, parameters: Mapping[str, np.ndarray]) -> None:
        """Sets all weights from official parameters (name without `arg:`/`aux:` -> array in the official layout)."""
        state = {}
        for key, value in self.state_dict().items():
            module, kind = key.split(".")[-2:]
            suffix = TORCH_BATCH_NORM.get(kind) if module.startswith("bn") else kind
            state[key] = value if suffix is None else torch.from_numpy(np.ascontiguousarray(parameters[f"{module}_{suffix}"]))
        self.load_state_dict(state)


def load(workload: Workload) -> TorchNetwork:
    """Returns the workload's network with its weights, in training mode; PyTorch uses the workload's number of threads."""
    torch.set_num_threads(workload.threads)
    network = TorchNetwork(workload.record, workload.width, CLASSES)
    with np.load(workload.path("parameters.npz")) as parameters:
        network.assign(parameters)
    return network
