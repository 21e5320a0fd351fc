"""Bulk prediction: classes and features of many images, written to a Parquet table. An interrupted prediction goes on where it stopped."""

from __future__ import annotations

import dataclasses
import json
import logging
import pathlib
import time
import zlib
from collections.abc import Callable, Iterator

import keras
import numpy as np
import pyarrow as pa
import tensorflow as tf
from pyarrow import parquet
from scipy.special import softmax

from keras_widerresnet.data.images import decode_rgb
from keras_widerresnet.data.names import CLASSIFICATION, FOLDER, parse_name
from keras_widerresnet.data.problems import UNREADABLE
from keras_widerresnet.data.resize import normalise
from keras_widerresnet.data.sources.listing import Listing, images_below, test_images
from keras_widerresnet.data.streams import without_autotune
from keras_widerresnet.errors import InputError, first_line
from keras_widerresnet.files import check_absent
from keras_widerresnet.loading import class_names
from keras_widerresnet.models import NO_PREPROCESSING
from keras_widerresnet.networks import feature_extractor, one_or_all
from keras_widerresnet.options import values_of
from keras_widerresnet.progress import progress_bar
from keras_widerresnet.protocols import ClassificationProtocol
from keras_widerresnet.runs import versions
from keras_widerresnet.tasks.classification.config import POOLED, PredictionConfig
from keras_widerresnet.tasks.classification.data import load_data
from keras_widerresnet.tasks.classification.evaluation import are_logits_of, check_sizes, protocol_of_options
from keras_widerresnet.tasks.classification.network import Classifier, load_classifier
from keras_widerresnet.tasks.classification.table import Table
from keras_widerresnet.tasks.classification.views import protocol_views
from keras_widerresnet.training.strategy import make_strategy

logger = logging.getLogger(__name__)

METADATA_KEY = b"keras_widerresnet"
Arrays = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class BulkPrediction:
    """The result of `predict_data`.

    Args:
        images: number of rows of the table.
        unusable: number of images that could not be read or decoded, whose rows say why.
        predicted: number of images that this call predicted; the others were in parts of an interrupted one.
        seconds: duration of this call's predictions, without loading the network.
        output: path of the table.
    """

    images: int
    unusable: int
    predicted: int
    seconds: float
    output: pathlib.Path


