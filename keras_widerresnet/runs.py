"""The run directory: the only place that knows its files, reads them and writes them. Needs no TensorFlow."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import importlib.metadata
import itertools
import json
import pathlib
import platform
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

from keras_widerresnet.errors import InputError
from keras_widerresnet.files import is_absent, remove, replacing
from keras_widerresnet.options import defaults_of, flag_line, flag_lines, options_of
from keras_widerresnet.protocols import ClassificationProtocol, SegmentationProtocol

# What every run has.
FLAGS_FILE, VERSIONS_FILE, FACTS_FILE, METRICS_FILE = "flags.txt", "versions.json", "run.json", "metrics.csv"
CHECKPOINTS_FOLDER, TENSORBOARD_FOLDER = "checkpoints", "tensorboard"
BEST_FILE, FINAL_FILE, REPORT_FILE = "best.keras", "final.keras", "report.md"
# What a report's tables and pictures are called, of a run as of an evaluation or an analysis.
RESULTS_FILE, PER_CLASS_FILE, PREDICTIONS_FILE, PREDICTIONS_FOLDER = "results.json", "per_class.csv", "predictions.csv", "predictions"
CURVES_FILE, CONFUSION_FILE, MISTAKES_FILE = "curves.png", "confusion_matrix.png", "worst_mistakes.png"
OVERLAYS_FILE, CLASS_IOU_FILE = "overlays.png", "class_iou.png"
CLASSIFICATION_EVALUATION = {RESULTS_FILE, REPORT_FILE, PER_CLASS_FILE, PREDICTIONS_FILE}
SEGMENTATION_EVALUATION = {RESULTS_FILE, REPORT_FILE, PER_CLASS_FILE, OVERLAYS_FILE, CLASS_IOU_FILE}

CLASSIFICATION, SEGMENTATION = "classification", "segmentation"
PACKAGES = ("keras", "numpy", "tensorflow-datasets", "scikit-learn", "matplotlib")
TENSORFLOWS = ("tensorflow", "tensorflow-cpu")
_SEGMENTATION_FLAG = "classifier_convs"  # which tells the task of runs that have no facts file


class RunSettings(Protocol):
    """What a run's configuration, a record of options such as `training.config.RunConfig`, says of its directory."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @property
    def output_dir(self) -> str:
        """The run directory."""

    @property
    def overwrite(self) -> bool:
        """Whether an existing run is replaced."""

    @property
    def resume(self) -> bool:
        """Whether an existing run goes on."""


Config = TypeVar("Config", bound=RunSettings)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run directory that is there.

    Args:
        path: the directory.
    """

    path: pathlib.Path

    @classmethod
    def at(cls, path: str | pathlib.Path) -> Run | None:
        """The run at `path`; None where that is no run directory."""
        path = pathlib.Path(path)
        return cls(path) if (path / FLAGS_FILE).is_file() else None

    @classmethod
    def finished(cls, path: str | pathlib.Path) -> Run:
        """The run at `path`, which must be finished.

        Raises:
            InputError: if it is not, or there is none.
        """
        run = cls.at(path)
        if run is None or not run.is_finished:
            raise InputError(f"{str(path)!r} is not the directory of a finished run (no {REPORT_FILE if run else FLAGS_FILE})")
        return run

    @functools.cached_property
    def flags(self) -> dict[str, str]:
        """Name -> value as it was written, of all options that the run depends on."""
        lines = self.flags_text.splitlines()
        return dict(line[2:].split("=", 1) for line in lines if line.startswith("--") and "=" in line)

    @property
    def flags_text(self) -> str:
        """The run's flag file."""
        with _undamaged(self.path / FLAGS_FILE):
            return (self.path / FLAGS_FILE).read_text().strip()

    def number(self, name: str, default: float) -> float:
        """The value of an option that is a number, or what it is where the run has no such option."""
        with _undamaged(self.path / FLAGS_FILE):
            return float(self.flags.get(name, default))

    @functools.cached_property
    def facts(self) -> dict[str, Any]:
        """Task, class names, numbers of images, protocol and, at the end, results; empty for runs of versions that did not keep them."""
        path = self.path / FACTS_FILE
        if not path.is_file():
            return {}
        with _undamaged(path):
            facts = json.loads(path.read_text())
            _check_facts(facts)
        return facts

    @property
    def task(self) -> str:
        """`"classification"` or `"segmentation"`."""
        return self.facts.get("task", SEGMENTATION if _SEGMENTATION_FLAG in self.flags else CLASSIFICATION)

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the outputs; empty for runs that did not keep them."""
        return tuple(self.facts.get("class_names", ()))

    @property
    def protocol(self) -> ClassificationProtocol | SegmentationProtocol | None:
        """What the network sees of each test image in the report; None for runs that did not keep it."""
        kept: dict[str, Any] = dict(self.facts.get("protocol", {}))
        if not kept:
            return None
        kept = {name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()}
        with _undamaged(self.path / FACTS_FILE):
            return SegmentationProtocol(**kept) if self.task == SEGMENTATION else ClassificationProtocol(**kept)

    @property
    def is_finished(self) -> bool:
        return (self.path / REPORT_FILE).is_file()

    def metrics(self) -> list[dict[str, float]]:
        """The rows of its epochs; none before the first is over."""
        path = self.path / METRICS_FILE
        if not path.is_file():
            return []
        with _undamaged(path), path.open(newline="") as file:
            return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]

    def results(self) -> list[tuple[str, str]]:
        """The report's table of results, (what, value); none before the report is written."""
        if "results" in self.facts:
            return [(what, value) for what, value in self.facts["results"]]
        return self._reported_results() if self.is_finished else []

    def _reported_results(self) -> list[tuple[str, str]]:
        """The first table of the report, for runs that kept their results nowhere else."""
        table = []
        with _undamaged(self.path / REPORT_FILE):
            for line in (self.path / REPORT_FILE).read_text().splitlines():
                if line.startswith("|"):
                    table.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
                elif table:
                    break
            return [(what, value) for what, value in table[2:]]

    def final_network(self) -> pathlib.Path:
        """The file of the network after the last step.

        Raises:
            InputError: if the run has not come to its end.
        """
        path = self.path / FINAL_FILE
        if not path.is_file():
            raise InputError(f"{str(self.path)!r} holds no final network yet: the run goes on with its own command and --resume")
        return path

    @property
    def best_network(self) -> pathlib.Path | None:
        """The file of the network with the best score so far."""
        path = self.path / BEST_FILE
        return path if path.is_file() else None

    def keep_results(self, results: Sequence[tuple[str, str]]) -> None:
        """Adds the report's results to the facts."""
        _write_json(self.path / FACTS_FILE, {**self.facts, "results": [list(row) for row in results]})

    def write_report(self, text: str) -> pathlib.Path:
        """Writes the report, which ends a run; returns its path."""
        with replacing(self.path / REPORT_FILE) as temporary:
            temporary.write_text(text)
        return self.path / REPORT_FILE


