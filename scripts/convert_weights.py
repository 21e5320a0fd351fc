"""Converts original weights: `python scripts/convert_weights.py --source=FILE --model=A1 --output=a1.weights.h5 --verify`."""

from keras_widerresnet.cli.command import run_script
from keras_widerresnet.cli.convert import COMMAND

if __name__ == "__main__":
    run_script(COMMAND)
