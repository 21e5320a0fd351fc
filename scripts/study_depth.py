"""Where does depth stop paying? `python scripts/study_depth.py --data=folder:PATH --output_dir=runs/study`.

And does effective depth predict it? The same command goes on with a study that was stopped.
"""

import dataclasses
import pathlib

import command_line
from absl import flags

flags.DEFINE_string("output_dir", None, "Directory of the study: runs, analyses, table.csv, study.png, report.md.", required=True)
flags.DEFINE_string("data", "idx:/usr/share/datasets/fashion-mnist", "folder:PATH (CIFAR-10), idx:PATH ... as for training.")
flags.DEFINE_string("structure", "32-0-n-n-n-0-0-0", "Notation, with n for the units in a stage; 28-… for Fashion-MNIST.")
flags.DEFINE_list("depths", ["1", "2", "4", "8"], "Values of n.")
flags.DEFINE_list("widths", ["0.0625", "0.09375", "0.125"], "Factors for the channels; with --match, of the deepest network.")
flags.DEFINE_enum("match", "", ["", "multiply_adds", "parameters"], "What the shallower networks of a row have equal to the deepest.")
flags.DEFINE_integer("seeds", 2, "Runs of each network.", lower_bound=1)
flags.DEFINE_integer("epochs", 2, "Epochs of each run, of --steps_per_epoch steps.", lower_bound=1)
flags.DEFINE_integer("steps_per_epoch", 450, "Steps between two tests.", lower_bound=1)
flags.DEFINE_integer("batch_size", 64, "Images a step.", lower_bound=1)
flags.DEFINE_float("learning_rate", 0.1, "Learning rate of the first step; it falls linearly to 0.")
flags.DEFINE_float("weight_decay", 5e-4, "Weight decay of kernels and batch-norm scales.")
flags.DEFINE_integer("deep_epochs", 8, "Epochs of one more run of the deepest, narrowest network, with paths and lesions; 0 for none.")
flags.DEFINE_integer("images", 32, "Training images whose gradients are decomposed.", lower_bound=1)
flags.DEFINE_float("threshold", 0.05, "Share of a unit's gradient below which the terms across more blocks do not matter.")
flags.DEFINE_integer("processes", 2, "Runs at a time, each on its share of the cores.", lower_bound=1)


def main():
    from keras_widerresnet.analysis.study import StudyConfig, run_study
    from keras_widerresnet.analysis.study_report import write_report
    from keras_widerresnet.errors import InputError

    values = {field.name: flags.FLAGS[field.name].value for field in dataclasses.fields(StudyConfig)}
    try:
        values |= {"depths": tuple(map(int, values["depths"])), "widths": tuple(map(float, values["widths"]))}
    except ValueError:
        raise InputError(f"--depths are whole numbers, --widths numbers, joined by commas. Received: {values}") from None
    config = StudyConfig(**values)
    run_study(config, pathlib.Path(__file__).parent)
    print(f"Report: {write_report(config)}")


if __name__ == "__main__":
    command_line.run(main)