def predict_data(config: PredictionConfig) -> BulkPrediction:
    """Predicts the images of a data set and writes a Parquet table with one row per image, in order; shows a progress bar.

    Probabilities, and pooled features, are averaged over the views of the test protocol, as in `evaluation.evaluate`. The rows are saved
    every `shard_size` images: the same call goes on after an interruption, and writes the same file.

    The table's columns:

    - `image` (string): path within the folder, or name within the data set.
    - `label` (string): class name; only for data with labels.
    - `prediction` (string), `probability` (float32): the most probable class. Null for an image that cannot be used.
    - `top_classes` (list of int32), `top_probabilities` (list of float32): the `top` most probable classes, most probable first.
    - `features` (with `features`): list of float32 (channels) for `"pooled"`, tensor of float32 (height, width, channels) for a stage.
    - `problem` (string): why the image cannot be used; null if it can be.

    The schema's metadata has, under `keras_widerresnet`, JSON with the settings, the class names and the versions.

    Raises:
        InputError: if an option, the network or the data is not valid, or the table exists or cannot be written.
    """
    output = pathlib.Path(config.output)
    check_absent(output, config.overwrite)
    listing = _listing(config)
    strategy = make_strategy(config.strategy)
    with strategy.scope():
        network = load_classifier(config)
        model = _with_features(network, config.features) if config.features else network.network
    protocol = protocol_of_options(config, network)
    check_sizes(network, config.weights, protocol)
    names = class_names(network.source, network.classes, config.class_names, lambda data: load_data(data, verify=False).class_names)
    images = max(1, config.batch_size // (protocol.count * len(protocol.scales)))
    images += -images % strategy.num_replicas_in_sync
    part_size = config.shard_size + -config.shard_size % images
    schema = _schema(config, network, model, listing, protocol, names)
    table = Table(output, _job(config, network, listing, protocol, part_size), config.overwrite)
    done = min(table.parts * part_size, listing.size)
    if done:
        logger.info("Continuing after %s of %s images", f"{done:,}", f"{listing.size:,}")
    start = time.monotonic()
    with progress_bar(desc="predicting", total=listing.size, initial=done) as bar:
        parts: list[pa.RecordBatch] = []
        first = done
        outputs = _predictor(network, model, strategy, bool(config.features))
        for usable, labels, probabilities, features in _batches(network, listing, protocol, images, first, outputs):
            parts.append(_rows(schema, listing, first, usable, labels, probabilities, features, names))
            first += len(usable)
            bar.update(len(usable))
            if first % part_size == 0 or first == listing.size:
                table.add(pa.Table.from_batches(parts, schema))
                parts = []
    seconds = time.monotonic() - start
    table.finish()
    return BulkPrediction(listing.size, _unusable(output), listing.size - done, seconds, output)


def _listing(config: PredictionConfig) -> Listing:
    kind, path = parse_name(config.data, CLASSIFICATION, needs_classes=False)
    if kind == FOLDER:
        return images_below(path, config.max_pixels)
    return test_images(load_data(config.data, verify=False, max_pixels=config.max_pixels), config.max_pixels)


def _job(config: PredictionConfig, network: Classifier, listing: Listing, protocol: ClassificationProtocol, part_size: int) -> dict:
    """Returns all that the rows and their division into parts depend on."""
    names = "\n".join(map(listing.name_of, range(listing.size))) if not listing.class_names else ""
    return {
        **values_of(config, ("weights", "data", "class_names", "features", "top", "batch_size", "max_pixels")),
        **dataclasses.asdict(protocol),
        "preprocessing": network.preprocessing,
        "images": listing.size,
        "checksum of the images' names": f"{zlib.crc32(names.encode()):08x}",
        "checksum of the weights": f"{_checksum(network):08x}",
        "images per part": part_size,
    }


def _checksum(network: Classifier) -> int:
    if network.network is not None:
        arrays = (np.ascontiguousarray(weight).tobytes() for weight in network.network.get_weights())
    else:
        assert network.source.path is not None
        files = sorted(path for path in network.source.path.rglob("*") if path.is_file())
        arrays = (path.read_bytes() for path in files)
    checksum = 0
    for array in arrays:
        checksum = zlib.crc32(array, checksum)
    return checksum


def _schema(
    config: PredictionConfig,
    network: Classifier,
    model: keras.Model | None,
    listing: Listing,
    protocol: ClassificationProtocol,
    names: tuple[str, ...],
) -> pa.Schema:
    top = min(config.top, network.classes)
    fields = [("image", pa.string()), *([("label", pa.string())] if listing.class_names else [])]
    fields += [("prediction", pa.string()), ("probability", pa.float32())]
    fields += [("top_classes", pa.list_(pa.int32(), top)), ("top_probabilities", pa.list_(pa.float32(), top))]
    if config.features and model is not None:
        size = protocol.sizes[0]
        shape = model.compute_output_shape((1, size, size, 3))[1][1:]
        kind = pa.list_(pa.float32(), shape[0]) if len(shape) == 1 else pa.fixed_shape_tensor(pa.float32(), shape)
        fields.append(("features", kind))
    settings = {"weights": config.weights, "data": listing.name, **dataclasses.asdict(protocol), "features": config.features}
    metadata = {METADATA_KEY: json.dumps({"settings": settings, "class_names": names, "versions": versions()})}
    return pa.schema([*fields, ("problem", pa.string())], metadata=metadata)


def _with_features(network: Classifier, features: str) -> keras.Model:
    """Returns the model with two outputs, its own and the features."""
    model = network.network
    if model is None:
        raise InputError(f"{network.source.text!r} is a SavedModel, whose features cannot be reached: use the run or .keras file")
    if features == POOLED:
        classifier = next((layer for layer in reversed(model.layers) if isinstance(layer, keras.layers.Dense)), None)
        if classifier is None:
            raise InputError(f"{network.source.text!r} has no dense layer, whose input would be the pooled features")
        return keras.Model(one_or_all(model.inputs), [model.output, classifier.input])
    stages = feature_extractor(model).output
    if features not in stages:
        raise InputError(f"{network.source.text!r} has no units in {features}; it has {', '.join(stages)}")
    return keras.Model(one_or_all(model.inputs), [model.output, stages[features]])


def _predictor(
    network: Classifier, model: keras.Model | None, strategy: tf.distribute.Strategy, has_features: bool
) -> Callable[[tuple[tf.Tensor, ...]], list[Arrays]]:
    """Returns the function from the views at each scale, (rows, views, S, S, 3), to outputs (rows · views, …) for each scale.

    Each scale's outputs are a tuple of the network's own and, if they were asked for, the features. Rows are divided among the devices.
    """
    if model is None:
        return lambda scales: [(np.asarray(network.predict(_images(views).numpy())),) for views in scales]
    are_pixels = network.preprocessing == NO_PREPROCESSING

    def on_device(scales):
        found = [model(_images(views) if are_pixels else normalise(_images(views)), training=False) for views in scales]
        return [tuple(tf.cast(one, tf.float32) for one in (outputs if has_features else [outputs])) for outputs in found]

    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        run = tf.function(on_device, autograph=False)
        return lambda scales: [tuple(one.numpy() for one in outputs) for outputs in run(scales)]
    run = tf.function(lambda scales: strategy.run(on_device, (scales,)), autograph=False)

    def divided(scales):
        shares = [tuple(tf.split(views, replicas)[index] for views in scales) for index in range(replicas)]
        values = strategy.experimental_distribute_values_from_function(lambda context: shares[context.replica_id_in_sync_group])
        return [
            tuple(np.concatenate([part.numpy() for part in strategy.experimental_local_results(one)]) for one in outputs)
            for outputs in run(values)
        ]

    return divided


def _images(views: tf.Tensor) -> tf.Tensor:
    """(rows, views, S, S, 3) -> (rows · views, S, S, 3)."""
    return tf.reshape(views, [-1, *views.shape[2:]])


def _batches(
    network: Classifier, listing: Listing, protocol: ClassificationProtocol, images: int, first: int, predict: Callable
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]]:
    """Yields, for each batch, which images are usable, their labels, mean probabilities, and mean features."""

    def views_of(raw):
        image = decode_rgb(raw)
        return tuple(protocol_views(protocol, image, scale) for scale in protocol.scales)

    fill = tuple(tf.zeros([protocol.count, size, size, 3]) for size in protocol.sizes)

    def batches() -> Iterator[tuple[tf.Tensor, ...]]:
        place = first
        try:
            for batch in without_autotune(listing.prepared(place, views_of).batch(images).prefetch(2)):
                yield batch
                place += images
        except UNREADABLE:  # from here on, images may be damaged
            yield from listing.prepared(place, views_of, fill).batch(images).prefetch(2)

    are_logits = None
    try:
        for usable, labels, *scales in batches():
            rows = len(usable)
            missing = images - rows  # the last batch is filled up, so that it needs no graph of its own
            outputs = predict(tuple(tf.pad(views, [[0, missing]] + [[0, 0]] * 4) for views in scales) if missing else tuple(scales))
            scores = [np.asarray(of_scale[0], np.float64) for of_scale in outputs]
            if not all(np.isfinite(of_scale[: rows * protocol.count]).all() for of_scale in scores):
                raise InputError("The network's outputs are NaN or infinite: its weights are damaged or belong to another network")
            are_logits = are_logits_of(network, scores[0]) if are_logits is None else are_logits
            scores = [softmax(of_scale, axis=1) for of_scale in scores] if are_logits else scores
            features = _mean([of_scale[1] for of_scale in outputs], protocol.count)[:rows] if len(outputs[0]) > 1 else None
            yield usable.numpy(), labels.numpy(), _mean(scores, protocol.count)[:rows], features
    except UNREADABLE as error:
        raise InputError(f"Images of {listing.name!r} cannot be read: {first_line(error)}") from None


