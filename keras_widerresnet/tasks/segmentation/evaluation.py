"""Evaluation of a segmentation network on a test split, and the folder that it writes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import pathlib
import shlex
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_widerresnet import runs
from keras_widerresnet.data.pairs import SegmentationData
from keras_widerresnet.data.problems import UNREADABLE, cannot_be_read
from keras_widerresnet.data.streams import elements
from keras_widerresnet.errors import InputError
from keras_widerresnet.files import check_output, created, replacing
from keras_widerresnet.label_maps import IGNORED, LabelMap, voc_palette
from keras_widerresnet.options import given_flags
from keras_widerresnet.progress import progress_bar
from keras_widerresnet.protocols import SegmentationProtocol
from keras_widerresnet.reporting import markdown_table, percent, settings_table, write_csv
from keras_widerresnet.tasks.segmentation import figures
from keras_widerresnet.tasks.segmentation.config import EvaluationConfig
from keras_widerresnet.tasks.segmentation.data import load_segmentation_data
from keras_widerresnet.tasks.segmentation.metrics import class_iou, scores
from keras_widerresnet.tasks.segmentation.network import Segmenter, load_segmenter
from keras_widerresnet.tasks.segmentation.views import Predict, pixel_classes
from keras_widerresnet.tracing import without_autograph

PER_CLASS_HEADERS = ("class", "pixels", "accuracy", "IoU")
RESULT_HEADERS = ("", "of an image the network saw", "pixel accuracy %", "mean accuracy %", "mean IoU %", "on")
# The benchmarks' servers and scripts expect grey masks; the masks of other data sets have a human-readable palette.
WITHOUT_PALETTE = ("cityscapes", "cityscapes_train_ids", "ade20k")


@dataclasses.dataclass(frozen=True)
class ScoredSplit:
    """The result of `score_test_split`.

    Args:
        class_names: class names in the order of the train ids.
        matrix: int64 (classes, classes), confusion matrix of all pixels of the split: rows are the truth, columns the prediction.
        image_ious: float64 (images,), the mean IoU of each image; NaN if all its pixels are ignored.
    """

    class_names: tuple[str, ...]
    matrix: np.ndarray
    image_ious: np.ndarray

    @property
    def images(self) -> int:
        return len(self.image_ious)

    @property
    def scores(self) -> dict[str, float]:
        """`metrics.scores` of the confusion matrix: `pixel_accuracy`, `mean_accuracy`, `mean_iou`."""
        return scores(self.matrix)

    @property
    def class_ious(self) -> np.ndarray:
        """Float64 (classes,), NaN for classes that neither occur nor are predicted."""
        return class_iou(self.matrix)

    def per_class(self) -> list[tuple[str, int, float, float]]:
        """Returns the rows of the table with `PER_CLASS_HEADERS`; NaN where a score is undefined."""
        pixels, right = self.matrix.sum(axis=1).tolist(), self.matrix.diagonal().tolist()
        accuracies = [own / all_own if all_own else math.nan for own, all_own in zip(right, pixels, strict=True)]
        return list(zip(self.class_names, pixels, accuracies, self.class_ious.tolist(), strict=True))


@dataclasses.dataclass(frozen=True)
class SegmentationEvaluation:
    """The result of `evaluate_segmentation`.

    Args:
        settings: what was evaluated, and how.
        scored: the scores.
        published: the published result of the same weights; "" if there is none.
        report: path of the report.
    """

    settings: dict[str, object]
    scored: ScoredSplit
    published: str
    report: pathlib.Path

    def rows(self) -> list[tuple[str, ...]]:
        """Returns the rows of the results table with `RESULT_HEADERS`: our result, then the published one."""
        numbers = (percent(self.scored.scores[name]) for name in ("pixel_accuracy", "mean_accuracy", "mean_iou"))
        ours = ("ours", str(self.settings["seen"]), *numbers, f"{self.scored.images:,} images of {self.settings['data']}")
        return [ours] + ([("published", self.published, "", "", "", "")] if self.published else [])


def evaluate_segmentation(config: EvaluationConfig) -> SegmentationEvaluation:
    """Evaluates a segmentation network on the test images of a data set, and writes the evaluation's folder completely or not at all.

    By default, weights with a published protocol are tested with that protocol.

    Returns:
        The scores, the settings and the published result.

    Raises:
        InputError: if an option, the network, the data or the folder is not valid; no folder is written then.
    """
    output_dir = pathlib.Path(config.output_dir)
    check_output(output_dir, config.overwrite, runs.SEGMENTATION_EVALUATION, {runs.PREDICTIONS_FOLDER})
    protocol_of_options(config, None)
    network = load_segmenter(config)
    protocol = protocol_of_options(config, network)
    protocol.check(network.stride)
    pairs = load_segmentation_data(config.data, verify=False, max_pixels=config.max_pixels)
    if network.classes != pairs.classes:
        raise InputError(f"{config.weights!r} has {network.classes} classes, but {config.data!r} has {pairs.classes}: they must be equal")
    settings: dict[str, object] = {
        "weights": config.weights,
        "model": config.model or (network.record.structure if network.record else None),
        "preprocessing": network.preprocessing,
    }
    with created(output_dir) as folder:
        scored = score_test_split(
            network.predict, pairs, protocol, network.stride, folder, masks=config.masks, shown=config.shown, settings=settings
        )
        settings |= protocol_settings(pairs, protocol, network.stride)
        published = network.record.result if network.record else ""
        found = SegmentationEvaluation(settings, scored, published, output_dir / runs.REPORT_FILE)
        (folder / runs.REPORT_FILE).write_text(_report(found, config))
    return found


def protocol_of_options(config: EvaluationConfig, network: Segmenter | None) -> SegmentationProtocol:
    """Returns the test protocol: the options, with defaults from the published protocol or the run's.

    Args:
        config: the options.
        network: the network to test; None to check only the options.

    Raises:
        InputError: for invalid options.
    """
    published = network.source.protocol if network else None
    usual = published if isinstance(published, SegmentationProtocol) else SegmentationProtocol()
    return SegmentationProtocol(
        config.sizes or usual.sizes,
        config.test_steps or usual.test_steps,
        usual.flip if config.flip is None else config.flip,
        config.tile or usual.tile,
        config.overlap or usual.overlap,
    )


def score_test_split(
    predict: Predict,
    data: SegmentationData,
    protocol: SegmentationProtocol,
    stride: int,
    folder: pathlib.Path,
    *,
    masks: bool,
    shown: int,
    settings: Mapping[str, object] | None = None,
) -> ScoredSplit:
    """Scores a network on the test split at the images' original sizes, one image at a time; shows a progress bar.

    Writes into `folder`, each file completely or not at all: the scores per class and overall, overlays, a bar chart of the IoU and, with
    `masks`, a mask for each image with the label ids of the data set's own mask files, as palette PNGs except for `WITHOUT_PALETTE`.

    Args:
        predict: as in `pixel_scores`, with as many classes as the data.
        data: a data set with its test split.
        protocol: the test protocol.
        stride: the network's output stride.
        folder: an existing folder; existing files of the same names are replaced.
        masks: whether to write the predicted masks.
        shown: number of images among the overlays (at least 1), a third each of the worst, median and best by their mean IoU.
        settings: further entries for the file of numbers.

    Returns:
        The scores.

    Raises:
        InputError: if the protocol does not match the stride, the network's outputs are not valid, or images or masks cannot be read.
    """
    protocol.check(stride)
    if shown < 1:
        raise InputError(f"`shown` must be at least 1. Received: {shown}")
    matrix, image_ious = np.zeros((data.classes, data.classes), np.int64), []
    with created(folder / runs.PREDICTIONS_FOLDER) if masks else contextlib.nullcontext() as masks_folder:
        for index, image, truth in _examples(data):
            predicted = pixel_classes(predict, image, protocol, stride)
            own_matrix = _confusion(truth, predicted, data)
            matrix += own_matrix
            image_ious.append(scores(own_matrix)["mean_iou"])
            if masks_folder:
                write_mask(masks_folder / f"{data.test.name_of(index)}.png", predicted, data.labels)
    scored = ScoredSplit(tuple(data.class_names), matrix, np.array(image_ious))
    _write_numbers(folder, scored, {**(settings or {}), **protocol_settings(data, protocol, stride)})
    figures.class_iou_bars(scored.per_class(), folder / runs.CLASS_IOU_FILE)
    rows = []
    for caption, index in shown_images(scored.image_ious, shown):
        image = data.test.image(index)
        caption = f"{caption}: {data.test.name_of(index)}, mean IoU {percent(scored.image_ious[index])} %"
        # Predicted again, because the predictions of a large split would not fit in memory.
        rows.append(figures.Example(caption, image, data.test.mask(index), pixel_classes(predict, image, protocol, stride)))
    figures.overlays(rows, data.labels, folder / runs.OVERLAYS_FILE)
    return scored


def write_mask(path: pathlib.Path, predicted: np.ndarray, labels: LabelMap) -> None:
    """Writes train ids, uint8 (H, W), as a PNG file with one byte per pixel and the values of the data set's own mask files.

    It is a palette PNG (mode P; the label map's colours, otherwise VOC's palette), or a grey one for `WITHOUT_PALETTE`.
    """
    stored = Image.fromarray(labels.to_stored()[predicted])
    if labels.name not in WITHOUT_PALETTE:
        palette = voc_palette()
        palette[list(labels.stored_ids)] = labels.colors
        stored.putpalette(palette.tobytes())
    stored.save(path)


def shown_images(image_ious: np.ndarray, count: int) -> list[tuple[str, int]]:
    """Selects images to show, as (`"worst"`, `"median"` or `"best"`, index), from worst to best; images with NaN are skipped."""
    order = [int(index) for index in np.argsort(image_ious, kind="stable") if not np.isnan(image_ious[index])]
    count = min(count, len(order))
    third = count // 3
    worst, rest, best = order[: count - 2 * third], order[count - 2 * third : len(order) - third], order[len(order) - third :]
    start = (len(rest) - third) // 2
    middle = rest[start : start + third]
    return [(name, index) for name, part in (("worst", worst), ("median", middle), ("best", best)) for index in part]


def protocol_settings(data: SegmentationData, protocol: SegmentationProtocol, stride: int) -> dict[str, object]:
    """Returns the settings of an evaluation, for results files and reports."""
    return {"data": data.name, "classes": data.classes, "output_stride": stride, **dataclasses.asdict(protocol), "seen": str(protocol)}


def per_class_table(scored: ScoredSplit) -> str:
    """Returns a Markdown table with the pixels, accuracy and IoU (in percent) of every class."""
    rows = [(name, f"{pixels:,}", percent(accuracy), percent(iou)) for name, pixels, accuracy, iou in scored.per_class()]
    return markdown_table(rows, ("class", "pixels", "accuracy %", "IoU %"))


def _examples(data: SegmentationData) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yields index, uint8 image (H, W, 3) and mask (H, W) of each test image."""
    decode = without_autograph(data.test.decode)
    decoded = data.test.ordered().map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(1)
    with progress_bar(desc="evaluating", total=data.test.size) as bar:
        try:
            for index, (image, mask) in enumerate(elements(decoded)):
                yield index, image, mask
                bar.update()
        except UNREADABLE as error:
            raise cannot_be_read(data, error) from None


