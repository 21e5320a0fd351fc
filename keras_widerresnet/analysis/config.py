"""The options of an analysis, as records."""

from __future__ import annotations

import dataclasses

from keras_widerresnet.data.limits import MAX_PIXELS, ImageOptions
from keras_widerresnet.errors import InputError
from keras_widerresnet.files import VECTOR_SUFFIXES
from keras_widerresnet.models import BuildOptions
from keras_widerresnet.options import DATA, OUTPUT, check, documented, option, redefined
from keras_widerresnet.runs import REPORT_FILE, RESULTS_FILE
from keras_widerresnet.tasks.classification.config import DATA_HELP

MEASUREMENT = "Measurement"
THRESHOLD = 0.05  # our choice: the paper does not specify one
SHARES_FILE, DEPTHS_FILE, PATHS_FILE, LESIONS_FILE = "gradient_shares.csv", "effective_depth.csv", "path_lengths.csv", "lesions.csv"
PICTURES = ("unravelled", "gradient_shares", "effective_depth", "path_lengths", "lesions")
FILES = {RESULTS_FILE, REPORT_FILE, SHARES_FILE, DEPTHS_FILE}
OPTIONAL = {PATHS_FILE, LESIONS_FILE} | {name + suffix for name in PICTURES for suffix in VECTOR_SUFFIXES}


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure, and on how many images, paths and lesions.

    Raises:
        InputError: if a number is out of range.
    """

    images: int = option(64, help="training images whose gradients are decomposed, one by one", group=MEASUREMENT, least=1)
    threshold: float = option(
        THRESHOLD,
        help="share of a unit's gradient below which the terms that cross more blocks are negligible",
        group=MEASUREMENT,
        least=0,
        most=1,
    )
    path_images: int = option(16, help="training images for the gradient per path length; 0 to skip", group=MEASUREMENT, least=0)
    path_samples: int = option(20, help="sampled paths of each length", group=MEASUREMENT, least=1)
    lesion_images: int = option(1000, help="test images that are classified under each lesion; 0 to skip", group=MEASUREMENT, least=0)
    lesion_samples: int = option(10, help="random sets of units for each number of dropped units", group=MEASUREMENT, least=1)
    crop_size: int = option(0, help="side of the images in pixels; 0 for the network's own", group=MEASUREMENT, least=0)
    seed: int = option(0, help="seed of the random images, paths and sets of units, and of the bootstrap", group=MEASUREMENT, least=0)

    def __post_init__(self):
        check(self)
        if self.threshold in (0, 1):
            raise InputError(f"--threshold must be greater than 0 and less than 1. Received: {self.threshold}")


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class AnalysisConfig(Settings, BuildOptions):
    """An analysis of trained networks, or of several states of one, on a data set."""

    models: tuple[str, ...] = option(help="MODEL.keras or run directory", group=DATA, is_positional=True)
    data: str = option(help=DATA_HELP, group=DATA)
    max_pixels: int = redefined(ImageOptions, "max_pixels", MAX_PIXELS)
    output_dir: str = option(help="folder to write: report, numbers, tables, figures as PNG and SVG", group=OUTPUT)
    overwrite: bool = option(False, help="replace an existing analysis", group=OUTPUT)
