"""Measures contenders sequentially, each in a separate process, in several passes of alternating order."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import multiprocessing
import os
import pathlib
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import keras
import numpy as np

from benchmarks.contender import Contender
from benchmarks.workload import Workload
from keras_widerresnet.compare import difference
from keras_widerresnet.progress import progress_bar

logger = logging.getLogger(__name__)
SHORTEST = 0.2  # seconds; faster calls are timed several at once
COMPARED_CALLS = 2
KIBIBYTE = 1024


class Runnable(Protocol):
    """What a table has a row for if the packages that it needs are installed."""

    name: str

    def missing_packages(self) -> list[str]: ...


class Entry(Protocol):
    """What is measured for a row of a table: its name in messages, and why there are no measurements, empty if there are."""

    error: str

    @property
    def title(self) -> str: ...


AnyRunnable, AnyEntry = TypeVar("AnyRunnable", bound=Runnable), TypeVar("AnyEntry", bound=Entry)


@dataclasses.dataclass
class Measured:
    """The measurements of one contender on one workload.

    Args:
        contender: the contender.
        workload: the workload.
        seconds: time of each timed call of all passes.
        first_seconds: time of loading and of the first call, which traces and compiles, in the first pass.
        peak_bytes: peak main memory of its process, or peak accelerator memory where available; the minimum over passes.
        multiply_adds: multiply-adds of one image's forward pass.
        outputs: results of the first two calls: the second loss of a training step shows whether the first step updated the weights alike.
        error: why there are no measurements; empty if there are.
    """

    contender: Contender
    workload: Workload
    seconds: list[float] = dataclasses.field(default_factory=list)
    first_seconds: float = 0.0
    peak_bytes: int = 0
    multiply_adds: int = 0
    outputs: list[np.ndarray] = dataclasses.field(default_factory=list)
    error: str = ""

    @property
    def title(self) -> str:
        return ", ".join(filter(None, (self.workload.name, self.contender.name, f"batch {self.workload.batch_size}")))

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    def differs_from(self, other: Measured) -> float:
        """Returns the largest difference of an output, relative to the other's largest output."""
        return max(difference(own, reference) for own, reference in zip(self.outputs, other.outputs, strict=True))


def measure(pairs: Sequence[tuple[Contender, Workload]], passes: int, repeats: int) -> list[Measured]:
    """Times contenders on workloads.

    Args:
        pairs: contenders whose packages are installed, with prepared workloads.
        passes: number of passes; every second one runs in reverse order, so that drift affects all alike.
        repeats: timed calls per pass, after two untimed ones.
    """
    found = [Measured(contender, workload) for contender, workload in pairs]
    in_passes(found, passes, lambda measured: _measure_once(measured, repeats))
    return found


def in_passes(entries: Sequence[AnyEntry], passes: int, run_once: Callable[[AnyEntry], None]) -> None:
    """Runs each entry once a pass, until it has an error, with a progress bar; logs the errors at the end.

    Args:
        entries: what is measured.
        passes: number of passes; every second one runs in reverse order, so that drift affects all alike.
        run_once: adds the measurements of one run to an entry, or sets its error.
    """
    with progress_bar(total=passes * len(entries), unit="runs") as bar:
        for number in range(passes):
            for entry in entries if number % 2 == 0 else reversed(entries):
                bar.set_postfix_str(entry.title)
                if not entry.error:
                    run_once(entry)
                bar.update()
    for entry in entries:
        if entry.error:
            logger.warning("%s: %s", entry.title, entry.error)


def installed(contenders: Sequence[AnyRunnable], only: Sequence[str] = ()) -> list[AnyRunnable]:
    """Returns the contenders, or programs, whose packages are installed; logs a warning for each of the rest.

    `only`: substrings of the names of those that are wanted at all; empty for all.
    """
    contenders = [contender for contender in contenders if not only or any(part in contender.name for part in only)]
    for contender in contenders:
        if missing := contender.missing_packages():
            logger.warning("%s is skipped: %s not installed", contender.name, " and ".join(missing))
    return [contender for contender in contenders if not contender.missing_packages()]


def _measure_once(measured: Measured, repeats: int) -> None:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    variables = {"KERAS_BACKEND": measured.contender.backend, **measured.contender.environment}
    with _environment(variables), _standard_error_to(_log(measured.workload)):
        process = context.Process(target=_run, args=(sender, measured.contender, measured.workload, repeats))
        process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        process.join()
        last = _log(measured.workload).read_text(errors="replace").strip().splitlines()[-1:]
        answer = ": ".join((f"its process ended with exit code {process.exitcode}", *last))
    process.join()
    if isinstance(answer, str):
        measured.error = answer
        return
    seconds, first_seconds, peak_bytes, measured.multiply_adds, measured.outputs = answer
    measured.seconds += seconds
    measured.first_seconds = measured.first_seconds or first_seconds
    measured.peak_bytes = min(measured.peak_bytes or peak_bytes, peak_bytes)


def _run(sender, contender: Contender, workload: Workload, repeats: int) -> None:
    """Runs in the contender's process: sends the measurements, or an error message."""
    try:
        begin = time.perf_counter()
        call = contender.start(workload)
        outputs = [np.asarray(call())]
        first_seconds = time.perf_counter() - begin
        begin = time.perf_counter()
        outputs += [np.asarray(call()) for _ in range(COMPARED_CALLS - 1)]
        calls = max(1, round(SHORTEST / (time.perf_counter() - begin)))
        seconds = []
        for _ in range(repeats):
            begin = time.perf_counter()
            for _ in range(calls):
                call()
            seconds.append((time.perf_counter() - begin) / calls)
        peak_bytes = _peak_bytes()
        multiply_adds = contender.multiply_adds(workload) if contender.multiply_adds else workload.multiply_adds
        sender.send((seconds, first_seconds, peak_bytes, multiply_adds, outputs))
    except Exception as error:  # of any library; the table omits this contender
        sender.send(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}")


def _log(workload: Workload) -> pathlib.Path:
    return workload.path("contender.log")


def _peak_bytes() -> int:
    if keras.backend.backend() == "jax":
        import jax

        if statistics := jax.local_devices()[0].memory_stats():
            return statistics["peak_bytes_in_use"]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIBIBYTE


@contextlib.contextmanager
def _standard_error_to(path: pathlib.Path) -> Iterator[None]:
    """Redirects the standard error of processes started inside; messages of libraries would break the progress bar."""
    kept = os.dup(2)
    try:
        with path.open("w") as log:
            os.dup2(log.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Sets environment variables of processes started inside."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
