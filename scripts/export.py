"""A version for TF Serving: `python scripts/export.py --weights=runs/digits --output=saved_models/digits`."""

import dataclasses

import command_line
from absl import flags

flags.DEFINE_string("weights", None, "A pretrained name, .keras file, .weights.h5 file (with --model), or run directory.", required=True)
flags.DEFINE_string("output", None, "FOLDER/NAME for the next version of it, or FOLDER/NAME/N for version N.", required=True)
flags.DEFINE_string("model", "", "A, A1, A2 ... or a structure; empty for that of the weights' name, and A for imagenet.")
flags.DEFINE_enum("task", "", ["", "classification", "segmentation"], "Empty for what names, .keras files and runs tell.")
flags.DEFINE_float("width", 1.0, "Factor for the channels of all stages.")
flags.DEFINE_enum("pool_padding", "ceil", ["ceil", "symmetric", "valid"], "Padding of the max pools; the release evaluates with valid.")
flags.DEFINE_integer("output_stride", 8, "Segmentation: of the network to build.")
flags.DEFINE_integer("size", 0, "Pixels of shorter side and crop (0: the model's own); segmentation: of the longer side (0: no resizing).")
flags.DEFINE_enum("interpolation", "bicubic", ["bicubic", "lanczos", "bilinear", "auto"], "Of the resize; auto: Lanczos when shrinking.")
flags.DEFINE_string("class_names", "", "Text file with one class name a line; empty for ImageNet's, or those of the run's data.")
flags.DEFINE_string("licence", "", "For the model card; empty for that of published weights.")
flags.DEFINE_integer("top", 5, "Classes for each image.")
flags.DEFINE_bool("fold", True, "Fold batch norms into convolutions where that is exact.")
flags.DEFINE_enum("weight_type", "float32", ["float32", "float16"], "float16: kernels are stored in half, and computed in float32.")
flags.DEFINE_list("tflite", [], "float16, int8 or both: TFLite files too.")
flags.DEFINE_bool("onnx", False, 'An ONNX file too; needs pip install ".[onnx]".')
flags.DEFINE_string("images", "", "Data set to check with and to calibrate int8, as --data of train.py; empty for two photographs.")
flags.DEFINE_bool("warmup", True, "Warm-up requests for TF Serving; needs tensorflow-serving-api.")
flags.DEFINE_integer("keep", 0, "Of all versions keep the last so many; 0 for all.")
flags.DEFINE_bool("overwrite", False, "Replace an existing version.")


def main():
    from tabulate import tabulate

    from keras_widerresnet.export import ExportConfig, export

    exported = export(ExportConfig(**{field.name: flags.FLAGS[field.name].value for field in dataclasses.fields(ExportConfig)}))
    rows = [(one.form, f"{one.difference:.1e}", f"{one.tolerance:g}") for one in exported.checked]
    print(tabulate(rows, ("form", "difference from Keras", "refused above"), disable_numparse=True))
    if exported.removed:
        print(f"Removed versions: {', '.join(map(str, exported.removed))}")
    print(f"Version: {exported.path}")


if __name__ == "__main__":
    command_line.run(main)
