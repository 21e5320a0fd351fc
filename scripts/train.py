"""Trains a wide residual network: `python scripts/train.py --flagfile=scripts/flags/digits.flags`."""

import dataclasses
import logging

import command_line
from absl import flags

flags.DEFINE_string("output_dir", None, "Run directory: flags, versions, metrics, checkpoints, models, pictures, report.md.", required=True)
flags.DEFINE_string("data", "tfds:imagenet2012", "digits, folder:PATH, idx:PATH, tfds:NAME, tfrecord:PATH, fake or fake:SIZE.")
flags.DEFINE_string("structure", "A", "A, A1, A2, B ... F, or the notation S-n1-n2-n3-n4-n5-n6-n7.")
flags.DEFINE_float("width", 1.0, "Factor for the channels of all stages.")
flags.DEFINE_enum("downsampling", "", ["", "pool", "stride"], "How resolution is halved; empty for the structure's own way.")
flags.DEFINE_enum("pool_padding", "ceil", ["ceil", "symmetric", "valid"], "Padding of the max pools; the paper's is ceil.")
flags.DEFINE_float("dropout", 0.0, "Dropout before the last convolution of the units of B6 and B7.")
flags.DEFINE_string("weights", "", "Where to start from: a .weights.h5, .keras or original file, or a name such as imagenet-a.")
flags.DEFINE_integer("crop_size", 0, "Side of the crop in pixels; 0 for the structure's S.")
flags.DEFINE_enum("crop", "random_sized", ["center", "padded", "random_sized"], "Crop for training.")
flags.DEFINE_integer("rand_augment", 0, "keras-cv's RandAugment: operations for each image.")
flags.DEFINE_float("magnitude", 0.3, "Of RandAugment, 0..1.")
flags.DEFINE_float("color_jitter", 0.4, "Brightness, contrast and saturation change by 1 ± this, in random order.")
flags.DEFINE_float("lighting", 0.1, "Standard deviation of PCA lighting noise.")
flags.DEFINE_bool("flip", True, "Mirror half of the training images.")
flags.DEFINE_float("mixup", 0.0, "keras-cv's MixUp: alpha of the Beta distribution.")
flags.DEFINE_float("cutmix", 0.0, "keras-cv's CutMix: alpha; with MixUp too, each batch gets one of them.")
flags.DEFINE_float("label_smoothing", 0.0, "Share of each label spread over all classes.")
flags.DEFINE_integer("epochs", 90, "Passes over the training images.")
flags.DEFINE_integer("batch_size", 256, "Images a step, over all replicas.")
flags.DEFINE_float("learning_rate", 0.1, "Learning rate of the first step, or the highest after a warm-up; it falls to 0.")
flags.DEFINE_integer("reference_batch", 0, "With 1 or more, the learning rate is for so many images a step and grows with --batch_size.")
flags.DEFINE_enum("schedule", "linear", ["linear", "cosine"], "How the learning rate falls; the release's is linear.")
flags.DEFINE_float("warmup_epochs", 0.0, "Epochs over which the learning rate first rises from 0.")
flags.DEFINE_float("momentum", 0.9, "Nesterov momentum.")
flags.DEFINE_float("weight_decay", 1e-4, "Weight decay of kernels and batch-norm scales.")
flags.DEFINE_float("ema", 0.0, "Momentum of averaged weights, which are tested and saved; 0 for none.")
flags.DEFINE_integer("steps_per_epoch", 0, "Steps between two tests and checkpoints; 0 for one pass over the training images.")
flags.DEFINE_enum("strategy", "mirrored", ["mirrored", "one_device", "multi_worker", "tpu"], "tf.distribute; multi_worker needs TF_CONFIG.")
flags.DEFINE_integer("logical_devices", 0, "0 for all GPUs, or the CPU; n replicates over n CPU devices.")
flags.DEFINE_bool("sync_batch_norm", False, "Batch statistics over all replicas.")
flags.DEFINE_enum("mixed_precision", "none", ["none", "bfloat16", "float16"], "Type of activations; weights stay float32.")
flags.DEFINE_bool("jit_compile", False, "Compile forward and backward pass with XLA.")
flags.DEFINE_bool("remat", False, "Compute the units' activations anew in the backward pass: less memory, a little more time.")
flags.DEFINE_integer("accumulate_steps", 1, "Parts of a replica's images that go through one after the other: less memory.")
flags.DEFINE_string("data_service", "", "Address of a tf.data service that runs the input pipeline: grpc://HOST:PORT.")
flags.DEFINE_integer("cache_mb", 256, "Splits of class folders up to this size are held in memory, encoded.")
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
