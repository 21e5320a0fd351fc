"""The options of a study and of a comparison of ports, as records."""

from __future__ import annotations

import dataclasses
import pathlib

from keras_widerresnet.analysis.config import THRESHOLD
from keras_widerresnet.errors import InputError
from keras_widerresnet.options import check, documented, option, options_of, values_of
from keras_widerresnet.structures import Structure

MATCHES = ("", "multiply_adds", "parameters")
STUDY, GRID, TRAINING, ANALYSIS = "Study", "Grid", "Training of each network", "Analysis"
REFERENCE = pathlib.Path(__file__).resolve().parents[1] / "tests" / "data"


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """The grid of a study, and how each of its networks is trained and measured.

    Raises:
        InputError: if a value is out of range, or the grid cannot be built.
    """

    output_dir: str = option(help="folder of the study; an unfinished study with the same settings is resumed", group=STUDY, repeats=False)
    data: str = option("idx:/usr/share/datasets/fashion-mnist", help="folder:PATH (CIFAR-10), idx:PATH ... as for training", group=STUDY)
    structure: str = option(
        "32-0-n-n-n-0-0-0", help="notation, with n for the number of units in a stage; 28-... for Fashion-MNIST", group=GRID
    )
    depths: tuple[int, ...] = option((1, 2, 4, 8), help="values of n, in increasing order", group=GRID, least=0)
    widths: tuple[float, ...] = option(
        (0.0625, 0.09375, 0.125),
        help="factors for the channels of all stages, in increasing order; with --match, those of the deepest network",
        group=GRID,
        least=0.01,
    )
    match: str = option(
        "",
        help="cost in which the shallower networks of a row match the deepest, as closely as widths in 64ths allow; empty for equal widths",
        group=GRID,
        choices=MATCHES,
    )
    seeds: int = option(2, help="runs of each network, with different seeds", group=GRID, least=1)
    epochs: int = option(2, help="epochs of each run, each of --steps_per_epoch steps", group=TRAINING, least=1)
    steps_per_epoch: int = option(450, help="steps between two tests", group=TRAINING, least=1)
    batch_size: int = option(64, help="images per step", group=TRAINING, least=1)
    learning_rate: float = option(0.1, help="learning rate of the first step; it falls linearly to 0", group=TRAINING, least=0)
    weight_decay: float = option(5e-4, help="weight decay of kernels and batch-norm scales", group=TRAINING, least=0)
    deep_epochs: int = option(
        8, help="epochs of another run of the deepest, narrowest network, with paths and lesions; 0 for none", group=TRAINING, least=0
    )
    images: int = option(32, help="training images whose gradients are decomposed", group=ANALYSIS, least=1)
    threshold: float = option(
        THRESHOLD,
        help="share of a unit's gradient below which the terms that cross more blocks are negligible",
        group=ANALYSIS,
        least=0,
        most=1,
    )
    processes: int = option(2, help="number of runs at a time, each on its share of the CPU cores", group=STUDY, least=1, repeats=False)

    def __post_init__(self):
        check(self)
        for name in ("depths", "widths"):
            values = getattr(self, name)
            if not values or list(values) != sorted(set(values)):
                raise InputError(f"--{name} must be one or more values in increasing order. Received: {','.join(map(str, values))!r}")
        if "n" not in self.structure:
            raise InputError(f"--structure must contain an n, as in 32-0-n-n-n-0-0-0. Received: {self.structure!r}")
        if self.threshold in (0, 1):
            raise InputError(f"--threshold must be more than 0 and less than 1. Received: {self.threshold}")
        for depth in self.depths:
            self.built(depth)

    def built(self, depth: int) -> Structure:
        """Returns the structure with `n` replaced by `depth`."""
        return Structure.parse(self.structure.replace("n", str(depth)))

    def settings(self) -> dict[str, object]:
        """Returns the options on which the results depend, by name."""
        return values_of(self, [name for name, known in options_of(self).items() if known.repeats])


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class PortsConfig:
    """A comparison of ports with the official outputs."""

    reference: str = option(str(REFERENCE), help="folder with expected.npz and refparams.py", group="Reference")
