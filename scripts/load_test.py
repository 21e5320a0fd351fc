"""Measures latency and throughput: `python scripts/load_test.py photograph.jpg --server=localhost:8501 --served_model=digits`."""

from keras_widerresnet.cli.command import run_script
from keras_widerresnet.cli.load_test import COMMAND

if __name__ == "__main__":
    run_script(COMMAND)
