"""Speed, as ratios in one run: `python scripts/benchmark.py input [JPEG...]`."""

import csv
import pathlib

import command_line
from absl import flags

PIXELS = (375, 500)

flags.DEFINE_integer("repeats", 3, "Rounds; medians are reported.", lower_bound=1)
flags.DEFINE_float("seconds", 5.0, "Length of each measurement.", lower_bound=0.1)
flags.DEFINE_string("output", "", "CSV file to write.")


def main(arguments):
    from tabulate import tabulate

    from keras_widerresnet.errors import InputError
    from keras_widerresnet.evaluation.input_benchmark import input_speeds, sample_jpegs

    kind, *files = arguments
    if kind != "input":
        raise InputError(f"What to measure is `input`. Received: {kind!r}")
    missing = [file for file in files if not pathlib.Path(file).is_file()]
    if missing:
        raise InputError(f"No file at {missing[0]!r}")
    encoded = [pathlib.Path(file).read_bytes() for file in files] or sample_jpegs(*PIXELS)
    rows = input_speeds(encoded, flags.FLAGS.repeats, flags.FLAGS.seconds)
    if flags.FLAGS.output:
        with open(flags.FLAGS.output, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    headers = {"name": "one thread", "images_per_second": "images/s", "share_of_decoding": "of decoding"}
    print(tabulate([{headers[key]: value for key, value in row.items()} for row in rows], "keys", "github", floatfmt=("", ".0f", ".2f")))


if __name__ == "__main__":
    command_line.run(main, arguments="of: input")
