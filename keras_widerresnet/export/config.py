"""An export as one record: its fields are the flags of `scripts/export.py`."""

from __future__ import annotations

import dataclasses

from keras_widerresnet.data.pipeline import INTERPOLATIONS
from keras_widerresnet.errors import InputError

WEIGHT_TYPES = ("float32", "float16")
TFLITE_TYPES = ("float16", "int8")


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """What is exported, and in which forms; see `export.export`.

    Args:
        weights: a pretrained name, a `.keras` file, a `.weights.h5` file (with `model`), or a run directory of `scripts/train.py` or
            `scripts/train_segmentation.py`, of which `final.keras` is taken.
        output: `FOLDER/NAME` for the next version of that name, or `FOLDER/NAME/N` for version N.
        model: the structure; empty for that of a name, and Model A for `"imagenet"`.
        task: `"classification"` or `"segmentation"`; empty for what the weights are: known of names, `.keras` files and runs.
        width, pool_padding: what the network is built with, where the weights leave the choice.
        output_stride: of a segmentation network to build.
        size: classification: pixels of the shorter side and of the crop, 0 for the model's own; segmentation: pixels to which the longer
            side is resized, 0 for none.
        interpolation: of the resize for classification, one of `data.pipeline.INTERPOLATIONS`.
        class_names: file with one class name a line; empty for ImageNet's, or those of the run's data.
        licence: for the model card; empty for that of published weights.
        top: classes that `serving_default` gives for each image.
        fold: fold batch norms into convolutions where that is exact.
        weight_type: `"float32"`, or `"float16"` for kernels that are stored in half and computed in float32.
        tflite: any of `TFLITE_TYPES`: also write TFLite files (classification).
        onnx: also write an ONNX file (classification).
        images: data set by whose test images the export is checked and by whose training images int8 is calibrated, as `--data` of
            `scripts/train.py`; empty for scikit-learn's photographs.
        warmup: write TF Serving's warm-up requests; without tensorflow-serving-api they are left out with a warning.
        keep: of all versions of this name keep the last so many; 0 for all.
        overwrite: replace an existing version.

    Raises:
        InputError: for a value that cannot be.
    """

    weights: str
    output: str
    model: str = ""
    task: str = ""
    width: float = 1.0
    pool_padding: str = "ceil"
    output_stride: int = 8
    size: int = 0
    interpolation: str = "bicubic"
    class_names: str = ""
    licence: str = ""
    top: int = 5
    fold: bool = True
    weight_type: str = "float32"
    tflite: tuple[str, ...] = ()
    onnx: bool = False
    images: str = ""
    warmup: bool = True
    keep: int = 0
    overwrite: bool = False

    def __post_init__(self):
        object.__setattr__(self, "tflite", tuple(self.tflite))
        for name, least in (("top", 1), ("size", 0), ("keep", 0)):
            if getattr(self, name) < least:
                raise InputError(f"--{name} must be at least {least}. Received: {getattr(self, name)}")
        tasks = ("", "classification", "segmentation")
        for name, choices in (("task", tasks), ("interpolation", INTERPOLATIONS), ("weight_type", WEIGHT_TYPES)):
            if getattr(self, name) not in choices:
                raise InputError(f"--{name} must be one of {', '.join(filter(None, choices))}. Received: {getattr(self, name)!r}")
        unknown = [name for name in self.tflite if name not in TFLITE_TYPES]
        if unknown:
            raise InputError(f"--tflite is any of {', '.join(TFLITE_TYPES)}. Received: {unknown[0]!r}")
