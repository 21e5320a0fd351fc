"""The study's grid, its processes (with stand-ins for the scripts), and the answers it computes."""

import dataclasses
import json
import pathlib
import textwrap

import numpy as np
import pytest
from scipy.stats import spearmanr

from keras_widerresnet.analysis.measure import Settings
from keras_widerresnet.analysis.study import StudyConfig, commands, cost, points, run_study
from keras_widerresnet.analysis.study_report import Cell, answers, noise, read_cells, stops_paying, write_report
from keras_widerresnet.errors import InputError, RunStopped
from keras_widerresnet.training.config import TrainingConfig


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


def test_commands_are_flags_of_the_scripts(tmp_path):
    chosen = config(tmp_path)
    train, analyze = commands(chosen, points(chosen)[-1], pathlib.Path("scripts"))
    for command, record, fields in ((train, TrainingConfig, ("output_dir",)), (analyze, Settings, ("output_dir", "data"))):
        flags = dict(flag.removeprefix("--").split("=", 1) for flag in command if flag.startswith("--"))
        assert set(flags) <= {field.name for field in dataclasses.fields(record)} | set(fields)
    assert analyze[2] == str(tmp_path / "study/runs/n1-w0.0625-s1/final.keras")
    assert "--structure=32-0-1-1-1-0-0-0" in train and "--width=0.0625" in train and "--resume=true" in train


TRAIN = """
    import pathlib, sys
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
    folder = pathlib.Path(flags["output_dir"])
    folder.mkdir(parents=True)
    units = sum(map(int, flags["structure"].split("-")[1:]))
    (folder / "metrics.csv").write_text(f"epoch,val_accuracy\\n0,0.1\\n1,{1 - 1 / units - 0.01 * int(flags['seed'])}\\n")
"""
ANALYZE = """
    import json, pathlib, sys
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[2:])
    folder = pathlib.Path(flags["output_dir"])
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps({"effective_depth": [3]}))
    (folder / "report.md").write_text("done")
"""


def test_study_runs_what_is_left_to_run(tmp_path):
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for name, text in (("train", TRAIN), ("analyze", ANALYZE)):
        (scripts / f"{name}.py").write_text(textwrap.dedent(text))
    chosen = config(tmp_path, depths=(1, 2), widths=(0.0625,), deep_epochs=0)
    root = pathlib.Path(chosen.output_dir)
    root.mkdir()
    (root / "another").touch()
    with pytest.raises(InputError, match="not a study"):
        run_study(chosen, scripts)
    (root / "another").unlink()
    (root / "settings.json").write_text("{}")
    with pytest.raises(InputError, match="not a study"):
        run_study(chosen, scripts)
    (root / "settings.json").unlink()
    run_study(dataclasses.replace(chosen, processes=1), scripts)
    done = {path: path.stat().st_mtime_ns for path in root.rglob("report.md")}
    assert len(done) == 4
    run_study(chosen, scripts)  # nothing is left to do
    assert done == {path: path.stat().st_mtime_ns for path in root.rglob("report.md")}
    first, second = read_cells(chosen)
    assert (first.units, second.units) == (3, 6)
    np.testing.assert_allclose([first.errors, second.errors], [[1 / 3, 1 / 3 + 0.01], [1 / 6, 1 / 6 + 0.01]])
    assert "Width 0.0625: depth stops paying at 6 units" in write_report(chosen).read_text()
    assert {path.name for path in root.iterdir()} >= {"study.png", "study.svg", "table.csv", "report.md"}


def test_a_failed_run_is_told(tmp_path):
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "train.py").write_text("import sys; sys.exit('the reason')")
    with pytest.raises(RunStopped, match="the reason"):
        run_study(config(tmp_path, depths=(1,), widths=(0.0625,), deep_epochs=0), scripts)
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
    "options",
    [
        {"depths": ()},
        {"depths": (2, 1)},
        {"match": "time"},
        {"structure": "32-0-1-1-1-0-0-0"},
        {"seeds": 0},
        {"structure": "3-n-0-0-0-0-0-0"},
    ],
)
def test_refusals(tmp_path, options):
    with pytest.raises(InputError):
        config(tmp_path, **options)
