import csv

import pytest
from PIL import Image

from keras_widerresnet import runs
from keras_widerresnet.tasks.classification.comparison import compare_runs
from keras_widerresnet.tasks.classification.config import ComparisonConfig, TrainingConfig


def write_run(folder, accuracies, **options):
    runs.prepare(TrainingConfig(output_dir=str(folder), validation="none", **options), {})
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("epoch", "val_accuracy"), *enumerate(accuracies)])
    (folder / "report.md").write_text("")
    return str(folder)


def test_runs_that_differ_in_their_seed_are_one_row(tmp_path):
    small = {"structure": "32-0-1-1-1-1-1-0", "width": 0.125}
    paths = [
        write_run(tmp_path / "wide-0", (0.1, 0.5), seed=0, **small),
        write_run(tmp_path / "deep-0", (0.2, 0.3), structure="32-0-3-4-3-4-4-0", width=0.0625),
        write_run(tmp_path / "wide-1", (0.2, 0.6), seed=1, **small),
    ]
    wide, deep = compare_runs(ComparisonConfig(runs=tuple(paths), classes=10, picture=str(tmp_path / "curves.png")))
    assert (wide["runs"], wide["seeds"], wide["test accuracy"], wide["lowest, highest"]) == ("wide", 2, "55.00%", "50.00%, 60.00%")
    assert (deep["runs"], deep["seeds"], deep["test accuracy"]) == ("deep", 1, "30.00%")
    assert wide["depth"] == 1 + 2 * 4 + 3 + 1 and wide["multiply-adds"] == "22.8 M"
    assert Image.open(tmp_path / "curves.png").format == "PNG"


def test_unfinished_and_unequal_runs_are_named(tmp_path):
    with pytest.raises(ValueError, match="not the directory of a finished run"):
        compare_runs(ComparisonConfig(runs=(str(tmp_path),)))
    paths = [write_run(tmp_path / "a-0", (0.1, 0.5)), write_run(tmp_path / "a-1", (0.1,), seed=1)]
    with pytest.raises(ValueError, match="equal numbers of epochs"):
        compare_runs(ComparisonConfig(runs=tuple(paths)))


def test_runs_of_segmentation_are_refused(tmp_path):
    path = write_run(tmp_path / "dense", (0.1,))
    (tmp_path / "dense" / "flags.txt").write_text("--classifier_convs=2\n")
    with pytest.raises(ValueError, match="is a segmentation run"):
        compare_runs(ComparisonConfig(runs=(path,)))
