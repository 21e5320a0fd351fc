"""All options of a benchmark, as one record."""

from __future__ import annotations

import dataclasses

from keras_widerresnet.errors import InputError
from keras_widerresnet.options import check, did_you_mean, documented, option
from keras_widerresnet.structures import find_structure

# Comparisons and their default networks.
COMPARISONS = {"inference": "A", "training": "D", "memory": "A"}
TRAINING, INPUT, RUN = "training", "input", "run"
KINDS = (*COMPARISONS, RUN, INPUT, "scaling", "startup", "exports", "decomposition", "prediction")
FOLDER = "folder:"
ALL_BACKENDS = "all"
BACKENDS = (ALL_BACKENDS, "tensorflow", "jax", "torch")
NETWORK, MEASUREMENT, CONTENDERS, OUTPUT = "Network", "Measurement", "Contenders of inference, training and memory", "Output"


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Options of one benchmark of speed or memory.

    Raises:
        InputError: for a kind that is not one of `KINDS`, a value out of range, or an invalid structure.
    """

    what: tuple[str, ...] = option(help="|".join(KINDS), group=MEASUREMENT, is_positional=True)
    structure: str = option(
        "",
        help="A, A1 ... F, or the notation S-n1-n2-n3-n4-n5-n6-n7; empty for A, in training for D. Training without this, width, size and "
        "batch_sizes measures four workloads, and run the one of CIFAR-10",
        group=NETWORK,
    )
    width: float = option(1.0, help="channel multiplier of all stages", group=NETWORK, least=0.01)
    size: int = option(0, help="side of the images in pixels; 0 for the structure's S", group=NETWORK, least=0)
    batch_sizes: tuple[int, ...] = option(
        (), help="batch sizes; empty for 1,8 in inference, 128 in run, otherwise 8", group=MEASUREMENT, least=1
    )
    passes: int = option(2, help="number of passes; each starts every contender in a new process", group=MEASUREMENT, least=1)
    repeats: int = option(5, help="timed calls per pass; medians are reported", group=MEASUREMENT, least=1)
    images: int = option(
        512, help="prediction: number of images; run: of training images, a fifth more to test", group=MEASUREMENT, least=1
    )
    data: str = option("", help="run: folder:PATH of class folders, as train.py takes it; empty for generated images", group=MEASUREMENT)
    threads: int = option(0, help="CPU threads of every contender; 0 for all", group=MEASUREMENT, least=0)
    seconds: float = option(5.0, help="input: duration of each measurement", group=MEASUREMENT, least=0.1)
    backend: str = option(
        ALL_BACKENDS, help="Keras backend of this package; the first contender is the baseline", group=CONTENDERS, choices=BACKENDS
    )
    only: str = option("", help="only contenders whose name contains one of these strings, separated by |", group=CONTENDERS)
    tried: bool = option(False, help="compare settings of this package, one change at a time, instead of the contenders", group=CONTENDERS)
    output_dir: str = option("", help="folder for table (CSV), plot and machine description; empty for none", group=OUTPUT)
    overwrite: bool = option(False, help="replace the results of an earlier run in --output_dir", group=OUTPUT)

    def __post_init__(self):
        if not self.what or self.kind not in KINDS or (self.files and self.kind != INPUT):
            received = " ".join(self.what)
            hint = did_you_mean(self.kind, KINDS) if self.what and self.kind not in KINDS else ""
            raise InputError(f"Benchmarks are {', '.join(KINDS)}; only {INPUT} accepts JPEG files. Received: {received!r}{hint}")
        check(self)
        if self.structure:
            find_structure(self.structure)
        if self.data and (self.kind != RUN or not self.data.startswith(FOLDER)):
            raise InputError(f"--data is of {RUN}, and the name of a folder of class folders, {FOLDER}PATH. Received: {self.data!r}")
        if self.kind == RUN and len(self.batch_sizes) > 1:
            raise InputError(f"{RUN} has one batch size. Received: --batch_sizes={','.join(map(str, self.batch_sizes))}")

    @property
    def kind(self) -> str:
        """The kind of benchmark, one of `KINDS`."""
        return self.what[0]

    @property
    def describes_network(self) -> bool:
        """Whether any option describes the network or its batches."""
        return bool(self.structure or self.width != 1 or self.size or self.batch_sizes)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The substrings in `only`."""
        return tuple(filter(None, self.only.split("|")))

    @property
    def files(self) -> tuple[str, ...]:
        """The JPEG files that `input` reads."""
        return self.what[1:]
