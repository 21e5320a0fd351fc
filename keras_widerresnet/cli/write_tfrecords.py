"""`keras-widerresnet write-tfrecords`: a data set as TFRecord shards."""

from __future__ import annotations

import dataclasses

from keras_widerresnet.cli import process
from keras_widerresnet.cli.command import Command
from keras_widerresnet.data.limits import MAX_PIXELS, ImageOptions
from keras_widerresnet.data.names import CLASSIFICATION, parse_name
from keras_widerresnet.options import DATA, OUTPUT, documented, option, redefined
from keras_widerresnet.options import check as check_options
from keras_widerresnet.tasks.classification.config import DATA_HELP, FolderOptions


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardsConfig(FolderOptions):
    """The data set to write, and the number of files."""

    data: str = option(help=DATA_HELP, group=DATA)
    max_pixels: int = redefined(ImageOptions, "max_pixels", MAX_PIXELS)
    verify_images: bool = option(True, help="folder: decode every image once before writing", group=DATA)
    output: str = option(help="folder to write; train with --data=tfrecord:FOLDER", group=OUTPUT)
    train_shards: int = option(1024, help="number of files of training images, at least one per worker", group=OUTPUT, least=1)
    test_shards: int = option(128, help="number of files of test images", group=OUTPUT, least=1)
    overwrite: bool = option(False, help="replace an existing folder of shards", group=OUTPUT)

    def __post_init__(self):
        check_options(self)


def check(config: ShardsConfig) -> None:
    """Checks what can be found from the options alone."""
    parse_name(config.data, CLASSIFICATION)


def run(config: ShardsConfig) -> None:
    """Writes the shards and prints their folder."""
    with process.without_garbage_collection():
        from keras_widerresnet.data.sources.tfrecord import write_tfrecords
        from keras_widerresnet.tasks.classification.data import load_data

    data = load_data(
        config.data,
        skip_corrupt=config.skip_corrupt,
        convert_rgb=config.convert_rgb,
        verify=config.verify_images,
        max_pixels=config.max_pixels,
    )
    shards = {"train_shards": config.train_shards, "test_shards": config.test_shards}
    print(f"Shards: {write_tfrecords(data, config.output, overwrite=config.overwrite, **shards)}")


COMMAND = Command(
    "write-tfrecords",
    "Writes a classification data set as TFRecord shards.",
    "keras-widerresnet write-tfrecords --data=folder:PHOTOGRAPHS --output=shards --train_shards=16 --test_shards=2",
    ShardsConfig,
    run,
    check,
)
