"""`keras-widerresnet predict`: the top classes of a few images, or a table of many."""

from __future__ import annotations

from keras_widerresnet import models
from keras_widerresnet.cli import process
from keras_widerresnet.cli.checks import check_file, check_model, check_names_file, say_protocol
from keras_widerresnet.cli.command import Command
from keras_widerresnet.data.names import CLASSIFICATION, parse_name
from keras_widerresnet.files import check_absent
from keras_widerresnet.serving.config import check_server
from keras_widerresnet.tasks.classification.config import PredictionConfig

BAR_WIDTH = 30


def check(config: PredictionConfig) -> None:
    """Checks what can be found from the options alone."""
    if config.server:
        check_server(config)
    else:
        check_model(config.weights, config.model, task=models.CLASSIFICATION, instead="evaluate-segmentation, which writes label maps")
    if config.data:
        parse_name(config.data, CLASSIFICATION, needs_classes=False)
    if config.output:
        check_absent(config.output, config.overwrite)
    check_names_file(config.class_names)
    for image in config.images:
        check_file(image, "image")


def run(config: PredictionConfig) -> None:
    """Prints the top classes of each image with bars of their probabilities, or writes a table of a whole data set."""
    process.hold_weights_frozen()
    if config.data:
        _predict_data(config)
        return
    from tabulate import tabulate

    with process.without_garbage_collection():
        from keras_widerresnet.tasks.classification.prediction import predict

    if not config.server:
        say_protocol(config)
    for image, decoded in zip(config.images, predict(config), strict=True):
        rows = [(name, f"{score:.2%}", "█" * round(score * BAR_WIDTH)) for _, name, score in decoded]
        print(f"{image}\n{tabulate(rows, tablefmt='plain', colalign=('left', 'right', 'left'))}\n")
    if config.output:
        print(f"Contact sheet: {config.output}")


def _predict_data(config: PredictionConfig) -> None:
    with process.without_garbage_collection():
        from keras_widerresnet.tasks.classification.bulk import predict_data

    say_protocol(config)
    found = predict_data(config)
    rate = f" ({found.predicted / found.seconds:,.1f} images/s)" if found.predicted else ""
    print(f"Predicted {found.predicted:,} images in {found.seconds:,.1f} s{rate}; {found.unusable:,} of {found.images:,} cannot be used")
    print(f"Table: {found.output}")


COMMAND = Command(
    "predict",
    "Prints the most probable classes of images, using a local network or a server; or writes a table of many images.",
    "keras-widerresnet predict photograph.jpg --weights=saved_models/digits/1",
    PredictionConfig,
    run,
    check,
)
