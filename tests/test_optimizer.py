import keras
import numpy as np
import pytest

from keras_widerresnet.training.optimizer import LinearDecay, TorchSGD, make_schedule


@pytest.mark.parametrize(("nesterov", "shift_rate"), [(True, 1), (False, 2)])
def test_fifty_steps_against_numpy(nesterov, shift_rate):
    """g ← g + wd·w; m ← 0.9·m + g; w ← w − lr·(g + 0.9·m), or w − lr·m, with a falling rate, the release's decay rule, and, as in its
    segmentation recipe, twice the rate for shifts."""
    rng = np.random.default_rng(0)
    names = ("kernel", "gamma", "beta", "bias")
    values = {name: rng.normal(size=(5,)) for name in names}
    variables = [keras.Variable(value, name=name, dtype="float64") for name, value in values.items()]
    rates = LinearDecay(0.1, 50)
    optimizer = TorchSGD(rates, momentum=0.9, weight_decay=0.01, nesterov=nesterov, shift_rate=shift_rate)
    momenta = {name: np.zeros(5) for name in names}
    for step in range(50):
        gradients = {name: rng.normal(size=(5,)) for name in names}
        optimizer.apply([keras.ops.convert_to_tensor(gradients[name]) for name in names], variables)
        rate = max(0.1 * (1 - step / 50), 1e-6)
        for name in names:
            g = gradients[name] + (0.01 * values[name] if name in ("kernel", "gamma") else 0)
            momenta[name] = 0.9 * momenta[name] + g
            factor = rate if name in ("kernel", "gamma") else shift_rate * rate
            values[name] = values[name] - factor * (g + 0.9 * momenta[name] if nesterov else momenta[name])
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
    optimizer = TorchSGD(LinearDecay(0.2, 10), momentum=0.8, weight_decay=1e-3, nesterov=False, shift_rate=2.0)
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(copy, TorchSGD) and copy.get_config() == optimizer.get_config()
    assert copy.coupled_weight_decay == 1e-3 and copy.momentum == 0.8 and not copy.nesterov and copy.shift_rate == 2


@pytest.mark.parametrize("warmup", [0, 20])
def test_schedules_equal_their_formulas_at_every_step(warmup):
    steps, rate = 100, 0.4
    linear, cosine = (make_schedule(name, rate, steps, warmup) for name in ("linear", "cosine"))
    for step in range(steps + 1):
        rise = step / warmup if step < warmup else 1
        fall = (steps - step) / (steps - warmup)
        assert float(linear(step)) == pytest.approx(max(rate * min(rise, fall), 1e-6), rel=1e-5)
        done = max(0, step - warmup) / (steps - warmup)
        expected = rate * rise if step < warmup else rate * (1 + np.cos(np.pi * done)) / 2
        assert float(cosine(step)) == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_constant_schedule():
    schedule = make_schedule("constant", 0.0016, 50)
    assert [float(schedule(step)) for step in (0, 1, 25, 50)] == pytest.approx([0.0016] * 4, rel=1e-6)


def test_averaged_weights_against_numpy():
    """TorchSGD hands Keras what it needs for its moving average: a ← m·a + (1 − m)·w after every step, starting at the first w."""
    variable = keras.Variable([1.0, -2.0], dtype="float64")
    optimizer = TorchSGD(0.1, momentum=0.9, use_ema=True, ema_momentum=0.8)
    value, average, momentum = np.array([1.0, -2.0]), None, np.zeros(2)
    for step in range(6):
        gradient = np.array([1.0, step])
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        momentum = 0.9 * momentum + gradient
        value = value - 0.1 * (gradient + 0.9 * momentum)
        average = value if average is None else 0.8 * average + 0.2 * value
    optimizer.finalize_variable_values([variable])
    np.testing.assert_allclose(variable.numpy(), average, rtol=1e-6)
