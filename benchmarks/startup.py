"""Startup times: importing the package, building the network and loading its weights."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tempfile

import numpy as np

BOUNDS = {"import keras_widerresnet, after keras": 0.3, "build the network": 3.0, "load its weights": 2.0}
_CODE = """
import sys, time

def lap():
    global begin
    end = time.perf_counter()
    passed, begin = end - begin, end
    return passed

begin = time.perf_counter()
import keras
keras_seconds = lap()
from keras_widerresnet import WiderResNet
import_seconds = lap()
model = WiderResNet(sys.argv[1])
build_seconds = lap()
if sys.argv[3] == "write":
    model.save_weights(sys.argv[2])
else:
    from keras_widerresnet.structures import find_structure
    from keras_widerresnet.weights.assign import assign_weights
    from keras_widerresnet.weights.find import find_weights
    lap()
    assign_weights(model, find_weights(sys.argv[2], find_structure(sys.argv[1])), sys.argv[2])
    print(keras_seconds, import_seconds, build_seconds, lap())
"""


def startup_seconds(structure: str, repeats: int) -> dict[str, float]:
    """Measures medians over new processes, with a warm file cache.

    Returns:
        Seconds of `import keras` and of each key of `BOUNDS`, whose values are the desired upper bounds.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "network.weights.h5")
        _python(structure, path, "write")
        runs = [[float(word) for word in _python(structure, path, "read").split()] for _ in range(repeats)]
    return dict(zip(("import keras", *BOUNDS), np.median(runs, axis=0).tolist(), strict=True))


def _python(*arguments: str) -> str:
    return subprocess.run([sys.executable, "-c", _CODE, *arguments], capture_output=True, text=True, check=True).stdout
