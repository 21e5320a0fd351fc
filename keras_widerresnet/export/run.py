"""One export, from its configuration to a version that a server can load."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from keras_widerresnet.data.limits import MAX_DENSE_PIXELS, MAX_PIXELS
from keras_widerresnet.data.resize import normalise
from keras_widerresnet.errors import InputError
from keras_widerresnet.export import lite, onnx, verify
from keras_widerresnet.export.card import write_card
from keras_widerresnet.export.config import ExportConfig, check_onnx_installed
from keras_widerresnet.export.fold import inference_network
from keras_widerresnet.export.graphs import ClassifierGraph, Prepare, SegmenterGraph
from keras_widerresnet.export.source import Exported, find_exported
from keras_widerresnet.export.version import new_version, remove_old
from keras_widerresnet.export.warmup import PACKAGE, has_serving_api, write_warmup
from keras_widerresnet.tasks.segmentation.network import of_pixels, predictor

logger = logging.getLogger(__name__)

LABELS_FILE, ONNX_FILE = "labels.txt", "model.onnx"


@dataclasses.dataclass(frozen=True)
class ExportedVersion:
    """The result of an export.

    Args:
        path: the version's folder.
        checked: the comparison of each format with the Keras model.
        removed: numbers of the old versions that were removed.
    """

    path: pathlib.Path
    checked: list[verify.Checked]
    removed: list[int]


def export(config: ExportConfig) -> ExportedVersion:
    """Writes a version: a SavedModel for TF Serving with labels, warm-up requests, `MODEL_CARD.md` and optional TFLite and ONNX files.

    Every format is compared with the Keras model on real images before the version is renamed from a hidden name to its final one.

    Raises:
        InputError: for invalid settings, weights or names, an existing version, a missing extra, or a format that differs from the Keras
            model by more than `verify.TOLERANCES`; nothing is left behind then.
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError(f"Export requires the TensorFlow backend. Received: KERAS_BACKEND={keras.backend.backend()}")
    if config.onnx:
        check_onnx_installed()
    with new_version(config.output, overwrite=config.overwrite) as (folder, path):
        source = find_exported(config)
        if source.stride and (config.tflite or config.onnx):
            raise InputError("--tflite and --onnx support classification only: segmentation networks accept images of any size")
        images, calibration = verify.real_images(config.images)
        labels = folder / LABELS_FILE
        labels.write_text("".join(f"{name}\n" for name in source.class_names))
        write = _write_segmenter if source.stride else _write_classifier
        checked = write(folder, config, source, images, calibration)
        labels.unlink()  # the SavedModel has a copy in assets/
        write_card(folder, config, source, checked)
    return ExportedVersion(path, checked, remove_old(path, config.keep))


def _write_classifier(folder: pathlib.Path, config: ExportConfig, source: Exported, images, calibration) -> list[verify.Checked]:
    model = inference_network(source.model, fold=config.fold)
    shown = verify.views(images, source.size, config.interpolation)
    expected = verify.expected_probabilities(source.model, shown, source.takes_pixels)
    checked = _write_single_files(folder, config, source, model, shown, expected, calibration)
    half = config.weight_type == "float16"
    max_pixels = config.max_pixels or MAX_PIXELS
    graph = ClassifierGraph(model, source.size, config.interpolation, folder / LABELS_FILE, config.top, max_pixels, half, source.prepare)
    tf.saved_model.save(graph, str(folder), signatures=graph.endpoints)
    pixels = tf.constant(shown[:1])
    requests = [("serving_default", "image_bytes", tf.constant(images[:1])), ("tensor", "images", pixels), ("features", "images", pixels)]
    _warm_up(folder, config, [request for request in requests if request[0] in graph.endpoints])
    loaded = tf.saved_model.load(str(folder))
    return [*verify.check_classifier(loaded, shown, images, expected, config.weight_type), *checked]


def _write_segmenter(folder: pathlib.Path, config: ExportConfig, source: Exported, images, _) -> list[verify.Checked]:
    model = inference_network(source.model, fold=config.fold)
    half, max_pixels = config.weight_type == "float16", config.max_pixels or MAX_DENSE_PIXELS
    graph = SegmenterGraph(model, source.stride, source.size, folder / LABELS_FILE, max_pixels, half, source.prepare)
    tf.saved_model.save(graph, str(folder), signatures=graph.endpoints)
    _warm_up(folder, config, [("serving_default", "image_bytes", tf.constant(images[:1]))])
    loaded = tf.saved_model.load(str(folder))
    predict = of_pixels(predictor(source.model)) if source.takes_pixels else predictor(source.model)
    return verify.check_segmenter(loaded, predict, images, source.stride, source.size, config.weight_type)


def _write_single_files(folder, config: ExportConfig, source: Exported, model, shown, expected, calibration) -> list[verify.Checked]:
    """Writes the TFLite and ONNX files, and checks each."""
    checked = []
    function = single_function(model, source.prepare)
    for kind in config.tflite:
        sample: Iterable[np.ndarray] = verify.views(calibration, source.size, config.interpolation) if kind == "int8" else ()
        concrete = function.get_concrete_function(tf.TensorSpec((1, *shown.shape[1:]), tf.float32, name="images"))
        content = lite.to_tflite(concrete, kind, (image[None] for image in sample))
        checked.append(verify.check(f"TFLite, {kind}", kind, lite.LiteModel(content)(shown), expected))
        (folder / f"model_{kind}.tflite").write_bytes(content)
    if config.onnx:
        content = onnx.to_onnx(model, source.size, source.prepare)
        checked.append(verify.check("ONNX", "float32", onnx.OnnxModel(content)(shown), expected))
        (folder / ONNX_FILE).write_bytes(content)
    return checked


def single_function(model: keras.Model, prepare: Prepare = normalise) -> tf.types.experimental.GenericFunction:
    """Returns the function from images, values 0..255, to the model's output, for TFLite and ONNX files."""

    @tf.function(autograph=False)
    def probabilities(images):
        return model(prepare(images), training=False)

    return probabilities


def _warm_up(folder: pathlib.Path, config: ExportConfig, requests) -> None:
    if config.warmup and has_serving_api():
        write_warmup(folder, requests)
    elif config.warmup:
        logger.warning("Warm-up requests are not written: %s is not installed (see docs/serving.md)", PACKAGE)
