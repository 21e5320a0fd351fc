"""Speed and memory, as ratios in one run: `python scripts/benchmark.py input [JPEG...]`, or `step --remat`, or `decomposition`."""

import csv
import pathlib

import command_line
from absl import flags

PIXELS = (375, 500)

flags.DEFINE_integer("repeats", 3, "Rounds, or steps; medians are reported.", lower_bound=1)
flags.DEFINE_float("seconds", 5.0, "input: length of each measurement.", lower_bound=0.1)
flags.DEFINE_string("output", "", "CSV file to write.")
flags.DEFINE_string("structure", "A", "step, decomposition: the network.")
flags.DEFINE_float("width", 1.0, "step, decomposition: factor for the channels of all stages.")
flags.DEFINE_integer("batch_size", 8, "step, decomposition: images.", lower_bound=1)
flags.DEFINE_bool("remat", False, "step: compute the units' activations anew in the backward pass.")
flags.DEFINE_bool("jit_compile", False, "step: compile with XLA.")
flags.DEFINE_integer("accumulate_steps", 1, "step: parts that go through one after the other.", lower_bound=1)
flags.DEFINE_enum("mixed_precision", "none", ["none", "bfloat16", "float16"], "step: type of activations.")


def main(arguments):
    from tabulate import tabulate

    from keras_widerresnet.errors import InputError

    kind, *files = arguments
    measures = {"input": _input, "step": _step, "decomposition": _decomposition}
    if kind not in measures or (files and kind != "input"):
        raise InputError(f"What to measure is one of {', '.join(measures)}; JPEG files go with input. Received: {' '.join(arguments)!r}")
    rows = measures[kind](files)
    if flags.FLAGS.output:
        with open(flags.FLAGS.output, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    print(tabulate(rows, "keys", "github", floatfmt=".3g"))


def _input(files):
    from keras_widerresnet.errors import InputError
    from keras_widerresnet.evaluation.input_benchmark import input_speeds, sample_jpegs

    missing = [file for file in files if not pathlib.Path(file).is_file()]
    if missing:
        raise InputError(f"No file at {missing[0]!r}")
    encoded = [pathlib.Path(file).read_bytes() for file in files] or sample_jpegs(*PIXELS)
    return input_speeds(encoded, flags.FLAGS.repeats, flags.FLAGS.seconds)


def _step(_):
    from keras_widerresnet.training.config import TrainingConfig
    from keras_widerresnet.training.step_benchmark import step_cost

    names = ("structure", "width", "batch_size", "remat", "jit_compile", "accumulate_steps", "mixed_precision")
    options = {name: flags.FLAGS[name].value for name in names}
    return [{**options, **step_cost(TrainingConfig(output_dir="", **options), repeats=flags.FLAGS.repeats)}]


def _decomposition(_):
    from keras_widerresnet.analysis.cost import decomposition_cost

    options = {name: flags.FLAGS[name].value for name in ("structure", "width", "batch_size", "repeats")}
    return [{**options, **decomposition_cost(**options)}]


if __name__ == "__main__":
    command_line.run(main, arguments="of: input, step, decomposition")
