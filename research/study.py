"""A resumable small-scale study of depth and width: a grid of networks, each trained and analysed in its own process."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import numpy as np

from keras_widerresnet.errors import InputError, RunStopped
from keras_widerresnet.progress import progress_bar
from keras_widerresnet.runs import FINAL_FILE, REPORT_FILE, Run
from keras_widerresnet.structures import Structure
from keras_widerresnet.tasks.classification.data import load_data
from keras_widerresnet.training import faults
from keras_widerresnet.training.config import NO_VALIDATION
from research.config import StudyConfig

PROGRAM = (sys.executable, "-m", "keras_widerresnet")
_WIDTHS = np.arange(1, 129) / 64
_SETTINGS_FILE = "settings.json"


@dataclasses.dataclass(frozen=True)
class Point:
    """One run: a network of the grid and a seed; `row` is the width that names its row of the grid."""

    depth: int
    row: float
    width: float
    seed: int
    is_deep: bool = False

    @property
    def name(self) -> str:
        return "deep-narrow" if self.is_deep else f"n{self.depth}-w{self.row:g}-s{self.seed}"


@functools.cache
def classes_of(data: str) -> int:
    """Returns the number of classes of a data set, which is part of the costs."""
    return load_data(data, verify=False).classes


def cost(structure: Structure, width: float, of: str, classes: int = 10) -> float:
    """Returns the multiply-adds per image, or the parameters, of a network with that many classes."""
    count = structure.parameters if of == "parameters" else structure.multiply_adds
    return float(count(classes=classes, width=width))


def points(config: StudyConfig) -> list[Point]:
    """Returns all runs, the most expensive first, so that the processes finish at about the same time."""
    found, classes = [], classes_of(config.data)
    for row in config.widths:
        target = cost(config.built(config.depths[-1]), row, config.match, classes)
        for depth in config.depths:
            structure = config.built(depth)
            width = min(_WIDTHS, key=_distance(structure, config.match, classes, target)) if config.match else row
            found += [Point(depth, row, float(width), seed) for seed in range(config.seeds)]
    found.sort(key=lambda point: -cost(config.built(point.depth), point.width, "multiply_adds", classes))
    deep = [Point(config.depths[-1], config.widths[0], config.widths[0], 0, is_deep=True)] if config.deep_epochs else []
    return deep + found


def _distance(structure: Structure, of: str, classes: int, target: float) -> Callable[[float], float]:
    """Returns the distance of the cost at a width from the target, as a function of the width."""
    return lambda width: abs(np.log(cost(structure, width, of, classes) / target))


def commands(config: StudyConfig, point: Point) -> tuple[list[str], list[str]]:
    """Returns the commands that train and analyse a point."""
    run, analysis = folders(config, point)
    trained = {
        "data": config.data,
        "structure": str(config.built(point.depth)),
        "width": point.width,
        "crop": "padded",
        "color_jitter": 0,
        "lighting": 0,
        "epochs": config.deep_epochs if point.is_deep else config.epochs,
        "steps_per_epoch": config.steps_per_epoch,
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "weight_decay": config.weight_decay,
        "seed": point.seed,
        "validation": NO_VALIDATION,
        "verify_images": "false",
        "resume": "true",
        "output_dir": run,
    }
    measured = {"data": config.data, "images": config.images, "threshold": config.threshold, "output_dir": analysis}
    if not point.is_deep:
        measured |= {"path_images": 0, "lesion_images": 0}
    return [*PROGRAM, "train", *_flags(trained)], [*PROGRAM, "analyze", str(run / FINAL_FILE), *_flags(measured)]


def folders(config: StudyConfig, point: Point) -> tuple[pathlib.Path, pathlib.Path]:
    """Returns the run directory of a point and the folder of its analysis."""
    root = pathlib.Path(config.output_dir)
    return root / "runs" / point.name, root / "analysis" / point.name


def _flags(values: dict[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]


def run_study(config: StudyConfig) -> None:
    """Trains and analyses every point that is not finished yet; shows a progress bar over the runs.

    Raises:
        InputError: if the folder contains a study with other settings.
        RunStopped: if a run fails, or on SIGTERM; the same command resumes the study.
    """
    root = pathlib.Path(config.output_dir)
    _claim(root, config)
    waiting = [point for point in points(config) if not (folders(config, point)[1] / REPORT_FILE).is_file()]
    cores: queue.SimpleQueue = queue.SimpleQueue()
    for share in _core_shares(config.processes):
        cores.put(share)
    running: set[subprocess.Popen] = set()
    stopping = threading.Event()

    def work(point: Point) -> None:
        for command in commands(config, point):
            if not stopping.is_set():
                _run(command, root / "logs" / f"{point.name}.log", running)

    with (
        faults.termination() as asked,
        progress_bar(desc="study", total=len(waiting), unit="runs") as bar,
        ThreadPoolExecutor(config.processes, initializer=lambda: _keep_to(cores.get())) as pool,
    ):
        pending = {pool.submit(work, point) for point in waiting}
        try:
            while pending:
                done, pending = wait(pending, timeout=1, return_when=FIRST_COMPLETED)
                if asked.is_set():  # checked first: runs that also received the signal have failed because of it
                    raise RunStopped("Stopped by SIGTERM: run the same command again to resume", faults.TERMINATED)
                for one in done:
                    one.result()
                    bar.update()
        finally:
            stopping.set()
            for one in pending:
                one.cancel()
            for process in list(running):
                process.terminate()


def _claim(root: pathlib.Path, config: StudyConfig) -> None:
    """Creates the folder; rejects one with other settings."""
    settings = json.dumps(config.settings(), indent=2) + "\n"
    file = root / _SETTINGS_FILE
    if root.exists() and (any(root.iterdir()) if not file.is_file() else file.read_text() != settings):
        raise InputError(f"{str(root)!r} exists and is not a study with these settings ({_SETTINGS_FILE}): choose another --output_dir")
    for folder in ("runs", "analysis", "logs"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    file.write_text(settings)


def _run(command: list[str], log: pathlib.Path, running: set[subprocess.Popen]) -> None:
    with log.open("a") as file, subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as process:
        running.add(process)
        code = process.wait()
        running.discard(process)
    if code:
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
