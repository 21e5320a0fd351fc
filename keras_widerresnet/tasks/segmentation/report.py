"""The report of a training run of segmentation."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_widerresnet import runs
from keras_widerresnet.data.pairs import SegmentationData
from keras_widerresnet.models import SegmenterOptions
from keras_widerresnet.protocols import SegmentationProtocol
from keras_widerresnet.reporting import learning_curves, markdown_table
from keras_widerresnet.runs import Run
from keras_widerresnet.tasks.segmentation.config import SegmentationConfig
from keras_widerresnet.tasks.segmentation.evaluation import ScoredSplit, per_class_table, score_test_split
from keras_widerresnet.tasks.segmentation.network import load_segmenter
from keras_widerresnet.training.network import frozen_rows

SHOWN = 9
MARK = "⚠"


def write_report(run: Run, config: SegmentationConfig, data: SegmentationData, protocol: SegmentationProtocol, validated_on: str) -> None:
    """Tests the final network on whole images as the release does, writes scores and pictures and, last of all, the report.

    Args:
        run: the run, with the rows of its epochs and its final network.
        config: what was trained.
        data: what it was trained and is tested on.
        protocol: how it is tested.
        validated_on: the images on which the epochs were scored, in words.
    """
    # The saved network: what others will load is what is reported.
    network = load_segmenter(SegmenterOptions(weights=str(run.final_network())))
    scored = score_test_split(network.predict, data, protocol, network.stride, run.path, masks=False, shown=SHOWN)
    history = run.metrics()
    loss_label = "cross-entropy (training: hard pixels)" if config.loss == "bootstrapped" else "cross-entropy"
    scored_on = "test" if data.validation is data.test else "validation"
    learning_curves(history, run.path / runs.CURVES_FILE, scored_on, "mean_iou", "mean IoU at the logits' cells", loss_label)
    results = _results(scored, validated_on, history)
    run.keep_results(results)
    run.write_report(_report(config, data, protocol, scored, results, frozen_rows(config, run)))


def _results(scored: ScoredSplit, validated_on: str, history) -> list[tuple[str, str]]:
    best = max(history, key=lambda row: row["val_mean_iou"])
    return [
        ("test images", f"{scored.images:,}"),
        *((name.replace("_", " ").replace("iou", "IoU"), f"{score:.2%}") for name, score in scored.scores.items()),
        (f"best epoch at the cells, chosen on {validated_on}", f"{best['epoch'] + 1:.0f}, mean IoU {best['val_mean_iou']:.2%}"),
        ("training speed", f"{np.median([row['images_per_second'] for row in history]):.1f} images/s (median epoch)"),
    ]


def _report(
    config: SegmentationConfig, data: SegmentationData, protocol: SegmentationProtocol, scored: ScoredSplit, results, frozen
) -> str:
    network = [
        ("structure", f"{config.structure} (width {config.width:g})"),
        ("halvings", config.built_structure.halvings_in_words(config.pool_padding, config.output_stride)),
        ("output stride", config.output_stride),
        ("convolutions of the head", config.classifier_convs),
        *frozen,
        ("loss", config.loss.replace("_", " ")),
        ("tested at", str(protocol)),
    ]
    return f"""# {config.structure} on {data.name}

{markdown_table(results, ("final model", ""))}

Scores are of every pixel that is not ignored, at the images' own size. The same run again:
`keras-widerresnet train-segmentation --flagfile=RUN/{runs.FLAGS_FILE} --output_dir=ANOTHER` (flags in
[{runs.FLAGS_FILE}]({runs.FLAGS_FILE}), package versions in [{runs.VERSIONS_FILE}]({runs.VERSIONS_FILE})).

![learning curves]({runs.CURVES_FILE})

![IoU of each class]({runs.CLASS_IOU_FILE})

The worst, median and best test images by their own mean IoU: image, truth, prediction, errors.

![overlays]({runs.OVERLAYS_FILE})

{_class_table(scored, data)}

{markdown_table(network, ("network", ""))}
"""


def _class_table(scored: ScoredSplit, data: SegmentationData) -> str:
    """The table of every class, in which those that no training mask holds have a mark."""
    absent = data.train.absent
    names = tuple(f"{name} {MARK}" if name in absent else name for name in scored.class_names)
    note = f"\n\n{MARK}: in no training mask, so never learned." if absent else ""
    return per_class_table(dataclasses.replace(scored, class_names=names)) + note