def may_start(config: Config) -> tuple[Config, bool]:
    """What may be done with a configuration's directory.

    Args:
        config: the run's settings.

    Returns:
        The configuration to go on with, and whether the run is finished already. A resumed run keeps what it did before an option was
        there, unless that option is given.

    Raises:
        InputError: for an existing directory that is not to be touched, or a run of other options.
    """
    path = pathlib.Path(config.output_dir)
    if is_absent(path):
        return config, False
    if not (config.overwrite or config.resume):
        raise InputError(f"{path} exists: --resume goes on with that run, --overwrite replaces it, --output_dir names another")
    run = Run.at(path)
    if run is None:
        raise InputError(f"{path} exists and is not a run directory (no {FLAGS_FILE}): choose another --output_dir")
    if config.overwrite:
        return config, False
    return _as_before(config, run), run.is_finished


def _as_before(config: Config, run: Run) -> Config:
    known = options_of(config)
    defaults = defaults_of(config)
    lines, kept, changed = flag_lines(config), {}, []
    for name, line in lines.items():
        if name in run.flags:
            differs = line != f"--{name}={run.flags[name]}"
        else:
            then = defaults[name] if known[name].then is None else known[name].then
            is_said = getattr(config, name) != defaults[name]
            differs = is_said and line != flag_line(name, then)
            kept[name] = getattr(config, name) if is_said else then
        changed += [line] if differs else []
    if changed:
        raise InputError(f"{run.path} was started with other flags; --resume needs the same. Different now: {' '.join(changed)}")
    return dataclasses.replace(config, **kept)


def prepare(config: RunSettings, facts: Mapping[str, Any]) -> Run:
    """Makes the directory of a run, with its flags, versions and facts, and without what an earlier run left if that is to be replaced.

    Args:
        config: the run's settings.
        facts: see `Run.facts`.
    """
    path = pathlib.Path(config.output_dir)
    if config.overwrite and path.exists():
        remove(path)
    path.mkdir(parents=True, exist_ok=True)
    # First of all, because it makes the directory one that can be resumed.
    if not (path / FLAGS_FILE).is_file():
        with replacing(path / FLAGS_FILE) as temporary:
            temporary.write_text("\n".join(flag_lines(config).values()) + "\n")
    _write_json(path / FACTS_FILE, facts)
    _write_json(path / VERSIONS_FILE, versions())
    return Run(path)


def versions() -> dict[str, str]:
    """Package -> version, of Python, this package and what it computes with."""
    found = {"python": platform.python_version(), "keras_widerresnet": importlib.metadata.version("keras_widerresnet")}
    for name in (*TENSORFLOWS, *PACKAGES):
        try:
            found[name.removesuffix("-cpu")] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def forget_later_epochs(run: Run, epochs_done: int, score: str) -> float:
    """Removes rows of epochs that a killed run logged but did not checkpoint; returns the best validation score of the rest."""
    path = run.path / METRICS_FILE
    if not path.exists() or not epochs_done:
        path.unlink(missing_ok=True)
        return -1.0
    with _undamaged(path), path.open(newline="") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or ()
        # The rows that were there at the checkpoint; one after them may have been cut short.
        rows = [row for row in itertools.islice(reader, epochs_done) if int(row["epoch"]) < epochs_done]
        best = max((float(row[f"val_{score}"]) for row in rows), default=-1.0)
    if not rows:
        path.unlink()
        return best
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return best


@contextlib.contextmanager
def _undamaged(path: pathlib.Path) -> Iterator[None]:
    """Turns what reading a file that was changed by hand raises into an `InputError` that names it."""
    try:
        yield
    except (ValueError, TypeError, RecursionError, csv.Error) as error:
        raise InputError(f"{str(path)!r} is damaged: {error}") from None


def _check_facts(facts: Any) -> None:
    """Raises `TypeError` for what is not the form of a run's facts."""
    if not isinstance(facts, dict):
        raise TypeError("it holds no JSON object")
    names, results = facts.get("class_names", []), facts.get("results", [])
    forms = {
        "task": facts.get("task", CLASSIFICATION) in (CLASSIFICATION, SEGMENTATION),
        "class_names": isinstance(names, list) and all(isinstance(name, str) for name in names),
        "protocol": isinstance(facts.get("protocol", {}), dict),
        "results": isinstance(results, list) and all(isinstance(row, list) and len(row) == 2 for row in results),
    }
    for key, is_right in forms.items():
        if not is_right:
            raise TypeError(f"its {key} is {facts[key]!r}")


def _write_json(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
