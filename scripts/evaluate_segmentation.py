"""Segmentation: `python scripts/evaluate_segmentation.py --weights=voc --data=voc:VOCdevkit --sizes=500 --flip --output_dir=runs/voc`."""

import pathlib

import command_line
from absl import flags

flags.DEFINE_string("weights", "voc", "A segmentation name, .keras model, or .weights.h5 or original file (with --model).")
flags.DEFINE_string("model", "", "A, A1, A2 ... or a structure; empty for that of the name or the .keras model.")
flags.DEFINE_string(
    "data", None, "voc:PATH, cityscapes:PATH, ade20k:PATH, pascal_context:PATH, pairs:PATH,classes=N or shapes.", required=True
)
flags.DEFINE_list("sizes", [], "Pixels of the longer side, e.g. 500 or 400,500,600; empty for the images' own size.")
flags.DEFINE_integer("test_steps", 1, "Shifted passes in each direction, a divisor of the output stride.", lower_bound=1)
flags.DEFINE_bool("flip", False, "Average over the mirrored image too.")
flags.DEFINE_integer("tile", 0, "Side in pixels of tiles for larger images, a multiple of the output stride; 0 for none.", lower_bound=0)
flags.DEFINE_integer("overlap", 0, "Pixels that neighbouring tiles share at least.", lower_bound=0)
flags.DEFINE_integer("output_stride", 8, "Of the network to build from a name or a file of weights: 8 or 16.", lower_bound=1)
flags.DEFINE_enum("pool_padding", "ceil", ["ceil", "symmetric", "valid"], "Padding of the max pools.")
flags.DEFINE_float("width", 1.0, "Factor for the channels of all stages.")
flags.DEFINE_bool("masks", True, "Write predictions/NAME.png with the data set's own label ids, as the benchmarks' servers take them.")
flags.DEFINE_integer("shown", 9, "Images in overlays.png, a third each of the worst, median and best.", lower_bound=1)
flags.DEFINE_string(
    "output_dir",
    None,
    "Directory to write: report.md, results.json, per_class.csv, overlays.png, class_iou.png, predictions/.",
    required=True,
)
flags.DEFINE_bool("overwrite", False, "Replace an existing evaluation.")


def main():
    command_line.hold_weights_frozen()
    from tabulate import tabulate

    from keras_widerresnet.evaluation.segmentation import RESULT_HEADERS, evaluate_segmentation

    names = (
        "weights",
        "model",
        "data",
        "test_steps",
        "flip",
        "tile",
        "overlap",
        "output_stride",
        "pool_padding",
        "width",
        "masks",
        "shown",
    )
    options = {name: flags.FLAGS[name].value for name in (*names, "overwrite")}
    found = evaluate_segmentation(output_dir=pathlib.Path(flags.FLAGS.output_dir), sizes=command_line.whole_numbers("sizes"), **options)
    print(tabulate(found.rows(), RESULT_HEADERS, disable_numparse=True))
    print(f"Report: {found.report}")


if __name__ == "__main__":
    command_line.run(main)
