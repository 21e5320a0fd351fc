"""Prints the pretrained weights available by name."""

from keras_widerresnet.cli.command import run_script
from keras_widerresnet.cli.list_weights import COMMAND

if __name__ == "__main__":
    run_script(COMMAND)
