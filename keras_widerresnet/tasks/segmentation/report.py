"""The report of a segmentation training run."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_widerresnet import runs
from keras_widerresnet.data.pairs import SegmentationData
from keras_widerresnet.heads import DECODER_STRIDE, DEEPLAB_V3_PLUS, FCN
from keras_widerresnet.models import SegmenterOptions
from keras_widerresnet.protocols import SegmentationProtocol
from keras_widerresnet.reporting import learning_curves, markdown_table
from keras_widerresnet.runs import Run
from keras_widerresnet.tasks.segmentation.config import SegmentationConfig
from keras_widerresnet.tasks.segmentation.evaluation import ScoredSplit, per_class_table, score_test_split
from keras_widerresnet.tasks.segmentation.network import load_segmenter
from keras_widerresnet.texts import short
from keras_widerresnet.training.network import frozen_rows

SHOWN = 9
MARK = "⚠"
HEADS = {FCN: "dilated convolutions: {}", DEEPLAB_V3_PLUS: f"DeepLabV3+, logits at stride {DECODER_STRIDE}"}


def write_report(run: Run, config: SegmentationConfig, data: SegmentationData, protocol: SegmentationProtocol, validated_on: str) -> None:
    """Tests the final network on whole images as in the official release, and writes scores, figures and finally the report.

    Args:
        run: the run, with its epochs' metrics and its final network.
        config: the run's options.
        data: the data set for training and testing.
        protocol: the test protocol.
        validated_on: description of the images on which epochs were scored.
    """
    # Uses the saved network, so that the report describes what users will load.
    network = load_segmenter(SegmenterOptions(weights=str(run.final_network())))
    scored = score_test_split(network.predict, data, protocol, network.stride, run.path, masks=False, shown=SHOWN)
    history = run.metrics()
    loss_label = "cross-entropy (training: hard pixels)" if config.loss == "bootstrapped" else "cross-entropy"
    title = f"{config.structure}, width {config.width:g}, on {short(data.name, 50)}"
    scored_on = "test" if data.validation is data.test else "validation"
    learning_curves(history, run.path / runs.CURVES_FILE, scored_on, "mean_iou", "mean IoU at the logits' cells", loss_label, title)
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
        ("head", HEADS[config.head].format(config.classifier_convs)),
        *frozen,
        ("loss", config.loss.replace("_", " ")),
        ("tested at", str(protocol)),
    ]
    return f"""# {config.structure} on {data.name}

{markdown_table(results, ("final model", ""))}

Scores cover all pixels that are not ignored, at the images' original size. To repeat this run:
`keras-widerresnet train-segmentation --flagfile=RUN/{runs.FLAGS_FILE} --output_dir=ANOTHER` (flags in
[{runs.FLAGS_FILE}]({runs.FLAGS_FILE}), package versions in [{runs.VERSIONS_FILE}]({runs.VERSIONS_FILE})).

{runs.HOW_TO_LOAD}

![learning curves]({runs.CURVES_FILE})

![IoU of each class]({runs.CLASS_IOU_FILE})

The worst, median and best test images by their mean IoU: image, truth, prediction, errors.

![overlays]({runs.OVERLAYS_FILE})

{_class_table(scored, data)}

{markdown_table(network, ("network", ""))}
"""


def _class_table(scored: ScoredSplit, data: SegmentationData) -> str:
    """Returns the table of all classes, with a mark at those that no training mask contains."""
    absent = data.train.absent
    names = tuple(f"{name} {MARK}" if name in absent else name for name in scored.class_names)
    note = f"\n\n{MARK}: not in any training mask, so it could not be learned." if absent else ""
    return per_class_table(dataclasses.replace(scored, class_names=names)) + note
