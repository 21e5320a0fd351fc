"""Writes a data set as TFRecord shards: `python scripts/write_tfrecords.py --data=folder:PATH --output=SHARDS`."""

from keras_widerresnet.cli.command import run_script
from keras_widerresnet.cli.write_tfrecords import COMMAND

if __name__ == "__main__":
    run_script(COMMAND)
