"""The top classes of images: `python scripts/predict.py IMAGE... --weights=imagenet --model=A1 --output=sheet.png`."""

import pathlib

import command_line
from absl import flags

BAR_WIDTH = 30

flags.DEFINE_string("weights", "imagenet", "imagenet, another pretrained name, a .keras model, or a .weights.h5 file (with --model).")
flags.DEFINE_string("model", "", "A, A1, A2 ... or a structure; empty for that of the name, and A for imagenet.")
flags.DEFINE_integer("crop_size", 0, "Side of the crop in pixels; 0 for the model's own.", lower_bound=0)
flags.DEFINE_enum("interpolation", "bicubic", ["bicubic", "lanczos", "bilinear", "auto"], "Of the resize; auto: Lanczos when shrinking.")
flags.DEFINE_enum("pool_padding", "ceil", ["ceil", "symmetric", "valid"], "Padding of the max pools; the release evaluates with valid.")
flags.DEFINE_float("width", 1.0, "Factor for the channels of all stages.")
flags.DEFINE_integer("top", 5, "Classes for each image.", lower_bound=1)
flags.DEFINE_string("class_names", "", "Text file with one class name a line; empty for ImageNet's.")
flags.DEFINE_string("output", "", "Contact sheet (.png) to write.")
flags.DEFINE_bool("overwrite", False, "Replace an existing contact sheet.")


def main(images):
    from tabulate import tabulate

    from keras_widerresnet.errors import InputError
    from keras_widerresnet.evaluation.predict import predict_files

    names = ("weights", "model", "crop_size", "interpolation", "pool_padding", "width", "top", "overwrite")
    options = {name: flags.FLAGS[name].value for name in names}
    listed, output = flags.FLAGS.class_names, flags.FLAGS.output
    if listed and not pathlib.Path(listed).is_file():
        raise InputError(f"No file of class names at {listed!r}")
    if output and not output.endswith(".png"):
        raise InputError(f"--output is a .png file. Received: {output!r}")
    class_names = pathlib.Path(listed).read_text().splitlines() if listed else None
    predictions = predict_files(images, class_names=class_names, sheet=pathlib.Path(output) if output else None, **options)
    for image, decoded in zip(images, predictions, strict=True):
        rows = [(name, f"{score:.2%}", "█" * round(score * BAR_WIDTH)) for _, name, score in decoded]
        print(f"{image}\n{tabulate(rows, tablefmt='plain', colalign=('left', 'right', 'left'))}\n")
    if output:
        print(f"Contact sheet: {output}")


if __name__ == "__main__":
    command_line.run(main, arguments="IMAGE")
