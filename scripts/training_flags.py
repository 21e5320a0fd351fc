"""Flags that training has for classification and segmentation alike: the fields of `RunConfig`."""

import dataclasses
import logging

import command_line
from absl import flags

PADDINGS = ["ceil", "symmetric", "valid"]
STRATEGIES = ["mirrored", "one_device", "multi_worker", "tpu"]


def define(*, structure: str, crop_size: int, batch_size: int, learning_rate: float, nesterov: bool, weight_decay: float) -> None:
    """Defines the flags; the arguments are the defaults that differ between the recipes."""
    flags.DEFINE_string("output_dir", None, "Run directory: flags, metrics, checkpoints, models, pictures, report.md.", required=True)
    flags.DEFINE_string("structure", structure, "A, A1, A2, B ... F, or the notation S-n1-n2-n3-n4-n5-n6-n7.")
    flags.DEFINE_float("width", 1.0, "Factor for the channels of all stages.")
    flags.DEFINE_enum("downsampling", "", ["", "pool", "stride"], "How resolution is halved; empty for the structure's own way.")
    flags.DEFINE_enum("pool_padding", "ceil", PADDINGS, "Padding of the max pools; the paper's is ceil.")
    flags.DEFINE_string("weights", "", "Where to start from: a .weights.h5, .keras or original file, or a name such as imagenet-a.")
    flags.DEFINE_integer("crop_size", crop_size, "Side of the crop in pixels; 0 for the structure's S.")
    flags.DEFINE_integer("epochs", 90, "Passes over the training images.")
    flags.DEFINE_integer("batch_size", batch_size, "Images a step, over all replicas.")
    flags.DEFINE_float("learning_rate", learning_rate, "Learning rate of the first step, or the highest after a warm-up.")
    flags.DEFINE_integer("reference_batch", 0, "With 1 or more, the rate is for so many images a step and grows with --batch_size.")
    flags.DEFINE_enum("schedule", "linear", ["linear", "cosine", "constant"], "How the learning rate goes on: the release's is linear.")
    flags.DEFINE_float("warmup_epochs", 0.0, "Epochs over which the learning rate first rises from 0.")
    flags.DEFINE_float("momentum", 0.9, "Momentum of SGD.")
    flags.DEFINE_bool("nesterov", nesterov, "Nesterov's form of momentum.")
    flags.DEFINE_float("weight_decay", weight_decay, "Weight decay of kernels and batch-norm scales.")
    flags.DEFINE_float("ema", 0.0, "Momentum of averaged weights, which are tested and saved; 0 for none.")
    flags.DEFINE_integer("steps_per_epoch", 0, "Steps between two tests and checkpoints; 0 for one pass over the training images.")
    flags.DEFINE_enum("strategy", "mirrored", STRATEGIES, "tf.distribute; multi_worker needs TF_CONFIG.")
    flags.DEFINE_integer("logical_devices", 0, "0 for all GPUs, or the CPU; n replicates over n CPU devices.")
    flags.DEFINE_bool("sync_batch_norm", False, "Batch statistics over all replicas.")
    flags.DEFINE_enum("mixed_precision", "none", ["none", "bfloat16", "float16"], "Type of activations; weights stay float32.")
    flags.DEFINE_bool("jit_compile", False, "Compile forward and backward pass with XLA.")
    flags.DEFINE_bool("remat", False, "Compute the units' activations anew in the backward pass: less memory, a little more time.")
    flags.DEFINE_integer("accumulate_steps", 1, "Parts of a replica's images that go through one after the other: less memory.")
    flags.DEFINE_string("data_service", "", "Address of a tf.data service that runs the input pipeline: grpc://HOST:PORT.")
    flags.DEFINE_integer("cache_mb", 256, "Splits of files up to this size are held in memory, encoded.")
    flags.DEFINE_integer("seed", 0, "Seed of initialisers, order, augmentation and dropout.")
    flags.DEFINE_bool("deterministic", False, "Bitwise repeatable kernels (slower).")
    flags.DEFINE_bool("verify_images", True, "Look at every file once before training.")
    flags.DEFINE_bool("overwrite", False, "Replace an existing run.")
    flags.DEFINE_bool("resume", False, "Go on with an existing run; start it if there is none.")


def train(config_class: type) -> None:
    """Trains by the flags named as the fields of a `RunConfig`."""
    command_line.restart_with_huge_pages()
    from keras_widerresnet.training.run import train

    logging.getLogger("keras_widerresnet").setLevel(logging.INFO)
    report = train(config_class(**{field.name: flags.FLAGS[field.name].value for field in dataclasses.fields(config_class)}))
    print(f"Report: {report}")
