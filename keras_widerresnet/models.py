"""Resolves what a user names as a model (pretrained name, run, file or SavedModel) and collects what is known before loading it."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import typing

from keras_widerresnet.colors import BACKGROUND
from keras_widerresnet.errors import InputError, first_line
from keras_widerresnet.imagenet import imagenet_classes
from keras_widerresnet.label_maps import LABEL_MAPS
from keras_widerresnet.options import MODEL, did_you_mean, option
from keras_widerresnet.protocols import ClassificationProtocol, SegmentationProtocol
from keras_widerresnet.runs import CLASSIFICATION, SEGMENTATION, Run
from keras_widerresnet.structures import POOL_PADDINGS, Structure, find_structure, same_network
from keras_widerresnet.texts import read_lines
from keras_widerresnet.weights.first_bytes import is_original
from keras_widerresnet.weights.hubs import local_weights
from keras_widerresnet.weights.keras_file import is_keras_archive, kept_class_names, model_config
from keras_widerresnet.weights.registry import PRETRAINED, Pretrained, imagenet_record

if typing.TYPE_CHECKING:
    from keras_widerresnet.weights.original import Original

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
PSA_OUTPUT_STRIDE = 8
GRAPH_FILE, LABELS_FILE = "saved_model.pb", "assets/labels.txt"
_WEIGHTS_SUFFIX, _SIDECAR_SUFFIX = ".weights.h5", ".weights.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How to build a network and preprocess its input, where its weights do not specify it."""

    model: str = option(
        "",
        help="A, A1, A2 ... or a structure, for files that do not specify it; empty for that of the weights, or A for imagenet",
        group=MODEL,
    )
    width: float = option(0.0, help="factor for the channels of all stages; 0 for that of the weights if known, or 1", group=MODEL, least=0)
    pool_padding: str = option(
        "",
        help="padding of the max pools; empty for that of the published protocol or the weights if known, or ceil",
        group=MODEL,
        choices=("", *POOL_PADDINGS),
    )
    preprocessing: str = option(
        "",
        help="preprocessing of RGB values 0..255 before a saved model: release (normalised as in the official release) or none (the model "
        "does it itself); empty for release, but required if the model has its own layers before its first convolution",
        group=MODEL,
        choices=("", *PREPROCESSINGS),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelOptions(BuildOptions):
    """Which network to use: the options of every command that accepts a model."""

    weights: str = option(
        help="a pretrained name, a run directory, a .keras or .weights.h5 file, an original checkpoint, a SavedModel version, or one of "
        "these files on a hub: hf://USER/NAME or kaggle://USER/MODEL/FRAMEWORK/VARIATION",
        group=MODEL,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmenterOptions(ModelOptions):
    """Which segmentation network to use."""

    output_stride: int = option(
        8, help="output stride of a segmentation network built from a name or weights file", group=MODEL, choices=(8, 16, 32)
    )


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known about a network besides its weights; the sidecar `NAME.weights.json` of a converted file stores the same.

    Args:
        structure: name or notation; empty if unknown.
        width: factor for the channels; None if unknown.
        pool_padding: padding of the max pools; empty if unknown, or if the choice is left to the user.
        activation: `"relu"` or `"leaky_relu"`.
        task: `"classification"` or `"segmentation"`; empty if only the loaded network shows it.
        classes: number of classes; None for features only, or if unknown.
        classifier_convs: number of convolutions in the segmentation head.
        class_names: names in order; empty if unknown.
        classifier_activation: activation of a classifier's outputs.
        classifier_stride: output stride of a classification network; None for the structure's own.
        crop_size: side of the images on which it was trained; 0 for the structure's own, or if unknown.
    """

    structure: str = ""
    width: float | None = None
    pool_padding: str = ""
    activation: str = "relu"
    task: str = ""
    classes: int | None = None
    classifier_convs: int = 0
    class_names: tuple[str, ...] = ()
    classifier_activation: str = "softmax"
    classifier_stride: int | None = None
    crop_size: int = 0

    def save(self, path: pathlib.Path) -> None:
        """Writes the sidecar of a `.weights.h5` file to `path`, its final or a temporary name."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")


@dataclasses.dataclass(frozen=True)
class Source:
    """The source of a network, and all that is known about the network before it is loaded.

    Args:
        text: the text with which the user named it.
        kind: one of `KINDS`.
        path: path of the file, or of the folder of a SavedModel; None for a pretrained name.
        facts: what is known about the network.
        record: the record of its published weights; None for any others.
        run: the run that trained it, if any.
    """

    text: str
    kind: str
    path: pathlib.Path | None
    facts: Facts
    record: Pretrained | None = None
    run: Run | None = None

    @property
    def protocol(self) -> ClassificationProtocol | SegmentationProtocol | None:
        """The protocol with which the network was tested by its publishers, or in the run named by the user; None if unknown."""
        if self.record:
            return self.record.protocol
        return self.run.protocol if self.run and self.kind == RUN else None

    @property
    def structure(self) -> Structure | None:
        return find_structure(self.facts.structure) if self.facts.structure else None

    @property
    def crop_size(self) -> int:
        """Side of the images on which the network was trained or, if that is unknown, its structure's; 0 if both are unknown."""
        return self.facts.crop_size or (self.structure.crop_size if self.structure else 0)

    def check_is_no_saved_model(self, why: str = "which this command does not accept") -> None:
        """Raises `InputError` for a SavedModel, whose graph is frozen; `why` is the reason to state in the message."""
        if self.kind == SAVED_MODEL:
            raise InputError(f"{self.text!r} is a {self.kind}, {why}: use the run, .keras or .weights.h5 file from which it was exported")

    def pool_padding(self, chosen: str = "") -> str:
        """Returns the convention for a network built here: the chosen one, that of the weights or their protocol, or the paper's."""
        return chosen or self.facts.pool_padding or "ceil"

    def width(self, chosen: float = 0.0) -> float:
        """Returns the width for a network built here: the chosen one, that of the weights, or 1."""
        return chosen or self.facts.width or 1.0


def find_source(weights: str, model: str = "") -> Source:
    """Returns the source that `weights` names.

    Args:
        weights: a pretrained name, a run directory (its final network), a `.keras` file, a `.weights.h5` file, an original checkpoint,
            the folder of a SavedModel version (or of several versions, of which the latest is used), or a place on a hub (see
            `weights.hubs.local_weights`), from which it is downloaded.
        model: the structure, if the weights do not specify it or it differs from theirs.

    Raises:
        InputError: if nothing has that name (the message suggests the closest one), or it does not contain a network.
    """
    if weights == IMAGENET or weights in PRETRAINED:
        return _pretrained(weights, model)
    path = pathlib.Path(os.path.expanduser(local_weights(weights)))
    try:
        is_there = bool(weights) and path.exists()
    except (OSError, ValueError) as error:  # an invalid file name, or a folder without read permission
        raise InputError(f"No model can be read at {weights!r}: {first_line(error)}") from None
    if not is_there:
        raise InputError(f"No model found at {weights!r}. {what_a_model_is()}{did_you_mean(weights, (IMAGENET, *PRETRAINED))}")
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
        raise InputError(f"{weights!r} is not a model: it is not in a known format. {what_a_model_is()}")
    if is_keras_archive(path):
        raise InputError(f"{weights!r} is a model saved by Keras: its name must end in .keras")
    if path.suffix in (".h5", ".hdf5") and model_config(path):
        return Source(weights, KERAS_FILE, path, _of_structure(_facts_of_run(run) if run else Facts(), model), run=run)
    return Source(weights, ORIGINAL_FILE, path, Facts(structure=model))


def check_beside(weights: str | pathlib.Path, structure: Structure, activation: str) -> None:
    """Raises `InputError` if the sidecar of a `.weights.h5` file specifies another network, even one with the same shapes."""
    path = pathlib.Path(local_weights(str(weights)))
    facts = _read_sidecar(path) if path.name.endswith(_WEIGHTS_SUFFIX) and path.is_file() else Facts()
    if facts.structure and not same_network(facts.structure, structure):
        raise InputError(
            f"{str(weights)!r} belongs to {facts.structure} according to {sidecar(path).name}; networks with the same shapes may still "
            f"halve the resolution differently. Received: {structure.name or structure}"
        )
    if facts.activation != Facts.activation and facts.activation != activation:
        raise InputError(f"{str(weights)!r} needs activation={facts.activation!r}, see {sidecar(path).name}. Received: {activation!r}")


def what_a_model_is() -> str:
    """Returns a sentence that lists the kinds of models."""
    return (
        "A model is a run directory, a .keras file, a .weights.h5 file, an original checkpoint, a SavedModel version, "
        f"a place on a hub (hf://USER/NAME, kaggle://…), or one of {', '.join((IMAGENET, *PRETRAINED))}"
    )


def sidecar(weights: pathlib.Path) -> pathlib.Path:
    """Returns the path of the file that describes the network of a `.weights.h5` file."""
    return weights.with_name(weights.name.removesuffix(_WEIGHTS_SUFFIX) + _SIDECAR_SUFFIX)


def _pretrained(name: str, model: str) -> Source:
    structure = find_structure(model or DEFAULT_MODEL)
    record = imagenet_record(structure) if name == IMAGENET else PRETRAINED[name]
    facts = Facts(
        structure=model or record.structure,
        width=record.width,
        crop_size=record.crop_size,
        pool_padding=record.pool_padding or record.tested_pool_padding,
        activation=record.activation,
        task=SEGMENTATION if record.classifier_convs else CLASSIFICATION,
        classes=record.classes,
        classifier_convs=record.classifier_convs,
        class_names=_published_class_names(record),
        classifier_activation=record.classifier_activation,
        classifier_stride=record.output_stride,
    )
    return Source(name, PRETRAINED_NAME, None, facts, record=record)


def _published_class_names(record: Pretrained) -> tuple[str, ...]:
    if record.class_names:
        return record.class_names
    if record.classes == len(imagenet_classes()):
        return tuple(name for _, name in imagenet_classes())
    benchmark = record.name.split("-")[0]
    return _benchmark_class_names(benchmark, record.classes)


def _benchmark_class_names(benchmark: str, classes: int | None) -> tuple[str, ...]:
    """Returns the class names of a benchmark, with or without its background; nothing for another number of classes."""
    labels = LABEL_MAPS.get(benchmark)
    choices = (labels.class_names, labels.class_names[labels.class_names[0] == BACKGROUND :]) if labels else ()
    return next((names for names in choices if len(names) == classes), ())


def facts_of_original(original: Original, structure: str, width: float | None = None) -> Facts:
    """Returns what an original checkpoint tells about its network.

    Args:
        original: the checkpoint.
        structure: name or notation; empty if neither can express it.
        width: factor for the channels; None if unknown.
    """
    task = SEGMENTATION if original.classifier_convs else CLASSIFICATION
    return Facts(
        structure=structure,
        width=width,
        pool_padding=original.needed_pool_padding,
        activation=original.activation or "relu",
        task=task if original.classes else "",
        classes=original.classes,
        classifier_convs=original.classifier_convs,
        class_names=_benchmark_class_names("voc", original.classes) if original.is_psa_classifier else (),
        classifier_activation="sigmoid" if original.is_psa_classifier else Facts.classifier_activation,
        classifier_stride=PSA_OUTPUT_STRIDE if original.is_psa_classifier else None,
    )


def _of_structure(facts: Facts, model: str) -> Facts:
    """Returns the same facts, with the chosen structure if there is one."""
    return dataclasses.replace(facts, structure=model) if model else facts


def _facts_of_run(run: Run) -> Facts:
    # A structure whose halvings were chosen by a flag has no name.
    structure = "" if run.flags.get("downsampling") else run.flags.get("structure", "")
    if structure:
        structure = run.structure.name or str(run.structure)
    return Facts(
        structure=structure,
        width=run.number("width", 1),
        crop_size=int(run.number("crop_size", 0)),
        pool_padding=run.flags.get("pool_padding", ""),
        task=run.task,
        classes=len(run.class_names) or None,
        classifier_convs=int(run.number("classifier_convs", 0)),
        class_names=run.class_names,
    )


def _saved_model(weights: str, path: pathlib.Path, model: str) -> Source:
    versions = [entry for entry in path.iterdir() if entry.name.isdecimal() and (entry / GRAPH_FILE).is_file()]
    if not (path / GRAPH_FILE).is_file() and not versions:
        raise InputError(f"{weights!r} is a folder, but neither a run directory nor a SavedModel. {what_a_model_is()}")
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
        if not isinstance(facts.crop_size, int) or facts.crop_size < 0:
            raise TypeError(f"crop_size is {facts.crop_size!r}")
        return facts
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{str(path)!r} is not a valid description of the network of {weights.name}: {first_line(error)}") from None
