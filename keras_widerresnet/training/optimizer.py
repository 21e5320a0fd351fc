"""The official release's optimizer and schedule, whose formulas differ from Keras'."""

from __future__ import annotations

import keras
from keras import ops

SHIFTS = ("beta", "bias")


@keras.saving.register_keras_serializable("keras_widerresnet")
class TorchSGD(keras.optimizers.SGD):
    """SGD with momentum and weight decay in Torch's form (official release, ImageNet recipe).

    g ← g + decay · w; m ← momentum · m + g; w ← w − lr · (g + momentum · m), or w ← w − lr · m without Nesterov. Keras' SGD
    includes the learning rate in m, which differs as soon as the rate changes, and applies the decay outside the momentum.

    Args:
        learning_rate: a float or a schedule.
        momentum: 0.9 in the release.
        nesterov: whether to use Nesterov momentum, as in the release's ImageNet recipe; its segmentation recipe uses plain momentum.
        weight_decay: decay of kernels and batch-norm scales; biases and batch-norm shifts are not decayed, as in MXNet.
        shift_rate: learning rate multiplier of biases and batch-norm shifts: 2 in the release's segmentation recipe.
    """

    def __init__(
        self,
        learning_rate=0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        nesterov: bool = True,
        shift_rate: float = 1.0,
        name: str = "torch_sgd",
        **kwargs,
    ):
        # Keras' own weight decay is decoupled, so it stays off.
        super().__init__(learning_rate, momentum=momentum, nesterov=nesterov, weight_decay=None, name=name, **kwargs)
        self.coupled_weight_decay = weight_decay
        self.shift_rate = shift_rate

    def build(self, variables):
        super().build(variables)
        shifts = [variable.name in SHIFTS for variable in variables]
        self.decays = [0.0 if is_shift else self.coupled_weight_decay for is_shift in shifts]
        self.rates = [self.shift_rate if is_shift else 1.0 for is_shift in shifts]

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        learning_rate = ops.cast(learning_rate, variable.dtype) * self.rates[index]
        gradient = ops.cast(gradient, variable.dtype)
        if keras.backend.backend() == "tensorflow":
            _fused_update(variable, self.momentums[index].value, learning_rate, gradient, self.momentum, self.decays[index], self.nesterov)
            return
        if self.decays[index]:
            gradient = ops.add(gradient, ops.multiply(self.decays[index], variable))
        momentum = self.momentums[index]
        self.assign(momentum, ops.add(ops.multiply(self.momentum, momentum), gradient))
        step = ops.add(gradient, ops.multiply(self.momentum, momentum)) if self.nesterov else momentum
        self.assign_sub(variable, ops.multiply(learning_rate, step))

    def _all_reduce_sum_gradients(self, grads_and_vars):
        # Keras passes all gradients through one operation, which keeps them alive until the last is ready; one replica has nothing to sum.
        import tensorflow as tf

        if tf.distribute.get_strategy().num_replicas_in_sync == 1:
            return grads_and_vars
        return super()._all_reduce_sum_gradients(grads_and_vars)

    def get_config(self):
        return {**super().get_config(), "weight_decay": self.coupled_weight_decay, "shift_rate": self.shift_rate}


def _fused_update(variable, momentum, learning_rate, gradient, factor: float, decay: float, nesterov: bool) -> None:
    """Applies the same formula as one TensorFlow operation; separate operations would hold temporaries of all variables at once."""
    import tensorflow as tf

    if decay:
        # Wait for the gradient: otherwise the products of all variables would be held during the whole step.
        with tf.control_dependencies([gradient]):
            gradient += decay * variable
    tf.raw_ops.ResourceApplyMomentum(
        var=variable.handle,
        accum=momentum.handle,
        lr=learning_rate,
        grad=gradient,
        momentum=tf.cast(factor, variable.dtype),
        use_nesterov=nesterov,
    )


@keras.saving.register_keras_serializable("keras_widerresnet")
class LinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that decays linearly to 0, but not below a floor of 1e-6 (official release).

    Args:
        initial: learning rate of the first step, or of the first one after warm-up.
        steps: number of steps of the whole run.
        floor: the minimum learning rate.
        warmup_steps: number of steps of linear warm-up from 0; 0 in the release.
    """

    def __init__(self, initial: float, steps: int, floor: float = 1e-6, warmup_steps: int = 0):
        self.initial = initial
        self.steps = steps
        self.floor = floor
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        step = ops.cast(step, "float32")
        share = (self.steps - step) / (self.steps - self.warmup_steps)
        if self.warmup_steps:
            share = ops.minimum(share, step / self.warmup_steps)
        return ops.maximum(self.initial * share, self.floor)

    def get_config(self):
        return {"initial": self.initial, "steps": self.steps, "floor": self.floor, "warmup_steps": self.warmup_steps}


def make_schedule(name: str, rate: float, steps: int, warmup_steps: int = 0) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns a learning rate schedule by name.

    Args:
        name: `"linear"` (`LinearDecay`, official release), `"cosine"` (Keras' `CosineDecay` to 0) or `"constant"` (the first part of the
            release's segmentation recipe; it has no warm-up).
        rate: learning rate of the first step, or of the first one after warm-up.
        steps: number of steps of the whole run.
        warmup_steps: number of steps of linear warm-up from 0.
    """
    if name == "constant":
        return keras.optimizers.schedules.PolynomialDecay(rate, steps, end_learning_rate=rate)
    if name == "linear":
        return LinearDecay(rate, steps, warmup_steps=warmup_steps)
    if not warmup_steps:
        return keras.optimizers.schedules.CosineDecay(rate, steps)
    return keras.optimizers.schedules.CosineDecay(0.0, steps - warmup_steps, warmup_target=rate, warmup_steps=warmup_steps)
