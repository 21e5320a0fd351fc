"""Evaluation of a classification network on a test split, and the folder that it writes."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

from keras_widerresnet.data.images import decode_rgb
from keras_widerresnet.data.problems import UNREADABLE, cannot_be_read
from keras_widerresnet.data.split import ImageData
from keras_widerresnet.data.streams import elements
from keras_widerresnet.errors import InputError
from keras_widerresnet.files import check_output, created
from keras_widerresnet.imagenet import imagenet_classes
from keras_widerresnet.loading import gives_shares
from keras_widerresnet.progress import progress_bar
from keras_widerresnet.protocols import ClassificationProtocol
from keras_widerresnet.reporting import markdown_table, settings_table, write_csv
from keras_widerresnet.runs import CLASSIFICATION_EVALUATION, PER_CLASS_FILE, PREDICTIONS_FILE, REPORT_FILE, RESULTS_FILE
from keras_widerresnet.tasks.classification.config import EvaluationConfig, PredictionConfig
from keras_widerresnet.tasks.classification.data import load_data
from keras_widerresnet.tasks.classification.network import Classifier, load_classifier
from keras_widerresnet.tasks.classification.views import protocol_views
from keras_widerresnet.tracing import without_autograph
from keras_widerresnet.weights.registry import IMAGENET, PRETRAINED, PublishedResult

TOP_K = 5
CONFIDENCE = 0.95
SUM_TOLERANCE = 1e-3
PER_CLASS_HEADERS = ("class", "images", "top-1 recall", "top-5 recall", "most frequent wrong class")
RESULT_HEADERS = ("", "views of an image", "top-1 error %", "top-5 error %", "source")


@dataclasses.dataclass(frozen=True)
class ErrorRate:
    """An error rate in 0..1 with its 95 % Wilson score interval (Wilson 1927), which covers the sampling of the test images only."""

    error: float
    low: float
    high: float

    @classmethod
    def of(cls, wrong: int, images: int) -> ErrorRate:
        interval = binomtest(wrong, images).proportion_ci(CONFIDENCE, method="wilson")
        return cls(wrong / images, float(interval.low), float(interval.high))

    def __str__(self) -> str:
        return f"{self.error * 100:.2f} ({self.low * 100:.2f} – {self.high * 100:.2f})"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    Args:
        settings: what was evaluated, and how.
        images: number of test images.
        top1: fraction of images whose most probable class is wrong.
        top5: fraction of images whose class is not among the five most probable; None if there are at most five classes.
        published: published results of the same network.
        report: path of the report.
    """

    settings: dict[str, object]
    images: int
    top1: ErrorRate
    top5: ErrorRate | None
    published: tuple[PublishedResult, ...]
    report: pathlib.Path

    def rows(self) -> list[tuple[str, ...]]:
        """Returns the rows of the results table with `RESULT_HEADERS`: our result, then the published ones."""
        ours: tuple[str, ...] = ("ours", str(self.settings["views"]), str(self.top1), str(self.top5 or "–"), f"{self.images:,} images")
        return [ours] + [("published", p.seen, f"{p.top1_error:g}", f"{p.top5_error:g}", p.source) for p in self.published]


def evaluate(config: EvaluationConfig) -> Evaluation:
    """Evaluates a network on the test images of a data set, and writes the evaluation's folder completely or not at all.

    Probabilities are averaged over all views of an image at all scales. Memory usage is a few batches and one float64 per image and class.
    Grey, alpha and CMYK images are converted to RGB. By default, weights with a published protocol are tested with that protocol.

    Returns:
        The error rates, the settings and the published results.

    Raises:
        InputError: if an option, the network, the data or the folder is not valid; no folder is written then.
    """
    output_dir = pathlib.Path(config.output_dir)
    check_output(output_dir, config.overwrite, CLASSIFICATION_EVALUATION)
    protocol_of_options(config, None)
    network = load_classifier(config)
    protocol = protocol_of_options(config, network)
    check_sizes(network, config.weights, protocol)
    images = load_data(config.data, convert_rgb=True, verify=False, max_pixels=config.max_pixels)
    if network.classes != images.classes:
        raise InputError(
            f"{config.weights!r} has {network.classes} outputs, but {config.data!r} has {images.classes} classes: they must be equal"
        )
    with created(output_dir) as folder:
        probabilities, labels, are_logits = mean_probabilities(network, images, protocol, config.batch_size)
        places = true_class_places(labels, probabilities)
        others = {
            "weights": config.weights,
            "batch_size": config.batch_size,
            "preprocessing": network.preprocessing,
            "outputs_are_logits": are_logits,
        }
        found = Evaluation(
            _settings(network, images, protocol) | others,
            images=len(labels),
            top1=ErrorRate.of(int((places >= 1).sum()), len(labels)),
            top5=ErrorRate.of(int((places >= TOP_K).sum()), len(labels)) if images.classes > TOP_K else None,
            published=published_results(network),
            report=output_dir / REPORT_FILE,
        )
        _write_files(folder, found, images, labels, probabilities, places)
    return found


