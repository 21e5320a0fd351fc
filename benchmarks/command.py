"""The command of `scripts/benchmark.py`; Keras is imported only after its options have been checked."""

from __future__ import annotations

import dataclasses
import logging
import os
import pathlib
import tempfile
from typing import TYPE_CHECKING

from benchmarks.config import ALL_BACKENDS, COMPARISONS, FOLDER, RUN, TRAINING, BenchmarkConfig
from keras_widerresnet.cli.checks import check_file
from keras_widerresnet.cli.command import Command
from keras_widerresnet.data.names import CLASSIFICATION, parse_name
from keras_widerresnet.errors import InputError

if TYPE_CHECKING:
    from benchmarks.floor import Rates

Rows = list[dict[str, object]]
PIXELS = (375, 500)
DEFAULT_BATCH_SIZES = {"inference": (1, 8)}
DEFAULT_STRUCTURE, EXPORTED_STRUCTURE = "A", "A1"


def check(config: BenchmarkConfig) -> None:
    """Checks the input files and the output.

    Raises:
        InputError: if a file or folder does not exist, or an earlier result must not be replaced.
    """
    for file in config.files:
        check_file(file, "file")
    if config.data:
        parse_name(config.data, CLASSIFICATION)
    table = _table(config)
    if table and table.exists() and not config.overwrite:
        raise InputError(f"{table} exists: --overwrite replaces it, --output_dir chooses another folder")


def run(config: BenchmarkConfig) -> None:
    """Runs the benchmark, prints its table, and writes it with its plot to `output_dir` if given.

    Raises:
        InputError: if too many threads are requested, no contender is available, or the network is invalid.
    """
    if config.backend != ALL_BACKENDS:
        os.environ["KERAS_BACKEND"] = config.backend  # other backends may not be installed
    logging.getLogger("keras_widerresnet").setLevel(logging.INFO)
    from benchmarks import threads

    table, used, rates = _table(config), threads.take(config.threads), None
    if table:
        table.parent.mkdir(parents=True, exist_ok=True)
    if config.kind in COMPARISONS:
        rows, rates = _comparison(config, used, table)
    else:
        rows = MEASURES[config.kind](config, used, table)
    _finish(rows, rates, used, table)


def _table(config: BenchmarkConfig) -> pathlib.Path | None:
    """Returns the path of the CSV file; other outputs are written beside it."""
    return pathlib.Path(config.output_dir) / f"{config.kind}.csv" if config.output_dir else None


def _finish(rows: Rows, rates: Rates | None, threads: int, table: pathlib.Path | None) -> None:
    from benchmarks import report

    if table:
        report.write_csv(rows, table)
        report.write_machine(table.with_name(f"{table.stem}_machine.json"), rates, threads)
    print(report.as_text(rows))
    if rates:
        products = ", ".join(f"{rate / 1e9:.0f} G multiply-adds/s in {precision}" for precision, rate in rates.multiply_adds.items())
        print(f"\nMeasured rates: {products}; {rates.bytes / 1e9:.1f} GB/s copied")


def _comparison(config: BenchmarkConfig, threads: int, table: pathlib.Path | None) -> tuple[Rows, Rates]:
    from benchmarks.comparison import Comparison, compare

    takes_all = config.kind == TRAINING and not config.describes_network and not config.tried
    comparison = Comparison(
        config.kind,
        structure="" if takes_all else config.structure or COMPARISONS[config.kind],
        width=config.width,
        size=config.size,
        batch_sizes=_batch_sizes(config),
        threads=threads,
        backend=config.backend,
        only=config.wanted,
        tried=config.tried,
        passes=config.passes,
        repeats=config.repeats,
    )
    return compare(comparison, table and table.with_suffix(".png"))


def _batch_sizes(config: BenchmarkConfig) -> tuple[int, ...]:
    return config.batch_sizes or DEFAULT_BATCH_SIZES.get(config.kind, (8,))


