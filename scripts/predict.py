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
flags.DEFINE_string("server", "", "HOST:PORT of TF Serving: its model is asked, not --weights; its ports are 8501 for REST, 8500 for gRPC.")
flags.DEFINE_string("served_model", "wide_resnet", "--server: the model's name there.")
flags.DEFINE_integer("version", 0, "--server: of the model; 0 for the latest.", lower_bound=0)
flags.DEFINE_bool("grpc", False, "--server: speak gRPC, not REST; needs tensorflow-serving-api.")
flags.DEFINE_integer("batch_size", 16, "--server: images a request.", lower_bound=1)
flags.DEFINE_float("deadline", 30.0, "--server: seconds for a request.")
flags.DEFINE_integer("retries", 3, "--server: tries after the first, if it cannot be reached.", lower_bound=0)


def main(images):
    command_line.hold_weights_frozen()
    from tabulate import tabulate

    from keras_widerresnet.errors import InputError

    output = flags.FLAGS.output
    if output and not output.endswith(".png"):
        raise InputError(f"--output is a .png file. Received: {output!r}")
    sheet = pathlib.Path(output) if output else None
    predictions = (_served if flags.FLAGS.server else _local)(images, sheet)
    for image, decoded in zip(images, predictions, strict=True):
        rows = [(name, f"{score:.2%}", "█" * round(score * BAR_WIDTH)) for _, name, score in decoded]
        print(f"{image}\n{tabulate(rows, tablefmt='plain', colalign=('left', 'right', 'left'))}\n")
    if output:
        print(f"Contact sheet: {output}")


def _local(images, sheet):
    from keras_widerresnet.errors import InputError
    from keras_widerresnet.evaluation.predict import predict_files

    listed = flags.FLAGS.class_names
    if listed and not pathlib.Path(listed).is_file():
        raise InputError(f"No file of class names at {listed!r}")
    class_names = pathlib.Path(listed).read_text().splitlines() if listed else None
    options = _given("weights", "model", "crop_size", "interpolation", "pool_padding", "width", "top", "overwrite")
    return predict_files(images, class_names=class_names, sheet=sheet, **options)


def _served(images, sheet):
    from keras_widerresnet.evaluation.predict import predict_served
    from keras_widerresnet.serving.client import connect

    client = connect(flags.FLAGS.server, flags.FLAGS.served_model, **_given("version", "grpc", "deadline", "retries"))
    return predict_served(images, client, sheet=sheet, **_given("top", "batch_size", "overwrite"))


def _given(*names):
    return {name: flags.FLAGS[name].value for name in names}


if __name__ == "__main__":
    command_line.run(main, arguments="IMAGE")
