"""The common input of all contenders: one network's weights in all required file formats, and the same images."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable

import keras
import numpy as np

from benchmarks.measure import in_own_process
from keras_widerresnet.fcn import WideResNetFCN
from keras_widerresnet.label_maps import IGNORED
from keras_widerresnet.networks import WiderResNet
from keras_widerresnet.preprocessing import preprocess_input
from keras_widerresnet.structures import Pool, Structure, find_structure, halved, head_filters, stage_filters
from keras_widerresnet.weights.official import parameter_names, to_official

CLASSES = 1000
SETTLING_IMAGES = 8


@dataclasses.dataclass(frozen=True)
class Convolution:
    """One convolution of a network: side of its kernel, channels, and sides of the square maps that it reads and writes."""

    kernel: int
    in_channels: int
    filters: int
    in_cells: int
    out_cells: int


@dataclasses.dataclass(frozen=True)
class Workload:
    """One network on images of one size: a classifier or, with `classifier_convs`, the release's segmentation network.

    Args:
        structure: name or notation of the network.
        width: channel multiplier of all stages.
        size: side of the images in pixels.
        batch_size: number of images per batch.
        threads: number of CPU threads.
        folder: folder to which `prepare` writes the network's files.
        name: its name in tables of several workloads; empty for one that flags describe.
        classes: number of classes.
        downsampling: how the resolution is halved; empty for the structure's own way.
        output_stride: pixels per cell of a dilated network's last map; None for the structure's own.
        classifier_convs: number of convolutions in the segmentation head; 0 for a classifier.
    """

    structure: str
    width: float
    size: int
    batch_size: int
    threads: int = 1
    folder: str = ""
    name: str = ""
    classes: int = CLASSES
    downsampling: str = ""
    output_stride: int | None = None
    classifier_convs: int = 0

    @property
    def record(self) -> Structure:
        return find_structure(self.structure).halved_by(self.downsampling)

    @property
    def is_segmentation(self) -> bool:
        return self.classifier_convs > 0

    @property
    def convolutions(self) -> list[Convolution]:
        """All convolutions, in the order in which they run."""
        cells = self.size
        found = [Convolution(3, 3, stage_filters(self.width)[1][0], cells, cells)]
        for item in self.record.plan(width=self.width, output_stride=self.output_stride):
            if isinstance(item, Pool):
                cells = halved(cells, "ceil") if item.stride > 1 else cells
                continue
            before, cells = cells, halved(cells, "stride") if item.stride > 1 else cells
            channels = (item.in_channels, *item.filters)
            for index, kernel in enumerate(item.kernels):
                found.append(Convolution(kernel, *channels[index : index + 2], cells if index else before, cells))
            if item.projection:  # which reads no other pixels than those that it projects
                found.append(Convolution(1, item.in_channels, item.filters[-1], cells, cells))
        for filters in head_filters(self.classes, self.classifier_convs, self.width) if self.is_segmentation else ():
            found.append(Convolution(3, channels[-1], filters, cells, cells))
            channels = (filters,)
        return found

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one image's forward pass."""
        total = sum(one.kernel**2 * one.in_channels * one.filters * one.out_cells**2 for one in self.convolutions)
        return total if self.is_segmentation else total + self.convolutions[-1].filters * self.classes

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        if not self.is_segmentation:
            return self.record.parameters(classes=self.classes, width=self.width)
        head = self.record.head_parameters(classes=self.classes, classifier_convs=self.classifier_convs, width=self.width)
        return self.record.parameters(width=self.width, include_top=False) + head

    def pixels(self) -> np.ndarray:
        """Returns random images, float32 (batch, size, size, 3), values 0..255."""
        generator = np.random.default_rng(0)
        return generator.integers(0, 256, (self.batch_size, self.size, self.size, 3)).astype(np.float32)

    def images(self) -> np.ndarray:
        """Returns the same images after `preprocess_input`."""
        return preprocess_input(self.pixels())

    def labels(self) -> np.ndarray:
        """Returns labels, int64: one per image or, in segmentation, one per cell of the last map, a twelfth of which are ignored."""
        if not self.is_segmentation:
            return np.arange(self.batch_size) % self.classes
        cells = self.convolutions[-1].out_cells
        labels = np.random.default_rng(1).integers(0, self.classes + 1, (self.batch_size, cells, cells))
        return np.where(labels < self.classes, labels, IGNORED)

    def model(self, precision: str = "float32") -> keras.Model:
        """Returns the network with its weights, in float32 or, with `"bfloat16"`, under that mixed-precision policy."""
        stored = keras.saving.load_model(self.path("network.keras"), compile=False)
        if precision == "float32":
            return stored
        keras.config.set_dtype_policy(f"mixed_{precision}")
        model = self.new_model()
        model.set_weights(stored.get_weights())
        return model

    def new_model(self) -> keras.Model:
        """Returns the network with random weights."""
        options = {"width": self.width, "input_shape": (self.size, self.size, 3), "classes": self.classes}
        if not self.is_segmentation:
            return WiderResNet(self.record, **options)
        return WideResNetFCN(self.record, classifier_convs=self.classifier_convs, output_stride=self.output_stride, dropout=0.0, **options)

    def path(self, name: str) -> pathlib.Path:
        return pathlib.Path(self.folder) / name


