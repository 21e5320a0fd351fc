"""Contenders of training: this package with various settings, and the same network in PyTorch.

Each function is called in a separate process and returns the call to time: one step of SGD with Nesterov momentum and weight decay on
the same images, which returns the loss before the update.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import keras

from benchmarks.contender import HUGE_PAGES, KEPT_MEMORY, TRAINING, Contender
from benchmarks.workload import Workload
from keras_widerresnet import units
from keras_widerresnet.label_maps import IGNORED
from keras_widerresnet.tasks.segmentation.loss import MaskedCrossEntropy
from keras_widerresnet.training.config import RunConfig

Call = Callable[[], float]
NO_SETTINGS: dict[str, str] = {}
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 1e-4


def our_step(workload: Workload, **options) -> Call:
    """Returns the step of `keras-widerresnet train` or `train-segmentation`, with `options` of their configuration."""
    import tensorflow as tf

    from keras_widerresnet.training.remat import give_back_freed_memory
    from keras_widerresnet.training.steps import Steps
    from keras_widerresnet.training.strategy import make_strategy

    config = _config(workload, **options)
    if config.remat:
        give_back_freed_memory()
    strategy = make_strategy("one_device")
    with strategy.scope():
        network = _network(workload, config)
    parts = {"remat": config.remat, "jit_compile": config.jit_compile, "accumulate_steps": config.accumulate_steps}
    if workload.is_segmentation:
        parts["losses"] = MaskedCrossEntropy().call
    steps = Steps(network, strategy, batch_size=workload.batch_size, **parts)
    labels = workload.labels()
    batch = tf.constant(workload.images()), tf.constant(labels) if workload.is_segmentation else tf.one_hot(labels, workload.classes)
    iterator = iter(tf.data.Dataset.from_tensors(batch).repeat())
    return lambda: float(steps.train(iterator))


def _config(workload: Workload, **options) -> RunConfig:
    """Returns the configuration of a training run of the workload's network, from its weights."""
    from keras_widerresnet.tasks.classification.config import TrainingConfig
    from keras_widerresnet.tasks.segmentation.config import SegmentationConfig

    options |= {
        "output_dir": "",
        "structure": workload.structure,
        "width": workload.width,
        "downsampling": workload.downsampling,
        "crop_size": workload.size,
        "batch_size": workload.batch_size,
        "weights": str(workload.path("network.keras")),
        "schedule": "constant",
        "learning_rate": LEARNING_RATE,
        "momentum": MOMENTUM,
        "weight_decay": WEIGHT_DECAY,
        "nesterov": True,
    }
    if not workload.is_segmentation:
        return TrainingConfig(**options)
    return SegmentationConfig(
        data="",
        output_stride=workload.output_stride,
        classifier_convs=workload.classifier_convs,
        frozen_batch_norm=False,
        dropout_b6=0.0,
        dropout_b7=0.0,
        shift_rate=1.0,
        **options,
    )


def _network(workload: Workload, config: RunConfig) -> keras.Model:
    """Returns the compiled network as the training commands build it."""
    from keras_widerresnet.tasks.classification.network import make_network
    from keras_widerresnet.tasks.segmentation.network import make_segmenter

    if workload.is_segmentation:
        return make_segmenter(config, workload.classes, 1, MaskedCrossEntropy())
    return make_network(config, workload.classes, workload.size, 1)


def _loss(workload: Workload) -> keras.losses.Loss:
    """Returns the loss of whole labels and the network's outputs, for every Keras backend."""
    return MaskedCrossEntropy() if workload.is_segmentation else keras.losses.SparseCategoricalCrossentropy()


def step_with_keras_batch_norm(workload: Workload) -> Call:
    """Returns the step of `keras-widerresnet train` with Keras' batch norm, in place of ours, for the rest of this process."""
    units.BatchNormalization = keras.layers.BatchNormalization
    return our_step(workload)


def our_train_on_batch(workload: Workload) -> Call:
    """Returns a step with plain Keras: `model.compile` and `model.train_on_batch`."""
    from keras_widerresnet.training.optimizer import TorchSGD

    model = workload.model()
    model.compile(TorchSGD(LEARNING_RATE, MOMENTUM, WEIGHT_DECAY), _loss(workload))
    images, labels = workload.images(), workload.labels()

    def call():
        model.reset_metrics()
        return float(model.train_on_batch(images, labels))

    return call


def jax_step(workload: Workload, remat: bool = False, precision: str = "float32") -> Call:
    """Returns a compiled step of this package's network on JAX."""
    import jax

    from keras_widerresnet.training.optimizer import TorchSGD
    from keras_widerresnet.training.remat import rematerialized

    model = workload.model(precision)
    forward = rematerialized(model) if remat else functools.partial(model, training=True)
    optimizer = TorchSGD(LEARNING_RATE, MOMENTUM, WEIGHT_DECAY)
    optimizer.build(model.trainable_variables)
    mean_loss = _loss(workload)
    images, labels = (jax.device_put(array) for array in (workload.images(), workload.labels()))

    def loss(trainable, state, images, labels):
        variables = zip(model.trainable_variables + model.non_trainable_variables, trainable + state, strict=True)
        with keras.StatelessScope(state_mapping=variables) as scope:
            outputs = forward(images)
        updated = [scope.get_current_value(variable) for variable in model.non_trainable_variables]
        return mean_loss(labels, outputs), updated

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(trainable, state, slots, images, labels):
        (value, state), gradients = jax.value_and_grad(loss, has_aux=True)(trainable, state, images, labels)
        trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
        return value, trainable, state, slots

    groups = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    # Copies: the first step donates their memory to its results, while Keras still holds the originals.
    held = [[jax.numpy.array(variable.value) for variable in group] for group in groups]

    def call():
        value, *held[:] = step(*held, images, labels)
        return float(value)

    return call


