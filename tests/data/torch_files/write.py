"""Writes the files beside it with PyTorch: `python tests/data/torch/write.py`. Written once, with PyTorch 2.13 and safetensors 0.8.

`checkpoint_{zip,legacy}.pth` are the same training checkpoint in both formats of `torch.save`, `module_{zip,legacy}.pth` a whole pickled
module, `checkpoint.safetensors` its state dict; `expected.npz` has the values of the state dict as PyTorch gives them, bfloat16 as float32.
`psa_{zip,legacy}.pth` and `psa.safetensors` are a narrow network of psa's names with the parameters of `refparams.py`, seed 5, as bfloat16.
"""

import collections
import pathlib
import sys

import numpy as np
import safetensors.torch
import torch

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import refparams  # noqa: E402

# psa's name, shape -> the official name: "28-0-1-0-0-0-0-0" of width 0.0625, whose only unit is in B2.
PSA = {
    "conv1a.weight": ("conv1a_weight", (8, 3, 3, 3)),
    "b2.conv_branch2a.weight": ("res2a_branch2a_weight", (8, 8, 3, 3)),
    "b2.conv_branch2b1.weight": ("res2a_branch2b1_weight", (8, 8, 3, 3)),
    "b2.conv_branch1.weight": ("res2a_branch1_weight", (8, 8, 1, 1)),
}
NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}
for theirs, ours in {"b2.bn_branch2a": "bn2a_branch2a", "b2.bn_branch2b1": "bn2a_branch2b1", "bn7": "bn7"}.items():
    PSA |= {f"{theirs}.{suffix}": (f"{ours}_{official}", (8,)) for suffix, official in NORM.items()}


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(2))


def state_dict():
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 7
    state = collections.OrderedDict()
    for name in ("float32", "float64", "float16", "bfloat16"):
        state[f"values.{name}"] = (torch.linspace(-3, 3, 12, dtype=torch.float64) ** 3).reshape(3, 4).to(getattr(torch, name))
    for name in ("int64", "int32", "int16", "int8", "uint8", "bool"):
        state[f"values.{name}"] = torch.tensor([0, 1, 2, 100, 127]).to(getattr(torch, name))
    state |= {
        "shared.whole": base,
        "shared.again": base,
        "shared.transposed": base.T,
        "shared.part": base[1:, 1::2],
        "shared.column": base[:, 2],
        "one.scalar": torch.tensor(2.5),
        "one.empty": torch.zeros(0, 3),
        "one.parameter": torch.nn.Parameter(torch.full((2, 2), 0.25)),
        "one.bfloat16 part": torch.linspace(0, 1, 9).to(torch.bfloat16)[2:7:2],
    }
    return state


def checkpoint():
    layer = torch.nn.Linear(3, 2)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(0.5)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {
        "epoch": 3,
        "arch": "wider_resnet38",
        "state_dict": state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [30, 60]).state_dict(),
        "mean_iu": np.float64(0.75),
        "images": 2**40,
        "labels": {1, 2, 3},
        "kinds": [torch.float32, torch.device("cpu"), torch.Size([2, 3]), None, True, (1, 2, 3, 4)],
    }


def psa():
    return {
        name: torch.from_numpy(refparams.array(official, shape, seed=5)).to(torch.bfloat16) for name, (official, shape) in PSA.items()
    }


if __name__ == "__main__":
    torch.manual_seed(0)
    module = Network()
    for kind, is_zip in (("zip", True), ("legacy", False)):
        for name, content in (("checkpoint", checkpoint()), ("module", module), ("psa", {"state_dict": psa(), "epoch": 1})):
            torch.save(content, HERE / f"{name}_{kind}.pth", _use_new_zipfile_serialization=is_zip)
    whole = {name: tensor.detach().clone().contiguous() for name, tensor in state_dict().items()}
    safetensors.torch.save_file(whole, HERE / "checkpoint.safetensors", metadata={"format": "pt"})
    safetensors.torch.save_file(psa(), HERE / "psa.safetensors")
    plain = {name: tensor.float() if tensor.dtype == torch.bfloat16 else tensor for name, tensor in whole.items()}
    np.savez_compressed(HERE / "expected.npz", **{name: tensor.numpy() for name, tensor in plain.items()})
