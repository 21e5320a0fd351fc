"""Predicts the top classes of images: `python scripts/predict.py IMAGE... --weights=runs/digits --output=sheet.png`."""

from keras_widerresnet.cli.command import run_script
from keras_widerresnet.cli.predict import COMMAND

if __name__ == "__main__":
    run_script(COMMAND)
