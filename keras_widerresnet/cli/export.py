"""`keras-widerresnet export`: a SavedModel version for TF Serving."""

from __future__ import annotations

from keras_widerresnet.cli import process
from keras_widerresnet.cli.checks import check_model, check_names_file, say_protocol
from keras_widerresnet.cli.command import Command
from keras_widerresnet.data.names import CLASSIFICATION, parse_name
from keras_widerresnet.export.config import ExportConfig, check_onnx_installed
from keras_widerresnet.export.version import version_path


def check(config: ExportConfig) -> None:
    """Checks what can be found from the options alone."""
    check_model(config.weights, config.model, takes_saved_models=False)
    version_path(config.output, overwrite=config.overwrite)
    check_names_file(config.class_names)
    if config.images:
        parse_name(config.images, CLASSIFICATION)
    if config.onnx:
        check_onnx_installed()


def run(config: ExportConfig) -> None:
    """Exports the network and prints how far each format differs from the Keras model."""
    from tabulate import tabulate

    with process.without_garbage_collection():
        from keras_widerresnet.export.run import export

    say_protocol(config)
    exported = export(config)
    rows = [(one.form, f"{one.difference:.1e}", f"{one.tolerance:g}") for one in exported.checked]
    print(tabulate(rows, ("format", "difference from Keras", "tolerance"), disable_numparse=True))
    if exported.removed:
        print(f"Removed versions: {', '.join(map(str, exported.removed))}")
    print(f"Version: {exported.path}")


COMMAND = Command(
    "export",
    "Exports a network as a versioned SavedModel for TF Serving, checked against the Keras model.",
    "keras-widerresnet export --weights=runs/digits --output=saved_models/digits",
    ExportConfig,
    run,
    check,
)
