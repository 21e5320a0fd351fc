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
_ROOT = pathlib.Path(__file__).resolve().parents[1]
RECIPE = _ROOT / "scripts" / "flags" / "study.flags"
REFERENCE = _ROOT / "tests" / "data"


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
    seeds: int = option(2, help="runs of each network at each budget, with different seeds", group=GRID, least=1)
    budgets: tuple[int, ...] = option(
        (2,), help="epochs of the runs, in increasing order; each has its own run, to the end of the schedule", group=TRAINING, least=1
    )
    recipe: str = option(
        str(RECIPE),
        help="flag file of the training command: batch size, schedule, decay, augmentation ...; its warm-up takes the same share of every "
        "budget, its structure, width and crop size do not count",
        group=TRAINING,
        repeats=False,  # what it says is part of the settings instead
    )
    steps_per_epoch: int = option(0, help="steps of an epoch; 0 for the recipe's, or one pass over the images", group=TRAINING, least=0)
    learning_rates: tuple[float, ...] = option(
        (),
        help="rates in increasing order; of several, each network takes the one with the lowest error on held-out training images after "
        "the shortest budget. Empty for the recipe's",
        group=TRAINING,
        least=0,
    )
    validation: float = option(
        0.1,
        help="share of the training images held out to choose a learning rate; the other runs train on all",
        group=TRAINING,
        least=0,
        most=1,
    )
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
        for name in ("depths", "widths", "budgets", "learning_rates"):
            values = getattr(self, name)
            if (not values and name != "learning_rates") or list(values) != sorted(set(values)):
                raise InputError(f"--{name} must be one or more values in increasing order. Received: {','.join(map(str, values))!r}")
        if "n" not in self.structure:
            raise InputError(f"--structure must contain an n, as in 32-0-n-n-n-0-0-0. Received: {self.structure!r}")
        for name in ("threshold", "validation"):
            if getattr(self, name) in (0, 1):
                raise InputError(f"--{name} must be more than 0 and less than 1. Received: {getattr(self, name)}")
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
