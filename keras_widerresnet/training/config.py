"""A training run as one record: what is not here cannot change it."""

from __future__ import annotations

import dataclasses
import pathlib

from keras_widerresnet.data.pipeline import CROPS
from keras_widerresnet.errors import InputError

# How a run is started, not what it computes: these may differ when it is resumed.
_STARTING = ("output_dir", "overwrite", "resume")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Settings of `training.run.train`; the defaults are the release's ImageNet recipe (spec: official release).

    Args:
        output_dir: the run directory.
        data: data set, see `data.load_data`.
        structure: name or notation, see `structures.find_structure`.
        width: factor for the channels of all stages.
        downsampling: `"pool"` or `"stride"`; empty for the structure's own.
        pool_padding: `"ceil"`, `"symmetric"` or `"valid"`.
        dropout: rate in B6 and B7.
        weights: a name such as `imagenet-a`, or a file, to start from; empty for the release's initialisers.
        crop_size: pixels; 0 for the structure's S.
        crop: `"center"`, `"padded"` or `"random_sized"`, see `data.pipeline`.
        flip: mirror half of the training images.
        epochs: passes over the training images.
        batch_size: images a step, over all replicas.
        learning_rate: rate of the first step; falls linearly to 0.
        momentum: Nesterov momentum.
        weight_decay: of kernels and batch-norm scales.
        steps_per_epoch: 0 for one pass over the training images; testing and checkpoints come after each epoch.
        logical_devices: 0 for all GPUs (or one CPU); n replicates over n CPU devices.
        sync_batch_norm: batch statistics over all replicas.
        seed: of initialisers, order, augmentation and dropout.
        deterministic: bitwise repeatable TensorFlow kernels (slower).
        skip_corrupt, convert_rgb, verify_images: see `data.folder.folder`.
        overwrite: replace an existing run.
        resume: go on with an existing run; start it if there is none.

    Raises:
        InputError: for a value out of range.
    """

    output_dir: str
    data: str = "tfds:imagenet2012"
    structure: str = "A"
    width: float = 1.0
    downsampling: str = ""
    pool_padding: str = "ceil"
    dropout: float = 0.0
    weights: str = ""
    crop_size: int = 0
    crop: str = "random_sized"
    flip: bool = True
    epochs: int = 90
    batch_size: int = 256
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    steps_per_epoch: int = 0
    logical_devices: int = 0
    sync_batch_norm: bool = False
    seed: int = 0
    deterministic: bool = False
    skip_corrupt: bool = False
    convert_rgb: bool = False
    verify_images: bool = True
    overwrite: bool = False
    resume: bool = False

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} must be at least 1. Received: {getattr(self, name)}")
        for name in ("learning_rate", "momentum", "weight_decay", "crop_size", "steps_per_epoch", "logical_devices", "seed"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"--{name} must not be negative. Received: {getattr(self, name)}")
        if self.crop not in CROPS:
            raise InputError(f"--crop must be one of {CROPS}. Received: {self.crop!r}")
        if self.overwrite and self.resume:
            raise InputError("--overwrite and --resume contradict each other: give one of them")

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