def _mean(scales: list[np.ndarray], views: int) -> np.ndarray:
    """Returns the mean over scales and views of arrays (rows · views, …)."""
    return np.mean([of_scale.reshape(-1, views, *of_scale.shape[1:]).mean(axis=1) for of_scale in scales], axis=0)


def _rows(
    schema: pa.Schema,
    listing: Listing,
    first: int,
    usable: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    features: np.ndarray | None,
    names: tuple[str, ...],
) -> pa.RecordBatch:
    """Returns the rows of a batch of images; those that cannot be used have only a name, a label and a problem."""
    top = schema.field("top_classes").type.list_size
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top].astype(np.int32)
    highest = np.take_along_axis(probabilities, order, axis=1).astype(np.float32)
    is_null = ~usable
    columns = {
        "image": [listing.name_of(first + row) for row in range(len(usable))],
        "label": [listing.class_names[label] for label in labels] if listing.class_names else None,
        "prediction": [names[best] if good else None for best, good in zip(order[:, 0], usable, strict=True)],
        "probability": pa.array(highest[:, 0], mask=is_null),
        "top_classes": _lists(order, is_null),
        "top_probabilities": _lists(highest, is_null),
        "features": None if features is None else _tensors(features.astype(np.float32), is_null, schema.field("features").type),
        "problem": [None if good else _problem(listing, first + row) for row, good in enumerate(usable)],
    }
    return pa.RecordBatch.from_arrays([_column(columns[field.name], field.type) for field in schema], schema=schema)


def _column(values, kind: pa.DataType) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def _lists(rows: np.ndarray, is_null: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1], mask=pa.array(is_null))


def _tensors(rows: np.ndarray, is_null: np.ndarray, kind: pa.DataType) -> pa.Array:
    lists = _lists(rows.reshape(len(rows), -1), is_null)
    return pa.ExtensionArray.from_storage(kind, lists) if isinstance(kind, pa.FixedShapeTensorType) else lists


def _problem(listing: Listing, index: int) -> str:
    problem = listing.problem_of(index)
    if not problem:
        raise InputError(f"{listing.name_of(index)!r} of {listing.name!r} changed while it was read: run the command again")
    return problem


def _unusable(output: pathlib.Path) -> int:
    problems = parquet.read_table(output, columns=["problem"])["problem"]
    return len(problems) - problems.null_count