def _confusion(truth: np.ndarray, predicted: np.ndarray, data: SegmentationData) -> np.ndarray:
    """Returns the confusion matrix, int64 (classes, classes), of truth (rows) and prediction (columns), without ignored pixels."""
    valid = truth != IGNORED
    if predicted.max(initial=0) >= data.classes:
        raise InputError(f"The network predicts class {predicted.max()}, but {data.name!r} has only {data.classes} classes")
    cells = truth[valid].astype(np.int64) * data.classes + predicted[valid]
    return np.bincount(cells, minlength=data.classes**2).reshape(data.classes, data.classes)


def _write_numbers(folder: pathlib.Path, scored: ScoredSplit, settings: Mapping[str, object]) -> None:
    rows = [(name, pixels, *("" if math.isnan(score) else f"{score:.6f}" for score in both)) for name, pixels, *both in scored.per_class()]
    write_csv(folder / runs.PER_CLASS_FILE, PER_CLASS_HEADERS, rows)
    numbers = {name: None if math.isnan(score) else score for name, score in scored.scores.items()}
    with replacing(folder / runs.RESULTS_FILE) as temporary:
        temporary.write_text(json.dumps({**settings, "images": scored.images, **numbers}, indent=2) + "\n")


def _report(found: SegmentationEvaluation, config: EvaluationConfig) -> str:
    folder = runs.PREDICTIONS_FOLDER
    ids = f"; predictions with the data set's label ids: [{folder}]({folder})" if config.masks else ""
    published = "The published result was obtained with the images and protocol stated in its row.\n\n" if found.published else ""
    command = shlex.join(["keras-widerresnet", "evaluate-segmentation", *given_flags(config)])
    return f"""# {found.settings["weights"]} on {found.settings["data"]}

{markdown_table(found.rows(), RESULT_HEADERS)}

All scores are computed from one confusion matrix of all pixels that are not ignored, at the images' original size.

{published}![IoU of each class]({runs.CLASS_IOU_FILE})

The worst, median and best images by their mean IoU: image, truth, prediction, errors.

![overlays]({runs.OVERLAYS_FILE})

{per_class_table(found.scored)}

{settings_table(found.settings)}

Command to reproduce this evaluation: `{command}`

Numbers and settings: [{runs.RESULTS_FILE}]({runs.RESULTS_FILE}); per-class scores: [{runs.PER_CLASS_FILE}]({runs.PER_CLASS_FILE}){ids}.
"""
