"""Error rates of a classification network on a test split, and the directory that holds them."""

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

from keras_widerresnet.data import ImageData, load_data
from keras_widerresnet.data.images import decode_rgb
from keras_widerresnet.data.pipeline import normalise
from keras_widerresnet.data.segmentation import SegmentationData
from keras_widerresnet.errors import InputError
from keras_widerresnet.evaluation.crops import Protocol
from keras_widerresnet.evaluation.evaluation_directory import check_output, created, markdown_table, settings_table, write_csv
from keras_widerresnet.evaluation.load import Network, load_network
from keras_widerresnet.progress import progress_bar
from keras_widerresnet.weights.registry import IMAGENET

TOP_K = 5
CONFIDENCE = 0.95
SUM_TOLERANCE = 1e-3
IMAGENET_CLASSES = 1000
RESULTS_FILE, REPORT_FILE = "results.json", "report.md"
PER_CLASS_FILE, PREDICTIONS_FILE = "per_class.csv", "predictions.csv"
FILES = {RESULTS_FILE, REPORT_FILE, PER_CLASS_FILE, PREDICTIONS_FILE}
PER_CLASS_HEADERS = ("class", "images", "top-1 recall", "top-5 recall", "most frequent wrong class")
SHOWN = 5
UNREADABLE = (tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.DataLossError)
RESULT_HEADERS = ("", "views of an image", "top-1 error %", "top-5 error %", "source")


@dataclasses.dataclass(frozen=True)
class PublishedResult:
    """Published errors in percent on ILSVRC 2012 val, with what the network saw of an image."""

    seen: str
    top1_error: float
    top5_error: float
    source: str


_RELEASE, _INPLACE_ABN, _THIRD_PARTY = "official release", "InPlace-ABN release", "a third party's measurement of the release"
# By name of PRETRAINED. InPlace-ABN's release gives accuracies, 100 less these.
PUBLISHED: dict[str, tuple[PublishedResult, ...]] = {
    "imagenet-a": (
        PublishedResult("one 320 crop", 19.20, 4.73, _RELEASE),
        PublishedResult("one 224 crop of scale 256", 20.66, 5.27, _THIRD_PARTY),
        PublishedResult("one 320 crop", 19.25, 4.66, _THIRD_PARTY),
    ),
    "imagenet-a1": (PublishedResult("one 320 crop", 19.54, 4.75, _RELEASE),),
    "imagenet-inplace-abn": (
        PublishedResult("one 224 crop", 20.28, 5.22, _INPLACE_ABN),
        PublishedResult("ten crops", 18.97, 4.57, _INPLACE_ABN),
        PublishedResult("one 320 crop", 19.31, 4.73, _INPLACE_ABN),
    ),
}


@dataclasses.dataclass(frozen=True)
class ErrorRate:
    """Wrong images among all, as shares in 0..1, with the Wilson interval (Wilson 1927) of 95 % for the sampling of the images."""

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
    """What `evaluate` found.

    Args:
        settings: what was evaluated and how, in words and numbers.
        images: number of test images.
        top1: share of images whose most probable class is wrong.
        top5: share of images whose class is not among the five most probable; None where there are five classes or fewer.
        published: published results of the same network.
        report: path of `report.md`.
    """

    settings: dict[str, object]
    images: int
    top1: ErrorRate
    top5: ErrorRate | None
    published: tuple[PublishedResult, ...]
    report: pathlib.Path

    def rows(self) -> list[tuple[str, ...]]:
        """The table of results under `RESULT_HEADERS`: ours, then what was published."""
        ours = ("ours", str(self.settings["views"]), str(self.top1), str(self.top5 or "–"), f"{self.images:,} images")
        return [ours] + [("published", p.seen, f"{p.top1_error:g}", f"{p.top5_error:g}", p.source) for p in self.published]


def evaluate(
    weights: str,
    data: str,
    output_dir: pathlib.Path,
    model: str = "",
    *,
    scales: Sequence[int] = (),
    crop_size: int = 0,
    crops: str = "center",
    flip: bool = False,
    interpolation: str = "bicubic",
    pool_padding: str = "ceil",
    width: float = 1.0,
    batch_size: int = 64,
    overwrite: bool = False,
) -> Evaluation:
    """Evaluates a network on the test images of a data set, and writes `FILES` into `output_dir`, all of them or nothing.

    Probabilities are averaged over all views of an image at all scales. Memory is for a few batches and one float64 per image and class.

    Args:
        weights, model, pool_padding, width: as in `load_network`.
        data: as in `load_data`; grey, alpha and CMYK images are converted to RGB.
        output_dir: folder to write.
        scales: pixels to which the shorter side is resized, each once; none for the network's own size.
        crop_size, crops, flip, interpolation: as in `views`.
        batch_size: views that go through the network together, rounded down to whole images, one at least.
        overwrite: replace an earlier evaluation.

    Returns:
        The error rates, with their settings and the published ones.

    Raises:
        InputError: if an option, the network, the data or the folder is not as it must be; no folder is written then.
    """
    output_dir = pathlib.Path(output_dir)
    check_output(output_dir, overwrite, FILES)
    if batch_size < 1:
        raise InputError(f"`batch_size` must be 1 or more. Received: {batch_size}")
    protocol = Protocol(tuple(scales), crop_size, crops, flip, interpolation)
    network = load_network(weights, model, pool_padding=pool_padding, width=width)
    if not scales:
        protocol = dataclasses.replace(protocol, scales=(_own_scale(network, weights),))
    _check_sizes(network, weights, protocol)
    images = load_data(data, convert_rgb=True, verify=False)
    if network.classes != images.classes:
        raise InputError(f"{weights!r} has {network.classes} outputs and {data!r} has {images.classes} classes: they must be the same")
    with created(output_dir) as folder:
        probabilities, labels, are_logits = mean_probabilities(network, images, protocol, batch_size)
        places = true_class_places(labels, probabilities)
        settings = _settings(network, images, protocol) | {"weights": weights, "batch_size": batch_size, "outputs_are_logits": are_logits}
        found = Evaluation(
            settings,
            images=len(labels),
            top1=ErrorRate.of(int((places >= 1).sum()), len(labels)),
            top5=ErrorRate.of(int((places >= TOP_K).sum()), len(labels)) if images.classes > TOP_K else None,
            published=published_results(network) if images.classes == IMAGENET_CLASSES else (),
            report=output_dir / REPORT_FILE,
        )
        _write_files(folder, found, images, labels, probabilities, places)
    return found