def _scaling(config: BenchmarkConfig, threads: int, table: pathlib.Path | None) -> Rows:
    from benchmarks import report, scaling

    structure = config.structure or DEFAULT_STRUCTURE
    with tempfile.TemporaryDirectory() as folder:
        curves = scaling.growth(structure, threads, folder, config.passes, config.repeats)
    if table:
        base = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in scaling.BASE.items())
        title = f"Model {structure} on {threads} CPU threads; unless varied: {base}"
        report.growth_curves(curves, title, table.with_suffix(".png"))
    return report.growth_rows(curves)


def _input(config: BenchmarkConfig, *_: object) -> Rows:
    from benchmarks.input import input_speeds
    from keras_widerresnet.data.photographs import sample_jpegs

    encoded = [pathlib.Path(file).read_bytes() for file in config.files] or sample_jpegs(*PIXELS)
    return input_speeds(encoded, config.repeats, config.seconds)


def _startup(config: BenchmarkConfig, *_: object) -> Rows:
    from benchmarks.startup import BOUNDS, startup_seconds

    found = startup_seconds(config.structure or DEFAULT_STRUCTURE, config.repeats)
    return [{"what": what, "seconds": seconds, "bound": BOUNDS.get(what, "")} for what, seconds in found.items()]


def _exports(config: BenchmarkConfig, threads: int, _: object) -> Rows:
    from benchmarks.exports import export_forms
    from benchmarks.workload import Workload, prepare
    from keras_widerresnet.structures import find_structure

    structure = config.structure or EXPORTED_STRUCTURE
    with tempfile.TemporaryDirectory() as folder:
        workload = Workload(structure, config.width, config.size or find_structure(structure).crop_size, 1, threads, folder)
        prepare(workload, set())
        forms = export_forms(workload, config.repeats)
    return [{**dataclasses.asdict(form), "time_of_the_firsts": form.milliseconds / forms[0].milliseconds} for form in forms]


def _decomposition(config: BenchmarkConfig, *_: object) -> Rows:
    from benchmarks.decomposition import decomposition_cost

    options = {"structure": config.structure or DEFAULT_STRUCTURE, "width": config.width}
    rows = ({**options, "batch_size": batch_size} for batch_size in _batch_sizes(config))
    return [{**row, **decomposition_cost(**row, repeats=config.repeats)} for row in rows]


def _prediction(config: BenchmarkConfig, *_: object) -> Rows:
    from benchmarks.prediction import prediction_speeds
    from keras_widerresnet.data.photographs import sample_jpegs
    from keras_widerresnet.structures import find_structure

    structure = config.structure or DEFAULT_STRUCTURE
    size = config.size or find_structure(structure).crop_size
    with tempfile.TemporaryDirectory() as folder:
        return prediction_speeds(sample_jpegs(*PIXELS), structure, config.width, size, config.images, config.repeats, pathlib.Path(folder))


def _whole_run(config: BenchmarkConfig, threads: int, _: object) -> Rows:
    from benchmarks import class_folders
    from benchmarks.measure import in_own_process
    from benchmarks.training import CIFAR10
    from benchmarks.whole_run import whole_run_speeds
    from benchmarks.workload import Workload
    from keras_widerresnet.structures import find_structure

    network = CIFAR10
    if config.describes_network:
        structure, (batch_size,) = config.structure or CIFAR10.structure, config.batch_sizes or (CIFAR10.batch_size,)
        network = Workload(structure, config.width, config.size or find_structure(structure).crop_size, batch_size)
    images = max(1, config.images // network.batch_size) * network.batch_size  # whole batches, of which every program makes as many
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        if config.data:
            in_own_process(class_folders.write_chosen, path, config.data.removeprefix(FOLDER), images)
        else:
            class_folders.write_generated(path, images, network.size)
        placed = dataclasses.replace(network, threads=threads, folder=folder)
        return whole_run_speeds(placed, images, config.passes, config.wanted)


MEASURES = {
    RUN: _whole_run,
    "input": _input,
    "scaling": _scaling,
    "startup": _startup,
    "exports": _exports,
    "decomposition": _decomposition,
    "prediction": _prediction,
}
COMMAND = Command(
    name="benchmark",
    summary="Measures speed and memory, as ratios within one run; `input` accepts your own JPEG files as further arguments.",
    example="python scripts/benchmark.py inference --structure=A --passes=2 --repeats=4",
    config=BenchmarkConfig,
    run=run,
    check=check,
)
