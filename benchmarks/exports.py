"""Sizes and speeds of all export formats of one network, measured in one run."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from benchmarks.measure import in_own_process
from benchmarks.workload import Workload, load_saved_model, write_saved_model
from keras_widerresnet.compare import difference
from keras_widerresnet.export import lite, onnx, verify
from keras_widerresnet.export.config import check_onnx_installed
from keras_widerresnet.export.fold import inference_network
from keras_widerresnet.export.run import single_function

CALIBRATED = 8
# Name -> (folded, float16 weights).
SAVED_MODELS = {"SavedModel, not folded": (False, False), "SavedModel, folded": (True, False), "SavedModel, float16 weights": (True, True)}
TFLITE = {"TFLite, float16": "float16", "TFLite, int8": "int8"}
ONNX = "ONNX, in ONNX Runtime"


@dataclasses.dataclass(frozen=True)
class Form:
    """One export format of a network.

    Args:
        name: e.g. `"SavedModel, folded"`.
        megabytes: total size of its files, in 10**6 bytes.
        milliseconds: median time per image, without decoding.
        difference: largest difference of a probability from the Keras model's, relative to the largest probability.
        operations: number of operations in its graph with variables as constants; None if it is not a SavedModel.
    """

    name: str
    megabytes: float
    milliseconds: float
    difference: float
    operations: int | None = None


def export_forms(workload: Workload, repeats: int = 10) -> list[Form]:
    """Measures SavedModels (plain, folded, float16 weights), TFLite (float16, int8) and ONNX with one image at a time.

    Args:
        workload: a prepared network; TFLite uses its number of threads, the other formats use all cores.
        repeats: number of rounds; each round runs every format once, so that noise affects all alike.

    Raises:
        InputError: if the `onnx` extra is not installed.
    """
    check_onnx_installed()
    size, threads = workload.size, workload.threads
    shown = verify.views(verify.real_images("")[0], size, "bicubic")
    expected = verify.expected_probabilities(workload.model(), shown)
    names = (*SAVED_MODELS, *TFLITE, ONNX)
    with tempfile.TemporaryDirectory() as place:
        paths = {name: pathlib.Path(place) / str(number) for number, name in enumerate(names)}
        for name, path in paths.items():
            in_own_process(_write, name, workload, path)
        asked = {name: _loaded(name, path, threads) for name, path in paths.items()}
        times = {name: [] for name in names}
        found = {name: np.concatenate([ask(image[None]) for image in shown]) for name, (ask, _) in asked.items()}  # also warms up
        for number in range(repeats):
            image = shown[number % len(shown)][None]
            for name, (ask, _) in asked.items():
                begin = time.perf_counter()
                ask(image)
                times[name].append(time.perf_counter() - begin)
        sizes = {name: sum(entry.stat().st_size for entry in (path, *path.rglob("*")) if entry.is_file()) for name, path in paths.items()}
    return [
        Form(name, sizes[name] / 1e6, float(np.median(times[name])) * 1e3, difference(found[name], expected), count)
        for name, (_, count) in asked.items()
    ]


def operations(function: tf.types.experimental.ConcreteFunction) -> int:
    """Returns the number of operations of a graph with variables as constants, not counting constants and identities."""
    frozen = convert_variables_to_constants_v2(function).graph.as_graph_def()
    return sum(node.op not in ("Const", "Identity", "NoOp", "Placeholder") for node in frozen.node)


def _write(name: str, workload: Workload, path: pathlib.Path) -> None:
    if name in SAVED_MODELS:
        fold, half = SAVED_MODELS[name]
        write_saved_model(workload, path, fold=fold, half=half)
        return
    model, size = inference_network(workload.model()), workload.size
    if name in TFLITE:
        calibration = verify.views(verify.real_images("")[0], size, "bicubic")[:CALIBRATED]
        concrete = single_function(model).get_concrete_function(tf.TensorSpec((1, size, size, 3), tf.float32, name="images"))
        path.write_bytes(lite.to_tflite(concrete, TFLITE[name], (image[None] for image in calibration)))
    else:
        path.write_bytes(onnx.to_onnx(model, size))


def _loaded(name: str, path: pathlib.Path, threads: int) -> tuple[Callable[[np.ndarray], np.ndarray], int | None]:
    """Loads a written format; returns its function and its number of operations."""
    if name in TFLITE:
        return lite.LiteModel(path.read_bytes(), threads), None
    if name == ONNX:
        return onnx.OnnxModel(path.read_bytes()), None
    ask, function = load_saved_model(path)
    return ask, operations(function)