def mean_probabilities(network: Network, data: ImageData, protocol: Protocol, batch_size: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """Probabilities averaged over views and scales, one pass over the test split for each scale; shows a progress bar.

    Args:
        network, data: of the same number of classes.
        protocol: what the network sees of an image.
        batch_size: as in `evaluate`.

    Returns:
        Float64 (images, classes) in the order of the test split; int32 labels (images,); and whether the outputs were logits.

    Raises:
        InputError: if an image does not decode, or the outputs are not finite.
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
                    raise InputError("The network's outputs are not finite numbers: its weights are damaged, or not of this network")
                are_logits = not _are_probabilities(outputs) if are_logits is None else are_logits
                outputs = softmax(outputs, axis=1) if are_logits else outputs
                rows = slice(first, first + len(images))
                probabilities[rows] += outputs.reshape(len(images), protocol.count, -1).sum(axis=1)
                labels[rows] = batch_labels
                first = rows.stop
                bar.update(len(images))
    probabilities /= protocol.count * len(protocol.scales)
    return probabilities, labels, are_logits


def true_class_places(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """How many classes stand before each image's own, int (images,): 0 is right, 4 and less is among the first five.

    Of equally probable classes the one of lower index stands first, as with `argmax`.
    """
    own = probabilities[np.arange(len(labels)), labels][:, None]
    before = np.arange(probabilities.shape[1]) < labels[:, None]
    return ((probabilities > own) | ((probabilities == own) & before)).sum(axis=1)


def published_results(network: Network) -> tuple[PublishedResult, ...]:
    """Published results of the same network; where no name tells whose weights it has, the paper's and the official release's."""
    if network.structure is None or network.width not in (None, 1):
        return ()
    name = network.record.name if network.record else IMAGENET.get(network.structure.name, "")
    rows, paper = PUBLISHED.get(name, ()), network.structure.published
    if paper:
        source = f"paper, Model {network.structure.name}" if network.structure.name.isalpha() else "paper"
        rows += (PublishedResult("one crop, scale not told", paper.top1_error, paper.top5_error, source),)
    return rows


def _own_scale(network: Network, weights: str) -> int:
    if network.size or network.structure:
        return network.size or network.structure.crop_size
    raise InputError(f"{weights!r} takes images of any size and does not tell its own: give --scales, or its structure with --model")


def _check_sizes(network: Network, weights: str, protocol: Protocol) -> None:
    for size in protocol.sizes:
        if network.size not in (None, size):
            raise InputError(
                f"{weights!r} takes images of {network.size} pixels only; --crop_size={network.size} cuts them. Received: {size}"
            )
        if network.pool_padding:
            network.structure.spatial_sizes(size, pool_padding=network.pool_padding)


def _settings(network: Network, images: ImageData, protocol: Protocol) -> dict[str, object]:
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


def cannot_be_read(data: ImageData | SegmentationData, error: tf.errors.OpError) -> InputError:
    """What to raise where reading a data set's images failed: it names the files."""
    unreadable = [f"{file} {problem}" for file, problem in data.find_unreadable().items()]
    reason = "; ".join(unreadable[:SHOWN]) or error.message.splitlines()[0]
    return InputError(f"Images of {data.name!r} cannot be read: {reason}")


def _batches(data: ImageData, protocol: Protocol, scale: int, images: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Float32 views (images, views, S, S, 3) as the networks take them, and int32 labels (images,)."""

    def seen(raw, label):
        return normalise(protocol.views(decode_rgb(raw), scale)), label

    examples = data.test.ordered().map(seen, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    try:
        yield from examples.batch(images).prefetch(1).as_numpy_iterator()
    except UNREADABLE as error:
        raise cannot_be_read(data, error) from None


def _are_probabilities(outputs: np.ndarray) -> bool:
    return bool((outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, rtol=0, atol=SUM_TOLERANCE))


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
    numbers = {"images": found.images}
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
    note = "The network gives logits: their softmax was taken as probabilities." if found.settings["outputs_are_logits"] else ""
    if found.published:
        published = (
            f"Published numbers are of ILSVRC 2012 val, 50,000 images; ours are of the {found.images:,} test images of `{data_name}`."
        )
    else:
        published = (
            "No published number applies: the data are not ImageNet's 1000 classes, or the network is not known to be a published one."
        )
    return f"""# {found.settings["weights"]} on {data_name}

{markdown_table(found.rows(), RESULT_HEADERS)}

In brackets: {CONFIDENCE:.0%} Wilson interval, for the choice of the test images alone. {note}

{published}

{settings_table(found.settings)}

Numbers and settings in [{RESULTS_FILE}]({RESULTS_FILE}); every class in [{PER_CLASS_FILE}]({PER_CLASS_FILE}), every image in
[{PREDICTIONS_FILE}]({PREDICTIONS_FILE}).
"""
