"""Finished runs side by side: `python scripts/compare_runs.py RUN... --classes=10 --picture=curves.png`."""

import pathlib

import command_line
from absl import flags

flags.DEFINE_integer("classes", 1000, "Number of classes of the data.", lower_bound=1)
flags.DEFINE_string("picture", "", "PNG file to write: test accuracy against the epoch.")


def main(run_dirs):
    from tabulate import tabulate

    from keras_widerresnet.evaluation.compare_runs import compare_runs

    picture = flags.FLAGS.picture
    rows = compare_runs(run_dirs, flags.FLAGS.classes, pathlib.Path(picture) if picture else None)
    print(tabulate(rows, "keys", "github", disable_numparse=True))


if __name__ == "__main__":
    command_line.run(main, arguments="RUN")
