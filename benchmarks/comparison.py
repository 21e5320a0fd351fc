"""One comparison, from its settings to its table and plot."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from collections.abc import Sequence

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
        structure: name or notation of the network.
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
    structure: str
    width: float = 1.0
    size: int = 0
    batch_sizes: tuple[int, ...] = (8,)
    threads: int = 1
    backend: str = "all"
    only: tuple[str, ...] = ()
    tried: bool = False
    passes: int = 2
    repeats: int = 5

    def contenders(self) -> list[Contender]:
        """Returns the selected contenders whose packages are installed; the first one is the baseline.

        Raises:
            InputError: if none is left.
        """
        table = (TRIED if self.tried else CONTENDERS)[self.kind]
        asked = [one for one in table if not one.is_ours or self.backend in ("all", one.backend)]
        asked = [one for one in asked if not self.only or any(part in one.name for part in self.only)]
        found = installed(asked)
        if not found:
            raise InputError(f"No contender to measure. Contenders are: {', '.join(one.name for one in table)}")
        return found


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
    contenders = comparison.contenders()
    with tempfile.TemporaryDirectory() as folder:
        workloads = _workloads(comparison, folder)
        prepare(workloads[0], {form for one in contenders for form in one.forms})
        before = in_own_process(machine_rates, comparison.threads)
        found = measure(contenders, workloads, comparison.passes, comparison.repeats)
        after = in_own_process(machine_rates, comparison.threads)
        multiply_adds = {precision: max(rate, after.multiply_adds[precision]) for precision, rate in before.multiply_adds.items()}
        rates = Rates(multiply_adds, max(before.bytes, after.bytes))
        is_training = comparison.kind != "inference"
        rows = report.comparison(found, rates, is_training)
    if picture:
        floors = {
            one.batch_size: floor_seconds(one, rates, is_training) * (1 if is_training else 1e3 / one.batch_size) for one in workloads
        }
        ours = {one.name for one in contenders if one.is_ours}
        width = "" if comparison.width == 1 else f", width {comparison.width:g}"
        title = f"{WORDS[comparison.kind]} of Model {comparison.structure}{width} at {workloads[0].size}, {comparison.threads} CPU threads"
        report.bars(rows, ours, floors, title, picture)
    return rows, rates


def _workloads(comparison: Comparison, folder: str) -> Sequence[Workload]:
    first = Workload(comparison.structure, comparison.width, comparison.size, 1, comparison.threads, folder)
    size = comparison.size or first.record.crop_size
    first.record.spatial_sizes(size)  # the error states a valid size
    return [dataclasses.replace(first, size=size, batch_size=batch_size) for batch_size in comparison.batch_sizes]
