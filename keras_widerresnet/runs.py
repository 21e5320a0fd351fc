"""Reading and writing of run directories, whose file names are all defined here. Does not need TensorFlow."""

from __future__ import annotations

import csv
import dataclasses
import functools
import importlib.metadata
import io
import itertools
import json
import math
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

from keras_widerresnet.errors import InputError
from keras_widerresnet.files import is_absent, remove, replacing
from keras_widerresnet.options import defaults_of, flag_line, flag_lines, options_of
from keras_widerresnet.protocols import ClassificationProtocol, SegmentationProtocol
from keras_widerresnet.structures import Structure, find_structure

# Files and folders of every run.
FLAGS_FILE, VERSIONS_FILE, FACTS_FILE, METRICS_FILE = "flags.txt", "versions.json", "run.json", "metrics.csv"
CHECKPOINTS_FOLDER, TENSORBOARD_FOLDER = "checkpoints", "tensorboard"
BEST_FILE, FINAL_FILE, REPORT_FILE = "best.keras", "final.keras", "report.md"
# Tables and pictures beside a report, whether of a run, an evaluation or an analysis.
RESULTS_FILE, PER_CLASS_FILE, PREDICTIONS_FILE, PREDICTIONS_FOLDER = "results.json", "per_class.csv", "predictions.csv", "predictions"
CURVES_FILE, CONFUSION_FILE, MISTAKES_FILE = "curves.png", "confusion_matrix.png", "worst_mistakes.png"
OVERLAYS_FILE, CLASS_IOU_FILE = "overlays.png", "class_iou.png"
CLASSIFICATION_EVALUATION = {RESULTS_FILE, REPORT_FILE, PER_CLASS_FILE, PREDICTIONS_FILE}
SEGMENTATION_EVALUATION = {RESULTS_FILE, REPORT_FILE, PER_CLASS_FILE, OVERLAYS_FILE, CLASS_IOU_FILE}

# For reports: Keras finds the layers and the optimizer of this package only where it is imported.
HOW_TO_LOAD = f"""The network after the last epoch is [{FINAL_FILE}]({FINAL_FILE}), that of the best epoch
[{BEST_FILE}]({BEST_FILE}). Import this package before Keras loads them, as it registers their layers and optimizer:

```python
import keras
import keras_widerresnet

model = keras.models.load_model("{FINAL_FILE}")
```"""

CLASSIFICATION, SEGMENTATION = "classification", "segmentation"
PACKAGES = ("keras", "numpy", "tensorflow-datasets", "scikit-learn", "matplotlib")
TENSORFLOWS = ("tensorflow", "tensorflow-cpu")
_SEGMENTATION_FLAG = "classifier_convs"  # identifies segmentation runs that do not have a facts file


