"""Prints how far common mistakes of ports move Model A1 from the official outputs (on random weights)."""

import pathlib
import sys

import command_line
from absl import flags

REFERENCE = pathlib.Path(__file__).parent.parent / "tests" / "data"
ROWS = (
    ('Keras\' `padding="same"` at stride 2', {"same_padding": True}),
    ("Keras' default batch-norm epsilon, 1e-3", {"epsilon": 1e-3}),
    ("both", {"same_padding": True, "epsilon": 1e-3}),
    ("keras_widerresnet", {}),
)

flags.DEFINE_string("reference", str(REFERENCE), "Folder with expected.npz and refparams.py.")


def main():
    import numpy as np
    from tabulate import tabulate

    from keras_widerresnet import WideResNetA1
    from keras_widerresnet.compare import difference
    from keras_widerresnet.evaluation.ports import with_port_mistakes
    from keras_widerresnet.weights.official import assign_official, official_shapes

    sys.path.insert(0, flags.FLAGS.reference)
    import refparams

    expected = np.load(pathlib.Path(flags.FLAGS.reference) / "expected.npz")["a1/logits"]
    image = refparams.image((1, 3, 64, 96)).transpose(0, 2, 3, 1)
    model = WideResNetA1(input_shape=(64, 96, 3), classifier_activation=None)
    assign_official(model, {name: refparams.array(name, shape) for name, shape in official_shapes(model).items()}, "refparams")
    rows = []
    for label, mistakes in ROWS:
        logits = with_port_mistakes(model, **mistakes).predict(image, verbose=0)
        rows.append((label, f"{difference(logits, expected):.1e}"))
    headers = ("the same weights run with", "largest difference from the official logits, relative to the largest")
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    command_line.run(main)
