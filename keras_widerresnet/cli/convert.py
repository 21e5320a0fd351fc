"""`keras-widerresnet convert`: original weights."""

from __future__ import annotations

import os
import pathlib

from keras_widerresnet.cli import process
from keras_widerresnet.cli.checks import check_convertible
from keras_widerresnet.cli.command import Command
from keras_widerresnet.conversion_config import ConversionConfig
from keras_widerresnet.files import check_absent


def check(config: ConversionConfig) -> None:
    """Checks what can be found from the options alone."""
    check_convertible(config.source, config.model)
    if config.output:
        check_absent(pathlib.Path(os.path.expanduser(config.output)), config.overwrite)


def run(config: ConversionConfig) -> None:
    """Converts the weights and prints the number of values and the checksum."""
    with process.without_garbage_collection():
        from keras_widerresnet.conversion import convert_named
        from keras_widerresnet.weights.checksums import checksums

    converted = convert_named(config)
    _, digest = checksums(converted.path)
    equal = ", all equal to the source's" if config.verify else ""
    print(f"{converted.values:,} parameters and statistics in {converted.path}, sha256 {digest}{equal}")
    if converted.left:
        print(f"Skipped, as only the source has them: {', '.join(converted.left)}")


COMMAND = Command(
    "convert",
    "Converts an original checkpoint, or a run's network, to a .weights.h5 file, with a sidecar that describes its network.",
    "keras-widerresnet convert --source=a1.params --model=A1 --output=a1.weights.h5 --verify",
    ConversionConfig,
    run,
    check,
)