class RunSettings(Protocol):
    """The options of a run's configuration, such as `training.config.RunConfig`, that concern its directory."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @property
    def output_dir(self) -> str:
        """The run directory."""

    @property
    def overwrite(self) -> bool:
        """Whether to replace an existing run."""

    @property
    def resume(self) -> bool:
        """Whether to continue an existing run."""


Config = TypeVar("Config", bound=RunSettings)


@dataclasses.dataclass(frozen=True)
class Run:
    """An existing run directory.

    Args:
        path: the directory.
    """

    path: pathlib.Path

    @classmethod
    def at(cls, path: str | pathlib.Path) -> Run | None:
        """Returns the run at `path`, or None if that is not a run directory."""
        path = pathlib.Path(path)
        return cls(path) if os.path.isfile(path / FLAGS_FILE) else None  # also False for invalid file names

    @classmethod
    def finished(cls, path: str | pathlib.Path) -> Run:
        """Returns the finished run at `path`.

        Raises:
            InputError: if `path` is not a run directory, or its run is not finished.
        """
        run = cls.at(path)
        if run is None or not run.is_finished:
            raise InputError(f"{str(path)!r} is not the directory of a finished run (no {REPORT_FILE if run else FLAGS_FILE})")
        return run

    @functools.cached_property
    def flags(self) -> dict[str, str]:
        """Name -> value, as written in the flag file, of every option that the run depends on."""
        path = self.path / FLAGS_FILE
        flags = {}
        for number, line in enumerate(_text(path).splitlines(), 1):
            if not line.strip() or line.startswith(("#", "//")):  # comments, as in every flag file
                continue
            name, equals, value = line.removeprefix("--").partition("=")
            if not line.startswith("--") or not equals:
                raise _damaged(path, f"line {number} must be --name=value. Received: {line[:80]!r}")
            flags[name] = value
        return flags

    @property
    def flags_text(self) -> str:
        """The text of the run's flag file."""
        return _text(self.path / FLAGS_FILE).strip()

    def flag(self, name: str) -> str:
        """Returns the value of an option as written in the flag file.

        Raises:
            InputError: if the flag file does not contain it.
        """
        if name not in self.flags:
            raise _damaged(self.path / FLAGS_FILE, f"it has no line --{name}=…")
        return self.flags[name]

    def number(self, name: str, default: float | None = None) -> float:
        """Returns the value of a numeric option.

        Args:
            name: the option.
            default: value if the flag file does not contain the option; None if the option is required.

        Raises:
            InputError: if the option is missing or its value is not finite.
        """
        text = str(default) if default is not None and name not in self.flags else self.flag(name)
        value = _finite(text)
        if value is None:
            raise _damaged(self.path / FLAGS_FILE, f"--{name} must be a finite number. Received: {text!r}")
        return value

    @property
    def structure(self) -> Structure:
        """The network's structure, with the chosen way of downsampling.

        Raises:
            InputError: if the flag file does not specify it.
        """
        name = self.flag("structure")
        try:
            return find_structure(name).halved_by(self.flags.get("downsampling", ""))
        except InputError as error:
            raise _damaged(self.path / FLAGS_FILE, error) from None

    @functools.cached_property
    def facts(self) -> dict[str, Any]:
        """Task, class names, image counts, protocol and, once finished, results; empty for runs of versions that did not store them."""
        path = self.path / FACTS_FILE
        if not path.is_file():
            return {}
        text = _text(path)
        try:
            facts = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _damaged(path, error) from None
        if not isinstance(facts, dict):
            raise _damaged(path, "it does not contain a JSON object")
        expected = {
            "task": (lambda value: value in (CLASSIFICATION, SEGMENTATION), f"{CLASSIFICATION!r} or {SEGMENTATION!r}"),
            "class_names": (_is_texts, "a list of strings"),
            "protocol": (lambda value: isinstance(value, dict), "an object"),
            "results": (
                lambda value: isinstance(value, list) and all(_is_texts(row) and len(row) == 2 for row in value),
                "pairs of strings",
            ),
        }
        for name, (is_right, what) in expected.items():
            if name in facts and not is_right(facts[name]):
                raise _damaged(path, f"{name!r} must be {what}. Received: {str(facts[name])[:80]!r}")
        return facts

    @property
    def task(self) -> str:
        """`"classification"` or `"segmentation"`."""
        return self.facts.get("task", SEGMENTATION if _SEGMENTATION_FLAG in self.flags else CLASSIFICATION)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of the network's outputs; empty for runs that did not store them."""
        return tuple(self.facts.get("class_names", ()))

    @property
    def protocol(self) -> ClassificationProtocol | SegmentationProtocol | None:
        """How test images were preprocessed for the report; None for runs that did not store it."""
        kept: dict[str, Any] = dict(self.facts.get("protocol", {}))
        if not kept:
            return None
        kept = {name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()}
        try:
            return SegmentationProtocol(**kept) if self.task == SEGMENTATION else ClassificationProtocol(**kept)
        except (TypeError, ValueError) as error:
            raise _damaged(self.path / FACTS_FILE, f"'protocol' is not a {self.task} protocol: {error}") from None

    @property
    def is_finished(self) -> bool:
        return (self.path / REPORT_FILE).is_file()

    def metrics(self, most: int | None = None) -> list[dict[str, float]]:
        """Returns one row for each completed epoch, or for the first `most` of them.

        Raises:
            InputError: if the file is damaged; the message names the first line that is not numeric.
        """
        return [{key: float(value) for key, value in row.items()} for row in self._metrics_table(most)[1]]

    def scores(self, name: str, most: int | None = None) -> list[float]:
        """Returns one column of `metrics`, e.g. `"val_accuracy"`.

        Raises:
            InputError: if the column is missing, or one of its values is not finite.
        """
        path, rows = self.path / METRICS_FILE, self.metrics(most)
        for number, row in enumerate(rows, 2):
            if name not in row:
                raise _damaged(path, f"it has no column {name!r}; its columns are {', '.join(row)}")
            if not math.isfinite(row[name]):
                raise _damaged(path, f"{name} in line {number} is {row[name]}")
        return [row[name] for row in rows]

    def _metrics_table(self, most: int | None) -> tuple[Sequence[str], list[dict[str, str]]]:
        """Returns the column names, and the rows as strings, one number for each column."""
        path = self.path / METRICS_FILE
        if not path.is_file():
            return (), []
        reader = csv.DictReader(io.StringIO(_text(path), newline=""))
        try:
            rows = list(itertools.islice(reader, most))
        except csv.Error as error:
            raise _damaged(path, error) from None
        names = tuple(reader.fieldnames or ())
        if not names:
            raise _damaged(path, "it is empty")
        if len(set(names)) < len(names):
            raise _damaged(path, f"a column name is repeated: {', '.join(names)}")
        for number, row in enumerate(rows, 2):
            wrong = [value for value in row.values() if not isinstance(value, str) or not _is_number(value)]
            if wrong or None in row:
                raise _damaged(path, f"line {number} must have one number for each of {', '.join(names)}")
        return names, rows

    def results(self) -> list[tuple[str, str]]:
        """Returns the report's table of results as (name, value) pairs; empty before the report is written."""
        if "results" in self.facts:
            return [(what, value) for what, value in self.facts["results"]]
        return self._reported_results() if self.is_finished else []

    def _reported_results(self) -> list[tuple[str, str]]:
        """Returns the first table of the report, for runs that did not store their results elsewhere."""
        table = []
        for line in _text(self.path / REPORT_FILE).splitlines():
            if line.startswith("|"):
                table.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
            elif table:
                break
        return [(row[0], row[1]) for row in table[2:] if len(row) == 2]

    def check_task(self, task: str, why: str) -> None:
        """Raises `InputError` for a run of another task; `why` states which runs the command accepts."""
        if self.task != task:
            raise InputError(f"{str(self.path)!r} is a {self.task} run; {why}")

    def final_network(self) -> pathlib.Path:
        """Returns the path of the network after the last step.

        Raises:
            InputError: if training has not finished.
        """
        path = self.path / FINAL_FILE
        if not path.is_file():
            if self.is_finished:
                raise InputError(f"{str(self.path)!r} is a finished run without its {FINAL_FILE}")
            raise InputError(f"{str(self.path)!r} has no final network yet: continue the run with its original command and --resume")
        return path

    @property
    def best_network(self) -> pathlib.Path | None:
        """Path of the network with the best score so far; None if there is none yet."""
        path = self.path / BEST_FILE
        return path if path.is_file() else None

    def keep_results(self, results: Sequence[tuple[str, str]]) -> None:
        """Adds the report's results to the facts."""
        _write_json(self.path / FACTS_FILE, {**self.facts, "results": [list(row) for row in results]})

    def write_report(self, text: str) -> pathlib.Path:
        """Writes the report, which marks the run as finished, and returns its path."""
        with replacing(self.path / REPORT_FILE) as temporary:
            temporary.write_text(text)
        return self.path / REPORT_FILE


