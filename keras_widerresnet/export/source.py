"""What there is to export: the Keras model that weights name, and all that is known about it."""

from __future__ import annotations

import dataclasses
import pathlib

import keras

from keras_widerresnet.data import load_data
from keras_widerresnet.data.segmentation import load_segmentation_data
from keras_widerresnet.errors import InputError
from keras_widerresnet.evaluation import segmentation_load
from keras_widerresnet.evaluation.load import DEFAULT_MODEL, classifier, load_keras_file
from keras_widerresnet.export.config import ExportConfig
from keras_widerresnet.label_maps import LABEL_MAPS
from keras_widerresnet.preprocessing import imagenet_classes
from keras_widerresnet.structures import Structure, find_structure
from keras_widerresnet.weights.find import find_record
from keras_widerresnet.weights.registry import PRETRAINED, Pretrained

FLAGS_FILE, MODEL_FILE = "flags.txt", "final.keras"
IMAGENET_CLASSES = 1000


@dataclasses.dataclass(frozen=True)
class Source:
    """A network to be exported.

    Args:
        model: from float images as `preprocess_input` makes them to probabilities (n, classes), or to logits (n, H / stride, W / stride,
            classes) where `stride` is not 0.
        class_names: in order.
        size: as in `ExportConfig`, after the model's own has been looked up.
        stride: the output stride of a segmentation network, 0 for classification.
        structure, width: what it is built as; None where nothing tells.
        record: the published weights that it holds; None for others.
        file: the file that holds the weights; None where a name was given.
        run_dir: the run that trained it; None where there is none.
    """

    model: keras.Model
    class_names: tuple[str, ...]
    size: int
    stride: int = 0
    structure: Structure | None = None
    width: float | None = None
    record: Pretrained | None = None
    file: pathlib.Path | None = None
    run_dir: pathlib.Path | None = None


def find_source(config: ExportConfig) -> Source:
    """Loads what an export's `weights` name.

    Raises:
        InputError: if there is nothing of that name, or no network of the wanted kind, or its classes have no names.
    """
    weights, run_dir = config.weights, _run_dir(config.weights)
    if run_dir and pathlib.Path(weights).is_dir():
        weights = str(run_dir / MODEL_FILE)
    flags = _flags(run_dir)
    model = config.model or flags.get("structure", "")
    network, stride = _network(weights, model, config)
    is_dense = stride > 0
    is_name = weights == "imagenet" or weights in PRETRAINED
    record = find_record(weights, find_structure(model or DEFAULT_MODEL)) if is_name else None
    structure = find_structure(model or record.structure) if model or record else None
    classes = network.output_shape[-1]
    if len(class_names := _class_names(config.class_names, record, flags, classes, is_dense)) != classes:
        raise InputError(f"The network has {classes} classes, and there are {len(class_names)} class names")
    own_size = network.input_shape[1]
    if config.size and not is_dense and own_size not in (None, config.size):
        raise InputError(f"{weights!r} takes images of {own_size} pixels only. Received: --size={config.size}")
    size = config.size if is_dense else config.size or own_size or (structure or find_structure(DEFAULT_MODEL)).crop_size
    width = float(flags["width"]) if "width" in flags else (config.width if structure else None)
    file = None if is_name else pathlib.Path(weights)
    return Source(network, class_names, size, stride, structure, width, record, file, run_dir)


def _run_dir(weights: str) -> pathlib.Path | None:
    """The run directory that `weights` is or lies in."""
    path = pathlib.Path(weights)
    return next((folder for folder in (path, path.parent) if (folder / FLAGS_FILE).is_file() and path.exists()), None)


def _flags(run_dir: pathlib.Path | None) -> dict[str, str]:
    lines = (run_dir / FLAGS_FILE).read_text().splitlines() if run_dir else ()
    return dict(line[2:].split("=", 1) for line in lines if line.startswith("--") and "=" in line)


def _network(weights: str, model: str, config: ExportConfig) -> tuple[keras.Model, int]:
    """The network and its output stride, 0 for classification."""
    options = {"pool_padding": config.pool_padding, "width": config.width}
    record = PRETRAINED.get(weights)
    network, task = None, config.task or ("segmentation" if record and record.classifier_convs else "")
    if weights.endswith(".keras"):
        network = _in_float32(load_keras_file(weights))
        task = task or ("segmentation" if len(network.output_shape) == 4 else "")
    if task == "segmentation":
        if network is None:
            network = segmentation_load.built_segmenter(weights, record, model, output_stride=config.output_stride, **options)
        network = segmentation_load.at_cells(network)
        return network, segmentation_load.stride_of(network, repr(weights))
    return _with_probabilities(weights, network or classifier(weights, model, **options)), 0


def _in_float32(network: keras.Model) -> keras.Model:
    """The network itself, or, where it was trained with activations of 16 bits, a copy that computes in float32."""
    if all(layer.compute_dtype == "float32" for layer in network.layers):
        return network
    copy = keras.models.clone_model(
        network, clone_function=lambda layer: type(layer).from_config(layer.get_config() | {"dtype": "float32"})
    )
    copy.set_weights(network.get_weights())
    return copy


def _with_probabilities(weights: str, network: keras.Model) -> keras.Model:
    taken, given = network.input_shape, network.output_shape
    if not isinstance(taken, tuple) or len(given) != 2 or len(taken) != 4 or taken[1] != taken[2] or taken[3] != 3:
        raise InputError(f"{weights!r} is no network from square RGB images to classes. It takes {taken} and gives {given}")
    last = network.layers[-1]
    if getattr(last, "activation", None) is keras.activations.softmax or isinstance(last, keras.layers.Softmax):
        return network
    outputs = keras.layers.Softmax(dtype="float32", name="probabilities")(network.output)
    return keras.Model(network.inputs, outputs, name=network.name)


def _class_names(file: str, record: Pretrained | None, flags: dict[str, str], classes: int, is_dense: bool) -> tuple[str, ...]:
    """From the user's file, the benchmark that the weights are of, ImageNet, or the run's data; numbers where nothing tells."""
    if file:
        if not pathlib.Path(file).is_file():
            raise InputError(f"No file of class names at {file!r}")
        return tuple(pathlib.Path(file).read_text().splitlines())
    benchmark = record.name.split("-")[0] if record else ""
    if is_dense and benchmark in LABEL_MAPS:
        return LABEL_MAPS[benchmark].class_names
    if not is_dense and classes == IMAGENET_CLASSES:
        return tuple(name for _, name in imagenet_classes())
    if "data" not in flags:
        return tuple(f"class {k}" for k in range(classes))
    try:
        load = load_segmentation_data if is_dense else load_data
        return tuple(load(flags["data"], verify=False).class_names)
    except InputError as error:
        raise InputError(f"The run's data, whose class names are wanted, cannot be had; give --class_names. {error}") from None
