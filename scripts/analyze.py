"""Effective depth, path lengths, lesions: `python scripts/analyze.py runs/digits --data=digits --output_dir=runs/digits-analysis`."""

import dataclasses

import command_line
from absl import flags

flags.DEFINE_string("data", None, "digits, folder:PATH, idx:PATH, tfds:NAME, tfrecord:PATH, fake or fake:SIZE.", required=True)
flags.DEFINE_string("output_dir", None, "Directory to write: report.md, results.json, CSVs, pictures as PNG and SVG.", required=True)
flags.DEFINE_integer("images", 64, "Training images whose gradients are decomposed, each alone.", lower_bound=1)
flags.DEFINE_float("threshold", 0.05, "Share of a unit's gradient below which the terms across more blocks do not matter.")
flags.DEFINE_integer("path_images", 16, "Training images for the gradient per path length; 0: not measured.", lower_bound=0)
flags.DEFINE_integer("path_samples", 20, "Paths of each length.", lower_bound=1)
flags.DEFINE_integer("lesion_images", 1000, "Test images that are classified under each lesion; 0: no lesions.", lower_bound=0)
flags.DEFINE_integer("lesion_samples", 10, "Random sets of units for each number of dropped ones.", lower_bound=1)
flags.DEFINE_integer("crop_size", 0, "Side of the images in pixels; 0 for the network's own.", lower_bound=0)
flags.DEFINE_integer("seed", 0, "Seed of the choice of images, paths and sets, and of the bootstrap.")
flags.DEFINE_bool("overwrite", False, "Replace an existing analysis.")


def main(models):
    from keras_widerresnet.analysis.analyze import analyze
    from keras_widerresnet.analysis.measure import Settings

    settings = Settings(**{field.name: flags.FLAGS[field.name].value for field in dataclasses.fields(Settings)})
    report = analyze(models, flags.FLAGS.data, flags.FLAGS.output_dir, settings, overwrite=flags.FLAGS.overwrite)
    print(f"Report: {report}")


if __name__ == "__main__":
    command_line.run(main, arguments="MODEL.keras or run directory")
