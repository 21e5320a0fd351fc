"""Throughput of bulk prediction, from JPEG files to a Parquet table, against `model.predict` on the same images in memory."""

from __future__ import annotations

import io
import logging
import pathlib
import time

import keras
import numpy as np
from PIL import Image

import keras_widerresnet as kw
from keras_widerresnet.tasks.classification.bulk import predict_data
from keras_widerresnet.tasks.classification.config import PredictionConfig

BATCH_SIZE = 64


def prediction_speeds(
    encoded: list[bytes], structure: str, width: float, size: int, images: int, repeats: int, folder: pathlib.Path
) -> list[dict[str, object]]:
    """Measures both in turn, several times, on the same network.

    Args:
        encoded: contents of JPEG files, which are cut to squares and repeated.
        structure, width: the network.
        size: side of the network's input in pixels; the JPEG files have a quarter more.
        images: number of images.
        repeats: number of rounds.
        folder: an empty folder for the files.

    Returns:
        For each way its `name`, the median `images_per_second`, and `share_of_predict`, the median over the rounds of the ratio to
        `model.predict`.
    """
    logging.getLogger("keras_widerresnet").setLevel(logging.WARNING)
    network = kw.WiderResNet(structure, width=width, input_shape=(size, size, 3))
    network.save(folder / "network.keras")
    views = []
    for number in range(images):
        photograph = Image.open(io.BytesIO(encoded[number % len(encoded)])).resize([size * 5 // 4] * 2)
        photograph.save(folder / f"{number:06d}.jpg", quality=90)
        views.append(np.asarray(photograph.resize([size] * 2), np.float32))
    inputs = kw.preprocess_input(np.stack(views))
    network.predict(inputs[:BATCH_SIZE], batch_size=BATCH_SIZE, verbose=0)
    seconds: dict[str, list[float]] = {"model.predict, images in memory": [], "predict --data: files to a table": []}
    for number in range(repeats + 1):
        begin = time.perf_counter()
        network.predict(inputs, batch_size=BATCH_SIZE, verbose=0)
        alone = time.perf_counter() - begin
        options = {"data": f"folder:{folder}", "weights": str(folder / "network.keras"), "batch_size": BATCH_SIZE}
        found = predict_data(PredictionConfig(**options, output=str(folder / f"{number}.parquet")))
        for name, spent in zip(seconds, (alone, found.seconds), strict=True):
            seconds[name] += [spent] if number else []  # the first round is a warm-up
    keras.backend.clear_session()
    first = np.asarray(next(iter(seconds.values())))
    return [
        {"name": name, "images_per_second": images / float(np.median(spent)), "share_of_predict": float(np.median(first / spent))}
        for name, spent in seconds.items()
    ]
