"""Writes a data set as TFRecord shards: `python scripts/write_tfrecords.py --data=folder:PATH --output=SHARDS`."""

import command_line
from absl import flags

flags.DEFINE_string("data", None, "digits, folder:PATH, idx:PATH, tfds:NAME, tfrecord:PATH, fake or fake:SIZE.", required=True)
flags.DEFINE_string("output", None, "Folder to write; train with --data=tfrecord:FOLDER.", required=True)
flags.DEFINE_integer("train_shards", 1024, "Files of training images, at least one for each worker.", lower_bound=1)
flags.DEFINE_integer("test_shards", 128, "Files of test images.", lower_bound=1)
flags.DEFINE_bool("skip_corrupt", False, "folder: leave out images that do not decode or are not RGB.")
flags.DEFINE_bool("convert_rgb", False, "folder: take grey, alpha and CMYK images too; they are converted when they are read.")
flags.DEFINE_bool("verify_images", True, "folder: decode every image once before.")
flags.DEFINE_bool("overwrite", False, "Replace an existing folder of shards.")


def main():
    from keras_widerresnet.data import load_data
    from keras_widerresnet.data.tfrecord_source import write_tfrecords

    given = flags.FLAGS
    data = load_data(given.data, skip_corrupt=given.skip_corrupt, convert_rgb=given.convert_rgb, verify=given.verify_images)
    shards = {"train_shards": given.train_shards, "test_shards": given.test_shards}
    print(f"Shards: {write_tfrecords(data, given.output, overwrite=given.overwrite, **shards)}")


if __name__ == "__main__":
    command_line.run(main)
