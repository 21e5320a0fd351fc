"""A workload's weights in the PyTorch network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from benchmarks.torch_network import TorchNetwork
from benchmarks.workload import Workload
from keras_widerresnet.weights.original import TORCH_BATCH_NORM


def load(workload: Workload) -> TorchNetwork:
    """Returns the workload's network with its weights, in training mode; PyTorch uses the workload's number of threads."""
    torch.set_num_threads(workload.threads)
    network = TorchNetwork(workload.record, workload.width, workload.classes, workload.output_stride, workload.classifier_convs)
    with np.load(workload.path("parameters.npz")) as parameters:
        assign(network, parameters)
    return network


def assign(network: TorchNetwork, parameters: Mapping[str, np.ndarray]) -> None:
    """Sets all weights from official parameters (name without `arg:`/`aux:` -> array in the official layout)."""
    state = {}
    for key, value in network.state_dict().items():
        module, kind = key.split(".")[-2:]
        suffix = TORCH_BATCH_NORM.get(kind) if module.startswith("bn") else kind
        state[key] = value if suffix is None else torch.from_numpy(np.ascontiguousarray(parameters[f"{module}_{suffix}"]))
    network.load_state_dict(state)
