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
from research import ranking
from research.cells import Cell, Tuning
from research.config import StudyConfig
from research.plan import commands, cost, points, read_recipe, training_cost, tuning_points
from research.study import read_tunings, run_study
from research.study_report import answers, noise, read_cells, stops_paying, write_report

ROOT = pathlib.Path(__file__).parents[1]
SCRIPT = str(ROOT / "scripts" / "study_depth.py")
FAST = str(ROOT / "scripts" / "flags" / "cifar10_fast.flags")


def config(tmp_path, **options):
    return StudyConfig(**{"output_dir": str(tmp_path / "study"), "data": "digits", **options})


def matched(tmp_path, **options):
    """The study of wide against deep, but on the digits."""
    chosen = {"depths": (1, 2), "widths": (0.0625,), "match": "multiply_adds", "seeds": 3, "budgets": (4, 8)}
    return config(tmp_path, **{**chosen, "learning_rates": (0.1, 0.2, 0.4), "recipe": FAST, "deep_epochs": 0, **options})


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


def test_short_budgets_are_first_and_the_choice_of_rates_before_them(tmp_path):
    chosen = matched(tmp_path)
    wide, deep = "n1-w0.0625", "n2-w0.0625"
    names = [point.name for point in points(chosen)]
    assert sorted(names[:6]) == [f"{network}-e4-s{seed}" for network in (wide, deep) for seed in range(3)]
    assert sorted(names[6:]) == [f"{network}-e8-s{seed}" for network in (wide, deep) for seed in range(3)]
    trials = tuning_points(chosen)
    assert sorted(trial.name for trial in trials) == [f"{network}-e4-r{rate}" for network in (wide, deep) for rate in (0.1, 0.2, 0.4)]
    assert {trial.seed for trial in trials} == {0}
    assert tuning_points(dataclasses.replace(chosen, learning_rates=(0.1,))) == tuning_points(config(tmp_path)) == []


def test_costs_of_training(tmp_path):
    chosen = matched(tmp_path)
    recipe, trial, run = read_recipe(chosen), tuning_points(chosen)[0], points(chosen)[-1]
    per_image = 3 * cost(chosen.built(run.depth), run.width, "multiply_adds")
    assert training_cost(chosen, recipe, run) == per_image * 8 * 1437  # epochs of one pass over the digits' training images
    per_image = 3 * cost(chosen.built(trial.depth), trial.width, "multiply_adds")
    assert training_cost(chosen, recipe, trial) == per_image * 4 * 1293  # without the tenth that is held out
    short = config(tmp_path, steps_per_epoch=5)
    assert training_cost(short, read_recipe(short), run) == 3 * cost(short.built(run.depth), run.width, "multiply_adds") * 5 * 64 * 8


def options(command):
    """The record that the program makes of a command's flags, each of which it has."""
    record = {"train": TrainingConfig, "analyze": AnalysisConfig}[command[3]]
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in command if flag.startswith("--"))
    assert set(flags) <= {field.name for field in dataclasses.fields(record)}
    assert command[:3] == [sys.executable, "-m", "keras_widerresnet"]
    return parsed(command_named(command[3]), command[4:])


def test_commands_are_flags_of_the_program(tmp_path):
    chosen = config(tmp_path)
    train, analyze = commands(chosen, read_recipe(chosen), points(chosen)[-1], 0.1)
    run, analysis = options(train), options(analyze)
    assert (run.data, run.learning_rate, run.weight_decay, run.seed, run.verify_images) == ("digits", 0.1, 5e-4, 1, False)
    assert (run.crop, run.color_jitter, run.lighting, run.epochs, run.steps_per_epoch) == ("padded", 0, 0, 2, 450)
    assert (analysis.models, analysis.data, analysis.images, analysis.path_images) == ((analyze[4],), "digits", 32, 0)
    assert analyze[4] == str(tmp_path / "study/runs/n1-w0.0625-e2-s1/final.keras")
    assert (run.structure, run.width, run.resume) == ("32-0-1-1-1-0-0-0", 0.0625, True)
    assert run.validation == "none"  # scored on the test images