def prepare(workload: Workload, forms: set[str]) -> None:
    """Writes the network, with random weights, and its `forms` (keys of `FORMS`) to the workload's folder."""
    pathlib.Path(workload.folder).mkdir(parents=True, exist_ok=True)
    for form in ("network", *sorted(forms)):
        in_own_process(FORMS[form], workload)


def _write_network(workload: Workload) -> None:
    keras.utils.set_random_seed(0)
    model = workload.new_model()
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    # Use the statistics of actual activations; with the initial ones activations grow until every probability is 0 or 1.
    for norm in norms:
        norm.momentum, kept = 0.0, norm.momentum
    model(dataclasses.replace(workload, batch_size=SETTLING_IMAGES).images(), training=True)
    for norm in norms:
        norm.momentum = kept
    model.save(workload.path("network.keras"))


def _write_parameters(workload: Workload) -> None:
    """Writes the weights by official name and in the official layout, for PyTorch."""
    layers = workload.model().layers
    pairs = [(name, weight) for layer in layers for name, weight in zip(parameter_names(layer), layer.weights, strict=True)]
    np.savez(workload.path("parameters.npz"), **{name: to_official(keras.ops.convert_to_numpy(weight)) for name, weight in pairs})


def _write_onnx(workload: Workload) -> None:
    from keras_widerresnet.export.fold import inference_network
    from keras_widerresnet.export.onnx import to_onnx

    workload.path("network.onnx").write_bytes(to_onnx(inference_network(workload.model()), workload.size))


def write_saved_model(workload: Workload, path: pathlib.Path, *, fold: bool = True, half: bool = False) -> None:
    """Writes a SavedModel as `keras-widerresnet export` does, optionally folded and with float16 kernels."""
    import tensorflow as tf

    from keras_widerresnet.export.fold import inference_network
    from keras_widerresnet.export.graphs import ClassifierGraph

    labels = path.with_suffix(".txt")
    labels.write_text("".join(f"class {k}\n" for k in range(workload.classes)))
    graph = ClassifierGraph(inference_network(workload.model(), fold=fold), workload.size, "bicubic", labels, 5, half=half)
    tf.saved_model.save(graph, str(path), signatures=graph.endpoints)


def load_saved_model(path: pathlib.Path) -> tuple[Callable[[np.ndarray], np.ndarray], Callable]:
    """Loads a SavedModel; returns a NumPy function from pixels to probabilities, and its concrete function."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))

    def ask(pixels: np.ndarray) -> np.ndarray:
        # Access via `loaded`, as a signature alone does not keep its variables alive.
        return loaded.signatures["tensor"](images=tf.constant(pixels))["probabilities"].numpy()

    return ask, loaded.signatures["tensor"]


def _write_saved_model(workload: Workload) -> None:
    write_saved_model(workload, workload.path("saved_model"))


FORMS = {"network": _write_network, "parameters": _write_parameters, "onnx": _write_onnx, "saved_model": _write_saved_model}
