"""One comparison, from its settings to its table and plot."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from collections.abc import Mapping, Sequence

from benchmarks import inference, report, training
from benchmarks.contender import Contender
from benchmarks.floor import Rates, floor_seconds, machine_rates
from benchmarks.measure import in_own_process
from benchmarks.passes import installed, measure
from benchmarks.workload import Workload, prepare
from keras_widerresnet.errors import InputError

CONTENDERS = {"inference": inference.CONTENDERS, "training": training.CONTENDERS, "memory": training.MEMORY}
TRIED = {"inference": inference.TRIED, "training": training.TRIED, "memory": training.TRIED}
WORDS = {"inference": "Inference", "training": "Training step", "memory": "Training step"}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Settings of a comparison.

    Args:
        kind: `"inference"`, `"training"` or `"memory"` (training steps with memory-saving settings).
        structure: name or notation of the network; empty for the workloads of `training.WORKLOADS`.
        width: channel multiplier of all stages.
        size: side of the images in pixels; 0 for the structure's S.
        batch_sizes: batch sizes to measure.
        threads: number of CPU threads.
        backend: Keras backend of this package's contenders; `"all"` for all backends.
        only: substrings that select contenders by name; empty for all.
        tried: whether to compare settings of this package instead, one change at a time.
        passes, repeats: see `passes.measure`.
    """

    kind: str
    structure: str = ""
    width: float = 1.0
    size: int = 0
    batch_sizes: tuple[int, ...] = (8,)
    threads: int = 1
    backend: str = "all"
    only: tuple[str, ...] = ()
    tried: bool = False
    passes: int = 2
    repeats: int = 5

    def plan(self) -> dict[Workload, list[Contender]]:
        """Returns each workload with the selected contenders whose packages are installed; the first one is its baseline.

        Raises:
            InputError: if no contender is left, or the images are too small for the network.
        """
        table = self._table()
        known = {one.name: one for contenders in table.values() for one in contenders}
        asked = [one for one in known.values() if not one.is_ours or self.backend in ("all", one.backend)]
        found = {one.name for one in installed(asked, self.only)}
        if not found:
            raise InputError(f"No contender to measure. Contenders are: {', '.join(known)}")
        chosen = {workload: [one for one in contenders if one.name in found] for workload, contenders in table.items()}
        return {workload: contenders for workload, contenders in chosen.items() if contenders}

    def _table(self) -> dict[Workload, Sequence[Contender]]:
        if not self.structure:
            return {dataclasses.replace(workload, threads=self.threads): names for workload, names in training.WORKLOADS.items()}
        first = Workload(self.structure, self.width, self.size, 1, self.threads)
        size = self.size or first.record.crop_size
        first.record.spatial_sizes(size)  # the error states a valid size
        contenders = (TRIED if self.tried else CONTENDERS)[self.kind]
        return {dataclasses.replace(first, size=size, batch_size=batch_size): contenders for batch_size in self.batch_sizes}


def compare(comparison: Comparison, picture: pathlib.Path | None = None) -> tuple[list[dict[str, object]], Rates]:
    """Runs a comparison.

    Args:
        comparison: its settings.
        picture: file of the plot; None for no plot.

    Returns:
        The rows of `report.comparison`, and the machine's rates: the better of one measurement before and one after.

    Raises:
        InputError: if there is no contender to measure, or the network is invalid.
    """
    plan = comparison.plan()
    with tempfile.TemporaryDirectory() as folder:
        pairs = _prepared(plan, pathlib.Path(folder))
        before = in_own_process(machine_rates, comparison.threads)
        found = measure(pairs, comparison.passes, comparison.repeats)
        after = in_own_process(machine_rates, comparison.threads)
    multiply_adds = {precision: max(rate, after.multiply_adds[precision]) for precision, rate in before.multiply_adds.items()}
    rates = Rates(multiply_adds, max(before.bytes, after.bytes))
    is_training = comparison.kind != "inference"
    rows = report.comparison(found, rates, is_training)
    if picture:
        floors = {
            (one.name, one.batch_size): floor_seconds(one, rates, is_training) * (1 if is_training else 1e3 / one.batch_size)
            for one in plan
        }
        ours = {one.name for contenders in plan.values() for one in contenders if one.is_ours}
        report.bars(rows, ours, floors, _title(comparison, next(iter(plan)).size), picture)
    return rows, rates


def _prepared(plan: Mapping[Workload, Sequence[Contender]], folder: pathlib.Path) -> list[tuple[Contender, Workload]]:
    """Writes the networks, each once for all batch sizes, to folders of their own; returns what is to be measured."""
    places: dict[Workload, str] = {}
    pairs = []
    for workload, contenders in plan.items():
        network = dataclasses.replace(workload, batch_size=1)
        if network not in places:
            places[network] = str(folder / str(len(places)))
            prepare(dataclasses.replace(network, folder=places[network]), {form for one in contenders for form in one.forms})
        placed = dataclasses.replace(workload, folder=places[network])
        pairs += [(one, placed) for one in contenders]
    return pairs


def _title(comparison: Comparison, size: int) -> str:
    width = "" if comparison.width == 1 else f", width {comparison.width:g}"
    network = f" of Model {comparison.structure}{width} at {size}" if comparison.structure else ""
    return f"{WORDS[comparison.kind]}{network}, {comparison.threads} CPU threads"
