"""An export as one record."""

from __future__ import annotations

import dataclasses
import importlib.util

from keras_widerresnet.data.limits import MAX_DENSE_PIXELS, MAX_PIXELS
from keras_widerresnet.errors import InputError
from keras_widerresnet.models import CLASSIFICATION, SEGMENTATION, SegmenterOptions
from keras_widerresnet.options import OUTPUT, check, documented, option, redefined
from keras_widerresnet.tasks.classification.config import PredictionConfig

FORMS, CHECKS = "Forms", "Checks"
WEIGHT_TYPES = ("float32", "float16")
TFLITE_TYPES = ("float16", "int8")


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig(SegmenterOptions):
    """What is exported, and in which forms; see `export.export`.

    Raises:
        InputError: for a value that cannot be.
    """

    output: str = option(help="FOLDER/NAME for the next version of that name, or FOLDER/NAME/N for version N", group=OUTPUT)
    task: str = option(
        "",
        help="for weights that do not tell it: empty for what names, files and runs tell",
        group=OUTPUT,
        choices=("", CLASSIFICATION, SEGMENTATION),
    )
    size: int = option(
        0,
        help="classification: pixels of the shorter side and of the crop, 0 for the published protocol or the network's own; segmentation: "
        "pixels to which the longer side is resized, 0 for none",
        group=FORMS,
        least=0,
    )
    interpolation: str = redefined(PredictionConfig, "interpolation", "bicubic")
    class_names: str = redefined(PredictionConfig, "class_names", "")
    top: int = redefined(PredictionConfig, "top", 5)
    fold: bool = option(True, help="fold batch norms into convolutions where that is exact", group=FORMS)
    weight_type: str = option(
        "float32", help="float16: kernels are stored in half, and computed in float32", group=FORMS, choices=WEIGHT_TYPES
    )
    tflite: tuple[str, ...] = option((), help="TFLite files too (classification)", group=FORMS, choices=TFLITE_TYPES)
    onnx: bool = option(False, help='an ONNX file too (classification); needs pip install ".[onnx]"', group=FORMS)
    images: str = option(
        "",
        help="data set by whose test images the export is checked and by whose training images int8 is calibrated, as --data of training; "
        "empty for scikit-learn's photographs",
        group=CHECKS,
    )
    max_pixels: int = option(
        0,
        help="most pixels of a served image, as its header tells; a larger one is a row that is not valid. "
        f"0 for {MAX_PIXELS:,}; for segmentation {MAX_DENSE_PIXELS:,}, which is the most of a padded batch too",
        group=FORMS,
        least=0,
    )
    warmup: bool = option(True, help="warm-up requests for TF Serving; needs tensorflow-serving-api", group=FORMS)
    licence: str = option("", help="for the model card; empty for that of published weights", group=OUTPUT)
    keep: int = option(0, help="of all versions keep the last so many; 0 for all", group=OUTPUT, least=0)
    overwrite: bool = option(False, help="replace an existing version", group=OUTPUT)

    def __post_init__(self):
        check(self)


def check_onnx_installed() -> None:
    """Raises `InputError` if the `onnx` extra is not installed."""
    missing = [name for name in ("tf2onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f'ONNX export needs {" and ".join(missing)}: pip install ".[onnx]"')
