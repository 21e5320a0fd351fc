import keras
import numpy as np
import pytest

from keras_widerresnet.training.optimizer import LinearDecay, TorchSGD


def test_fifty_steps_against_numpy():
    """g ← g + wd·w; m ← 0.9·m + g; w ← w − lr·(g + 0.9·m), with a falling rate and the release's decay rule."""
    rng = np.random.default_rng(0)
    names = ("kernel", "gamma", "beta", "bias")
    values = {name: rng.normal(size=(5,)) for name in names}
    variables = [keras.Variable(value, name=name, dtype="float64") for name, value in values.items()]
    rates = LinearDecay(0.1, 50)
    optimizer = TorchSGD(rates, momentum=0.9, weight_decay=0.01)
    momenta = {name: np.zeros(5) for name in names}
    for step in range(50):
        gradients = {name: rng.normal(size=(5,)) for name in names}
        optimizer.apply([keras.ops.convert_to_tensor(gradients[name]) for name in names], variables)
        rate = max(0.1 * (1 - step / 50), 1e-6)
        for name in names:
            g = gradients[name] + (0.01 * values[name] if name in ("kernel", "gamma") else 0)
            momenta[name] = 0.9 * momenta[name] + g
            values[name] = values[name] - rate * (g + 0.9 * momenta[name])
        for name, variable in zip(names, variables, strict=True):
            np.testing.assert_allclose(variable.numpy(), values[name], rtol=1e-6, atol=1e-6)


def test_differs_from_keras_sgd_once_the_rate_falls():
    """Why it exists: Keras keeps the rate inside the momentum."""

    def final(optimizer):
        variable = keras.Variable([1.0], dtype="float64")
        for _ in range(10):
            optimizer.apply([keras.ops.convert_to_tensor(np.array([1.0]))], [variable])
        return float(variable.numpy()[0])

    constant = (final(TorchSGD(0.1)), final(keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)))
    falling = (final(TorchSGD(LinearDecay(0.1, 10))), final(keras.optimizers.SGD(LinearDecay(0.1, 10), momentum=0.9, nesterov=True)))
    assert np.isclose(*constant, rtol=1e-6) and not np.isclose(*falling, rtol=1e-2)


def test_schedule_at_every_step():
    schedule = LinearDecay(0.1, 200)
    rates = [float(schedule(step)) for step in range(201)]
    np.testing.assert_allclose(rates[:-1], [max(0.1 * (200 - step) / 200, 1e-6) for step in range(200)], rtol=1e-5)
    assert rates[-1] == pytest.approx(1e-6)


def test_settings_survive_serialisation():
    optimizer = TorchSGD(LinearDecay(0.2, 10), momentum=0.8, weight_decay=1e-3)
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(copy, TorchSGD) and copy.get_config() == optimizer.get_config()
    assert copy.coupled_weight_decay == 1e-3 and copy.momentum == 0.8
