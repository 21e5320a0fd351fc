"""A resumable small-scale study of depth and width: a grid of networks, each trained and analysed in its own process."""

from __future__ import annotations

import json
import math
import os
import pathlib
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

from keras_widerresnet.errors import InputError, RunStopped
from keras_widerresnet.progress import progress_bar
from keras_widerresnet.runs import REPORT_FILE, Run
from keras_widerresnet.tasks.classification.config import TrainingConfig
from keras_widerresnet.training import faults
from research.cells import Tuning
from research.config import StudyConfig
from research.plan import PASSES, Point, commands, folders, points, read_recipe, recipe_settings, training_cost, tuning_points

SETTINGS_FILE = "settings.json"


def run_study(config: StudyConfig) -> None:
    """Trains and analyses every point that is not finished yet, after the choice of learning rates; shows a progress bar.

    Raises:
        InputError: if the folder contains a study with other settings, or every learning rate of a network is too high.
        RunStopped: if a run fails, or on SIGTERM; the same command resumes the study.
    """
    root, recipe = pathlib.Path(config.output_dir), read_recipe(config)
    _claim(root, config, recipe)
    trials, runs = ([one for one in some if not _is_done(config, one)] for some in (tuning_points(config), points(config)))
    costs = {point: training_cost(config, recipe, point) for point in (*trials, *runs)}
    print(
        f"{len(costs)} runs are left, {len(trials)} of them to choose learning rates: {sum(costs.values()):.3g} multiply-adds of training "
        f"({PASSES} forward passes a step)"
    )
    cores: queue.SimpleQueue = queue.SimpleQueue()
    for share in _core_shares(config.processes):
        cores.put(share)
    running: set[subprocess.Popen] = set()
    stopping = threading.Event()

    def work(point: Point, rate: float) -> None:
        for command in commands(config, recipe, point, rate):
            if not stopping.is_set():
                _run(command, root / "logs" / f"{point.name}.log", running, None if point.rate is None else _diverged_file(config, point))

    with (
        faults.termination() as asked,
        progress_bar(desc="study", total=sum(map(_giga, costs.values())), unit="G multiply-adds", smoothing=0) as bar,
        ThreadPoolExecutor(config.processes, initializer=lambda: _keep_to(cores.get())) as pool,
    ):

        def finish(some: Sequence[Point], rates: Mapping[tuple[float, int], float]) -> None:
            pending = {pool.submit(work, one, rates[one.row, one.depth] if one.rate is None else one.rate): one for one in some}
            while pending:
                done, _ = wait(pending, timeout=1, return_when=FIRST_COMPLETED)
                if asked.is_set():  # checked first: runs that also received the signal have failed because of it
                    raise RunStopped("Stopped by SIGTERM: run the same command again to resume", faults.TERMINATED)
                for one in done:
                    one.result()
                    bar.update(_giga(costs[pending.pop(one)]))

        try:
            finish(trials, {})
            finish(runs, chosen_rates(config, recipe))
        finally:
            stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.terminate()


def chosen_rates(config: StudyConfig, recipe: TrainingConfig) -> dict[tuple[float, int], float]:
    """Returns (row, depth) -> learning rate, for each network of a study whose rates have been tried."""
    (only,) = config.learning_rates if len(config.learning_rates) == 1 else (recipe.learning_rate,)
    rates = {(point.row, point.depth): only for point in points(config)}
    return rates | {network: tuning.chosen for network, tuning in read_tunings(config).items()}


def read_tunings(config: StudyConfig) -> dict[tuple[float, int], Tuning]:
    """Returns (row, depth) -> the learning rates that were tried, from the finished runs; empty if there was no choice."""
    groups: dict[tuple[float, int], list[Point]] = {}
    for point in tuning_points(config):
        groups.setdefault((point.row, point.depth), []).append(point)
    found = {}
    for (row, depth), group in sorted(groups.items()):
        errors = [math.inf if _diverged_file(config, one).is_file() else final_error(folders(config, one)[0]) for one in group]
        found[row, depth] = Tuning(row, group[0].width, config.built(depth).depth, config.learning_rates, tuple(errors))
    return found


def _giga(multiply_adds: float) -> int:
    return max(1, round(multiply_adds / 1e9))


def _is_done(config: StudyConfig, point: Point) -> bool:
    run, analysis = folders(config, point)
    if point.rate is None:
        return (analysis / REPORT_FILE).is_file()
    return (run / REPORT_FILE).is_file() or _diverged_file(config, point).is_file()


def _diverged_file(config: StudyConfig, point: Point) -> pathlib.Path:
    """Returns the file that says that the loss of a run that tries a learning rate diverged."""
    return pathlib.Path(config.output_dir) / "logs" / f"{point.name}.diverged"


def _claim(root: pathlib.Path, config: StudyConfig, recipe: TrainingConfig) -> None:
    """Creates the folder; rejects one with other settings."""
    settings = json.dumps({**config.settings(), "recipe": recipe_settings(recipe)}, indent=2) + "\n"
    file = root / SETTINGS_FILE
    if root.exists() and (any(root.iterdir()) if not file.is_file() else file.read_text() != settings):
        raise InputError(f"{str(root)!r} exists and is not a study with these settings ({SETTINGS_FILE}): choose another --output_dir")
    for folder in ("runs", "analysis", "logs"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    file.write_text(settings)


def _run(command: list[str], log: pathlib.Path, running: set[subprocess.Popen], diverged: pathlib.Path | None) -> None:
    """Runs a command; if its loss diverges that is an error, or noted in the file `diverged`."""
    with log.open("a") as file, subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as process:
        running.add(process)
        code = process.wait()
        running.discard(process)
    if code == faults.DIVERGED and diverged:
        diverged.touch()
    elif code:
        raise RunStopped(f"{log.stem} failed with exit code {code}, see {log}: {log.read_text().strip().splitlines()[-1:]}")


def _core_shares(processes: int) -> list[set[int]]:
    if not hasattr(os, "sched_getaffinity"):
        return [set()] * processes
    cores = sorted(os.sched_getaffinity(0))
    return [set(cores[k % len(cores) :: processes]) for k in range(processes)]


def _keep_to(cores: set[int]) -> None:
    """Binds this thread and the processes that it starts to some cores; TensorFlow uses one thread per core."""
    if cores:
        os.sched_setaffinity(0, cores)


def final_error(run_dir: pathlib.Path) -> float:
    """Returns the share of misclassified test images after the last epoch of a finished run.

    Raises:
        InputError: if the run has not recorded any epoch.
    """
    scores = Run.finished(run_dir).scores("val_accuracy")
    if not scores:
        raise InputError(f"{str(run_dir)!r} has not recorded any epoch")
    return 1 - scores[-1]
