"""All options of a training run, as one record."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_widerresnet.data.limits import MAX_PIXELS, ImageOptions
from keras_widerresnet.data.names import NO_VALIDATION, OWN_VALIDATION, held_out_share
from keras_widerresnet.errors import InputError
from keras_widerresnet.options import DATA, check, documented, option, redefined
from keras_widerresnet.structures import DOWNSAMPLINGS, FREEZABLE, POOL_PADDINGS, Structure, check_stage, find_structure

RUN, NETWORK, OPTIMISATION, AUGMENTATION, DEVICES = "Run", "Network", "Optimisation", "Augmentation", "Devices"
PRECISIONS = ("none", "bfloat16", "float16")
SCHEDULES = ("linear", "cosine", "constant")
STRATEGIES = ("mirrored", "one_device", "multi_worker", "tpu")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseAugmentation:
    """Augmentation options shared by all tasks."""

    color_jitter: float = option(
        0.0, help="brightness, contrast and saturation are scaled by 1 ± this, in random order", group=AUGMENTATION, least=0, most=1
    )
    flip: bool = option(True, help="flip half of the training images horizontally", group=AUGMENTATION)


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Options of every run, whatever its task; see `training.run.train`.

    Raises:
        InputError: if a value is out of range, or two options contradict each other.
    """

    output_dir: str = option(help="run directory: flags, metrics, checkpoints, networks, pictures and report", group=RUN, repeats=False)
    data: str = option(help="data set, see the task", group=DATA)
    structure: str = option("A", help="A, A1, A2, B ... F, or the notation S-n1-n2-n3-n4-n5-n6-n7", group=NETWORK)
    width: float = option(1.0, help="channel multiplier of all stages", group=NETWORK, least=0)
    downsampling: str = option(
        "", help="how resolution is halved; empty for the structure's default", group=NETWORK, choices=("", *DOWNSAMPLINGS)
    )
    pool_padding: str = option("ceil", help="padding of the max pools; the paper's is ceil", group=NETWORK, choices=POOL_PADDINGS)
    weights: str = option(
        "",
        help="initial weights: a pretrained name, a run directory, or a .keras, .weights.h5 or original file; a head for other "
        "classes is ignored. Empty for the release's random initialisation",
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
    batch_size: int = option(256, help="images per step, over all replicas", group=OPTIMISATION, least=1)
    learning_rate: float = option(0.1, help="initial learning rate, or the peak after warm-up", group=OPTIMISATION, least=0)
    reference_batch: int = option(
        0, help="batch size that the rate is given for, to scale it linearly; 0 for no scaling", group=OPTIMISATION, least=0
    )
    schedule: str = option(
        "linear", help="learning rate schedule; linear and constant are the release's", group=OPTIMISATION, choices=SCHEDULES
    )
    warmup_epochs: float = option(0.0, help="epochs of linear warm-up from 0", group=OPTIMISATION, least=0)
    momentum: float = option(0.9, help="SGD momentum", group=OPTIMISATION, least=0)
    nesterov: bool = option(True, help="use Nesterov momentum", group=OPTIMISATION)
    weight_decay: float = option(1e-4, help="weight decay of kernels and batch-norm scales", group=OPTIMISATION, least=0)
    ema: float = option(
        0.0,
        help="momentum of the moving average of weights and running statistics that is evaluated and saved; 0 for none",
        group=OPTIMISATION,
        least=0,
        most=1,
    )
    steps_per_epoch: int = option(
        0, help="steps between validations and checkpoints; 0 for one pass over the training images", group=OPTIMISATION, least=0
    )
    crop_size: int = option(0, help="side of the crop in pixels; 0 for the structure's S", group=AUGMENTATION, least=0)
    validation: str = option(
        OWN_VALIDATION,
        help="images that score every epoch and select the best one: a held-out share of the training images, such as 0.1; the name of a "
        "split of the data set; auto for its own validation split, or 0.1 if it has none; none for the test images",
        group=DATA,
        then=NO_VALIDATION,
    )
    max_pixels: int = redefined(ImageOptions, "max_pixels", MAX_PIXELS)
    strategy: str = option("mirrored", help="tf.distribute strategy; multi_worker needs TF_CONFIG", group=DEVICES, choices=STRATEGIES)
    logical_devices: int = option(0, help="0 for all GPUs, or the CPU; n for replicas on n logical CPU devices", group=DEVICES, least=0)
    sync_batch_norm: bool = option(False, help="compute batch statistics over all replicas", group=DEVICES)
    mixed_precision: str = option(
        "none", help="dtype of activations; weights stay float32, float16 uses loss scaling", group=DEVICES, choices=PRECISIONS
    )
    jit_compile: bool = option(False, help="compile the forward and backward pass with XLA", group=DEVICES)
    remat: bool = option(
        False, help="recompute the units' activations in the backward pass: less memory, slightly more time", group=DEVICES
    )
    accumulate_steps: int = option(1, help="micro-batches accumulated per step: less memory", group=DEVICES, least=1)
    data_service: str = option(
        "", help="address of a tf.data service that runs the input pipeline: grpc://HOST:PORT", group=DATA, repeats=False
    )
    cache_mb: int = option(256, help="keep the encoded files of splits up to this size in memory", group=DATA, least=0, repeats=False)
    seed: int = option(0, help="seed of initialisers, order, augmentation, dropout and held-out images", group=RUN, least=0)
    deterministic: bool = option(False, help="use deterministic kernels, for bitwise reproducible runs (slower)", group=DEVICES)
    verify_images: bool = option(True, help="check every file once before training", group=DATA)
    overwrite: bool = option(False, help="replace an existing run", group=RUN, repeats=False)
    resume: bool = option(False, help="continue an existing run, or start it if there is none", group=RUN, repeats=False)

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
            raise InputError("--schedule=constant has no warm-up: omit --warmup_epochs, or use --schedule=linear or cosine")
        if self.overwrite and self.resume:
            raise InputError("--overwrite and --resume exclude each other: use only one of them")
        if self.jit_compile and self.sync_batch_norm:
            raise InputError("--sync_batch_norm cannot be compiled with --jit_compile, as it reduces over replicas: use only one of them")
        self.augmentation()

    def check_network(self, output_stride: int | None) -> None:
        """Raises `InputError` if the network is invalid, or the crops are too small for it.

        Args:
            output_stride: of a dilated network; None for the structure's own.
        """
        structure = self.built_structure
        structure.plan(width=self.width, output_stride=output_stride)
        structure.spatial_sizes(self.crop_size or None, pool_padding=self.pool_padding, output_stride=output_stride)

    @property
    def built_structure(self) -> Structure:
        """The structure that is trained, with the chosen way of downsampling."""
        return find_structure(self.structure).halved_by(self.downsampling)

    def augmentation(self) -> Any:
        """Returns the task's record of augmentation options."""
        raise NotImplementedError

    @property
    def scaled_learning_rate(self) -> float:
        """`learning_rate` for this `batch_size`, scaled linearly if `reference_batch` is given."""
        return self.learning_rate * (self.batch_size / self.reference_batch if self.reference_batch else 1)
