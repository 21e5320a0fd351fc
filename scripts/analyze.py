"""Measures effective depth and path lengths: `python scripts/analyze.py runs/digits --data=digits --output_dir=runs/digits-analysis`."""

from keras_widerresnet.cli.analyze import COMMAND
from keras_widerresnet.cli.command import run_script

if __name__ == "__main__":
    run_script(COMMAND)