def protocol_of_options(config: EvaluationConfig | PredictionConfig, network: Classifier | None) -> ClassificationProtocol:
    """Returns the test protocol: the options or, without scales, those of the published protocol or the network's own size.

    Args:
        config: the options.
        network: the network to test; None to check only the options.

    Raises:
        InputError: for invalid options, or a network of unknown input size.
    """
    given = ClassificationProtocol(config.scales, config.crop_size, config.crops, config.flip, config.interpolation)
    if config.scales or network is None:
        return given
    published = network.source.protocol
    if not isinstance(published, ClassificationProtocol):
        return dataclasses.replace(given, scales=(_own_scale(network, config.weights),))
    crop_size = config.crop_size or published.crop_size
    return dataclasses.replace(given, scales=published.scales, crop_size=crop_size)


def mean_probabilities(
    network: Classifier, data: ImageData, protocol: ClassificationProtocol, batch_size: int
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Returns probabilities averaged over views and scales, with one pass over the test split per scale; shows a progress bar.

    Args:
        network, data: a network and a data set with the same number of classes.
        protocol: the test protocol.
        batch_size: views per batch, rounded down to whole images, at least one image.

    Returns:
        Float64 (images, classes) in the order of the test split; int32 labels (images,); and whether the outputs were logits.

    Raises:
        InputError: if an image cannot be decoded, or the outputs are not finite.
    """
    size = data.test.size
    probabilities, labels = np.zeros((size, data.classes)), np.zeros(size, np.int32)
    are_logits = None
    with progress_bar(desc="evaluating", total=size * len(protocol.scales)) as bar:
        for scale in protocol.scales:
            first = 0
            for images, batch_labels in _batches(data, protocol, scale, max(1, batch_size // protocol.count)):
                outputs = np.asarray(network.predict(images.reshape(-1, *images.shape[2:])), np.float64)
                if not np.isfinite(outputs).all():
                    raise InputError("The network's outputs are NaN or infinite: its weights are damaged or belong to another network")
                are_logits = are_logits_of(network, outputs) if are_logits is None else are_logits
                outputs = softmax(outputs, axis=1) if are_logits else outputs
                rows = slice(first, first + len(images))
                probabilities[rows] += outputs.reshape(len(images), protocol.count, -1).sum(axis=1)
                labels[rows] = batch_labels
                first = rows.stop
                bar.update(len(images))
    probabilities /= protocol.count * len(protocol.scales)
    return probabilities, labels, bool(are_logits)


def published_results(network: Classifier) -> tuple[PublishedResult, ...]:
    """Returns the published results of the same network; for weights of unknown origin, those of the official release and the paper."""
    if network.structure is None:
        return ()
    record = network.record or PRETRAINED.get(IMAGENET.get(network.structure.name, ""))
    is_same = record and network.classes == record.classes and network.width in (None, record.width)
    rows = [result for result in record.results if isinstance(result, PublishedResult)] if record and is_same else []
    paper = network.structure.published
    if paper and network.classes == len(imagenet_classes()) and network.width in (None, 1):
        source = f"paper, Model {network.structure.name}" if network.structure.name.isalpha() else "paper"
        rows.append(PublishedResult("one crop, scale not stated", paper.top1_error, paper.top5_error, source))
    return tuple(rows)


def true_class_places(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns the zero-based rank of the true class of each image, int (images,): 0 is correct, at most 4 is in the top five.

    Of equally probable classes, the one with the lower index ranks first, as with `argmax`.
    """
    own = probabilities[np.arange(len(labels)), labels][:, None]
    before = np.arange(probabilities.shape[1]) < labels[:, None]
    return ((probabilities > own) | ((probabilities == own) & before)).sum(axis=1)


def _own_scale(network: Classifier, weights: str) -> int:
    if network.size:
        return network.size
    if network.source.crop_size:
        return network.source.crop_size
    raise InputError(f"{weights!r} accepts images of any size and specifies none: give --scales, or its structure with --model")


def check_sizes(network: Classifier, weights: str, protocol: ClassificationProtocol) -> None:
    """Raises `InputError` if a network does not accept the crops of a protocol; `weights` is its name in the message."""
    for size in protocol.sizes:
        if network.size not in (None, size):
            raise InputError(f"{weights!r} accepts only images of {network.size} pixels: give --crop_size={network.size}. Received: {size}")
        if network.pool_padding and network.structure:
            network.structure.spatial_sizes(size, pool_padding=network.pool_padding)


def _settings(network: Classifier, images: ImageData, protocol: ClassificationProtocol) -> dict[str, object]:
    structure = network.structure
    return {
        "structure": structure and " ".join(dict.fromkeys(filter(None, (structure.name, str(structure))))),
        "pool_padding": network.pool_padding,
        "width": network.width,
        "data": images.name,
        "classes": images.classes,
        **dataclasses.asdict(protocol),
        "views": str(protocol),
    }


def _batches(data: ImageData, protocol: ClassificationProtocol, scale: int, images: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields float32 views (images, views, S, S, 3) of values 0..255, and int32 labels (images,)."""

    @without_autograph
    def seen(raw, label):
        return protocol_views(protocol, decode_rgb(raw), scale), label

    examples = data.test.ordered().map(seen, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    try:
        yield from elements(examples.batch(images).prefetch(1))
    except UNREADABLE as error:
        raise cannot_be_read(data, error) from None


def are_logits_of(network: Classifier, outputs: np.ndarray) -> bool:
    """Whether a network's outputs (images, classes) are logits: neither of a softmax or sigmoid, nor numbers of 0 to 1 whose sum is 1."""
    if network.network is not None and gives_shares(network.network):
        return False
    return not ((outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, rtol=0, atol=SUM_TOLERANCE))


def _write_files(
    folder: pathlib.Path, found: Evaluation, data: ImageData, labels: np.ndarray, probabilities: np.ndarray, places: np.ndarray
) -> None:
    predicted = probabilities.argmax(axis=1)
    write_csv(folder / PER_CLASS_FILE, PER_CLASS_HEADERS, _per_class(data.class_names, labels, predicted, places))
    predictions = (
        (data.test.name_of(i), data.class_names[labels[i]], data.class_names[k], f"{probabilities[i, k]:.6f}")
        for i, k in enumerate(predicted)
    )
    write_csv(folder / PREDICTIONS_FILE, ("image", "class", "predicted", "probability of predicted"), predictions)
    numbers: dict[str, object] = {"images": found.images}
    for name, rate in (("top1", found.top1), ("top5", found.top5)):
        for field in dataclasses.fields(ErrorRate):
            numbers[f"{name}_{field.name}"] = getattr(rate, field.name) if rate else None
    (folder / RESULTS_FILE).write_text(json.dumps(found.settings | numbers, indent=2) + "\n")
    (folder / REPORT_FILE).write_text(_report(found, data.name))


def _per_class(class_names: Sequence[str], labels: np.ndarray, predicted: np.ndarray, places: np.ndarray) -> Iterator[tuple]:
    wrong = confusion_matrix(labels, predicted, labels=range(len(class_names)))
    np.fill_diagonal(wrong, 0)
    for index, name in enumerate(class_names):
        own = places[labels == index]
        top1, top5 = ((f"{(own < k).mean():.6f}" if len(own) else "") for k in (1, TOP_K))
        rival = class_names[wrong[index].argmax()] if wrong[index].any() else ""
        yield name, len(own), top1, top5 if len(class_names) > TOP_K else "", rival


def _report(found: Evaluation, data_name: str) -> str:
    note = "The network returns logits; softmax was applied to obtain probabilities." if found.settings["outputs_are_logits"] else ""
    if found.published:
        stated = " and ".join(dict.fromkeys(f"{one.data} ({one.images:,} images)" for one in found.published))
        published = f"Published results are on {stated}, ours on the {found.images:,} test images of `{data_name}`."
    else:
        published = "No published result applies: the network is not a published one, or has other classes."
    return f"""# {found.settings["weights"]} on {data_name}

{markdown_table(found.rows(), RESULT_HEADERS)}

In brackets: {CONFIDENCE:.0%} Wilson interval, for the sampling of the test images only. {note}

{published}

{settings_table(found.settings)}

Numbers and settings: [{RESULTS_FILE}]({RESULTS_FILE}); per-class results: [{PER_CLASS_FILE}]({PER_CLASS_FILE}); per-image results:
[{PREDICTIONS_FILE}]({PREDICTIONS_FILE}).
"""
