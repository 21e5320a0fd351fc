"""Images a second of the whole `train.py`, from image files to the report, against a PyTorch program that does the same job."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from benchmarks.contender import missing
from benchmarks.passes import in_passes, installed
from benchmarks.training import LEARNING_RATE, MOMENTUM, WEIGHT_DECAY
from benchmarks.workload import Workload
from keras_widerresnet.errors import InputError
from keras_widerresnet.runs import METRICS_FILE

ROOT = pathlib.Path(__file__).resolve().parents[1]
EPOCHS = 2  # the first of which also compiles


@dataclasses.dataclass(frozen=True)
class Program:
    """One training program, a row of the table.

    Args:
        name: its name in the table.
        command: returns the words of its command for a workload, whose folder has the images, and an output folder.
        packages: the packages that it needs.
    """

    name: str
    command: Callable[[Workload, str], list[str]]
    packages: tuple[str, ...]

    def missing_packages(self) -> list[str]:
        return missing(self.packages)


@dataclasses.dataclass
class Timed:
    """The measurements of one program.

    Args:
        program: the program.
        seconds: of its command, in each pass.
        training: images per second of the training alone, in the last epoch of each pass.
        accuracy: on the test images, after the last epoch of the last pass.
        error: why there are no measurements; empty if there are.
    """

    program: Program
    seconds: list[float] = dataclasses.field(default_factory=list)
    training: list[float] = dataclasses.field(default_factory=list)
    accuracy: float = 0.0
    error: str = ""

    @property
    def title(self) -> str:
        return self.program.name


def our_command(workload: Workload, output_dir: str) -> list[str]:
    options = {
        "data": f"folder:{workload.folder}",
        "output_dir": output_dir,
        "structure": workload.structure,
        "width": workload.width,
        "crop_size": workload.size,
        "batch_size": workload.batch_size,
        "epochs": EPOCHS,
        "crop": "padded",
        "color_jitter": 0,
        "lighting": 0,
        "schedule": "constant",
        "learning_rate": LEARNING_RATE,
        "momentum": MOMENTUM,
        "weight_decay": WEIGHT_DECAY,
        "validation": "none",
    }
    return [sys.executable, str(ROOT / "scripts" / "train.py"), *(f"--{name}={value}" for name, value in options.items())]


def torch_command(workload: Workload, output_dir: str, *, workers: int, channels_last: bool) -> list[str]:
    job = {
        "folder": workload.folder,
        "output_dir": output_dir,
        "structure": workload.structure,
        "width": workload.width,
        "size": workload.size,
        "batch_size": workload.batch_size,
        "epochs": EPOCHS,
        "learning_rate": LEARNING_RATE,
        "momentum": MOMENTUM,
        "weight_decay": WEIGHT_DECAY,
        "threads": workload.threads,
        "workers": workers,
        "channels_last": channels_last,
    }
    return [sys.executable, "-m", "benchmarks.torch_run", json.dumps(job)]


PROGRAMS = (
    Program("ours: train.py", our_command, ("tensorflow",)),
    *(
        Program(
            f"PyTorch, {layout}, {workers} workers",
            functools.partial(torch_command, workers=workers, channels_last=layout == "channels last"),
            ("torch", "torchvision"),
        )
        for layout in ("channels first", "channels last")
        for workers in (0, 2)
    ),
)


def whole_run_speeds(workload: Workload, images: int, passes: int, only: Sequence[str] = ()) -> list[dict[str, object]]:
    """Measures all installed programs, one after the other, in passes of alternating order.

    Args:
        workload: the network and the batch size; its folder has the class folders `train` and `test`.
        images: number of training images, a multiple of the batch size.
        passes: number of passes.
        only: substrings that select programs by name; empty for all.

    Raises:
        InputError: if no program is left.
    """
    found = [Timed(program) for program in installed(PROGRAMS, only)]
    if not found:
        raise InputError(f"No program to measure. Programs are: {', '.join(program.name for program in PROGRAMS)}")
    in_passes(found, passes, lambda timed: _run_once(timed, workload))
    return rows(found, workload.batch_size, EPOCHS * images)


def _run_once(timed: Timed, workload: Workload) -> None:
    with tempfile.TemporaryDirectory() as folder:
        output_dir = pathlib.Path(folder) / "run"
        command, environment = timed.program.command(workload, str(output_dir)), {**os.environ, "KERAS_BACKEND": "tensorflow"}
        begin = time.perf_counter()
        ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
        seconds = time.perf_counter() - begin
        if ran.returncode:
            timed.error = ": ".join((f"ended with exit code {ran.returncode}", *ran.stderr.strip().splitlines()[-1:]))
            return
        with (output_dir / METRICS_FILE).open(newline="") as file:
            *_, last = csv.DictReader(file)
    timed.seconds.append(seconds)
    timed.training.append(float(last["images_per_second"]))
    timed.accuracy = float(last["val_accuracy"])


def rows(found: Sequence[Timed], batch_size: int, images: int) -> list[dict[str, object]]:
    """Returns a row for each program; the first one is what the others are compared with.

    Args:
        found: what was measured.
        batch_size: images per step.
        images: images that each program trained on, all epochs together.

    Returns:
        Rows of `contender`, `batch`, `s_whole` (median), `s_lowest`, `s_highest`, `images_per_second` (of the whole command) and `speed`
        (over the first's), the same of training alone, `test_accuracy` and `note`.
    """
    first, table = found[0], []
    for timed in found:
        row: dict[str, object] = {"contender": timed.program.name, "batch": batch_size}
        if timed.error:
            table.append({**row, "note": timed.error})
            continue
        seconds, training = statistics.median(timed.seconds), statistics.median(timed.training)
        row |= {"s_whole": seconds, "s_lowest": min(timed.seconds), "s_highest": max(timed.seconds), "images_per_second": images / seconds}
        row |= {"speed": statistics.median(first.seconds) / seconds} if not first.error else {}
        row["training_images_per_second"] = training
        row |= {"training_speed": training / statistics.median(first.training)} if not first.error else {}
        table.append({**row, "test_accuracy": timed.accuracy, "note": ""})
    return table
