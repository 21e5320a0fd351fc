"""Trains a dilated network for segmentation: `python scripts/train_segmentation.py --flagfile=scripts/flags/shapes.flags`."""

import command_line
import training_flags
from absl import flags

SOURCES = "voc:PATH, cityscapes:PATH, ade20k:PATH, pascal_context:PATH, pairs:PATH,OPTIONS or shapes."

training_flags.define(structure="A1", crop_size=500, batch_size=16, learning_rate=0.0016, nesterov=False, weight_decay=5e-4)
flags.DEFINE_string("data", None, SOURCES, required=True)
flags.DEFINE_integer("output_stride", 8, "Pixels a cell of the logits: 8, 16 or 32.")
flags.DEFINE_integer("classifier_convs", 2, "Convolutions of the head.", lower_bound=1, upper_bound=2)
flags.DEFINE_bool("frozen_batch_norm", True, "Keep the running statistics of --weights; give --nofrozen_batch_norm without weights.")
flags.DEFINE_float("dropout_b6", 0.3, "Dropout before the last convolution of the units of B6.")
flags.DEFINE_float("dropout_b7", 0.5, "Dropout before the last convolution of the units of B7.")
flags.DEFINE_float("shift_rate", 2.0, "Factor of the learning rate for biases and batch-norm shifts.")
flags.DEFINE_enum("loss", "bootstrapped", ["bootstrapped", "cross_entropy"], "Of the hard pixels (OHEM), or of all.")
flags.DEFINE_float("threshold", 0.6, "bootstrapped: pixels are hard whose class has no more than this probability.")
flags.DEFINE_integer("min_kept", 256, "bootstrapped: hardest pixels of a batch that are kept in any case.")
flags.DEFINE_integer("origin_size", 500, "Pixels of the longer side in testing; in training times --scale_low to --scale_high.")
flags.DEFINE_float("scale_low", 0.7, "Smallest factor of --origin_size in training.")
flags.DEFINE_float("scale_high", 1.3, "Largest factor of --origin_size in training.")
flags.DEFINE_float("color_jitter", 0.0, "Brightness, contrast and saturation change by 1 ± this, in random order.")
flags.DEFINE_bool("flip", True, "Mirror half of the training images.")
flags.DEFINE_integer("test_steps", 1, "Last test: so many shifted passes in each direction, interleaved.")
flags.DEFINE_bool("test_flip", True, "Last test: average over the mirrored image.")


def main():
    from keras_widerresnet.training.config import SegmentationConfig

    training_flags.train(SegmentationConfig)


if __name__ == "__main__":
    command_line.run(main)
