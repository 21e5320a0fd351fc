"""The report of a classification training run, from its test probabilities."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np
from sklearn.metrics import confusion_matrix, log_loss, top_k_accuracy_score

from keras_widerresnet import runs
from keras_widerresnet.data.resize import shown_image
from keras_widerresnet.data.split import ImageData
from keras_widerresnet.reporting import learning_curves, markdown_table, write_csv
from keras_widerresnet.runs import Run
from keras_widerresnet.structures import Structure
from keras_widerresnet.tasks.classification import figures
from keras_widerresnet.tasks.classification.config import TrainingConfig
from keras_widerresnet.tasks.classification.metrics import TOP_K
from keras_widerresnet.texts import short
from keras_widerresnet.training.network import frozen_rows

WORST = 25
CAPTION_LETTERS = 16  # of a class name


def write_report(
    run: Run,
    config: TrainingConfig,
    structure: Structure,
    data: ImageData,
    crop_size: int,
    validated_on: str,
    probabilities: np.ndarray,
) -> None:
    """Writes the table of predictions, the figures and finally the report.

    Args:
        run: the run, with its epochs' metrics.
        config, structure, crop_size: the run's options, the network's structure and its input size.
        data: the data set for training and testing.
        validated_on: description of the images on which epochs were scored.
        probabilities: float array (test images, classes), in the order of the test split.
    """
    labels = data.test.labels
    predicted = probabilities.argmax(axis=1)
    history = run.metrics()
    _write_predictions(run.path / runs.PREDICTIONS_FILE, data, labels, predicted, probabilities)
    scored_on = "test" if data.validation is data.test else "validation"
    learning_curves(
        history, run.path / runs.CURVES_FILE, scored_on, title=f"{structure}, width {config.width:g}, on {short(data.name, 50)}"
    )
    figures.confusion_matrix(labels, predicted, data.class_names, run.path / runs.CONFUSION_FILE)
    _write_mistakes(run.path / runs.MISTAKES_FILE, data, crop_size, labels, predicted, probabilities)
    results = _results(data, validated_on, probabilities, labels, predicted, history)
    run.keep_results(results)
    run.write_report(_report(config, structure, data, crop_size, labels, predicted, results, frozen_rows(config, run)))


def _results(data, validated_on: str, probabilities, labels, predicted, history) -> list[tuple[str, str]]:
    errors = int((predicted != labels).sum())
    best = max(history, key=lambda row: row["val_accuracy"])
    results = [
        ("test images", f"{len(labels):,}"),
        ("top-1 accuracy", f"{1 - errors / len(labels):.2%} ({errors} wrong)"),
        ("test loss (cross-entropy)", f"{log_loss(labels, probabilities, labels=range(data.classes)):.4f}"),
        (f"best epoch, chosen on {validated_on}", f"{best['epoch'] + 1:.0f}, {best['val_accuracy']:.2%}"),
        ("training speed", f"{np.median([row['images_per_second'] for row in history]):.0f} images/s (median epoch)"),
    ]
    if data.classes > TOP_K:
        top = top_k_accuracy_score(labels, probabilities, k=TOP_K, labels=range(data.classes))
        results.insert(2, (f"top-{TOP_K} accuracy", f"{top:.2%}"))
    return results


def _report(config, structure, data, crop_size, labels, predicted, results: Sequence[tuple[str, str]], frozen) -> str:
    structure = config.built_structure
    multiply_adds = structure.multiply_adds(crop_size, classes=data.classes, width=config.width, pool_padding=config.pool_padding)
    network = [
        ("structure", f"{structure} (crop {crop_size}, width {config.width:g})"),
        ("halvings", structure.halvings_in_words(config.pool_padding)),
        ("depth", structure.depth),
        ("parameters", f"{structure.parameters(classes=data.classes, width=config.width):,}"),
        *frozen,
        ("multiply-adds an image", f"{multiply_adds / 1e6:,.1f} M"),
    ]
    matrix = confusion_matrix(labels, predicted, labels=range(data.classes))
    classes = [
        (name, total, f"{right / total:.2%}" if total else "–", f"{right / claimed:.2%}" if claimed else "–")
        for name, total, right, claimed in zip(
            data.class_names, matrix.sum(axis=1).tolist(), matrix.diagonal().tolist(), matrix.sum(axis=0).tolist(), strict=True
        )
    ]
    return f"""# {structure} on {data.name}

{markdown_table(results, ("final model", ""))}

To repeat this run: `keras-widerresnet train --flagfile=RUN/{runs.FLAGS_FILE} --output_dir=ANOTHER` (flags in
[{runs.FLAGS_FILE}]({runs.FLAGS_FILE}), package versions in [{runs.VERSIONS_FILE}]({runs.VERSIONS_FILE})).

{runs.HOW_TO_LOAD}

![learning curves]({runs.CURVES_FILE})

![confusion matrix]({runs.CONFUSION_FILE})

The worst mistakes: the misclassified test images with the lowest probability of their true class.

![worst mistakes]({runs.MISTAKES_FILE})

{markdown_table(network, ("network", ""))}

{markdown_table(classes, ("class", "test images", "recall", "precision"))}
"""


def _write_predictions(path: pathlib.Path, data: ImageData, labels, predicted, probabilities) -> None:
    rows = (
        (
            data.test.name_of(index),
            data.class_names[label],
            data.class_names[guess],
            *(f"{probabilities[index, k]:.6f}" for k in (label, guess)),
        )
        for index, (label, guess) in enumerate(zip(labels, predicted, strict=True))
    )
    write_csv(path, ("image", "class", "predicted", "probability of class", "probability of predicted"), rows)


def _write_mistakes(path, data, crop_size, labels, predicted, probabilities) -> None:
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(probabilities[wrong, labels[wrong]])][:WORST]
    images = [np.asarray(shown_image(data.test.image(index), crop_size)) for index in worst]
    captions = [
        "\n".join(
            f"{what} {short(data.class_names[k], CAPTION_LETTERS)} ({100 * probabilities[i, k]:.1f} %)"
            for what, k in (("true", labels[i]), ("predicted", predicted[i]))
        )
        for i in worst
    ]
    figures.mistakes_grid(images, captions, path)
