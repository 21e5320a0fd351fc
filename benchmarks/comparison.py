"""One comparison, from its settings to the table and the picture."""

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
    """What is compared.

    Args:
        kind: `"inference"`, `"training"` or `"memory"` (training steps again, of those that save memory).
        structure: name or notation.
        width: factor for the channels of all stages.
        size: pixels of a side; 0 for the structure's S.
        batch_sizes: images at a time.
        threads: of the CPU.
        backend: Keras' backend of ours; `"all"` for every one.
        only: parts of the names of the contenders that take part; empty for all.
        tried: compare our own settings, one change at a time, instead.
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
        """Those that take part and whose packages are installed; the first is what the others are compared with.

        Raises:
            InputError: if nobody is left.
        """
        table = (TRIED if self.tried else CONTENDERS)[self.kind]
        asked = [one for one in table if not one.is_ours or self.backend in ("all", one.backend)]
        asked = [one for one in asked if not self.only or any(part in one.name for part in self.only)]
        found = installed(asked)
        if not found:
            raise InputError(f"Nobody to measure. Contenders are: {', '.join(one.name for one in table)}")
        return found


def compare(comparison: Comparison, picture: pathlib.Path | None = None) -> tuple[list[dict[str, object]], Rates]:
    """Measures.

    Args:
        comparison: what.
        picture: file to draw it to.

    Returns:
        Rows as `report.comparison` gives them, and the machine's rates, measured before and after (the better).

    Raises:
        InputError: if nobody is left to measure, or the network cannot be built.
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
    first.record.spatial_sizes(size)  # says which size would do
    return [dataclasses.replace(first, size=size, batch_size=batch_size) for batch_size in comparison.batch_sizes]
