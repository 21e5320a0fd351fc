"""A training run as one record: what is not here cannot change it."""

from __future__ import annotations

import dataclasses
import pathlib

from keras_widerresnet.data.pipeline import Augmentation
from keras_widerresnet.data.segmentation_pipeline import SegmentationAugmentation
from keras_widerresnet.errors import InputError

# How a run is started, not what it computes: these may differ when it is resumed.
_STARTING = ("output_dir", "overwrite", "resume", "data_service", "cache_mb")
PRECISIONS = ("none", "bfloat16", "float16")
SCHEDULES = ("linear", "cosine", "constant")
SEGMENTATION_LOSSES = ("bootstrapped", "cross_entropy")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What every run has, of classification or segmentation; see `training.run.train`.

    Args:
        output_dir: the run directory.
        data: data set, see the task's `load` function.
        structure: name or notation, see `structures.find_structure`.
        width: factor for the channels of all stages.
        downsampling: `"pool"` or `"stride"`; empty for the structure's own.
        pool_padding: `"ceil"`, `"symmetric"` or `"valid"`.
        weights: a name such as `imagenet-a`, or a file, to start from; a head of other classes in it is left aside.
            Empty for the release's initialisers.
        crop_size: pixels; 0 for the structure's S.
        epochs: passes over the training images.
        batch_size: images a step, over all replicas.
        learning_rate: rate of the first step, or the highest after a warm-up.
        reference_batch: with 1 or more, `learning_rate` is for so many images a step and grows in proportion to `batch_size`.
        schedule: one of `SCHEDULES`; `"linear"` and `"constant"` are the release's.
        warmup_epochs: epochs over which the rate first rises from 0.
        momentum: of SGD.
        nesterov: Nesterov's form of it.
        weight_decay: of kernels and batch-norm scales.
        ema: momentum of the averaged weights, which are tested and saved; 0 for none.
        steps_per_epoch: 0 for one pass over the training images; testing and checkpoints come after each epoch.
        strategy: see `training.strategy.make_strategy`.
        logical_devices: 0 for all GPUs (or one CPU); n replicates over n CPU devices.
        sync_batch_norm: batch statistics over all replicas.
        mixed_precision: `"none"`, `"bfloat16"` or `"float16"` (with loss scaling): the type of activations; weights stay float32.
        jit_compile: compile forward and backward pass with XLA.
        remat: compute the units' activations anew in the backward pass.
        accumulate_steps: parts of a replica's images that go through one after the other.
        data_service: address of a `tf.data` service that runs the input pipeline.
        cache_mb: splits of files up to this size are held in memory, encoded.
        seed: of initialisers, order, augmentation and dropout.
        deterministic: bitwise repeatable TensorFlow kernels (slower).
        verify_images: look at every file before training.
        overwrite: replace an existing run.
        resume: go on with an existing run; start it if there is none.

    Raises:
        InputError: for a value out of range.
    """

    output_dir: str
    data: str
    structure: str = "A"
    width: float = 1.0
    downsampling: str = ""
    pool_padding: str = "ceil"
    weights: str = ""
    crop_size: int = 0
    epochs: int = 90
    batch_size: int = 256
    learning_rate: float = 0.1
    reference_batch: int = 0
    schedule: str = "linear"
    warmup_epochs: float = 0.0
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    ema: float = 0.0
    steps_per_epoch: int = 0
    strategy: str = "mirrored"
    logical_devices: int = 0
    sync_batch_norm: bool = False
    mixed_precision: str = "none"
    jit_compile: bool = False
    remat: bool = False
    accumulate_steps: int = 1
    data_service: str = ""
    cache_mb: int = 256
    seed: int = 0
    deterministic: bool = False
    verify_images: bool = True
    overwrite: bool = False
    resume: bool = False

    def __post_init__(self):
        for name in ("epochs", "batch_size", "accumulate_steps"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} must be at least 1. Received: {getattr(self, name)}")
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, (int, float)) and not 0 <= value < float("inf"):
                raise InputError(f"--{name} must not be negative. Received: {value}")
        self._check_shares("ema")
        self._check_choices(mixed_precision=PRECISIONS, schedule=SCHEDULES)
        if self.warmup_epochs >= self.epochs:
            raise InputError(f"--warmup_epochs must be fewer than the {self.epochs} epochs. Received: {self.warmup_epochs}")
        if self.warmup_epochs and self.schedule == "constant":
            raise InputError("--schedule=constant has no warm-up: leave out --warmup_epochs, or take --schedule=linear or cosine")
        if self.overwrite and self.resume:
            raise InputError("--overwrite and --resume contradict each other: give one of them")
        if self.jit_compile and self.sync_batch_norm:
            raise InputError("--sync_batch_norm reduces over replicas inside the network, which --jit_compile cannot: give one of them")
        self.augmentation()

    def _check_shares(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) > 1:
                raise InputError(f"--{name} must be between 0 and 1. Received: {getattr(self, name)}")

    def _check_choices(self, **choices: tuple) -> None:
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"--{name} must be one of {allowed}. Received: {getattr(self, name)!r}")

    def augmentation(self) -> Augmentation | SegmentationAugmentation:
        """What happens to the training images."""
        raise NotImplementedError

    @property
    def scaled_learning_rate(self) -> float:
        """`learning_rate` for this `batch_size`, by the linear rule where `reference_batch` is given."""
        return self.learning_rate * (self.batch_size / self.reference_batch if self.reference_batch else 1)

    def flag_lines(self) -> dict[str, str]:
        """Flag name -> its line of a flag file, for all that the result depends on."""
        values = {name: value for name, value in dataclasses.asdict(self).items() if name not in _STARTING}
        return {name: f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in values.items()}

    def save(self, path: pathlib.Path) -> None:
        """Writes a flag file with which the run can be repeated."""
        path.write_text("\n".join(self.flag_lines().values()) + "\n")

    def check_same(self, path: pathlib.Path) -> None:
        """Raises `InputError` if the flag file at `path` holds another run than this."""
        saved = set(path.read_text().split("\n"))
        changed = [line for line in self.flag_lines().values() if line not in saved]
        if changed:
            raise InputError(f"{path.parent} was started with other flags; --resume needs the same. Different now: {' '.join(changed)}")


@dataclasses.dataclass(frozen=True)
class TrainingConfig(RunConfig):
    """A run of classification; the defaults are the release's ImageNet recipe (spec: official release).

    Args:
        dropout: rate in B6 and B7.
        crop, rand_augment, magnitude, color_jitter, lighting, flip, mixup, cutmix, label_smoothing: see `data.pipeline.Augmentation`.
        skip_corrupt, convert_rgb: see `data.folder.folder`.

    The others are `RunConfig`'s.
    """

    data: str = "tfds:imagenet2012"
    dropout: float = 0.0
    crop: str = "random_sized"
    rand_augment: int = 0
    magnitude: float = 0.3
    color_jitter: float = 0.4
    lighting: float = 0.1
    flip: bool = True
    mixup: float = 0.0
    cutmix: float = 0.0
    label_smoothing: float = 0.0
    skip_corrupt: bool = False
    convert_rgb: bool = False

    def __post_init__(self):
        super().__post_init__()
        self._check_shares("magnitude", "color_jitter", "label_smoothing")

    def augmentation(self) -> Augmentation:
        return Augmentation(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Augmentation)})


@dataclasses.dataclass(frozen=True)
class SegmentationConfig(RunConfig):
    """A run of semantic segmentation; the defaults are the release's recipe, with what it leaves open chosen by us (spec, section 7).

    Args:
        output_stride: pixels a cell of the logits: 8 or 16.
        classifier_convs: convolutions of the head, 1 or 2.
        frozen_batch_norm: the running statistics are those of `weights` and stay; false where training starts from nothing.
        dropout_b6, dropout_b7: rates in B6 and B7.
        shift_rate: factor of the learning rate for biases and batch-norm shifts.
        loss: `"bootstrapped"` (OHEM) or `"cross_entropy"`.
        threshold, min_kept: see `losses.BootstrappedCrossEntropy`.
        origin_size: pixels of the image's longer side in testing; in training it is multiplied by a number from `scale_low` to
            `scale_high`.
        color_jitter, flip: see `data.segmentation_pipeline.SegmentationAugmentation`.
        test_steps, test_flip: of the last test, see `evaluation.dense.SegmentationProtocol`.

    The others are `RunConfig`'s; `crop_size` is rounded up to a multiple of the output stride.
    """

    structure: str = "A1"
    crop_size: int = 500
    batch_size: int = 16
    learning_rate: float = 0.0016
    nesterov: bool = False
    weight_decay: float = 5e-4
    output_stride: int = 8
    classifier_convs: int = 2
    frozen_batch_norm: bool = True
    dropout_b6: float = 0.3
    dropout_b7: float = 0.5
    shift_rate: float = 2.0
    loss: str = "bootstrapped"
    threshold: float = 0.6
    min_kept: int = 256
    origin_size: int = 500
    scale_low: float = 0.7
    scale_high: float = 1.3
    color_jitter: float = 0.0
    flip: bool = True
    test_steps: int = 1
    test_flip: bool = True

    def __post_init__(self):
        super().__post_init__()
        self._check_shares("threshold", "color_jitter")
        self._check_choices(loss=SEGMENTATION_LOSSES, output_stride=(8, 16, 32), classifier_convs=(1, 2))
        if self.frozen_batch_norm and not self.weights:
            raise InputError("--frozen_batch_norm keeps the statistics of --weights, and there are none: give --nofrozen_batch_norm")
        if self.frozen_batch_norm and self.sync_batch_norm:
            raise InputError("--sync_batch_norm needs batch statistics, which --frozen_batch_norm does not take: give one of them")

    def augmentation(self) -> SegmentationAugmentation:
        return SegmentationAugmentation(
            origin_size=self.origin_size,
            scale_range=(self.scale_low, self.scale_high),
            flip=self.flip,
            color_jitter=self.color_jitter,
        )
