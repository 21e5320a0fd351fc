"""A training run as one record: what is not here cannot change it."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_widerresnet.data.limits import ImageOptions
from keras_widerresnet.data.names import NO_VALIDATION, OWN_VALIDATION, held_out_share
from keras_widerresnet.errors import InputError
from keras_widerresnet.options import DATA, check, documented, option
from keras_widerresnet.structures import DOWNSAMPLINGS, FREEZABLE, POOL_PADDINGS, Structure, check_stage, find_structure

RUN, NETWORK, OPTIMISATION, AUGMENTATION, DEVICES = "Run", "Network", "Optimisation", "Augmentation", "Devices"
PRECISIONS = ("none", "bfloat16", "float16")
SCHEDULES = ("linear", "cosine", "constant")
STRATEGIES = ("mirrored", "one_device", "multi_worker", "tpu")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseAugmentation:
    """What may happen to the training images of every task."""

    color_jitter: float = option(
        0.0, help="brightness, contrast and saturation change by 1 ± this, in random order", group=AUGMENTATION, least=0, most=1
    )
    flip: bool = option(True, help="mirror half of the training images", group=AUGMENTATION)


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(ImageOptions):
    """What every run has, whatever its task; see `training.run.train`.

    Raises:
        InputError: for a value out of range, or two that contradict each other.
    """

    output_dir: str = option(help="run directory: flags, metrics, checkpoints, networks, pictures and report", group=RUN, repeats=False)
    data: str = option(help="data set, see the task", group=DATA)
    structure: str = option("A", help="A, A1, A2, B ... F, or the notation S-n1-n2-n3-n4-n5-n6-n7", group=NETWORK)
    width: float = option(1.0, help="factor for the channels of all stages", group=NETWORK, least=0)
    downsampling: str = option(
        "", help="how resolution is halved; empty for the structure's own way", group=NETWORK, choices=("", *DOWNSAMPLINGS)
    )
    pool_padding: str = option("ceil", help="padding of the max pools; the paper's is ceil", group=NETWORK, choices=POOL_PADDINGS)
    weights: str = option(
        "",
        help="where to start from: a pretrained name, a run directory, or a .keras, .weights.h5 or original file; a head of other classes "
        "in it is left aside. Empty for the release's initialisers",
        group=NETWORK,
    )
    freeze: str = option(
        "",
        help="keep these weights of --weights as they are, batch-norm statistics too: backbone (all but the head), or the stem and the "
        "stages up to this one. Empty to train all",
        group=OPTIMISATION,
        choices=("", *FREEZABLE),
    )
    epochs: int = option(90, help="passes over the training images", group=OPTIMISATION, least=1)
    batch_size: int = option(256, help="images a step, over all replicas", group=OPTIMISATION, least=1)
    learning_rate: float = option(0.1, help="rate of the first step, or the highest after a warm-up", group=OPTIMISATION, least=0)
    reference_batch: int = option(
        0, help="with 1 or more, the rate is for so many images a step and grows with the batch size", group=OPTIMISATION, least=0
    )
    schedule: str = option(
        "linear", help="how the rate goes on; linear and constant are the release's", group=OPTIMISATION, choices=SCHEDULES
    )
    warmup_epochs: float = option(0.0, help="epochs over which the rate first rises from 0", group=OPTIMISATION, least=0)
    momentum: float = option(0.9, help="momentum of SGD", group=OPTIMISATION, least=0)
    nesterov: bool = option(True, help="Nesterov's form of momentum", group=OPTIMISATION)
    weight_decay: float = option(1e-4, help="weight decay of kernels and batch-norm scales", group=OPTIMISATION, least=0)
    ema: float = option(
        0.0, help="momentum of averaged weights, which are tested and saved; 0 for none", group=OPTIMISATION, least=0, most=1
    )
    steps_per_epoch: int = option(
        0, help="steps between two validations and checkpoints; 0 for one pass over the training images", group=OPTIMISATION, least=0
    )
    crop_size: int = option(0, help="side of the crop in pixels; 0 for the structure's S", group=AUGMENTATION, least=0)
    validation: str = option(
        OWN_VALIDATION,
        help="images on which every epoch is scored and the best one chosen: a share of the training images, such as 0.1, held out; the "
        "name of a part of the data set; auto for its own validation part, or 0.1 where it has none; none for the test images",
        group=DATA,
        then=NO_VALIDATION,
    )
    strategy: str = option("mirrored", help="tf.distribute strategy; multi_worker needs TF_CONFIG", group=DEVICES, choices=STRATEGIES)
    logical_devices: int = option(0, help="0 for all GPUs, or the CPU; n replicates over n CPU devices", group=DEVICES, least=0)
    sync_batch_norm: bool = option(False, help="batch statistics over all replicas", group=DEVICES)
    mixed_precision: str = option(
        "none", help="type of activations; weights stay float32, float16 has loss scaling", group=DEVICES, choices=PRECISIONS
    )
    jit_compile: bool = option(False, help="compile forward and backward pass with XLA", group=DEVICES)
    remat: bool = option(
        False, help="compute the units' activations anew in the backward pass: less memory, a little more time", group=DEVICES
    )
    accumulate_steps: int = option(1, help="micro-batches of a replica's images, one after the other: less memory", group=DEVICES, least=1)
    data_service: str = option(
        "", help="address of a tf.data service that runs the input pipeline: grpc://HOST:PORT", group=DATA, repeats=False
    )
    cache_mb: int = option(256, help="splits of files up to this size are held in memory, encoded", group=DATA, least=0, repeats=False)
    seed: int = option(0, help="seed of initialisers, order, augmentation, dropout and held-out images", group=RUN, least=0)
    deterministic: bool = option(False, help="bitwise repeatable kernels (slower)", group=DEVICES)
    verify_images: bool = option(True, help="look at every file once before training", group=DATA)
    overwrite: bool = option(False, help="replace an existing run", group=RUN, repeats=False)
    resume: bool = option(False, help="go on with an existing run; start it if there is none", group=RUN, repeats=False)

    def __post_init__(self):
        check(self)
        self.check_network(None)
        held_out_share(self.validation)
        if self.freeze:
            check_stage(self.freeze, self.built_structure.stages, f"--freeze={self.freeze}: structure {self.structure}")
            if not self.weights:
                raise InputError("--freeze keeps layers as --weights has them; without --weights they would stay untrained: give both")
        if self.warmup_epochs >= self.epochs:
            raise InputError(f"--warmup_epochs must be fewer than the {self.epochs} epochs. Received: {self.warmup_epochs}")
        if self.warmup_epochs and self.schedule == "constant":
            raise InputError("--schedule=constant has no warm-up: leave out --warmup_epochs, or take --schedule=linear or cosine")
        if self.overwrite and self.resume:
            raise InputError("--overwrite and --resume contradict each other: give one of them")
        if self.jit_compile and self.sync_batch_norm:
            raise InputError("--sync_batch_norm reduces over replicas inside the network, which --jit_compile cannot: give one of them")
        self.augmentation()

    def check_network(self, output_stride: int | None) -> None:
        """Raises `InputError` if there is no such network, or its crops are too small for it.

        Args:
            output_stride: of a dilated network; None for the structure's own.
        """
        structure = self.built_structure
        structure.plan(width=self.width, output_stride=output_stride)
        structure.spatial_sizes(self.crop_size or None, pool_padding=self.pool_padding, output_stride=output_stride)

    @property
    def built_structure(self) -> Structure:
        """What is trained: the structure with the halvings that were chosen."""
        return find_structure(self.structure).halved_by(self.downsampling)

    def augmentation(self) -> Any:
        """What happens to the training images: the task's record of it."""
        raise NotImplementedError

    @property
    def scaled_learning_rate(self) -> float:
        """`learning_rate` for this `batch_size`, by the linear rule where `reference_batch` is given."""
        return self.learning_rate * (self.batch_size / self.reference_batch if self.reference_batch else 1)
