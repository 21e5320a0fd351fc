"""A whole PyTorch training program, as `train.py` is one: from class folders of images to metrics and checkpoints.

`python -m benchmarks.torch_run JSON`, the fields of a `Job` as a JSON object. It imports neither Keras nor TensorFlow.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Iterable

import torch
from torch import nn

from benchmarks.torch_network import TorchNetwork, decayed, layout
from keras_widerresnet.structures import find_structure

try:
    import torchvision
except RuntimeError:
    # PyPI's torchvision beside a CPU build of PyTorch cannot load its compiled operators. None is used here, but two must be declared.
    DECLARED = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        DECLARED.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision
from torchvision import transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # those of `preprocessing`, which imports Keras
PADDING_FRACTION = 8  # that of `data.augment`


@dataclasses.dataclass(frozen=True)
class Job:
    """What is to be trained.

    Args:
        folder: class folders of images, in `train` and `test`.
        output_dir: where to write `metrics.csv` and the checkpoints.
        structure, width, size: of the network.
        batch_size, epochs, learning_rate, momentum, weight_decay: of the training.
        threads: number of CPU threads.
        workers: number of processes that read images; 0 for the program's own.
        channels_last: the layout of the maps.
    """

    folder: str
    output_dir: str
    structure: str
    width: float
    size: int
    batch_size: int
    epochs: int
    learning_rate: float
    momentum: float
    weight_decay: float
    threads: int
    workers: int
    channels_last: bool


def main(job: Job) -> None:
    """Trains a network; each epoch ends with a test, a line of metrics and a checkpoint."""
    torch.manual_seed(0)
    torch.set_num_threads(job.threads)
    padded = transforms.RandomCrop(job.size, job.size // PADDING_FRACTION, padding_mode="reflect")
    train = _loader(job, "train", (padded, transforms.RandomHorizontalFlip()), shuffle=True, drop_last=True)
    test = _loader(job, "test", (transforms.CenterCrop(job.size),))
    network = TorchNetwork(find_structure(job.structure), job.width, len(train.dataset.classes))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    network.to(memory_format=layout(job.channels_last))
    optimizer = torch.optim.SGD(decayed(network, job.weight_decay), job.learning_rate, job.momentum, nesterov=True)
    output_dir = pathlib.Path(job.output_dir)
    output_dir.mkdir(parents=True)
    with (output_dir / "metrics.csv").open("w", newline="") as file:
        metrics = csv.DictWriter(file, ("epoch", "images_per_second", "val_accuracy"))
        metrics.writeheader()
        for epoch in range(job.epochs):
            speed = _train(job, network, optimizer, train)
            metrics.writerow({"epoch": epoch, "images_per_second": speed, "val_accuracy": _accuracy(job, network, test)})
            file.flush()
            state = {"epoch": epoch, "network": network.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state, output_dir / f"checkpoint-{epoch}.pth")


def _loader(job: Job, part: str, crop: Iterable[nn.Module], **options: bool) -> torch.utils.data.DataLoader:
    steps = (transforms.Resize(job.size), *crop, transforms.ToTensor(), transforms.Normalize(MEAN, STD))
    images = torchvision.datasets.ImageFolder(str(pathlib.Path(job.folder) / part), transforms.Compose(steps))
    kept = {"persistent_workers": True} if job.workers else {}
    return torch.utils.data.DataLoader(images, job.batch_size, num_workers=job.workers, **kept, **options)


def _train(job: Job, network: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable) -> float:
    """Trains for one epoch; returns the images per second."""
    network.train()
    begin, count = time.perf_counter(), 0
    for images, labels in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images.to(memory_format=layout(job.channels_last))), labels)
        loss.backward()
        optimizer.step()
        count += len(images)
    return count / (time.perf_counter() - begin)


@torch.inference_mode()
def _accuracy(job: Job, network: nn.Module, batches: Iterable) -> float:
    network.eval()
    right = count = 0
    for images, labels in batches:
        logits = network(images.to(memory_format=layout(job.channels_last)))
        right += int((logits.argmax(1) == labels).sum())
        count += len(labels)
    return right / count


if __name__ == "__main__":
    main(Job(**json.loads(sys.argv[1])))
