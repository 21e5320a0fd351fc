"""Prints how much common porting mistakes change the outputs of Model A1 (with random weights)."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from keras_widerresnet.cli.command import run_script
from research.ports_command import COMMAND

if __name__ == "__main__":
    run_script(COMMAND)
