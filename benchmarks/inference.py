"""Contenders of inference: this package, the same network in other libraries, and alternative networks.

Each function is called in a separate process and returns the call to time, from NumPy images to NumPy probabilities.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import keras
import numpy as np

from benchmarks.contender import FROZEN_WEIGHTS, HUGE_PAGES, Contender
from benchmarks.workload import CLASSES, Workload, load_saved_model

Call = Callable[[], np.ndarray]


def keras_model(workload: Workload, precision: str = "float32") -> Call:
    model, images = workload.model(precision), workload.images()
    return lambda: model.predict_on_batch(images)


def inference_model(workload: Workload, jit_compile: bool | str = "auto") -> Call:
    from keras_widerresnet.export.fold import inference_network

    model, images = inference_network(workload.model()), workload.images()
    model.compile(jit_compile=jit_compile)
    return lambda: model.predict_on_batch(images)


def constant_weights(workload: Workload) -> Call:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    from keras_widerresnet.export.fold import inference_network

    model, images = inference_network(workload.model()), workload.images()
    traced = tf.function(lambda x: model(x, training=False)).get_concrete_function(tf.TensorSpec(images.shape))
    frozen = convert_variables_to_constants_v2(traced)
    return lambda: frozen(tf.constant(images))[0].numpy()


def saved_model(workload: Workload) -> Call:
    (ask, _), pixels = load_saved_model(workload.path("saved_model")), workload.pixels()
    return lambda: ask(pixels)


def torch_eager(workload: Workload, channels_last: bool = True, compiled: bool = False) -> Call:
    import torch

    from benchmarks.torch_network import layout
    from benchmarks.torch_weights import load

    memory_format = layout(channels_last)
    network, images = load(workload).eval().to(memory_format=memory_format), torch.from_numpy(workload.images())
    network = torch.compile(network) if compiled else network

    def call():
        with torch.inference_mode():
            return network(images.permute(0, 3, 1, 2).contiguous(memory_format=memory_format)).softmax(-1).numpy()

    return call


def onnx_runtime(workload: Workload) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = workload.threads
    session = onnxruntime.InferenceSession(str(workload.path("network.onnx")), options, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: workload.pixels()}
    return lambda: session.run(None, inputs)[0]


def openvino(workload: Workload) -> Call:
    import openvino

    options = {"INFERENCE_NUM_THREADS": workload.threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled, pixels = openvino.Core().compile_model(str(workload.path("network.onnx")), "CPU", options), workload.pixels()
    return lambda: compiled(pixels)[0]


def keras_application(workload: Workload, name: str) -> Call:
    model, images = _keras_application(workload, name), workload.images()
    return lambda: model.predict_on_batch(images)


def timm_wide_resnet50_2(workload: Workload) -> Call:
    import torch

    network = _timm_network().to(memory_format=torch.channels_last)
    images = torch.from_numpy(workload.images())

    def call():
        with torch.inference_mode():
            return network(images.permute(0, 3, 1, 2)).softmax(-1).numpy()

    return call


def _keras_application(workload: Workload, name: str) -> keras.Model:
    return getattr(keras.applications, name)(weights=None, input_shape=(workload.size, workload.size, 3), classes=CLASSES)


def _timm_network():
    import timm

    return timm.create_model("wide_resnet50_2", pretrained=False, num_classes=CLASSES).eval()


def keras_multiply_adds(workload: Workload, name: str) -> int:
    """Returns the multiply-adds of convolutions and dense layers, for one image."""
    total = 0
    for layer in _keras_application(workload, name).layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
            kernel = layer.kernel.shape
            total += int(np.prod(kernel)) * int(np.prod(layer.output.shape[1:-1]))
    return total


def torch_multiply_adds(workload: Workload) -> int:
    """Returns the multiply-adds of timm's network, counted likewise."""
    import torch

    network, counts = _timm_network(), []

    def count(module, _, output):
        counts.append(module.weight.numel() * int(np.prod(output.shape[2:])))

    for module in network.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.zeros(1, 3, workload.size, workload.size))
    return sum(counts)


BFLOAT16 = functools.partial(keras_model, precision="bfloat16")
TF, JAX, TORCH = "tensorflow", "jax", "torch"
CONTENDERS = (
    Contender("ours: inference_network(model).predict", inference_model, TF, environment=FROZEN_WEIGHTS, is_ours=True),
    Contender("ours: model.predict", keras_model, TF, is_ours=True),
    Contender("ours: exported SavedModel", saved_model, TF, forms=("saved_model",), environment=FROZEN_WEIGHTS, is_ours=True),
    Contender("ours on JAX: model.predict", keras_model, JAX, is_ours=True),
    Contender("ours on JAX: bfloat16", BFLOAT16, JAX, is_ours=True, precision="bfloat16"),
    Contender("ours on PyTorch: model.predict", keras_model, TORCH, is_ours=True),
    Contender("PyTorch, eager", torch_eager, TORCH, ("parameters",)),
    Contender("PyTorch, eager, channels first", functools.partial(torch_eager, channels_last=False), TORCH, ("parameters",)),
    Contender("PyTorch, eager, pages of 2 MB", torch_eager, TORCH, ("parameters",), environment=HUGE_PAGES),
    Contender("PyTorch, torch.compile", functools.partial(torch_eager, compiled=True), TORCH, ("parameters",)),
    Contender("ONNX Runtime, on our export", onnx_runtime, TF, ("onnx",), ("onnxruntime", "tf2onnx")),
    Contender("OpenVINO, on our export", openvino, TF, ("onnx",), ("openvino", "tf2onnx")),
    *(
        Contender(
            f"keras.applications {name}",
            functools.partial(keras_application, name=name),
            TF,
            multiply_adds=functools.partial(keras_multiply_adds, name=name),
        )
        for name in ("ResNet50V2", "ResNet152V2")
    ),
    Contender("timm wide_resnet50_2", timm_wide_resnet50_2, TORCH, packages=("timm",), multiply_adds=torch_multiply_adds),
)
CALLER_WORKS_TOO = {"TF_ONEDNN_THREADPOOL_USE_CALLER_THREAD": "1"}
# Each changes one setting of the first.
TRIED = (
    CONTENDERS[0],
    Contender("weights not held as frozen", inference_model, TF),
    Contender("batch norms not folded", keras_model, TF, environment=FROZEN_WEIGHTS),
    Contender("weights as constants of the graph", constant_weights, TF),
    Contender("XLA", functools.partial(inference_model, jit_compile=True), TF, environment=FROZEN_WEIGHTS),
    Contender("without oneDNN", inference_model, TF, environment=FROZEN_WEIGHTS | {"TF_ENABLE_ONEDNN_OPTS": "0"}),
    Contender("caller's thread works too", inference_model, TF, environment=FROZEN_WEIGHTS | CALLER_WORKS_TOO),
    Contender("pages of 2 MB", inference_model, TF, environment=FROZEN_WEIGHTS | HUGE_PAGES),
    Contender("bfloat16 (not folded)", BFLOAT16, TF, environment=FROZEN_WEIGHTS, precision="bfloat16"),
)
