"""Benchmarks speed and memory: `python scripts/benchmark.py inference|training|memory|run|input|...`, see docs/performance.md."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks.command import COMMAND
from keras_widerresnet.cli.command import run_script

if __name__ == "__main__":
    run_script(COMMAND)
