"""Options of segmentation training and evaluation."""

from __future__ import annotations

import dataclasses

from keras_widerresnet.data.limits import MAX_PIXELS, ImageOptions
from keras_widerresnet.data.names import SEGMENTATION, describe
from keras_widerresnet.errors import InputError
from keras_widerresnet.heads import DEEPLAB_V3_PLUS, FCN, HEADS, check_decoder, logit_stride
from keras_widerresnet.models import SegmenterOptions
from keras_widerresnet.options import DATA, OUTPUT, TESTING, check, documented, option, part_of, redefined
from keras_widerresnet.training.config import AUGMENTATION, NETWORK, OPTIMISATION, BaseAugmentation, RunConfig

LOSSES = ("bootstrapped", "cross_entropy")
OUTPUT_STRIDES = (8, 16, 32)
DATA_HELP = describe(SEGMENTATION)


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation(BaseAugmentation):
    """Augmentation of a training image and its mask, in this order; the defaults are the official release's.

    The longer side is resized to `origin_size` pixels times a factor drawn uniformly from the scale range. Then a window of the crop's size
    is drawn uniformly from those inside the image or, along a side where the image is smaller, from those that contain it (our choice).

    Raises:
        InputError: for a value out of range, or scales in the wrong order.
    """

    origin_size: int = option(
        500, help="pixels of the longer side in testing; in training times a random factor from the scales", group=AUGMENTATION, least=1
    )
    scale_low: float = option(0.7, help="smallest factor of --origin_size in training", group=AUGMENTATION, least=0)
    scale_high: float = option(1.3, help="largest factor of --origin_size in training", group=AUGMENTATION, least=0)

    def __post_init__(self):
        check(self)
        if not 0 < self.scale_low <= self.scale_high:
            raise InputError(f"--scale_low must be above 0 and at most --scale_high. Received: {self.scale_low}, {self.scale_high}")


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentationConfig(Augmentation, RunConfig):
    """A training run of semantic segmentation; the defaults are the official release's recipe, completed by our choices where it is open.

    The crop is rounded up to a multiple of the logits' stride.

    Raises:
        InputError: for a value out of range, or contradictory values.
    """

    data: str = option(help=DATA_HELP, group=DATA)
    structure: str = redefined(RunConfig, "structure", "A1")
    crop_size: int = redefined(RunConfig, "crop_size", 500)
    batch_size: int = redefined(RunConfig, "batch_size", 16)
    learning_rate: float = redefined(RunConfig, "learning_rate", 0.0016)
    nesterov: bool = redefined(RunConfig, "nesterov", False)
    weight_decay: float = redefined(RunConfig, "weight_decay", 5e-4)
    head: str = option(
        FCN,
        help="the release's dilated convolutions, or KerasHub's DeepLabV3+, whose logits have a stride of 4 (needs keras-hub)",
        group=NETWORK,
        choices=HEADS,
    )
    output_stride: int = option(
        8, help="pixels per cell of the backbone's last map, in each direction", group=NETWORK, choices=OUTPUT_STRIDES
    )
    classifier_convs: int = option(
        2, help="number of convolutions in the fcn head; the other head ignores it", group=NETWORK, choices=(1, 2)
    )
    frozen_batch_norm: bool = option(
        True, help="keep the batch-norm statistics of --weights; use --nofrozen_batch_norm to train from scratch", group=NETWORK
    )
    dropout_b6: float = option(0.3, help="dropout before the last convolution of the units of B6", group=NETWORK, least=0, most=1)
    dropout_b7: float = option(0.5, help="dropout before the last convolution of the units of B7", group=NETWORK, least=0, most=1)
    shift_rate: float = option(2.0, help="factor of the learning rate for biases and batch-norm shifts", group=OPTIMISATION, least=0)
    loss: str = option("bootstrapped", help="over the hard pixels (OHEM), or over all pixels", group=OPTIMISATION, choices=LOSSES)
    threshold: float = option(
        0.6, help="bootstrapped: pixels whose class has at most this probability are hard", group=OPTIMISATION, least=0, most=1
    )
    min_kept: int = option(256, help="bootstrapped: minimum number of pixels kept per batch", group=OPTIMISATION, least=1)
    test_steps: int = option(1, help="final test: number of shifted passes in each direction, interleaved", group=TESTING, least=1)
    test_flip: bool = option(True, help="final test: average over the mirrored image too", group=TESTING)

    def __post_init__(self):
        RunConfig.__post_init__(self)
        self.check_network(self.output_stride)
        if self.frozen_batch_norm and not self.weights:
            raise InputError("--frozen_batch_norm keeps the statistics of --weights, but no weights are given: add --nofrozen_batch_norm")
        if self.head == DEEPLAB_V3_PLUS:
            check_decoder(self.built_structure, self.pool_padding, self.output_stride)
            if self.remat:
                raise InputError(f"--remat needs a network that is one chain of units, which --head={DEEPLAB_V3_PLUS} is not: omit --remat")
        elif self.frozen_batch_norm and self.sync_batch_norm:
            raise InputError("--sync_batch_norm needs batch statistics, which --frozen_batch_norm does not compute: give only one of them")

    @property
    def logit_stride(self) -> int:
        """Pixels per logit and per label, in each direction."""
        return logit_stride(self.head, self.output_stride)

    def augmentation(self) -> Augmentation:
        return part_of(self, Augmentation)


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig(SegmenterOptions):
    """An evaluation of a segmentation network on the test images of a data set.

    Raises:
        InputError: for a value out of range.
    """

    weights: str = redefined(SegmenterOptions, "weights", "voc")
    data: str = option(help=DATA_HELP, group=DATA)
    max_pixels: int = redefined(ImageOptions, "max_pixels", MAX_PIXELS)
    output_dir: str = option(help="folder to write: report, numbers, per-class table, overlays, predictions", group=OUTPUT)
    sizes: tuple[int, ...] = option(
        (),
        help="pixels of the longer side, e.g. 500 or 400,500,600; empty for the published protocol or the original size",
        group=TESTING,
        least=1,
    )
    test_steps: int = option(
        0,
        help="shifted passes in each direction, a divisor of the output stride; 0 for the published protocol or 1",
        group=TESTING,
        least=0,
    )
    flip: bool | None = option(None, help="average over the mirrored image too; by default as in the published protocol", group=TESTING)
    tile: int = option(
        0, help="side in pixels of tiles for larger images, a multiple of the output stride; 0 for none", group=TESTING, least=0
    )
    overlap: int = option(0, help="minimum overlap of neighbouring tiles in pixels", group=TESTING, least=0)
    masks: bool = option(
        True, help="write a mask for each image with the data set's own label ids, as the benchmarks' servers expect", group=OUTPUT
    )
    shown: int = option(9, help="number of images among the overlays, a third each of the worst, median and best", group=OUTPUT, least=1)
    overwrite: bool = option(False, help="replace an existing evaluation", group=OUTPUT)

    def __post_init__(self):
        check(self)