def torch_step(workload: Workload, channels_last: bool = False, compiled: bool = False, checkpointed: bool = False) -> Call:
    import torch

    from benchmarks.torch_network import decayed, layout
    from benchmarks.torch_weights import load

    memory_format = layout(channels_last)
    network = load(workload).to(memory_format=memory_format)
    network.checkpointed = checkpointed
    optimizer = torch.optim.SGD(decayed(network, WEIGHT_DECAY), LEARNING_RATE, MOMENTUM, nesterov=True)
    forward = torch.compile(network) if compiled else network
    images = torch.from_numpy(workload.images()).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
    labels = torch.from_numpy(workload.labels())
    ignored = {"ignore_index": IGNORED} if workload.is_segmentation else {}

    def call():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(forward(images), labels, **ignored)
        loss.backward()
        optimizer.step()
        return loss.item()

    return call


TF, JAX, TORCH = "tensorflow", "jax", "torch"


def _ours(name: str, environment: Mapping[str, str] = TRAINING, precision: str = "float32", **options) -> Contender:
    return Contender(name, functools.partial(our_step, **options), TF, environment=environment, is_ours=True, precision=precision)


def _ours_on_jax(name: str, precision: str = "float32", **options) -> Contender:
    return Contender(name, functools.partial(jax_step, precision=precision, **options), JAX, is_ours=True, precision=precision)


def _pytorch(name: str, environment: Mapping[str, str] = NO_SETTINGS, **options) -> Contender:
    return Contender(name, functools.partial(torch_step, **options), TORCH, ("parameters",), environment=environment)


OURS = _ours("ours")
OURS_REMAT = _ours("ours, --remat", remat=True)
OURS_BFLOAT16 = _ours("ours, --mixed_precision=bfloat16", precision="bfloat16", mixed_precision="bfloat16")
OURS_JAX = _ours_on_jax("ours on JAX")
OURS_JAX_BFLOAT16 = _ours_on_jax("ours on JAX, bfloat16", precision="bfloat16")
OURS_BY_KERAS = Contender("ours: Keras' train_on_batch", our_train_on_batch, TF, is_ours=True)
PYTORCH = _pytorch("PyTorch, eager")
PYTORCH_LAST = _pytorch("PyTorch, eager, channels last", channels_last=True)
PYTORCH_LAST_HUGE_PAGES = _pytorch("PyTorch, eager, channels last, pages of 2 MB", HUGE_PAGES, channels_last=True)

CONTENDERS = (
    OURS,
    OURS_BFLOAT16,
    OURS_BY_KERAS,
    OURS_JAX,
    OURS_JAX_BFLOAT16,
    PYTORCH,
    _pytorch("PyTorch, eager, pages of 2 MB", HUGE_PAGES),
    PYTORCH_LAST,
    PYTORCH_LAST_HUGE_PAGES,
    _pytorch("PyTorch, torch.compile", compiled=True),
)
SMALL = (OURS, OURS_BFLOAT16, OURS_BY_KERAS, OURS_JAX, PYTORCH, PYTORCH_LAST, PYTORCH_LAST_HUGE_PAGES)
CIFAR10 = Workload("32-0-1-1-1-1-1-0", 0.25, 32, 128, name="CIFAR-10", classes=10)
# What is measured unless flags describe a network, and by whom. All but the first are small enough to be trained on a CPU.
WORKLOADS = {
    Workload("D", 1.0, 112, 8, name="Model D"): CONTENDERS,
    Workload("28-0-1-1-1-1-1-1", 0.125, 28, 64, name="digits", classes=10): SMALL,
    CIFAR10: SMALL,
    Workload(
        *("224-0-1-1-1-1-1-0", 0.125, 240, 8),
        name="CamVid",
        classes=11,
        downsampling="stride",
        output_stride=8,
        classifier_convs=2,
    ): SMALL,
}
MEMORY = (
    OURS,
    OURS_REMAT,
    _ours("ours, --accumulate_steps=2", accumulate_steps=2),
    OURS_BFLOAT16,
    OURS_JAX,
    _ours_on_jax("ours on JAX, remat", remat=True),
    OURS_JAX_BFLOAT16,
    _ours_on_jax("ours on JAX, bfloat16, remat", precision="bfloat16", remat=True),
    PYTORCH,
    _pytorch("PyTorch, checkpointed units", checkpointed=True),
)
# Each changes one setting of the first.
TRIED = (
    OURS,
    Contender("batch norm as separate operations", step_with_keras_batch_norm, TF, environment=TRAINING, is_ours=True),
    _ours("freed memory is kept", environment=TRAINING | KEPT_MEMORY),
    _ours("pages of 4 kB", environment={name: value for name, value in TRAINING.items() if name not in HUGE_PAGES}),
    _ours("XLA (--jit_compile)", jit_compile=True),
    _ours("without oneDNN", environment=TRAINING | {"TF_ENABLE_ONEDNN_OPTS": "0"}),
    _ours("caller's thread works too", environment=TRAINING | {"TF_ONEDNN_THREADPOOL_USE_CALLER_THREAD": "1"}),
    _ours("one operation at a time", environment=TRAINING | {"TF_NUM_INTEROP_THREADS": "1"}),
    OURS_BFLOAT16,
    OURS_REMAT,
)
