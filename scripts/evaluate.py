"""Top-1 and top-5 errors: `python scripts/evaluate.py --weights=imagenet-a --data=tfds:imagenet2012 --scales=320 --output_dir=runs/a`."""

import pathlib

import command_line
from absl import flags

flags.DEFINE_string("weights", "imagenet", "A pretrained name, .keras model, .weights.h5 file (with --model) or SavedModel folder.")
flags.DEFINE_string("model", "", "A, A1, A2 ... or a structure; empty for that of the name, and A for imagenet.")
flags.DEFINE_string("data", "tfds:imagenet2012", "digits, folder:PATH, idx:PATH, tfds:NAME, tfrecord:PATH, fake or fake:SIZE.")
flags.DEFINE_list("scales", [], "Pixels of the shorter side, e.g. 320 or 256,320; empty for the model's own size.")
flags.DEFINE_integer("crop_size", 0, "Side of the crops in pixels; 0 for the scale.", lower_bound=0)
flags.DEFINE_enum("crops", "center", ["center", "three", "ten"], "One crop, three along the longer side, or corners, centre and mirrors.")
flags.DEFINE_bool("flip", False, "Average over mirrored views too.")
flags.DEFINE_enum("interpolation", "bicubic", ["bicubic", "lanczos", "bilinear", "auto"], "Of the resize; auto: Lanczos when shrinking.")
flags.DEFINE_enum("pool_padding", "ceil", ["ceil", "symmetric", "valid"], "Padding of the max pools; the release evaluates with valid.")
flags.DEFINE_float("width", 1.0, "Factor for the channels of all stages.")
flags.DEFINE_integer("batch_size", 64, "Views that go through the network together, those of one image at least.", lower_bound=1)
flags.DEFINE_string("output_dir", None, "Directory to write: report.md, results.json, per_class.csv, predictions.csv.", required=True)
flags.DEFINE_bool("overwrite", False, "Replace an existing evaluation.")


def main():
    command_line.hold_weights_frozen()
    from tabulate import tabulate

    from keras_widerresnet.evaluation.evaluate import RESULT_HEADERS, evaluate

    names = ("weights", "model", "data", "crop_size", "crops", "flip", "interpolation", "pool_padding", "width", "batch_size", "overwrite")
    options = {name: flags.FLAGS[name].value for name in names}
    found = evaluate(output_dir=pathlib.Path(flags.FLAGS.output_dir), scales=command_line.whole_numbers("scales"), **options)
    print(tabulate(found.rows(), RESULT_HEADERS, disable_numparse=True))
    print(f"Report: {found.report}")


if __name__ == "__main__":
    command_line.run(main)
