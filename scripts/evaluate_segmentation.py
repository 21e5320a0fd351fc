"""Evaluates a segmentation network: `python scripts/evaluate_segmentation.py --weights=voc --data=voc:VOCdevkit --output_dir=runs/voc`."""

from keras_widerresnet.cli.command import run_script
from keras_widerresnet.cli.evaluate_segmentation import COMMAND

if __name__ == "__main__":
    run_script(COMMAND)
