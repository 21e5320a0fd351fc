"""The report of a training run of segmentation."""

from __future__ import annotations

import csv
import pathlib

import numpy as np

from keras_widerresnet.data.segmentation import SegmentationData
from keras_widerresnet.evaluation import figures
from keras_widerresnet.evaluation.dense import SegmentationProtocol
from keras_widerresnet.evaluation.evaluation_directory import markdown_table
from keras_widerresnet.evaluation.segmentation import CLASS_IOU_FILE, OVERLAYS_FILE, ScoredSplit, per_class_table, score_test_split
from keras_widerresnet.evaluation.segmentation_load import load_segmenter
from keras_widerresnet.files import replacing

SHOWN = 9


def write_report(run_dir: pathlib.Path, config, data: SegmentationData, protocol: SegmentationProtocol) -> pathlib.Path:
    """Tests `final.keras` on whole images as the release does, writes scores and pictures and, last of all, `report.md`.

    Args:
        run_dir: a run directory with its `metrics.csv` and `final.keras`.
        config: the run's `SegmentationConfig`.
        protocol: how it is tested.

    Returns:
        The path of `report.md`.
    """
    # The saved network: what others will load is what is reported.
    network = load_segmenter(str(run_dir / "final.keras"))
    scored = score_test_split(network.predict, data, protocol, network.stride, run_dir, masks=False, shown=SHOWN)
    with (run_dir / "metrics.csv").open(newline="") as file:
        history = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    loss_label = "cross-entropy (training: hard pixels)" if config.loss == "bootstrapped" else "cross-entropy"
    figures.learning_curves(history, run_dir / "curves.png", "mean_iou", "mean IoU at the logits' cells", loss_label)
    with replacing(run_dir / "report.md") as temporary:
        temporary.write_text(_report(config, data, protocol, scored, history))
    return run_dir / "report.md"


def _report(config, data: SegmentationData, protocol: SegmentationProtocol, scored: ScoredSplit, history) -> str:
    best = max(history, key=lambda row: row["val_mean_iou"])
    results = [
        ("test images", f"{scored.images:,}"),
        *((name.replace("_", " ").replace("iou", "IoU"), f"{score:.2%}") for name, score in scored.scores.items()),
        ("best epoch at the cells, chosen on the test images", f"{best['epoch'] + 1:.0f}, mean IoU {best['val_mean_iou']:.2%}"),
        ("training speed", f"{np.median([row['images_per_second'] for row in history]):.1f} images/s (median epoch)"),
    ]
    network = [
        ("structure", f"{config.structure} (width {config.width:g})"),
        ("output stride", config.output_stride),
        ("convolutions of the head", config.classifier_convs),
        ("loss", config.loss.replace("_", " ")),
        ("tested at", str(protocol)),
    ]
    return f"""# {config.structure} on {data.name}

{markdown_table(results, ("final model", ""))}

Scores are of every pixel that is not ignored, at the images' own size. The same run again, from the repository:
`python scripts/train_segmentation.py --flagfile=RUN/flags.txt --output_dir=ANOTHER` (flags in [flags.txt](flags.txt), package versions in
[versions.json](versions.json)).

![learning curves](curves.png)

![IoU of each class]({CLASS_IOU_FILE})

The worst, median and best test images by their own mean IoU: image, truth, prediction, errors.

![overlays]({OVERLAYS_FILE})

{per_class_table(scored)}

{markdown_table(network, ("network", ""))}
"""
