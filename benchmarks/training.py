"""Contenders of training: this package with various settings, and the same network in PyTorch.

Each function is called in a separate process and returns the call to time: one step of SGD with Nesterov momentum and weight decay on
the same images, which returns the loss before the update.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import keras

from benchmarks.contender import HUGE_PAGES, Contender
from benchmarks.workload import CLASSES, Workload

Call = Callable[[], float]
NO_SETTINGS: dict[str, str] = {}
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 1e-4


def our_step(workload: Workload, **options) -> Call:
    """Returns the step of `keras-widerresnet train`, with `options` of `TrainingConfig`."""
    import tensorflow as tf

    from keras_widerresnet.tasks.classification.config import TrainingConfig
    from keras_widerresnet.tasks.classification.network import make_network
    from keras_widerresnet.training.remat import give_back_freed_memory
    from keras_widerresnet.training.steps import Steps
    from keras_widerresnet.training.strategy import make_strategy

    config = TrainingConfig(
        output_dir="",
        structure=workload.structure,
        width=workload.width,
        batch_size=workload.batch_size,
        weights=str(workload.path("network.keras")),
        schedule="constant",
        learning_rate=LEARNING_RATE,
        **options,
    )
    if config.remat:
        give_back_freed_memory()
    strategy = make_strategy("one_device")
    with strategy.scope():
        network = make_network(config, CLASSES, workload.size, 1)
    parts = {"remat": config.remat, "jit_compile": config.jit_compile, "accumulate_steps": config.accumulate_steps}
    steps = Steps(network, strategy, batch_size=workload.batch_size, **parts)
    batch = tf.constant(workload.images()), tf.one_hot(workload.labels(), CLASSES)
    iterator = iter(tf.data.Dataset.from_tensors(batch).repeat())
    return lambda: float(steps.train(iterator))


def our_train_on_batch(workload: Workload) -> Call:
    """Returns a step with plain Keras: `model.compile` and `model.train_on_batch`."""
    from keras_widerresnet.training.optimizer import TorchSGD

    model = workload.model()
    model.compile(TorchSGD(LEARNING_RATE, MOMENTUM, WEIGHT_DECAY), "sparse_categorical_crossentropy")
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
    images, labels = (jax.device_put(array) for array in (workload.images(), workload.labels()))

    def loss(trainable, state, images, labels):
        variables = zip(model.trainable_variables + model.non_trainable_variables, trainable + state, strict=True)
        with keras.StatelessScope(state_mapping=variables) as scope:
            probabilities = forward(images)
        updated = [scope.get_current_value(variable) for variable in model.non_trainable_variables]
        return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(labels, probabilities)), updated

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

    from benchmarks.torch_network import load

    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = load(workload).to(memory_format=layout)
    network.checkpointed = checkpointed
    groups = {0.0: [], WEIGHT_DECAY: []}
    for name, parameter in network.named_parameters():
        groups[0.0 if name.endswith("bias") else WEIGHT_DECAY].append(parameter)
    options = [{"params": parameters, "weight_decay": decay} for decay, parameters in groups.items()]
    optimizer = torch.optim.SGD(options, LEARNING_RATE, MOMENTUM, nesterov=True)
    forward = torch.compile(network) if compiled else network
    images = torch.from_numpy(workload.images()).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    labels = torch.from_numpy(workload.labels())

    def call():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return call


TF, JAX, TORCH = "tensorflow", "jax", "torch"


def _ours(name: str, environment: Mapping[str, str] = HUGE_PAGES, precision: str = "float32", **options) -> Contender:
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
PYTORCH = _pytorch("PyTorch, eager")

CONTENDERS = (
    OURS,
    OURS_BFLOAT16,
    Contender("ours: Keras' train_on_batch", our_train_on_batch, TF, is_ours=True),
    OURS_JAX,
    OURS_JAX_BFLOAT16,
    PYTORCH,
    _pytorch("PyTorch, eager, pages of 2 MB", HUGE_PAGES),
    _pytorch("PyTorch, eager, channels last", channels_last=True),
    _pytorch("PyTorch, torch.compile", compiled=True),
)
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
    _ours("pages of 4 kB", environment={}),
    _ours("XLA (--jit_compile)", jit_compile=True),
    _ours("without oneDNN", environment=HUGE_PAGES | {"TF_ENABLE_ONEDNN_OPTS": "0"}),
    _ours("caller's thread works too", environment=HUGE_PAGES | {"TF_ONEDNN_THREADPOOL_USE_CALLER_THREAD": "1"}),
    _ours("one operation at a time", environment=HUGE_PAGES | {"TF_NUM_INTEROP_THREADS": "1"}),
    OURS_BFLOAT16,
    OURS_REMAT,
)
