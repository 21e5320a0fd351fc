"""The study's grid, its processes (with a stand-in for the program), and the answers it computes."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import spearmanr

from keras_widerresnet.analysis.config import AnalysisConfig
from keras_widerresnet.cli import command_named
from keras_widerresnet.cli.command import parsed
from keras_widerresnet.errors import InputError, RunStopped
from keras_widerresnet.tasks.classification.config import TrainingConfig
from research.cells import Cell
from research.config import StudyConfig
from research.study import commands, cost, points, run_study
from research.study_report import answers, noise, read_cells, stops_paying, write_report

SCRIPT = str(pathlib.Path(__file__).parents[1] / "scripts" / "study_depth.py")


def config(tmp_path, **options):
    return StudyConfig(**{"output_dir": str(tmp_path / "study"), "data": "digits", **options})


def test_grid(tmp_path):
    found = points(config(tmp_path))
    assert len(found) == 4 * 3 * 2 + 1 and len({point.name for point in found}) == len(found)
    assert found[0].is_deep and (found[0].depth, found[0].width) == (8, 0.0625)
    assert {(point.depth, point.width, point.seed) for point in found[1:]} == {
        (depth, width, seed) for depth in (1, 2, 4, 8) for width in (0.0625, 0.09375, 0.125) for seed in (0, 1)
    }
    costs = [cost(config(tmp_path).built(point.depth), point.width, "multiply_adds") for point in found[1:]]
    assert costs == sorted(costs, reverse=True)


@pytest.mark.parametrize("match", ["multiply_adds", "parameters"])
def test_rows_of_equal_cost(tmp_path, match):
    chosen = config(tmp_path, match=match)
    for row in chosen.widths:
        row_points = sorted((point for point in points(chosen) if point.row == row), key=lambda point: -point.depth)
        costs = [cost(chosen.built(point.depth), point.width, match) for point in row_points]
        assert all(abs(np.log(one / costs[0])) < 0.25 for one in costs)  # channels come in eights
        widths = {point.depth: point.width for point in row_points}
        assert widths[8] == row and widths[1] > widths[2] > widths[4] > widths[8]


def test_commands_are_flags_of_the_program(tmp_path):
    chosen = config(tmp_path)
    train, analyze = commands(chosen, points(chosen)[-1])
    for command, record in ((train, TrainingConfig), (analyze, AnalysisConfig)):
        flags = dict(flag.removeprefix("--").split("=", 1) for flag in command if flag.startswith("--"))
        assert set(flags) <= {field.name for field in dataclasses.fields(record)}
    assert train[:4] == [sys.executable, "-m", "keras_widerresnet", "train"] and analyze[1:4] == ["-m", "keras_widerresnet", "analyze"]
    run, analysis = (parsed(command_named(command[3]), command[4:]) for command in (train, analyze))
    assert (run.data, run.learning_rate, run.weight_decay, run.seed, run.verify_images) == ("digits", 0.1, 5e-4, 1, False)
    assert (run.crop, run.color_jitter, run.lighting, run.epochs, run.steps_per_epoch) == ("padded", 0, 0, 2, 450)
    assert (analysis.models, analysis.data, analysis.images, analysis.path_images) == ((analyze[4],), "digits", 32, 0)
    assert analyze[4] == str(tmp_path / "study/runs/n1-w0.0625-s1/final.keras")
    assert "--structure=32-0-1-1-1-0-0-0" in train and "--width=0.0625" in train and "--resume=true" in train
    assert "--validation=none" in train  # scored on the test images


STAND_IN = """
import json, pathlib, sys
command, *arguments = sys.argv[1:]
flags = dict(argument.removeprefix("--").split("=", 1) for argument in arguments if argument.startswith("--"))
folder = pathlib.Path(flags["output_dir"])
folder.mkdir(parents=True)
if command == "train":
    units = sum(map(int, flags["structure"].split("-")[1:]))
    (folder / "flags.txt").write_text("")
    (folder / "metrics.csv").write_text(f"epoch,val_accuracy\\n0,0.1\\n1,{1 - 1 / units - 0.01 * int(flags['seed'])}\\n")
else:
    assert command == "analyze" and pathlib.Path(arguments[0]).name == "final.keras"
    (folder / "results.json").write_text(json.dumps({"effective_depth": [3]}))
