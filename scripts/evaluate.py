"""Measures top-1 and top-5 errors: `python scripts/evaluate.py --weights=runs/digits --data=digits --output_dir=runs/digits-test`."""

from keras_widerresnet.cli.command import run_script
from keras_widerresnet.cli.evaluate import COMMAND

if __name__ == "__main__":
    run_script(COMMAND)
