"""Trains a wide residual network: `python scripts/train.py --flagfile=scripts/flags/digits.flags`."""

import dataclasses
import logging

import command_line
from absl import flags

flags.DEFINE_string("output_dir", None, "Run directory: flags, versions, metrics, checkpoints, models, pictures, report.md.", required=True)
flags.DEFINE_string("data", "tfds:imagenet2012", "digits, folder:PATH, idx:PATH, tfds:NAME, fake or fake:SIZE.")
flags.DEFINE_string("structure", "A", "A, A1, A2, B ... F, or the notation S-n1-n2-n3-n4-n5-n6-n7.")
flags.DEFINE_float("width", 1.0, "Factor for the channels of all stages.")
flags.DEFINE_enum("downsampling", "", ["", "pool", "stride"], "How resolution is halved; empty for the structure's own way.")
flags.DEFINE_enum("pool_padding", "ceil", ["ceil", "symmetric", "valid"], "Padding of the max pools; the paper's is ceil.")
flags.DEFINE_float("dropout", 0.0, "Dropout before the last convolution of the units of B6 and B7.")
flags.DEFINE_string(
    "weights", "", "Where to start from: a .weights.h5, .keras or original file, or a name such as imagenet-a (its classes must fit)."
)
flags.DEFINE_integer("crop_size", 0, "Side of the crop in pixels; 0 for the structure's S.")
flags.DEFINE_enum("crop", "random_sized", ["center", "padded", "random_sized"], "Crop for training.")
flags.DEFINE_bool("flip", True, "Mirror half of the training images.")
flags.DEFINE_integer("epochs", 90, "Passes over the training images.")
flags.DEFINE_integer("batch_size", 256, "Images a step, over all replicas.")
flags.DEFINE_float("learning_rate", 0.1, "Learning rate of the first step; it falls linearly to 0.")
flags.DEFINE_float("momentum", 0.9, "Nesterov momentum.")
flags.DEFINE_float("weight_decay", 1e-4, "Weight decay of kernels and batch-norm scales.")
flags.DEFINE_integer("steps_per_epoch", 0, "Steps between two tests and checkpoints; 0 for one pass over the training images.")
flags.DEFINE_integer("logical_devices", 0, "0 for all GPUs, or the CPU; n replicates over n CPU devices.")
flags.DEFINE_bool("sync_batch_norm", False, "Batch statistics over all replicas.")
flags.DEFINE_integer("seed", 0, "Seed of initialisers, order, augmentation and dropout.")
flags.DEFINE_bool("deterministic", False, "Bitwise repeatable kernels (slower).")
flags.DEFINE_bool("skip_corrupt", False, "folder: leave out images that do not decode or are not RGB.")
flags.DEFINE_bool("convert_rgb", False, "folder: take grey, alpha and CMYK images, converted to RGB.")
flags.DEFINE_bool("verify_images", True, "folder: decode every image once before training.")
flags.DEFINE_bool("overwrite", False, "Replace an existing run.")
flags.DEFINE_bool("resume", False, "Go on with an existing run; start it if there is none.")


def main():
    from keras_widerresnet.training.config import TrainingConfig
    from keras_widerresnet.training.run import train

    logging.getLogger("keras_widerresnet").setLevel(logging.INFO)
    names = (field.name for field in dataclasses.fields(TrainingConfig))
    report = train(TrainingConfig(**{name: flags.FLAGS[name].value for name in names}))
    print(f"Report: {report}")


if __name__ == "__main__":
    command_line.run(main)