def test_the_recipe_is_that_of_the_flag_file(tmp_path):
    chosen = matched(tmp_path)
    recipe = read_recipe(chosen)
    run = options(commands(chosen, recipe, points(chosen)[-1], 0.2)[0])
    assert (run.batch_size, run.label_smoothing, run.alternating_flip, run.weight_decay, run.strategy) == (
        256,
        0.1,
        True,
        1e-3,
        "one_device",
    )
    assert (run.structure, run.crop_size, run.steps_per_epoch) == ("32-0-2-2-2-0-0-0", 0, 0)
    assert (run.epochs, run.warmup_epochs, run.learning_rate, run.validation) == (8, 0.8, 0.2, "none")  # 3 of 30 epochs are 0.8 of 8
    (train,) = commands(chosen, recipe, tuning_points(chosen)[0], 0.4)  # nothing to analyse
    run = options(train)
    assert (run.epochs, run.warmup_epochs, run.learning_rate, run.validation, run.seed) == (4, 0.4, 0.4, "0.1", 0)
    with pytest.raises(InputError, match=r"--recipe=absent.flags: .*No such file"):
        read_recipe(config(tmp_path, recipe="absent.flags"))


STAND_IN = """
import json, pathlib, sys
command, *arguments = sys.argv[1:]
flags = dict(argument.removeprefix("--").split("=", 1) for argument in arguments if argument.startswith("--"))
folder = pathlib.Path(flags["output_dir"])
folder.mkdir(parents=True)
if command == "train":
    rate = float(flags.get("learning_rate", 0.1))
    if rate > 0.3 and flags.get("validation") == "0.1":
        sys.exit(70)  # the loss diverged
    units = sum(map(int, flags["structure"].split("-")[1:]))
    (folder / "flags.txt").write_text("")
    accuracy = 1 - 1 / units - 0.01 * int(flags.get("seed", 0)) + 0.1 * rate
    (folder / "metrics.csv").write_text(f"epoch,val_accuracy\\n0,0.1\\n1,{accuracy}\\n")
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
        monkeypatch.setattr("research.plan.PROGRAM", (sys.executable, str(tmp_path / "program.py")))

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
    np.testing.assert_allclose([first.errors, second.errors], [[1 / 3 - 0.01, 1 / 3], [1 / 6 - 0.01, 1 / 6]])
    assert "Width 0.0625: depth stops paying off at 6 units" in write_report(chosen).read_text()
    assert {path.name for path in root.iterdir()} >= {"study.png", "study.svg", "table.csv", "report.md"}


def test_each_network_takes_its_best_rate(tmp_path, program, capsys):
    program(STAND_IN)
    chosen = matched(tmp_path)
    root = pathlib.Path(chosen.output_dir)
    run_study(chosen)
    assert "18 runs are left, 6 of them to choose learning rates" in capsys.readouterr().out
    assert {tuning.chosen for tuning in read_tunings(chosen).values()} == {0.2}
    assert [tuning.errors[2] for tuning in read_tunings(chosen).values()] == [float("inf")] * 2
    cells = read_cells(chosen)
    assert [(cell.units, cell.budget, cell.rate, len(cell.errors)) for cell in cells] == [
        (units, budget, 0.2, 3) for units in (3, 6) for budget in (4, 8)
    ]
    text = write_report(chosen).read_text()
    assert "diverged" in text and "| 0.2 " in text and "0 of 2 choices are at the edge" in text
    assert "label smoothing" in text and "alternating flip" in text and "warmup share" in text
    assert (root / "budgets.png").is_file() and not (root / "study.png").exists()
    assert len((root / "runs.csv").read_text().splitlines()) == 1 + 12 and len((root / "table.csv").read_text().splitlines()) == 1 + 2
    done = {path: path.stat().st_mtime_ns for path in root.rglob("runs/*/report.md")}
    (root / "analysis/n1-w0.0625-e8-s2/report.md").unlink()
    (root / "analysis/n1-w0.0625-e8-s2/results.json").unlink()
    (root / "analysis/n1-w0.0625-e8-s2").rmdir()
    (root / "runs/n1-w0.0625-e8-s2").rename(tmp_path / "away")
    run_study(chosen)  # the run that is missing, and no other
    assert "1 runs are left, 0 of them" in capsys.readouterr().out
    changed = {path for path in root.rglob("runs/*/report.md") if done[path] != path.stat().st_mtime_ns}
    assert changed == {root / "runs/n1-w0.0625-e8-s2/report.md"}
    with pytest.raises(InputError, match="not a study"):  # the recipe is part of the settings
        run_study(dataclasses.replace(chosen, recipe=config(tmp_path).recipe))


def test_a_rate_is_the_best_of_the_grid_and_its_edge_is_told():
    assert Tuning(1, 1, 8, (0.1, 0.2, 0.4), (0.3, 0.2, 0.25)).chosen == 0.2
    assert Tuning(1, 1, 8, (0.1, 0.2, 0.4), (0.2, 0.2, 0.25)).chosen == 0.1
    edges = [Tuning(1, 1, 8, (0.1, 0.2, 0.4), errors).is_at_edge for errors in ((3, 2, 3), (1, 2, 3), (3, 2, 1), (3, 2, float("inf")))]
    assert edges == [False, True, True, False]
    with pytest.raises(InputError, match=r"of 8 layers diverged with each of --learning_rates=0.1,0.2: start another study with lower"):
        Tuning(1, 1, 8, (0.1, 0.2), (float("inf"),) * 2)


def test_intervals_are_students():
    """Quantiles of t from a table: 12.706 with 1 degree of freedom, 4.303 with 2."""
    assert ranking.half_width([1.0, 3.0]) == pytest.approx(12.706, abs=1e-3)
    assert ranking.half_width([1.0, 2.0, 3.0]) == pytest.approx(4.3027 / np.sqrt(3), abs=1e-4)
    assert np.isnan(ranking.half_width([1.0])) and ranking.plus_minus([0.125]) == "12.50"
    assert ranking.plus_minus([0.01, 0.02, 0.03]) == "2.00 ± 2.48"
    assert [ranking.verdict(values) for values in ([0.1], [0.1, 0.11], [0.1, 0.2], [0.0, 0.0])] == [
        "no interval from one seed",
        "excludes 0",
        "includes 0",
        "includes 0",
    ]


def row_of(errors):
    """A row of networks of 8, 14, ... layers: budget -> errors of each network's seeds."""
    return [
        dataclasses.replace(cell(0.1, units, of_seeds, 3 + budget // 6), budget=budget)
        for budget, networks in errors.items()
        for units, of_seeds in zip((3, 6, 12), networks, strict=False)
    ]


def test_differences_are_paired_by_seed():
    """Seeds differ by 4 points, but the networks by 1 point with each: paired, the difference is clear."""
    (difference,) = ranking.differences(row_of({6: [(0.1, 0.14, 0.18), (0.11, 0.15, 0.1901)]}))
    np.testing.assert_allclose(difference.values, [-0.01, -0.01, -0.0101])
    assert difference.verdict == "excludes 0" and (difference.shallow.layers, difference.deep.layers) == (8, 14)
    assert len(ranking.differences(row_of({6: [(0.1,)] * 3, 12: [(0.1,)] * 3}))) == 6


@pytest.mark.parametrize(
    ("long", "said"),
    [
        (
            [(0.10, 0.11), (0.15, 0.16), (0.19, 0.2001)],
            "order of the means is the same at every budget; that of 8 and 26 layers is beyond chance",
        ),
        ([(0.20, 0.21), (0.15, 0.16), (0.10, 0.1101)], "order of the means changes with the budget; 8 and 26 layers change places"),
        (
            [(0.15, 0.16), (0.10, 0.11), (0.19, 0.2001)],
            "order of the means changes with the budget; that of 8 and 26 layers is beyond chance",
        ),
        ([(0.10, 0.19), (0.15, 0.16), (0.20, 0.16)], "the same at every budget; between 8 and 26 layers it cannot be told from chance"),
    ],
)
def test_what_is_said_of_the_ranking(long, said):
    text = " ".join(ranking.sentences(row_of({6: [(0.20, 0.21), (0.25, 0.26), (0.30, 0.3101)], 12: long})))
    assert said in text
    assert "6 epochs: 8 layers 20.50 ± 6.35 %, 14 layers 25.50 ± 6.35 %, 26 layers" in text
    assert "Test error of 8 layers minus 26 layers, paired by seed, negative where the shallower is better: -10.0" in text
    assert "8 layers 4.0 → 5.0 of 3 units" in text


def test_ranking_of_one_seed_one_budget_or_one_network():
    text = " ".join(ranking.sentences(row_of({1: [(0.2,), (0.3,)]})))
    assert "1 epoch: 8 layers 20.00 %, 14 layers 30.00 %" in text and "no interval from one seed" in text and "order" not in text
    assert ranking.sentences(row_of({1: [(0.2,)]})) == []


def test_a_failed_run_is_told(tmp_path, program):
    program("import sys; sys.exit('the reason')")
    with pytest.raises(RunStopped, match="the reason"):
        run_study(config(tmp_path, depths=(1,), widths=(0.0625,), deep_epochs=0))
    assert json.loads((tmp_path / "study/settings.json").read_text())["depths"] == [1]


def cell(row, units, errors, depth):
    return Cell(row, row, units, 2 + 2 * units, 10, 10, tuple(errors), (depth,) * len(errors), 2, 0.1)


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
        ({"budgets": (12, 6)}, r"--budgets must be one or more values in increasing order. Received: '12,6'"),
        ({"budgets": ()}, "--budgets must be one or more values in increasing order"),
        ({"learning_rates": (0.1, 0.1)}, "--learning_rates must be one or more values in increasing order"),
        ({"validation": 1.0}, "--validation must be more than 0 and less than 1. Received: 1.0"),
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
        (("--output_dir=study", "--budgets=0"), "--budgets must be at least 1. Received: 0"),
        (("--output_dir=study", "--recipe=absent.flags", "--data=digits"), "--recipe=absent.flags"),
        ((), "--output_dir is needed"),
        (("--output_dir=study", "--data=nothing"), "nothing"),
    ):
        found = ran(*arguments)
        imported = {line.rpartition("|")[2].strip() for line in found.stderr.splitlines() if line.startswith("import time:")}
        spoken = [line for line in found.stderr.splitlines() if not line.startswith("import time:")]
        assert found.returncode == 2 and len(spoken) == 1 and said in spoken[0]
        assert "absl.flags" in imported and not {"keras", "tensorflow"} & imported
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_a_whole_study(tmp_path):
    """Two networks of the digits, two rates and two budgets, trained and analysed for real."""
    flags = ("--data=digits", "--depths=1,2", "--widths=0.0625", "--match=multiply_adds", "--learning_rates=0.1,0.2", "--budgets=1,2")
    short = ("--seeds=1", "--steps_per_epoch=2", "--deep_epochs=0", "--images=2", f"--recipe={FAST}", f"--output_dir={tmp_path / 'study'}")
    ran = subprocess.run([sys.executable, SCRIPT, *flags, *short], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr[-2000:]
    text = (tmp_path / "study/report.md").read_text()
    assert "multiply-adds equal to within" in text and "2 of 2 choices are at the edge of the grid" in text and "1, 2 epochs" in text