def may_start(config: Config) -> tuple[Config, bool]:
    """Checks whether a run may start in, or continue in, its configuration's directory.

    Args:
        config: the run's settings.

    Returns:
        The configuration to use, and whether the run is already finished. For options that are newer than a resumed run, the configuration
        keeps the run's former behaviour unless the option is given.

    Raises:
        InputError: if the directory exists and must not be changed, or its run has different options.
    """
    path = pathlib.Path(config.output_dir)
    if is_absent(path):
        return config, False
    if not (config.overwrite or config.resume):
        raise InputError(f"{path} exists: --resume continues that run, --overwrite replaces it, --output_dir chooses another directory")
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
        raise InputError(f"{run.path} was started with different flags; --resume needs the same ones. Changed: {' '.join(changed)}")
    return dataclasses.replace(config, **kept)


def prepare(config: RunSettings, facts: Mapping[str, Any]) -> Run:
    """Creates a run's directory with its flags, versions and facts; an earlier run is removed first if it is to be replaced.

    Args:
        config: the run's settings.
        facts: see `Run.facts`.
    """
    path = pathlib.Path(config.output_dir)
    if config.overwrite and path.exists():
        remove(path)
    path.mkdir(parents=True, exist_ok=True)
    # Written first, because a directory with this file can be resumed.
    if not (path / FLAGS_FILE).is_file():
        with replacing(path / FLAGS_FILE) as temporary:
            temporary.write_text("\n".join(flag_lines(config).values()) + "\n")
    _write_json(path / FACTS_FILE, facts)
    _write_json(path / VERSIONS_FILE, versions())
    return Run(path)


def versions() -> dict[str, str]:
    """Returns package -> version, for Python, this package and its numerical dependencies."""
    found = {"python": platform.python_version(), "keras_widerresnet": importlib.metadata.version("keras_widerresnet")}
    for name in (*TENSORFLOWS, *PACKAGES):
        try:
            found[name.removesuffix("-cpu")] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def forget_later_epochs(run: Run, epochs_done: int, score: str) -> float:
    """Removes rows of epochs that a killed run logged but did not checkpoint; returns the best validation score of the rest.

    Raises:
        InputError: if the file is damaged, or does not have one row for each completed epoch.
    """
    path = run.path / METRICS_FILE
    if not path.exists() or not epochs_done:
        path.unlink(missing_ok=True)
        return -1.0
    # Only the rows up to the checkpoint: a later one may be truncated.
    names, rows = run._metrics_table(epochs_done)
    if rows and "epoch" not in names:
        raise _damaged(path, f"it has no column 'epoch'; its columns are {', '.join(names)}")
    if len(rows) != epochs_done or any(float(row["epoch"]) >= epochs_done for row in rows):
        raise _damaged(path, f"it must have one row for each of the {epochs_done} completed epochs; --overwrite starts from scratch")
    scores = run.scores(f"val_{score}", epochs_done)
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    return max(scores)


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from None


def _damaged(path: str | pathlib.Path, why: object) -> InputError:
    return InputError(f"{str(path)!r} is damaged: {why}")


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _finite(text: str) -> float | None:
    return float(text) if _is_number(text) and math.isfinite(float(text)) else None


def _write_json(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
