"""Prints the README's table of networks."""

from keras_widerresnet.cli.command import run_script
from keras_widerresnet.cli.describe_networks import COMMAND

if __name__ == "__main__":
    run_script(COMMAND)
