"""Warm-up requests, which TF Serving runs before it makes a new version available, so that first requests are not slow."""

from __future__ import annotations

import importlib.util
import pathlib

import tensorflow as tf

FOLDER, FILE = "assets.extra", "tf_serving_warmup_requests"
PACKAGE = "tensorflow-serving-api"


def has_serving_api() -> bool:
    """Whether TF Serving's protobufs, which the requests consist of, are installed."""
    return importlib.util.find_spec("tensorflow_serving") is not None


def write_warmup(folder: pathlib.Path, requests: list[tuple[str, str, tf.Tensor]]) -> None:
    """Writes the warm-up log of a version: TFRecords of `PredictionLog` (TF Serving).

    Args:
        folder: the version's folder.
        requests: (signature, input name, value) of each request.
    """
    from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

    (folder / FOLDER).mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / FOLDER / FILE)) as writer:
        for signature, name, value in requests:
            spec = model_pb2.ModelSpec(signature_name=signature)
            request = predict_pb2.PredictRequest(model_spec=spec, inputs={name: tf.make_tensor_proto(value)})
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
