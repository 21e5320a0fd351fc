"""The command of `scripts/compare_ports.py`; Keras is imported only after its options have been checked."""

from __future__ import annotations

import pathlib
import sys

from keras_widerresnet.cli.checks import check_file
from keras_widerresnet.cli.command import Command
from research.config import PortsConfig

EXPECTED_FILE, PARAMETERS_FILE = "expected.npz", "refparams.py"
ROWS = (
    ('Keras\' `padding="same"` at stride 2', {"same_padding": True}),
    ("Keras' default batch-norm epsilon, 1e-3", {"epsilon": 1e-3}),
    ("both", {"same_padding": True, "epsilon": 1e-3}),
    ("keras_widerresnet", {}),
)
HEADERS = ("the same weights run with", "largest difference from the official logits, relative to the largest")


def check(config: PortsConfig) -> None:
    """Raises `InputError` if a reference file is missing."""
    for name in (EXPECTED_FILE, PARAMETERS_FILE):
        check_file(str(pathlib.Path(config.reference) / name), "reference")


def run(config: PortsConfig) -> None:
    """Prints the table of `ROWS`: Model A1 on one image, without and with each mistake."""
    import numpy as np

    from keras_widerresnet import WideResNetA1
    from keras_widerresnet.compare import difference
    from keras_widerresnet.reporting import markdown_table
    from keras_widerresnet.weights.official import assign_official, official_shapes
    from research.ports import with_port_mistakes

    sys.path.insert(0, config.reference)
    import refparams

    expected = np.load(pathlib.Path(config.reference) / EXPECTED_FILE)["a1/logits"]
    image = refparams.image((1, 3, 64, 96)).transpose(0, 2, 3, 1)
    model = WideResNetA1(input_shape=(64, 96, 3), classifier_activation=None)
    assign_official(model, {name: refparams.array(name, shape) for name, shape in official_shapes(model).items()}, "refparams")
    rows = []
    for label, mistakes in ROWS:
        logits = with_port_mistakes(model, **mistakes).predict(image, verbose=0)
        rows.append((label, f"{difference(logits, expected):.1e}"))
    print(markdown_table(rows, HEADERS))


COMMAND = Command(
    name="compare_ports",
    summary="Prints how far common mistakes in ports move Model A1 from the official outputs, with random weights.",
    example="python scripts/compare_ports.py",
    config=PortsConfig,
    run=run,
    check=check,
)
