"""Contenders measured one after the other, each in a process of its own, in several passes of opposite order."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import multiprocessing
import os
import pathlib
import resource
import time
from collections.abc import Iterator, Sequence

import keras
import numpy as np

from benchmarks.contender import Contender
from benchmarks.workload import Workload
from keras_widerresnet.compare import difference
from keras_widerresnet.progress import progress_bar

logger = logging.getLogger(__name__)
SHORTEST = 0.2  # seconds of one measurement; faster calls are timed several at a time
COMPARED_CALLS = 2
KIBIBYTE = 1024


@dataclasses.dataclass
class Measured:
    """What one contender did on one workload.

    Args:
        contender: who.
        workload: on what.
        seconds: of each timed call, of all passes.
        first_seconds: of the first call, which traces and compiles, and before it the loading; of the first pass.
        peak_bytes: the most main memory that its process held, in the pass that held least; of an accelerator's own memory if it has one.
        multiply_adds: of one image's forward pass.
        outputs: of the first two calls: a training step's second loss shows that the first step did the same to the weights.
        error: why it has no figures.
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
    def median(self) -> float:
        return float(np.median(self.seconds))

    def differs_from(self, other: Measured) -> float:
        """The largest difference of an output, relative to the largest of the other's."""
        return max(difference(own, reference) for own, reference in zip(self.outputs, other.outputs, strict=True))


def measure(contenders: Sequence[Contender], workloads: Sequence[Workload], passes: int, repeats: int) -> list[Measured]:
    """Times every contender on every workload.

    Args:
        contenders: installed ones.
        workloads: prepared.
        passes: every second one in opposite order, so that a drifting machine is as fast for all.
        repeats: timed calls in each pass, after two that are not timed.
    """
    found = [Measured(contender, workload) for workload in workloads for contender in contenders]
    with progress_bar(total=passes * len(found), unit="runs") as bar:
        for number in range(passes):
            for measured in found if number % 2 == 0 else reversed(found):
                bar.set_postfix_str(f"{measured.contender.name}, batch {measured.workload.batch_size}")
                if not measured.error:
                    _measure_once(measured, repeats)
                bar.update()
    for measured in found:
        if measured.error:
            logger.warning("%s, batch %s: %s", measured.contender.name, measured.workload.batch_size, measured.error)
    return found


def installed(contenders: Sequence[Contender]) -> list[Contender]:
    """Those whose packages are there; a line in the log for each other."""
    for contender in contenders:
        if missing := contender.missing_packages():
            logger.warning("%s is left out: %s not installed", contender.name, " and ".join(missing))
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
    """In the contender's process: sends what was measured, or in words what went wrong."""
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
    except Exception as error:  # of any library; the table goes on without it
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
    """Of processes that are started inside: what libraries have to say would tear the progress bar."""
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
    """Of processes that are started inside."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
