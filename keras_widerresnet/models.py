"""What people call a model: a pretrained name, a run, a file, a SavedModel; what is known of each before it is loaded."""

from __future__ import annotations

import dataclasses
import json
import pathlib

from keras_widerresnet.errors import InputError, first_line
from keras_widerresnet.imagenet import imagenet_classes
from keras_widerresnet.label_maps import LABEL_MAPS
from keras_widerresnet.options import MODEL, did_you_mean, option
from keras_widerresnet.protocols import ClassificationProtocol, SegmentationProtocol
from keras_widerresnet.runs import CLASSIFICATION, SEGMENTATION, Run
from keras_widerresnet.structures import POOL_PADDINGS, Structure, find_structure, same_network
from keras_widerresnet.texts import read_lines
from keras_widerresnet.weights.first_bytes import is_original
from keras_widerresnet.weights.keras_file import is_keras_archive, kept_class_names, model_config
from keras_widerresnet.weights.registry import PRETRAINED, Pretrained, imagenet_record

PRETRAINED_NAME, RUN, KERAS_FILE, WEIGHTS_FILE, SAVED_MODEL, ORIGINAL_FILE = KINDS = (
    "pretrained name",
    "run directory",
    ".keras file",
    ".weights.h5 file",
    "SavedModel version",
    "original file",
)
PREPROCESSINGS = RELEASE_PREPROCESSING, NO_PREPROCESSING = "release", "none"
DEFAULT_MODEL = "A"
IMAGENET = "imagenet"
GRAPH_FILE, LABELS_FILE = "saved_model.pb", "assets/labels.txt"
_WEIGHTS_SUFFIX, _SIDECAR_SUFFIX = ".weights.h5", ".weights.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How a network is built, and what it takes, where its weights do not tell it."""

    model: str = option(
        "",
        help="A, A1, A2 ... or a structure, for files that do not tell it; empty for what the weights tell, and A for imagenet",
        group=MODEL,
    )
    width: float = option(0.0, help="factor for the channels of all stages; 0 for what the weights tell, or 1", group=MODEL, least=0)
    pool_padding: str = option(
        "",
        help="padding of the max pools; empty for the published protocol's, what the weights tell, or ceil",
        group=MODEL,
        choices=("", *POOL_PADDINGS),
    )
    preprocessing: str = option(
        "",
        help="what is done to RGB values 0..255 before a saved model sees them: release (normalised as the release does) or none (the "
        "model does it itself); empty for release, unless the model has layers of its own before its first convolution",
        group=MODEL,
        choices=("", *PREPROCESSINGS),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelOptions(BuildOptions):
    """Which network: the options of every command that takes a model."""

    weights: str = option(
        help="a pretrained name, a run directory, a .keras or .weights.h5 file, an original file, or a version of a SavedModel", group=MODEL
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmenterOptions(ModelOptions):
    """Which segmentation network."""

    output_stride: int = option(
        8, help="output stride of a segmentation network that is built from a name or a file of weights", group=MODEL, choices=(8, 16, 32)
    )


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a network beside its weights; the sidecar `NAME.weights.json` of a converted file holds the same.

    Args:
        structure: name or notation; empty where nothing tells.
        width: factor for the channels; None where nothing tells.
        pool_padding: of the max pools; empty where nothing tells, or where the choice is the user's.
        activation: `"relu"` or `"leaky_relu"`.
        task: `"classification"` or `"segmentation"`; empty where only the loaded network can tell.
        classes: number of classes; None for features alone, or where nothing tells.
        classifier_convs: convolutions of the segmentation head.
        class_names: in order; empty where nothing tells.
    """

    structure: str = ""
    width: float | None = None
    pool_padding: str = ""
    activation: str = "relu"
    task: str = ""
    classes: int | None = None
    classifier_convs: int = 0
    class_names: tuple[str, ...] = ()

    def save(self, path: pathlib.Path) -> None:
        """Writes the sidecar of a `.weights.h5` file, under its own name or a temporary one."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a network is to come from, and all that is known of it before it is loaded.

    Args:
        text: as it was given.
        kind: one of `KINDS`.
        path: the file, or the folder of a SavedModel; None for a pretrained name.
        facts: what is known of the network.
        record: the published weights that it holds; None for others.
        run: the run that trained it; None where there is none.
    """

    text: str
    kind: str
    path: pathlib.Path | None
    facts: Facts
    record: Pretrained | None = None
    run: Run | None = None

    @property
    def protocol(self) -> ClassificationProtocol | SegmentationProtocol | None:
        """How the network was tested by those who published it, or in the report of the run that is named; None where nothing tells."""
        if self.record:
            return self.record.protocol
        return self.run.protocol if self.run and self.kind == RUN else None

    @property
    def structure(self) -> Structure | None:
        return find_structure(self.facts.structure) if self.facts.structure else None

    def check_is_no_saved_model(self, why: str = "which this command does not take") -> None:
        """Raises `InputError` for a SavedModel, a frozen graph where a Keras model is wanted; `why` stands in the message."""
        if self.kind == SAVED_MODEL:
            raise InputError(f"{self.text!r} is a {self.kind}, {why}: give the run, .keras or .weights.h5 file that it was made of")

    def pool_padding(self, chosen: str = "") -> str:
        """The convention that a network built here has: the one chosen, that of the weights or their protocol, or the paper's."""
        return chosen or self.facts.pool_padding or "ceil"

    def width(self, chosen: float = 0.0) -> float:
        """The width that a network built here has: the one chosen, that of the weights, or 1."""
        return chosen or self.facts.width or 1.0


def find_source(weights: str, model: str = "") -> Source:
    """What `weights` means.

    Args:
        weights: a pretrained name, a run directory (its final network), a `.keras` file, a `.weights.h5` file, an original file, or the
            folder of a SavedModel version (of a folder of versions the last one).
        model: the structure, where it is not that of the weights or they do not tell it.

    Raises:
        InputError: if there is nothing of that name, with the nearest name, or it holds no network.
    """
    if weights == IMAGENET or weights in PRETRAINED:
        return _pretrained(weights, model)
    path = pathlib.Path(weights).expanduser()
    try:
        is_there = bool(weights) and path.exists()
    except (OSError, ValueError) as error:  # a name that no file can have, or a folder that may not be looked into
        raise InputError(f"No model can be read at {weights!r}: {first_line(error)}") from None
    if not is_there:
        raise InputError(f"Nothing at {weights!r}. {what_a_model_is()}{did_you_mean(weights, (IMAGENET, *PRETRAINED))}")
    if path.is_dir():
        run = Run.at(path)
        if run:
            return Source(weights, RUN, run.final_network(), _of_structure(_facts_of_run(run), model), run=run)
        return _saved_model(weights, path, model)
    run = Run.at(path.parent)
    if path.suffix == ".keras":
        facts = _facts_of_run(run) if run else Facts()
        if not facts.class_names:
            names = kept_class_names(path)
            facts = dataclasses.replace(facts, class_names=names, classes=facts.classes or len(names) or None)
        return Source(weights, KERAS_FILE, path, _of_structure(facts, model), run=run)
    if path.name.endswith(_WEIGHTS_SUFFIX):
        return Source(weights, WEIGHTS_FILE, path, _of_structure(_read_sidecar(path), model))
    try:
        is_known = path.is_file() and is_original(path)
    except OSError as error:
        raise InputError(f"No model can be read at {weights!r}: {error.strerror}") from None
    if not is_known:
        raise InputError(f"{weights!r} is no model: it begins like no weights file. {what_a_model_is()}")
    if is_keras_archive(path):
        raise InputError(f"{weights!r} is a model that Keras saved: its name must end in .keras")
    if path.suffix in (".h5", ".hdf5") and model_config(path):
        return Source(weights, KERAS_FILE, path, _of_structure(_facts_of_run(run) if run else Facts(), model), run=run)
    return Source(weights, ORIGINAL_FILE, path, Facts(structure=model))


def check_beside(weights: str | pathlib.Path, structure: Structure, activation: str) -> None:
    """Raises `InputError` if the sidecar of a `.weights.h5` file says that it is of another network, whose shapes may be the same."""
    path = pathlib.Path(weights)
    facts = _read_sidecar(path) if path.name.endswith(_WEIGHTS_SUFFIX) and path.is_file() else Facts()
    if facts.structure and not same_network(facts.structure, structure):
        raise InputError(
            f"{str(weights)!r} is of {facts.structure}, says {sidecar(path).name}, and fits the shapes, but not the halvings, of similar "
            f"networks. Received: {structure.name or structure}"
        )
    if facts.activation != Facts.activation and facts.activation != activation:
        raise InputError(f"{str(weights)!r} needs activation={facts.activation!r}, says {sidecar(path).name}. Received: {activation!r}")


def what_a_model_is() -> str:
    """The kinds of models in words."""
    return (
        "A model is a run directory, a .keras file, a .weights.h5 file, an original file, a SavedModel version, "
        f"or one of {', '.join((IMAGENET, *PRETRAINED))}"
    )


def sidecar(weights: pathlib.Path) -> pathlib.Path:
    """The file beside a `.weights.h5` file that says what network it is of."""
    return weights.with_name(weights.name.removesuffix(_WEIGHTS_SUFFIX) + _SIDECAR_SUFFIX)


def _pretrained(name: str, model: str) -> Source:
    structure = find_structure(model or DEFAULT_MODEL)
    record = imagenet_record(structure) if name == IMAGENET else PRETRAINED[name]
    facts = Facts(
        structure=model or record.structure,
        pool_padding=record.pool_padding or record.tested_pool_padding,
        activation=record.activation,
        task=SEGMENTATION if record.classifier_convs else CLASSIFICATION,
        classes=record.classes,
        classifier_convs=record.classifier_convs,
        class_names=_published_class_names(record),
    )
    return Source(name, PRETRAINED_NAME, None, facts, record=record)


def _published_class_names(record: Pretrained) -> tuple[str, ...]:
    if record.classes == len(imagenet_classes()):
        return tuple(name for _, name in imagenet_classes())
    benchmark = record.name.split("-")[0]
    labels = LABEL_MAPS.get(benchmark)
    return labels.class_names if labels and labels.classes == record.classes else ()


def _of_structure(facts: Facts, model: str) -> Facts:
    """The same facts, but of the structure that was chosen, if one was."""
    return dataclasses.replace(facts, structure=model) if model else facts


def _facts_of_run(run: Run) -> Facts:
    # A structure whose halvings were chosen by a flag has no name.
    structure = "" if run.flags.get("downsampling") else run.flags.get("structure", "")
    if structure:
        structure = run.structure.name or str(run.structure)
    return Facts(
        structure=structure,
        width=run.number("width", 1),
        pool_padding=run.flags.get("pool_padding", ""),
        task=run.task,
        classes=len(run.class_names) or None,
        classifier_convs=int(run.number("classifier_convs", 0)),
        class_names=run.class_names,
    )


def _saved_model(weights: str, path: pathlib.Path, model: str) -> Source:
    versions = [entry for entry in path.iterdir() if entry.name.isdecimal() and (entry / GRAPH_FILE).is_file()]
    if not (path / GRAPH_FILE).is_file() and not versions:
        raise InputError(f"{weights!r} is a folder, and neither a run directory nor a SavedModel. {what_a_model_is()}")
    version = path if (path / GRAPH_FILE).is_file() else max(versions, key=lambda entry: int(entry.name))
    labels = version / LABELS_FILE
    names = tuple(read_lines(labels, "list of labels")) if labels.is_file() else ()
    return Source(weights, SAVED_MODEL, version, Facts(structure=model, class_names=names, classes=len(names) or None))


def _read_sidecar(weights: pathlib.Path) -> Facts:
    path = sidecar(weights)
    if not path.is_file():
        return Facts()
    try:
        content = json.loads(path.read_text())
        facts = Facts(**{**content, "class_names": tuple(content.get("class_names", ()))})
        if facts.structure:
            find_structure(facts.structure)
        if not isinstance(facts.width, (int, float, type(None))):
            raise TypeError(f"width is {facts.width!r}")
        return facts
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{str(path)!r} does not say what network {weights.name} is of: {first_line(error)}") from None
