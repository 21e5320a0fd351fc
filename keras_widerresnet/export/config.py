"""All options of an export, as one record."""

from __future__ import annotations

import dataclasses
import importlib.util

from keras_widerresnet.conversion_config import WEIGHT_TYPES
from keras_widerresnet.data.limits import MAX_DENSE_PIXELS, MAX_PIXELS
from keras_widerresnet.errors import InputError
from keras_widerresnet.models import CLASSIFICATION, SEGMENTATION, SegmenterOptions
from keras_widerresnet.options import OUTPUT, check, documented, option, redefined
from keras_widerresnet.tasks.classification.config import PredictionConfig

FORMS, CHECKS = "Forms", "Checks"
TFLITE_TYPES = ("float16", "int8")


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig(SegmenterOptions):
    """What to export, and in which formats; see `export.export`.

    Raises:
        InputError: for an invalid value.
    """

    output: str = option(help="FOLDER/NAME for the next version of that model, or FOLDER/NAME/N for version N", group=OUTPUT)
    task: str = option(
        "",
        help="task of weights that do not specify it; empty to take it from the name, file or run",
        group=OUTPUT,
        choices=("", CLASSIFICATION, SEGMENTATION),
    )
    size: int = option(
        0,
        help="classification: pixels of the shorter side and of the crop, 0 for the protocol's or the network's size; segmentation: "
        "pixels to which the longer side is resized, 0 for no resizing",
        group=FORMS,
        least=0,
    )
    interpolation: str = redefined(PredictionConfig, "interpolation", "bicubic")
    class_names: str = redefined(PredictionConfig, "class_names", "")
    top: int = redefined(PredictionConfig, "top", 5)
    fold: bool = option(True, help="fold batch norms into convolutions where this is exact", group=FORMS)
    weight_type: str = option(
        "float32", help="float16 stores kernels in half precision; computation stays float32", group=FORMS, choices=WEIGHT_TYPES
    )
    tflite: tuple[str, ...] = option((), help="also write TFLite files (classification)", group=FORMS, choices=TFLITE_TYPES)
    onnx: bool = option(False, help='also write an ONNX file (classification); needs pip install ".[onnx]"', group=FORMS)
    images: str = option(
        "",
        help="data set, as in --data of training, whose test images check the export and whose training images calibrate int8; empty for "
        "scikit-learn's sample photographs",
        group=CHECKS,
    )
    max_pixels: int = option(
        0,
        help="maximum pixels of a served image, according to its header; a larger one is flagged as invalid. "
        f"0 for {MAX_PIXELS:,}, or {MAX_DENSE_PIXELS:,} for segmentation, where it also limits the padded batch",
        group=FORMS,
        least=0,
    )
    warmup: bool = option(True, help="write warm-up requests for TF Serving; needs tensorflow-serving-api", group=FORMS)
    licence: str = option("", help="licence in the model card; empty for that of published weights", group=OUTPUT)
    keep: int = option(0, help="number of latest versions to keep; 0 for all", group=OUTPUT, least=0)
    overwrite: bool = option(False, help="replace an existing version", group=OUTPUT)

    def __post_init__(self):
        check(self)


def check_onnx_installed() -> None:
    """Raises `InputError` if the `onnx` extra is not installed."""
    missing = [name for name in ("tf2onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f'ONNX export needs {" and ".join(missing)}: pip install ".[onnx]"')
