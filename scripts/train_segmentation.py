"""Trains a dilated network for segmentation: `python scripts/train_segmentation.py --flagfile=scripts/flags/shapes.flags`."""

from keras_widerresnet.cli.command import run_script
from keras_widerresnet.cli.train_segmentation import COMMAND

if __name__ == "__main__":
    run_script(COMMAND)
