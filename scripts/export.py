"""Exports a network for TF Serving: `python scripts/export.py --weights=runs/digits --output=saved_models/digits`."""

from keras_widerresnet.cli.command import run_script
from keras_widerresnet.cli.export import COMMAND

if __name__ == "__main__":
    run_script(COMMAND)
