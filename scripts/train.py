"""Trains a wide residual network: `python scripts/train.py --flagfile=scripts/flags/digits.flags`."""

import command_line
import training_flags
from absl import flags

training_flags.define(structure="A", crop_size=0, batch_size=256, learning_rate=0.1, nesterov=True, weight_decay=1e-4)
flags.DEFINE_string("data", "tfds:imagenet2012", "digits, folder:PATH, idx:PATH, tfds:NAME, tfrecord:PATH, fake or fake:SIZE.")
flags.DEFINE_float("dropout", 0.0, "Dropout before the last convolution of the units of B6 and B7.")
flags.DEFINE_enum("crop", "random_sized", ["center", "padded", "random_sized"], "Crop for training.")
flags.DEFINE_integer("rand_augment", 0, "keras-cv's RandAugment: operations for each image.")
flags.DEFINE_float("magnitude", 0.3, "Of RandAugment, 0..1.")
flags.DEFINE_float("color_jitter", 0.4, "Brightness, contrast and saturation change by 1 ± this, in random order.")
flags.DEFINE_float("lighting", 0.1, "Standard deviation of PCA lighting noise.")
flags.DEFINE_bool("flip", True, "Mirror half of the training images.")
flags.DEFINE_float("mixup", 0.0, "keras-cv's MixUp: alpha of the Beta distribution.")
flags.DEFINE_float("cutmix", 0.0, "keras-cv's CutMix: alpha; with MixUp too, each batch gets one of them.")
flags.DEFINE_float("label_smoothing", 0.0, "Share of each label spread over all classes.")
flags.DEFINE_bool("skip_corrupt", False, "folder: leave out images that do not decode or are not RGB.")
flags.DEFINE_bool("convert_rgb", False, "folder: take grey, alpha and CMYK images, converted to RGB.")


def main():
    from keras_widerresnet.training.config import TrainingConfig

    training_flags.train(TrainingConfig)


if __name__ == "__main__":
    command_line.run(main)