(folder / "report.md").write_text("done")
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Makes a text the program that a study starts."""

    def make(text):
        (tmp_path / "program.py").write_text(text)
        monkeypatch.setattr("research.study.PROGRAM", (sys.executable, str(tmp_path / "program.py")))

    return make


def test_study_runs_what_is_left_to_run(tmp_path, program):
    program(STAND_IN)
    chosen = config(tmp_path, depths=(1, 2), widths=(0.0625,), deep_epochs=0)
    root = pathlib.Path(chosen.output_dir)
    root.mkdir()
    (root / "another").touch()
    with pytest.raises(InputError, match="not a study"):
        run_study(chosen)
    (root / "another").unlink()
    (root / "settings.json").write_text("{}")
    with pytest.raises(InputError, match="not a study"):
        run_study(chosen)
    (root / "settings.json").unlink()
    run_study(dataclasses.replace(chosen, processes=1))
    done = {path: path.stat().st_mtime_ns for path in root.rglob("report.md")}
    assert len(done) == 8  # of four runs and their analyses
    run_study(chosen)  # nothing is left to do
    assert done == {path: path.stat().st_mtime_ns for path in root.rglob("report.md")}
    first, second = read_cells(chosen)
    assert (first.units, second.units) == (3, 6)
    np.testing.assert_allclose([first.errors, second.errors], [[1 / 3, 1 / 3 + 0.01], [1 / 6, 1 / 6 + 0.01]])
    assert "Width 0.0625: depth stops paying off at 6 units" in write_report(chosen).read_text()
    assert {path.name for path in root.iterdir()} >= {"study.png", "study.svg", "table.csv", "report.md"}


def test_a_failed_run_is_told(tmp_path, program):
    program("import sys; sys.exit('the reason')")
    with pytest.raises(RunStopped, match="the reason"):
        run_study(config(tmp_path, depths=(1,), widths=(0.0625,), deep_epochs=0))
    assert json.loads((tmp_path / "study/settings.json").read_text())["depths"] == [1]


def cell(row, units, errors, depth):
    return Cell(row, row, units, 2 + 2 * units, 10, 10, tuple(errors), (depth,) * len(errors))


def test_noise_is_the_standard_error_of_a_difference():
    cells = [cell(1, 3, (0.10, 0.12), 3), cell(1, 6, (0.20, 0.26), 3)]
    variance = np.mean([0.02**2 / 2, 0.06**2 / 2])  # of one run
    assert noise(cells) == pytest.approx(np.sqrt(variance / 2 + variance / 2))
    assert noise([cell(1, 3, (0.1,), 3)]) == 0


def test_depth_stops_paying_at_the_shallowest_within_the_tolerance():
    row = [cell(1, units, (error,), 3) for units, error in ((3, 0.5), (6, 0.42), (12, 0.41), (24, 0.405))]
    assert [stops_paying(row, tolerance).units for tolerance in (0, 0.006, 0.02, 0.2)] == [24, 12, 6, 3]


@pytest.mark.parametrize("predicts", [True, False])
def test_answers(predicts):
    """Rows in which a step pays exactly as far as effective depth says, or just the other way round."""
    cells, shares, gains = [], [], []
    for row, depths in ((0.1, (3, 5, 6, 6)), (0.2, (3, 6, 10, 12))):
        error = 0.6
        for units, depth in zip((3, 6, 12, 24), depths, strict=True):
            cells.append(cell(row, units, (error, error), depth))
            if units < 24:
                share = depth / units
                gain = 0.1 * (share if predicts else 1.1 - share)
                shares.append(share)
                gains.append(gain)
                error -= gain
    text = "\n".join(answers(cells))
    assert f"rank correlation {spearmanr(gains, shares).statistic:+.2f}" in text
    assert ("better than the number of units does" in text) == predicts
    assert ("does not predict" in text) == (not predicts)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"depths": ()}, "--depths must be one or more values in increasing order"),
        ({"depths": (2, 1)}, r"--depths must be one or more values in increasing order. Received: '2,1'"),
        ({"match": "time"}, "--match must be one of multiply_adds, parameters. Received: 'time'"),
        ({"structure": "32-0-1-1-1-0-0-0"}, "--structure must contain an n"),
        ({"seeds": 0}, "--seeds must be at least 1. Received: 0"),
        ({"structure": "3-n-0-0-0-0-0-0"}, "crop size must be at least 7"),
        ({"threshold": 1.0}, "--threshold must be more than 0 and less than 1. Received: 1.0"),
    ],
)
def test_refusals(tmp_path, options, said):
    with pytest.raises(InputError, match=said):
        config(tmp_path, **options)


def test_wrong_flags_are_told_in_one_line_before_keras_is_imported(tmp_path):
    def ran(*arguments):
        return subprocess.run([sys.executable, "-X", "importtime", SCRIPT, *arguments], capture_output=True, text=True, cwd=tmp_path)

    for arguments, said in (
        (("--output_dir=study", "--depths=1,two"), "--depths must be whole numbers separated by commas. Received: 1,two"),
        (("--output_dir=study", "--epochs=0"), "--epochs must be at least 1. Received: 0"),
        ((), "--output_dir is needed"),
        (("--output_dir=study", "--data=nothing"), "nothing"),
    ):
        found = ran(*arguments)
        imported = {line.rpartition("|")[2].strip() for line in found.stderr.splitlines() if line.startswith("import time:")}
        spoken = [line for line in found.stderr.splitlines() if not line.startswith("import time:")]
        assert found.returncode == 2 and len(spoken) == 1 and said in spoken[0]
        assert "absl.flags" in imported and not {"keras", "tensorflow"} & imported
    assert not any(tmp_path.iterdir())
