"""Options of classification: training, evaluation, prediction, and comparison of runs."""

from __future__ import annotations

import dataclasses

from keras_widerresnet.data.limits import MAX_DENSE_PIXELS, MAX_PIXELS, ImageOptions
from keras_widerresnet.data.names import CLASSIFICATION, describe
from keras_widerresnet.errors import InputError
from keras_widerresnet.models import ModelOptions
from keras_widerresnet.options import DATA, MODEL, OUTPUT, TESTING, check, documented, option, part_of, redefined
from keras_widerresnet.protocols import CROPS, INTERPOLATIONS, view_count
from keras_widerresnet.serving.config import SERVER, ServerOptions
from keras_widerresnet.training.config import AUGMENTATION, NETWORK, BaseAugmentation, RunConfig

TRAINING_CROPS = ("center", "padded", "random_sized")
KERAS, KERAS_CV = "keras", "keras_cv"
DATA_HELP = describe(CLASSIFICATION)
POOLED = "pooled"
FEATURES = (POOLED, *(f"stage{stage}" for stage in range(2, 8)))


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation(BaseAugmentation):
    """Augmentation of a training image, in this order; the defaults are the official release's.

    Raises:
        InputError: for a value out of range.
    """

    crop: str = option("random_sized", help="crop for training", group=AUGMENTATION, choices=TRAINING_CROPS)
    augmentations: str = option(
        KERAS,
        help="library of RandAugment, MixUp and CutMix; keras_cv draws differently when a run is resumed",
        group=AUGMENTATION,
        choices=(KERAS, KERAS_CV),
        then=KERAS_CV,
    )
    rand_augment: int = option(0, help="RandAugment: number of operations per image", group=AUGMENTATION, least=0)
    magnitude: float = option(
        0.3,
        help="strength of RandAugment: the operations' largest with keras, their mean or largest with keras_cv",
        group=AUGMENTATION,
        least=0,
        most=1,
    )
    random_erasing: float = option(
        0.0, help="RandomErasing: share of the images of which a rectangle becomes noise; needs keras", group=AUGMENTATION, least=0, most=1
    )
    color_jitter: float = redefined(BaseAugmentation, "color_jitter", 0.4)
    lighting: float = option(0.1, help="standard deviation of PCA lighting noise", group=AUGMENTATION, least=0)
    alternating_flip: bool = option(
        False, help="mirror each image in every second pass, half of them in the first, instead of at random", group=AUGMENTATION
    )
    mixup: float = option(0.0, help="MixUp: alpha of the Beta distribution", group=AUGMENTATION, least=0)
    cutmix: float = option(0.0, help="CutMix: alpha; with MixUp too, each batch gets one of them", group=AUGMENTATION, least=0)
    label_smoothing: float = option(0.0, help="share of each label spread over all classes", group=AUGMENTATION, least=0, most=1)

    def __post_init__(self):
        check(self)
        if self.random_erasing and self.augmentations != KERAS:
            raise InputError(f"--random_erasing needs --augmentations={KERAS}. Received: {self.augmentations!r}")
        if self.alternating_flip and not self.flip:
            raise InputError("--alternating_flip says when images are mirrored, --noflip that none are: omit one of them")

    @property
    def needs_keras_cv(self) -> bool:
        return self.augmentations == KERAS_CV and bool(self.rand_augment or self.mixup or self.cutmix)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """Handling of unusable images and of images that are not RGB in a folder."""

    skip_corrupt: bool = option(False, help="folder: skip images that cannot be decoded or are not RGB", group=DATA)
    convert_rgb: bool = option(False, help="folder: accept grey, alpha and CMYK images, converted to RGB", group=DATA)


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig(Augmentation, FolderOptions, RunConfig):
    """A training run of classification; the defaults are the official release's ImageNet recipe.

    Raises:
        InputError: for a value out of range, or contradictory values.
    """

    data: str = option("tfds:imagenet2012", help=DATA_HELP, group=DATA)
    dropout: float = option(0.0, help="dropout before the last convolution of the units of B6 and B7", group=NETWORK, least=0, most=1)

    def __post_init__(self):
        RunConfig.__post_init__(self)

    def augmentation(self) -> Augmentation:
        return part_of(self, Augmentation)


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig(ModelOptions):
    """An evaluation of a classification network on the test images of a data set.

    Raises:
        InputError: for a value out of range.
    """

    weights: str = redefined(ModelOptions, "weights", "imagenet")
    data: str = option("tfds:imagenet2012", help=DATA_HELP, group=DATA)
    max_pixels: int = redefined(ImageOptions, "max_pixels", MAX_PIXELS)
    output_dir: str = option(help="folder to write: report, numbers, per-class and per-image tables", group=OUTPUT)
    scales: tuple[int, ...] = option(
        (),
        help="pixels of the shorter side, e.g. 320 or 256,320; empty for the published protocol or the network's own size",
        group=TESTING,
        least=1,
    )
    crop_size: int = option(0, help="side of the crops in pixels; 0 for the same as the scale", group=TESTING, least=0)
    crops: str = option(
        "center", help="one crop, three along the longer side, or ten (corners, centre, mirrored)", group=TESTING, choices=tuple(CROPS)
    )
    flip: bool = option(False, help="average over mirrored views too", group=TESTING)
    interpolation: str = option("bicubic", help="for resizing; auto: Lanczos when shrinking", group=TESTING, choices=INTERPOLATIONS)
    batch_size: int = option(64, help="views per batch, at least those of one image", group=TESTING, least=1)
    overwrite: bool = option(False, help="replace an existing evaluation", group=OUTPUT)

    def __post_init__(self):
        check(self)


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictionConfig(ModelOptions, ServerOptions):
    """Prediction of the top classes of a few images, by a local network or, with `server`, by a server; or, with `data`, of many images.

    Raises:
        InputError: for a value out of range, or contradictory values.
    """

    images: tuple[str, ...] = option((), help="IMAGE", group=DATA, is_positional=True)
    data: str = option(
        "", help=f"instead of IMAGE: every image in a folder, at any depth, or the test images of a data set: {DATA_HELP}", group=DATA
    )
    max_pixels: int = redefined(ImageOptions, "max_pixels", MAX_PIXELS)
    weights: str = redefined(ModelOptions, "weights", "imagenet")
    crop_size: int = option(
        0, help="pixels of the shorter side and of the crop; 0 for the published protocol or the network's own size", group=TESTING, least=0
    )
    interpolation: str = redefined(EvaluationConfig, "interpolation", "bicubic")
    scales: tuple[int, ...] = redefined(EvaluationConfig, "scales", ())
    crops: str = redefined(EvaluationConfig, "crops", "center")
    flip: bool = redefined(EvaluationConfig, "flip", False)
    top: int = option(5, help="number of classes per image", group=OUTPUT, least=1)
    class_names: str = option("", help="text file with one class name per line; empty for the network's own", group=OUTPUT)
    features: str = option(
        "",
        help="with --data: features to write too, pooled (the classifier's input) or a stage's map; empty for none",
        group=OUTPUT,
        choices=("", *FEATURES),
    )
    output: str = option("", help="path of a contact sheet (.png) to write or, with --data, of a table (.parquet)", group=OUTPUT)
    overwrite: bool = option(False, help="replace an existing output", group=OUTPUT)
    shard_size: int = option(4096, help="with --data: number of images after which a part of the table is saved", group=OUTPUT, least=1)
    strategy: str = option("mirrored", help="with --data: tf.distribute strategy", group=TESTING, choices=("mirrored", "one_device", "tpu"))
    batch_size: int = option(16, help="images per request to a server; with --data, views per step, of all devices", group=TESTING, least=1)
    retries: int = option(3, help="number of retries if the server cannot be reached", group=SERVER, least=0)

    def __post_init__(self):
        check(self)
        wanted = ".parquet" if self.data else ".png"
        if (self.output or self.data) and not self.output.endswith(wanted):
            raise InputError(f"--output must be a {wanted} file. Received: {self.output!r}")
        if bool(self.images) == bool(self.data):
            raise InputError(f"give either at least one IMAGE or --data. Received: {'both' if self.data else 'neither'}")
        if self.data and self.server:
            raise InputError("--data needs a local network. Received: --server")
        if not self.data and (self.scales or self.flip or self.features or self.crops != "center"):
            raise InputError("--scales, --crops, --flip and --features need --data")
        if self.features.startswith("stage") and (len(self.scales) > 1 or view_count(self.crops, self.flip) > 1):
            raise InputError(f"--features={self.features} needs a single view of each image; --features=pooled is averaged over the views")


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class ActivationMapsConfig(ModelOptions):
    """Class activation maps of images, as overlays, arrays and seeds of weakly supervised segmentation.

    Raises:
        InputError: for a value out of range, or if nothing is to be written.
    """

    images: tuple[str, ...] = option(help="IMAGE", group=DATA, is_positional=True)
    max_pixels: int = redefined(ImageOptions, "max_pixels", MAX_DENSE_PIXELS)
    image_classes: str = option(
        "", help="text file with the classes of each image: its name and its classes (names or numbers), separated by tabs", group=DATA
    )
    weights: str = redefined(ModelOptions, "weights", "imagenet")
    output_stride: int = option(
        0, help="output stride of the network, 8 for the finest maps; 0 for that of the weights", group=MODEL, choices=(0, 8, 16, 32)
    )
    scales: tuple[float, ...] = option((0.5, 1.0, 1.5, 2.0), help="factors of the image's sides whose maps are added", group=TESTING)
    flip: bool = option(True, help="add the maps of mirrored images too", group=TESTING)
    size: int = option(0, help="pixels of the shorter side at scale 1; 0 for the image's own size", group=TESTING, least=0)
    classes: tuple[str, ...] = option((), help="classes of every image, names or numbers; empty for the most probable ones", group=OUTPUT)
    top: int = option(1, help="number of most probable classes per image, where no classes are given", group=OUTPUT, least=1)
    class_names: str = redefined(PredictionConfig, "class_names", "")
    output_dir: str = option(help="folder to write; images whose files are there already are skipped", group=OUTPUT)
    overlays: bool = option(True, help="write the maps over the photographs, as PNG files", group=OUTPUT)
    arrays: bool = option(True, help="write the maps as .npy files", group=OUTPUT)
    seeds: bool = option(False, help="write index PNGs of the highest score at each pixel, 0 for the background", group=OUTPUT)
    alpha: tuple[float, ...] = option(
        (4.0, 24.0), help="exponents of the background's score in seeds: small for much background", group=OUTPUT, least=0
    )
    overwrite: bool = option(False, help="compute maps that exist again", group=OUTPUT)

    def __post_init__(self):
        check(self)
        if not self.scales or not all(scale > 0 for scale in self.scales):
            raise InputError(f"--scales must be positive numbers, e.g. 0.5,1,1.5,2. Received: {','.join(map(str, self.scales))}")
        if self.classes and self.image_classes:
            raise InputError("--classes gives every image the same classes, --image_classes each its own: omit one of them")
        if not (self.overlays or self.arrays or self.seeds):
            raise InputError("nothing would be written: omit --nooverlays or --noarrays, or add --seeds")
        if self.seeds and not self.alpha:
            raise InputError("--seeds needs at least one exponent, e.g. --alpha=16")


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class ComparisonConfig:
    """Comparison of finished classification runs."""

    runs: tuple[str, ...] = option(help="RUN", group=DATA, is_positional=True)
    classes: int = option(0, help="number of classes of the data; 0 for the runs' own, or 1000 if unknown", group=DATA, least=0)
    picture: str = option("", help="PNG file to write: test accuracy against the epoch", group=OUTPUT)

    def __post_init__(self):
        check(self)
