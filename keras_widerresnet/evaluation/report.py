"""From test probabilities to the report of a training run."""

from __future__ import annotations

import csv
import pathlib

import numpy as np
from sklearn.metrics import confusion_matrix, log_loss, top_k_accuracy_score

from keras_widerresnet.data import ImageData
from keras_widerresnet.data.pipeline import shown_image
from keras_widerresnet.evaluation import figures
from keras_widerresnet.evaluation.evaluation_directory import markdown_table
from keras_widerresnet.files import replacing
from keras_widerresnet.structures import Structure

WORST = 24
TOP_K = 5


def write_report(
    run_dir: pathlib.Path, config, structure: Structure, data: ImageData, crop_size: int, probabilities: np.ndarray
) -> pathlib.Path:
    """Writes `predictions.csv`, the pictures and, last of all, `report.md`.

    Args:
        run_dir: a run directory with its `metrics.csv`.
        config: the run's `TrainingConfig`.
        probabilities: float array (test images, classes), in the order of the test split.

    Returns:
        The path of `report.md`.
    """
    labels = data.test.labels
    predicted = probabilities.argmax(axis=1)
    with (run_dir / "metrics.csv").open(newline="") as file:
        history = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    _write_predictions(run_dir / "predictions.csv", data, labels, predicted, probabilities)
    figures.learning_curves(history, run_dir / "curves.png")
    figures.confusion_matrix(labels, predicted, data.class_names, run_dir / "confusion_matrix.png")
    _write_mistakes(run_dir / "worst_mistakes.png", data, crop_size, labels, predicted, probabilities)
    text = _report(config, structure, data, crop_size, probabilities, labels, predicted, history)
    with replacing(run_dir / "report.md") as temporary:
        temporary.write_text(text)
    return run_dir / "report.md"


def _report(config, structure, data, crop_size, probabilities, labels, predicted, history) -> str:
    errors = int((predicted != labels).sum())
    best = max(history, key=lambda row: row["val_accuracy"])
    results = [
        ("test images", f"{len(labels):,}"),
        ("top-1 accuracy", f"{1 - errors / len(labels):.2%} ({errors} wrong)"),
        ("test loss (cross-entropy)", f"{log_loss(labels, probabilities, labels=range(data.classes)):.4f}"),
        ("best epoch, chosen on the test images", f"{best['epoch'] + 1:.0f}, {best['val_accuracy']:.2%}"),
        ("training speed", f"{np.median([row['images_per_second'] for row in history]):.0f} images/s (median epoch)"),
    ]
    if data.classes > TOP_K:
        top = top_k_accuracy_score(labels, probabilities, k=TOP_K, labels=range(data.classes))
        results.insert(2, (f"top-{TOP_K} accuracy", f"{top:.2%}"))
    network = [
        ("structure", f"{structure} (crop {crop_size}, width {config.width:g})"),
        ("depth", structure.depth),
        ("parameters", f"{structure.parameters(classes=data.classes, width=config.width):,}"),
        ("multiply-adds an image", f"{structure.multiply_adds(crop_size, classes=data.classes, width=config.width) / 1e6:,.1f} M"),
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

The same run again, from the repository: `python scripts/train.py --flagfile=RUN/flags.txt --output_dir=ANOTHER` (flags in
[flags.txt](flags.txt), package versions in [versions.json](versions.json)).

![learning curves](curves.png)

![confusion matrix](confusion_matrix.png)

The worst mistakes: the test images that were least expected to be what they are.

![worst mistakes](worst_mistakes.png)

{markdown_table(network, ("network", ""))}

{markdown_table(classes, ("class", "test images", "recall", "precision"))}
"""


def _write_predictions(path, data, labels, predicted, probabilities) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "class", "predicted", "probability of class", "probability of predicted"))
        for index, (label, guess) in enumerate(zip(labels, predicted, strict=True)):
            scores = (f"{probabilities[index, k]:.6f}" for k in (label, guess))
            writer.writerow((data.test.name_of(index), data.class_names[label], data.class_names[guess], *scores))


def _write_mistakes(path, data, crop_size, labels, predicted, probabilities) -> None:
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(probabilities[wrong, labels[wrong]])][:WORST]
    images = [np.asarray(shown_image(data.test.image(index), crop_size)) for index in worst]
    captions = [
        f"is {data.class_names[labels[i]]} ({probabilities[i, labels[i]]:.1%})\n"
        f"taken for {data.class_names[predicted[i]]} ({probabilities[i, predicted[i]]:.1%})"
        for i in worst
    ]
    figures.mistakes_grid(images, captions, path)
