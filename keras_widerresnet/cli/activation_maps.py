"""`keras-widerresnet activation-maps`: where in images a network sees their classes."""

from __future__ import annotations

from keras_widerresnet import models
from keras_widerresnet.cli import process
from keras_widerresnet.cli.checks import check_file, check_model, check_names_file
from keras_widerresnet.cli.command import Command
from keras_widerresnet.tasks.classification.config import ActivationMapsConfig
from keras_widerresnet.tasks.classification.map_files import check_folder, find_images, read_image_classes


def check(config: ActivationMapsConfig) -> None:
    """Checks what can be found from the options alone."""
    source = check_model(
        config.weights, config.model, task=models.CLASSIFICATION, instead="evaluate-segmentation", takes_saved_models=False
    )
    check_names_file(config.class_names)
    images = find_images(config.images)
    if config.image_classes:
        check_file(config.image_classes, "file of the images' classes")
        read_image_classes(config.image_classes, images)
    check_folder(config, source)


def run(config: ActivationMapsConfig) -> None:
    """Writes the maps and prints where they are."""
    process.hold_weights_frozen()
    with process.without_garbage_collection():
        from keras_widerresnet.tasks.classification.activation_maps import write_activation_maps

    written = write_activation_maps(config)
    there = f", {written.skipped:,} were there already" if written.skipped else ""
    print(f"Maps of {written.images:,} images{there}: {written.folder}")


COMMAND = Command(
    "activation-maps",
    "Draws class activation maps: where in images a classification network sees their classes.",
    "keras-widerresnet activation-maps PHOTOGRAPHS --weights=runs/digits --output_dir=maps",
    ActivationMapsConfig,
    run,
    check,
)
