"""The pretrained weights as a human-readable table."""

from __future__ import annotations

from keras_widerresnet.weights.registry import PRETRAINED, OriginalFile, Pretrained, size_mb

HEADERS = ("name", "network", "classes", "MB", "file", "licence", "result")
WIDTHS = (None, 36, None, None, 44, 24, 36)
# Defaults of the networks, which a call may omit; `WiderResNet` takes structure, width and classes from the weights.
_CLASSIFIER_DEFAULTS = {
    "include_top": True,
    "classes": 1000,
    "output_stride": None,
    "classifier_bias": True,
    "classifier_activation": "softmax",
    "activation": "relu",
    "pool_padding": None,
}
_SEGMENTER_DEFAULTS = {"structure": "A1", "classes": 21, "classifier_convs": 2}


def list_weights() -> None:
    """Prints a table of the weights that `weights=` accepts by name.

    Each row shows the name, the call that builds the network, the number of classes, the size of the float32 parameters and statistics
    in MB (10^6 bytes), the files that contain them and whether a download address is known, the licence, and the result that
    is published or was measured here.
    """
    from tabulate import tabulate

    rows = [
        (
            record.name,
            network_call(record),
            record.classes,
            f"{size_mb(record):.0f}",
            "\n".join(map(_file, record.files)),
            record.short_licence,
            record.result,
        )
        for record in PRETRAINED.values()
    ]
    print(tabulate(rows, HEADERS, tablefmt="grid", maxcolwidths=list(WIDTHS), disable_numparse=True))


def network_call(record: Pretrained) -> str:
    """Returns the Python expression that builds a record's network with its weights, e.g. `WideResNetA1(weights="imagenet-a1")`."""
    defaults = _SEGMENTER_DEFAULTS if record.classifier_convs else _CLASSIFIER_DEFAULTS
    options = {name: getattr(record, name) for name, usual in defaults.items() if getattr(record, name) != usual}
    if record.builder == "WiderResNet":
        options.pop("classes", None)
    if "structure" in options:
        options = {"backbone": options.pop("structure"), **options}
    arguments = ", ".join(f"{name}={_written(value)}" for name, value in (options | {"weights": record.name}).items())
    return f"{'WideResNetFCN' if record.classifier_convs else record.builder}({arguments})"


def _written(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _file(file: OriginalFile) -> str:
    kind = "" if file.include_top else ", features only"
    if file.is_converted:
        place = "part of this repository"
    else:
        place = "address known" if file.addresses else "no address known; put the file into saved_models/ or KERAS_WIDERRESNET_WEIGHTS_DIR"
    return f"{file.name}{kind}: {place}"
