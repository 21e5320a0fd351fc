"""An independent PyTorch implementation of the networks, as a baseline for comparison. It does not import Keras."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from keras_widerresnet.structures import Pool, Structure, Unit, head_filters, stage_filters

BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM = 1.001e-5, 0.9  # those of `units`, which imports Keras
HEAD_DILATION = 12  # that of `fcn`
SAFE_CHANNELS = 16


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPSILON, momentum=1 - BATCH_NORM_MOMENTUM)


def _conv(in_channels: int, filters: int, kernel: int, stride: int = 1, dilation: int = 1, bias: bool = False) -> nn.Conv2d:
    padding = dilation * (kernel // 2)
    return nn.Conv2d(in_channels, filters, kernel, stride, padding, dilation, bias=bias)


def _projection(in_channels: int, filters: int, stride: int) -> nn.Conv2d:
    """Returns a 1x1 convolution; with channels last, the gradient of a strided one of few channels crashes (oneDNN issue 6035)."""
    if stride == 1 or in_channels >= SAFE_CHANNELS:
        return _conv(in_channels, filters, 1, stride)
    return ThinnedConv(in_channels, filters, stride)


class ThinnedConv(nn.Conv2d):
    """A 1x1 convolution of every `thinning`-th row and column, which are taken out first."""

    def __init__(self, in_channels: int, filters: int, thinning: int):
        super().__init__(in_channels, filters, 1, bias=False)
        self.thinning = thinning

    def forward(self, x):
        return super().forward(nn.functional.avg_pool2d(x, 1, self.thinning))


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
            setattr(self, self.projection, _projection(unit.in_channels, unit.filters[-1], unit.stride))

    def forward(self, x):
        branch = shortcut = x
        for index, (norm, conv) in enumerate(self.steps):
            branch = nn.functional.relu(getattr(self, norm)(branch), inplace=True)
            if index == 0 and self.projection:
                shortcut = getattr(self, self.projection)(branch)
            branch = getattr(self, conv)(branch)
        return shortcut + branch


class TorchNetwork(nn.Module):
    """From images (batch, 3, H, W), as `preprocess_input` makes them but channels first, to logits.

    These are (batch, classes) or, of the segmentation network with its one or two `classifier_convs`, (batch, classes, H / stride,
    W / stride). Halvings by pools follow the `"ceil"` convention (see `units.MaxPool`). While `checkpointed` is set, the backward pass
    recomputes the units' activations.
    """

    def __init__(
        self, structure: Structure, width: float = 1.0, classes: int = 1000, output_stride: int | None = None, classifier_convs: int = 0
    ):
        super().__init__()
        plan = structure.plan(width=width, output_stride=output_stride)
        self.checkpointed = False
        self.conv1a = _conv(3, stage_filters(width)[1][0], 3)
        self.trunk = nn.Sequential(*(self._pool(item) if isinstance(item, Pool) else TorchUnit(item) for item in plan))
        channels = [item for item in plan if isinstance(item, Unit)][-1].filters[-1]
        self.bn7 = _batch_norm(channels)
        self.is_segmentation, self.head = classifier_convs > 0, f"linear{classes}"
        if not self.is_segmentation:
            setattr(self, self.head, nn.Linear(channels, classes))
            return
        if classifier_convs == 2:
            filters, _ = head_filters(classes, classifier_convs, width)
            self.conv6a = _conv(channels, filters, 3, dilation=HEAD_DILATION, bias=True)
            channels = filters
        setattr(self, self.head, _conv(channels, classes, 3, dilation=HEAD_DILATION, bias=True))

    @staticmethod
    def _pool(pool: Pool) -> nn.MaxPool2d:
        if pool.stride == 1:
            return nn.MaxPool2d(3, 1, padding=pool.dilation, dilation=pool.dilation)
        return nn.MaxPool2d(3, pool.stride, ceil_mode=True)

    def forward(self, images):
        x = self.conv1a(images)
        for part in self.trunk:
            x = checkpoint(part, x, use_reentrant=False) if self.checkpointed else part(x)
        x = nn.functional.relu(self.bn7(x), inplace=True)
        if not self.is_segmentation:
            x = x.mean((2, 3))
        elif hasattr(self, "conv6a"):
            x = nn.functional.relu(self.conv6a(x), inplace=True)
        return getattr(self, self.head)(x)


def decayed(network: nn.Module, decay: float) -> list[dict[str, object]]:
    """Returns the parameter groups of an optimizer that decays kernels and batch-norm scales, and nothing else."""
    groups: dict[float, list] = {0.0: [], decay: []}
    for name, parameter in network.named_parameters():
        groups[0.0 if name.endswith("bias") else decay].append(parameter)
    return [{"params": parameters, "weight_decay": rate} for rate, parameters in groups.items()]


def layout(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format
