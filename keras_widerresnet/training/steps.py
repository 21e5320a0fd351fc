"""Training and test steps for classification and segmentation under any TensorFlow distribution strategy.

Keras' `fit` cannot build its metrics under `MultiWorkerMirroredStrategy` (3.15), so the steps use `strategy.run` directly; optimizer,
losses, metrics and callbacks are Keras'.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from keras_widerresnet.errors import InputError
from keras_widerresnet.freezing import frozen_weights
from keras_widerresnet.training.remat import rematerialized

Losses = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class Steps:
    """The compiled steps of one network.

    Args:
        network: network compiled with its optimizer in the strategy's scope.
        strategy: the network's strategy.
        batch_size: images per step, over all replicas.
        losses: function of labels and the network's outputs that returns one loss per image (batch,), whose mean is minimised.
        test_losses: the same for test images; None for `losses`.
        metrics: Keras metrics of labels and outputs, created in the strategy's scope.
        remat: whether to recompute the units' activations in the backward pass.
        jit_compile: whether to compile the forward and backward pass with XLA.
        accumulate_steps: micro-batches accumulated per step.
    """

    def __init__(
        self,
        network: keras.Model,
        strategy: tf.distribute.Strategy,
        *,
        batch_size: int,
        losses: Losses = keras.losses.categorical_crossentropy,
        test_losses: Losses | None = None,
        metrics: Sequence[keras.metrics.Metric] = (),
        remat: bool = False,
        jit_compile: bool = False,
        accumulate_steps: int = 1,
    ):
        self.network, self.optimizer, self.strategy = network, network.optimizer, strategy
        self.batch_size, self.accumulate_steps = batch_size, accumulate_steps
        self.losses, self.test_losses = losses, test_losses or losses
        self.forward = rematerialized(network) if remat else lambda images: network(images, training=True)
        self.gradients = tf.function(self._gradients, jit_compile=True, autograph=False) if jit_compile else self._gradients
        frozen = {id(weight) for weight in frozen_weights(network)}
        self.frozen = [variable for variable in network.non_trainable_variables if id(variable) in frozen]
        # What a step changes besides the trained weights: running statistics and random generators.
        self.state = [variable for variable in network.non_trainable_variables if id(variable) not in frozen]
        self.statistics = [variable for variable in self.state if variable.dtype.startswith("float")]
        # Local to this process, not replicated.
        self.done = tf.Variable(0, dtype=tf.int64)
        self.first_bad = tf.Variable(-1, dtype=tf.int64)
        # Not `done`: checkpoints of versions that did not average statistics have none, so that their average begins anew.
        self.averaged_steps = tf.Variable(0, dtype=tf.int64)
        averaging = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        self.ema_momentum = averaging.ema_momentum if averaging.use_ema else None
        with strategy.scope():
            self.loss = keras.metrics.Mean(name="loss")
            # Averaged weights need averaged running statistics: those of the raw weights do not fit them.
            averaged = self.statistics if averaging.use_ema else []
            self.averaged_statistics = [keras.Variable(variable.numpy(), dtype=variable.dtype, trainable=False) for variable in averaged]
        self.metrics = [self.loss, *metrics]
        self.kept_metrics = [tf.Variable(tf.zeros(variable.shape, variable.dtype)) for variable in self._metric_variables()]

    @tf.function(reduce_retracing=True, autograph=False)
    def train(self, iterator) -> tf.Tensor:
        """Runs one training step and returns its loss. `first_bad` records the first step with a NaN or infinite loss."""
        shares = self.strategy.run(self._train_replica, args=next(iterator))
        loss = self.strategy.reduce(tf.distribute.ReduceOp.SUM, shares, axis=None)
        is_bad = tf.logical_and(self.first_bad < 0, tf.logical_not(tf.math.is_finite(loss)))
        self.first_bad.assign(tf.where(is_bad, self.done, self.first_bad))
        self.done.assign_add(1)
        self.averaged_steps.assign_add(1)
        return loss

    @tf.function(reduce_retracing=True, autograph=False)
    def test(self, iterator) -> None:
        """Adds one batch of test images to the metrics."""
        self.strategy.run(self._test_replica, args=next(iterator))

    @tf.function(autograph=False)
    def agree(self, value: tf.Tensor) -> tf.Tensor:
        """Returns the sum of a number over all replicas; waits until all workers call it."""
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, self.strategy.run(tf.identity, args=(value,)), axis=None)

    def reset_metrics(self) -> None:
        for metric in self.metrics:
            metric.reset_state()

    def results(self) -> dict[str, float]:
        """Returns the means since `reset_metrics`; all workers must call it together."""
        results: dict[str, tf.Tensor] = {}
        for metric in self.metrics:
            result = metric.result()
            results |= result if isinstance(result, dict) else {metric.name: result}
        return {name: float(value) for name, value in results.items()}

    def keep_metrics(self) -> None:
        """Copies the metrics of an unfinished epoch to `kept_metrics`, so that one worker can save them; all must call it together."""
        for kept, variable in zip(self.kept_metrics, self._metric_variables(), strict=True):
            kept.assign(variable.numpy())

    def recall_metrics(self) -> None:
        """Copies `kept_metrics` back to the metrics."""
        for kept, variable in zip(self.kept_metrics, self._metric_variables(), strict=True):
            variable.assign(kept.numpy())

    def _metric_variables(self) -> list:
        return [variable for metric in self.metrics for variable in metric.variables]

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Swaps the averaged weights and running statistics, if any, into the network inside the context."""
        if self.ema_momentum is None:
            yield
            return
        swapped = [*self.network.trainable_variables, *self.statistics]
        raw = [variable.numpy() for variable in swapped]
        self.optimizer.finalize_variable_values(self.network.trainable_variables)
        for variable, average in zip(self.statistics, self.averaged_statistics, strict=True):
            variable.assign(average.numpy())
        try:
            yield
        finally:
            for variable, value in zip(swapped, raw, strict=True):
                variable.assign(value)

    def _train_replica(self, images, labels):
        gradients, updated, losses, outputs = self._accumulated(images, labels)
        losses = _nan_if_spoiled(losses, updated)
        for variable, value in zip(self.state, updated, strict=True):
            if variable.dtype.startswith("float"):
                variable.assign(value)
            else:
                # A random generator's state, which is the same on every replica; only their images differ.
                _assign_local(variable, value)
        self._average_statistics()
        self.optimizer.apply(gradients, self.network.trainable_variables)
        self.loss.update_state(losses)
        for metric in self.metrics[1:]:
            metric.update_state(labels, outputs)
        return tf.reduce_sum(losses) / self.batch_size

    def _average_statistics(self) -> None:
        """Averages the running statistics as the optimizer averages the weights: the first step's values are the first average."""
        if self.ema_momentum is None:
            return
        momentum = tf.where(self.averaged_steps > 0, self.ema_momentum, 0.0)
        for average, variable in zip(self.averaged_statistics, self.statistics, strict=True):
            factor = tf.cast(momentum, variable.dtype)
            average.assign(factor * average.value + (1 - factor) * variable.value)

    def _accumulated(self, images, labels):
        trainable = [tf.convert_to_tensor(variable.value) for variable in self.network.trainable_variables]
        state = [tf.convert_to_tensor(variable.value) for variable in self.state]
        frozen = [tf.convert_to_tensor(variable.value) for variable in self.frozen]
        if self.accumulate_steps == 1:
            return self.gradients(trainable, state, frozen, images, labels)
        gradients, losses, outputs = None, [], []
        for part_images, part_labels in zip(*(tf.split(x, self.accumulate_steps) for x in (images, labels)), strict=True):
            # Forces sequential execution: parallel micro-batches would need the memory of all.
            with tf.control_dependencies(gradients or []):
                part_images = tf.identity(part_images)
            part_gradients, state, part_losses, part_outputs = self.gradients(trainable, state, frozen, part_images, part_labels)
            gradients = [a + b for a, b in zip(gradients, part_gradients, strict=True)] if gradients else part_gradients
            losses.append(part_losses)
            outputs.append(part_outputs)
        return gradients, state, tf.concat(losses, 0), tf.concat(outputs, 0)

    def _gradients(self, trainable, state, frozen, images, labels):
        """Returns gradients, updated state, losses and outputs; a pure function, for XLA and for accumulation over micro-batches."""
        variables = self.network.trainable_variables + self.state + self.frozen
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(trainable)
            with keras.StatelessScope(state_mapping=zip(variables, trainable + state + frozen, strict=True)) as scope:
                outputs = self.forward(images)
            losses = self.losses(labels, outputs)
            loss = self.optimizer.scale_loss(tf.reduce_sum(losses) / self.batch_size)
        updated = [scope.get_current_value(variable) for variable in self.state]
        return tape.gradient(loss, trainable), updated, losses, outputs

    def _test_replica(self, images, labels, weights):
        outputs = self.network(images, training=False)
        self.loss.update_state(self.test_losses(labels, outputs), sample_weight=weights)
        for metric in self.metrics[1:]:
            metric.update_state(labels, outputs, sample_weight=weights)


def _nan_if_spoiled(losses: tf.Tensor, state: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the losses, or NaN if running statistics are NaN or infinite: batch norm merged with ReLU (oneDNN) turns NaN into 0."""
    sums = [tf.reduce_sum(tf.cast(value, tf.float32)) for value in map(tf.convert_to_tensor, state) if value.dtype.is_floating]
    if not sums:
        return losses
    return tf.where(tf.math.is_finite(tf.add_n(sums)), losses, tf.constant(float("nan"), losses.dtype))


def _assign_local(variable, value) -> None:
    values = variable.value
    local = values._get_on_device_or_primary() if hasattr(values, "_get_on_device_or_primary") else values
    local.assign(value)


def check_divisible(batch_size: int, replicas: int, accumulate_steps: int) -> None:
    """Raises `InputError` unless every micro-batch of every replica has the same number of images."""
    if batch_size % (replicas * accumulate_steps):
        parts = f"the {replicas} replicas" + (f" times --accumulate_steps={accumulate_steps}" if accumulate_steps > 1 else "")
        raise InputError(f"--batch_size must be a multiple of {parts}. Received: {batch_size}")
