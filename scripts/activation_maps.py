"""Draws where the classes of images are: `python scripts/activation_maps.py FOLDER --weights=runs/digits --output_dir=maps`."""

from keras_widerresnet.cli.activation_maps import COMMAND
from keras_widerresnet.cli.command import run_script

if __name__ == "__main__":
    run_script(COMMAND)
