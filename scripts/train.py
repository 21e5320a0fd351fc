"""Trains a wide residual network: `python scripts/train.py --flagfile=scripts/flags/digits.flags`."""

from keras_widerresnet.cli.command import run_script
from keras_widerresnet.cli.train import COMMAND

if __name__ == "__main__":
    run_script(COMMAND)
