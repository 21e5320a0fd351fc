"""Compares finished runs: `python scripts/compare_runs.py RUN... --picture=curves.png`."""

from keras_widerresnet.cli.command import run_script
from keras_widerresnet.cli.compare_runs import COMMAND

if __name__ == "__main__":
    run_script(COMMAND)
