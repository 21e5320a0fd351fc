"""Freezing a network up to a stage: what is frozen, and that training leaves it alone to the bit."""

import json
import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_segmentation_training import BRIEF
from test_training import QUICK, refused, trained, trained_here

import keras_widerresnet as kw
from keras_widerresnet import runs
from keras_widerresnet.analysis import effective_depth, residual_chain
from keras_widerresnet.cli import main
from keras_widerresnet.cli.command import parsed
from keras_widerresnet.cli.train import COMMAND
from keras_widerresnet.cli.train_segmentation import COMMAND as SEGMENTATION_COMMAND
from keras_widerresnet.errors import InputError, RunStopped
from keras_widerresnet.export.fold import inference_network
from keras_widerresnet.freezing import frozen_weights, parameter_counts
from keras_widerresnet.tasks.classification.task import Classification
from keras_widerresnet.tasks.segmentation.task import Segmentation
from keras_widerresnet.training.run import train
from keras_widerresnet.training.steps import Steps
from keras_widerresnet.training.strategy import make_strategy

STRUCTURE = "28-1-1-1-1-2-1-1"
CLASSES = 10
# The layer whose output is the last of what is frozen.
LAST_LAYERS = {"B1": "res1b1", "B3": "res3a", "B5": "res5b1", "B7": "res7a", "backbone": "relu7"}


def network(seed=0, **options):
    keras.utils.set_random_seed(seed)
    model = kw.WiderResNet(STRUCTURE, **{"width": 0.125, "input_shape": (16, 16, 3), "classes": CLASSES, **options})
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # As after training: statistics of their own, which a batch does not have by chance.
            layer.set_weights([rng.uniform(0.8, 1.2, weight.shape) for weight in layer.get_weights()])
    return model


def batch(size=8):
    rng = np.random.default_rng(0)
    return tf.constant(rng.normal(size=(size, 16, 16, 3)), tf.float32), tf.one_hot(rng.integers(0, CLASSES, size), CLASSES)


def values(model):
    return {weight.path: weight.numpy() for weight in model.weights}


def changed_layers(before, after):
    """Names of the layers with a weight that is not the same to the bit."""
    return {path.split("/")[-2] for path, value in before.items() if not np.array_equal(value, after[path])}


def layers_with_weights(model, *, after=""):
    """Names of a network's layers with weights, those behind the layer `after`."""
    names = [layer.name for layer in model.layers]
    first = names.index(after) + 1 if after else 0
    return {layer.name for layer in model.layers[first:] if layer.weights}


def frozen_layers(model):
    return {layer.name for layer in model.layers if layer.weights and not layer.trainable}


@pytest.mark.parametrize(("upto", "last"), LAST_LAYERS.items())
def test_layers_up_to_the_stage_are_frozen(upto, last):
    model = network()
    trained = layers_with_weights(model, after=last)
    kw.freeze(model, upto)
    assert frozen_layers(model) == layers_with_weights(model) - trained
    assert {weight.path.split("/")[-2] for weight in model.trainable_weights} == trained
    assert {id(weight) for weight in frozen_weights(model)} == {
        id(weight) for layer in model.layers if layer.name not in trained for weight in layer.weights
    }


def test_the_backbone_is_frozen_if_nothing_else_is_said():
    model = network()
    kw.freeze(model)
    assert frozen_layers(model) == layers_with_weights(model) - {"linear10"}


def test_stem_of_a_structure_without_units_in_b1_is_its_b1():
    model = kw.WideResNetA1(width=0.0625, include_top=False)
    kw.freeze(model, "B1")
    assert frozen_layers(model) == {"conv1a"}


def test_segmentation_networks_keep_both_convolutions_of_the_head():
    model = kw.WideResNetFCN(STRUCTURE, 5, width=0.125, output_stride=None)
    kw.freeze(model)
    assert {weight.path.split("/")[-2] for weight in model.trainable_weights} == {"conv6a", "linear5"}
    kw.freeze(model, "B5")
    assert not model.get_layer("res5b1_branch2b1").trainable and model.get_layer("res6a_branch2a").trainable


def test_the_last_call_holds_and_none_undoes():
    model = network()
    whole = [weight.path for weight in model.trainable_weights]
    kw.freeze(model)
    kw.freeze(model, "B3")
    assert frozen_layers(model) == layers_with_weights(model) - layers_with_weights(model, after="res3a")
    for undo in (lambda: kw.freeze(model, None), lambda: kw.unfreeze(model)):
        kw.freeze(model)
        undo()
        assert [weight.path for weight in model.trainable_weights] == whole


class Subclassed(keras.Model):
    def __init__(self, backbone):
        super().__init__()
        self.backbone, self.pool, self.out = backbone, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(CLASSES, name="out")

    def call(self, inputs):
        return self.out(self.pool(self.backbone(inputs)))


@keras.saving.register_keras_serializable("test_freezing")
class Around(keras.layers.Layer):
    """A layer, not a model, that has a network inside."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, inputs):
        return self.inner(inputs)

    def get_config(self):
        return {**super().get_config(), "inner": keras.saving.serialize_keras_object(self.inner)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("inner")), **config)


def sequential(backbone):
    parts = [keras.Input((16, 16, 3)), backbone, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(CLASSES, name="out")]
    return keras.Sequential(parts)


def functional(backbone):
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(2.0)(keras.layers.RandomFlip()(inputs))
    inner = keras.Sequential([backbone, keras.layers.GlobalAveragePooling2D()], name="inner")
    return keras.Model(inputs, keras.layers.Dense(CLASSES, name="out")(inner(x)))


def of_a_layer(backbone):
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(Around(backbone)(inputs))
    return keras.Model(inputs, keras.layers.Dense(CLASSES, name="out")(x))


def over_time(backbone):
    frames = keras.Input((2, 16, 16, 3))
    pooled = keras.layers.GlobalAveragePooling3D()(keras.layers.TimeDistributed(backbone)(frames))
    return keras.Model(frames, keras.layers.Dense(CLASSES, name="out")(pooled))


NESTED = [sequential, functional, Subclassed, of_a_layer, over_time]


@pytest.mark.parametrize("around", NESTED, ids=lambda one: one.__name__)
def test_models_that_contain_a_network(around):
    backbone = network(include_top=False)
    model = around(backbone)
    model(np.zeros((1, *((2,) if around is over_time else ()), 16, 16, 3), np.float32))
    kw.freeze(model)
    assert [weight.path.split("/")[-2] for weight in model.trainable_weights] == ["out", "out"]
    kw.freeze(model, "B5")
    assert frozen_layers(backbone) == layers_with_weights(backbone) - layers_with_weights(backbone, after="res5b1")
    kw.unfreeze(model)
    assert len(model.trainable_weights) == len(backbone.trainable_weights) + 2 and not frozen_layers(backbone)


def test_backbone_without_a_head_is_frozen_whole_before_it_is_built_into_a_model():
    backbone = network(include_top=False)
    kw.freeze(backbone)
    assert backbone.trainable_weights == []
    assert len(sequential(backbone).trainable_weights) == 2


def test_models_that_share_the_layers_share_the_change():
    model = network()
    features = kw.feature_extractor(model)
    kw.freeze(features, "B5")
    assert frozen_layers(model) == layers_with_weights(model) - layers_with_weights(model, after="res5b1")


def test_a_network_that_keras_has_frozen_as_a_whole_is_opened_behind_the_stage():
    backbone = network(include_top=False)
    model = sequential(backbone)
    backbone.trainable = False
    kw.freeze(model, "B5")
    assert frozen_layers(backbone) == layers_with_weights(backbone) - layers_with_weights(backbone, after="res5b1")
    trained = {weight.path.split("/")[-2] for weight in model.trainable_weights}
    assert trained == layers_with_weights(backbone, after="res5b1") | {"out"}


def test_other_layers_stay_as_they_were():
    """A stem of one's own that was frozen, and the head that was not."""
    inputs = keras.Input((16, 16, 3))
    own = keras.layers.Conv2D(3, 1, name="own", trainable=False)
    model = keras.Model(inputs, keras.layers.Dense(2, name="out")(network(include_top=False, pooling="avg")(own(inputs))))
    for upto in ("backbone", "B3"):
        kw.freeze(model, upto)
        assert not own.trainable and model.get_layer("out").trainable
    kw.unfreeze(model)
    assert own.trainable


@pytest.mark.parametrize("form", ["keras", "weights.h5", "clone"])
def test_saved_and_copied_networks(tmp_path, form):
    """Numbers are the same, and what is frozen in a saved model is frozen in the loaded one, until it is undone."""
    model = sequential(network(include_top=False))
    kw.freeze(model, "B5")
    trained = [weight.path.split("/")[-2:] for weight in model.trainable_weights]
    if form == "keras":
        model.save(tmp_path / "model.keras")
        other = keras.models.load_model(tmp_path / "model.keras")
    elif form == "clone":
        other = keras.models.clone_model(model)
        other.set_weights(model.get_weights())
    else:
        model.save_weights(tmp_path / "model.weights.h5")
        other = sequential(network(include_top=False, seed=1))
        other.load_weights(tmp_path / "model.weights.h5")
        kw.freeze(other, "B5")
    images, _ = batch()
    np.testing.assert_allclose(other(images), model(images), rtol=1e-5)
    assert [weight.path.split("/")[-2:] for weight in other.trainable_weights] == trained
    kw.unfreeze(other)
    kw.unfreeze(model)
    assert len(other.trainable_weights) == len(model.trainable_weights) > len(trained)


@pytest.mark.parametrize(("around", "upto"), [(None, "B5"), (functional, "backbone")], ids=["alone", "nested"])
def test_fit_leaves_frozen_layers_alone(around, upto):
    """With momentum, weight decay and averaged weights; batch statistics of what is trained do move."""
    inner = network(include_top=around is None)
    model = around(inner) if around else inner
    kw.freeze(model, upto)
    head = {"out"} if around else {"linear10"}
    expected = layers_with_weights(inner, after=LAST_LAYERS[upto]) | head
    averaging = {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 1}
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1, **averaging), "mse")
    before = values(model)
    model.fit(*batch(), epochs=3, verbose=0)
    assert changed_layers(before, values(model)) == expected
    statistics = {path.split("/")[-2] for path, value in values(model).items() if "moving" in path and (value != before[path]).any()}
    assert statistics == {name for name in expected if name.startswith("bn")}


def test_compiled_model_needs_no_new_compile_to_train_less():
    model = network()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    model.fit(*batch(), verbose=0)
    before = values(model)
    kw.freeze(model)
    model.fit(*batch(), verbose=0)
    assert changed_layers(before, values(model)) == {"linear10"}


def test_freeze_fit_unfreeze_fit_save(tmp_path):
    """The course of a fine-tuning, without the batch norms' statistics moving until the end."""
    model = sequential(network(include_top=False))
    kw.freeze(model)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(*batch(), verbose=0)
    kw.unfreeze(model)
    model.compile(keras.optimizers.SGD(0.01), "mse")
    before = values(model)
    model.fit(*batch(), verbose=0)
    assert len(changed_layers(before, values(model))) == len({path.split("/")[-2] for path in before})
    model.save(tmp_path / "model.keras")
    images, _ = batch()
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "model.keras")(images), model(images), rtol=1e-5)


@pytest.mark.parametrize(
    ("upto", "message"),
    [
        ("b4", "`upto` must be one of 'backbone', 'B1', .*, 'B7', or None. Received: 'b4'. Did you mean 'B4'?"),
        ("back bone", "Did you mean 'backbone'?"),
        ("B8", "Received: 'B8'$"),
        ("", "Received: ''$"),
        (4, "Received: 4. Did you mean 'B4'?"),
        (True, "Received: True$"),
        (["B1"], "Received: "),
    ],
)
def test_unknown_stages_are_refused(upto, message):
    model = network()
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        kw.freeze(model, upto)
    assert not frozen_layers(model)


def test_stages_without_units_are_refused():
    model = kw.WiderResNet("28-0-1-0-1-0-0-0", width=0.125, include_top=False, name="mine")
    for upto in ("B3", "B5", "B7"):
        message = f"The model 'mine' has no units in {upto}: it can be frozen up to B1, B2, B4 or backbone"
        with pytest.raises(InputError, match=message):
            kw.freeze(model, upto)
    kw.freeze(model, "B4")
    assert {weight.path.split("/")[-2] for weight in model.trainable_weights} == {"bn7"}


def test_other_models_are_refused():
    other = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1, name="res2a_branch2a")], name="other")
    with pytest.raises(InputError, match="'other' contains no wide residual network"):
        kw.freeze(other)
    for nothing in (None, "runs/mine", keras.layers.Dense(1)):
        with pytest.raises(InputError, match=r"A Keras model is frozen, or one that contains it\. Received: "):
            kw.freeze(nothing)
        with pytest.raises(InputError, match="A Keras model is frozen"):
            kw.unfreeze(nothing)


def test_nothing_left_to_train_is_refused():
    model = network()
    model.get_layer("linear10").trainable = False
    with pytest.raises(InputError, match=r"Nothing would be left to train in .*its other layers \(linear10\) are frozen already"):
        kw.freeze(model)
    kw.freeze(model, "B7")  # leaves the last batch norm
    assert {weight.path.split("/")[-2] for weight in model.trainable_weights} == {"bn7"}
    model.trainable = False
    with pytest.raises(InputError, match="Nothing would be left to train"):
        kw.freeze(model)
    kw.unfreeze(model)
    kw.freeze(model)
    assert len(model.trainable_weights) == 2


def test_folded_network_gives_the_same():
    model = network()
    kw.freeze(model, "B5")
    images, _ = batch()
    np.testing.assert_allclose(inference_network(model)(images), model(images, training=False), rtol=1e-3, atol=1e-5)


def test_effective_depth_of_a_frozen_network_tells_what_to_do():
    model = network()
    images, labels = batch()
    expected = effective_depth(residual_chain(model), images.numpy(), labels.numpy().argmax(1))
    kw.freeze(model, "B3")
    with pytest.raises(InputError, match=r"units have none: .*\. keras_widerresnet.unfreeze\(model\) makes all weights trainable"):
        effective_depth(residual_chain(model), images.numpy(), labels.numpy().argmax(1))
    kw.unfreeze(model)
    assert effective_depth(residual_chain(model), images.numpy(), labels.numpy().argmax(1)).depth == expected.depth


def step(upto, size=8, **options):
    """Gradients of one step by layer and weight, and the running statistics after it."""
    model = network()
    if upto:
        kw.freeze(model, upto)
    model.compile(keras.optimizers.SGD(0.1))
    model.optimizer.build(model.trainable_variables)
    steps = Steps(model, make_strategy("one_device"), batch_size=size, **options)
    gradients, state, losses, _ = tf.function(steps._accumulated)(*batch(size))
    by_path = {variable.path: np.asarray(value) for variable, value in zip(model.trainable_variables, gradients, strict=True)}
    return by_path, {variable.path: np.asarray(value) for variable, value in zip(steps.state, state, strict=True)}, np.asarray(losses)


def reference(upto):
    """The same by Keras and a tape: what is frozen, in inference, is a constant."""
    model = network()
    boundary = model.get_layer(LAST_LAYERS[upto]).output
    before, behind = keras.Model(model.input, boundary), keras.Model(boundary, model.output)
    images, labels = batch()
    with tf.GradientTape() as tape:
        x = tf.stop_gradient(before(images, training=False))
        losses = keras.losses.categorical_crossentropy(labels, behind(x, training=True))
        loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, [variable.value for variable in behind.trainable_variables])
    by_path = {variable.path: np.asarray(value) for variable, value in zip(behind.trainable_variables, gradients, strict=True)}
    return by_path, {variable.path: variable.numpy() for variable in behind.non_trainable_variables}, np.asarray(losses)


def assert_equal(ours, theirs, tolerance):
    assert ours.keys() == theirs.keys()
    for path, value in theirs.items():
        assert np.abs(ours[path] - value).max() <= tolerance * max(np.abs(value).max(), 1e-3), path


@pytest.mark.parametrize(
    ("upto", "options"),
    [
        *((upto, {"remat": remat}) for upto in LAST_LAYERS for remat in (False, True)),
        ("B5", {"jit_compile": True}),
        ("B5", {"jit_compile": True, "remat": True}),
    ],
    ids=str,
)
def test_step_is_that_of_a_constant_prefix(upto, options):
    gradients, state, losses = step(upto, **options)
    expected = reference(upto)
    tolerance = 1e-4 if options.get("jit_compile") else 1e-5
    assert_equal(gradients, expected[0], tolerance)
    assert_equal(state, expected[1], tolerance)
    np.testing.assert_allclose(losses, expected[2], rtol=1e-4)


@pytest.mark.parametrize("remat", [False, True])
def test_parts_add_up_to_the_whole_where_no_batch_statistic_is_taken(remat):
    whole, parts = step("backbone"), step("backbone", accumulate_steps=2, remat=remat)
    assert_equal(parts[0], whole[0], 1e-5)
    assert parts[1] == whole[1] == {}  # nothing but the head changes


def operations(upto, **options):
    """Numbers of convolutions of a step's graph: forward, and gradients of kernels."""
    model = network()
    if upto:
        kw.freeze(model, upto)
    model.compile(keras.optimizers.SGD(0.1))
    model.optimizer.build(model.trainable_variables)
    steps = Steps(model, make_strategy("one_device"), batch_size=64, **options)
    graph = tf.function(steps._accumulated).get_concrete_function(*batch(64)).graph
    found = [operation.type for operation in graph.get_operations()]
    return found.count("Conv2D"), found.count("Conv2DBackpropFilter")


def convolutions(model):
    return [layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


@pytest.mark.parametrize("upto", [None, "B1", "B5", "backbone"])
def test_frozen_layers_have_no_gradients_and_are_not_computed_anew(upto):
    """Without recomputation each convolution is there once, with it each of the units that are trained twice."""
    every = convolutions(network())
    model = network()
    trained = [name for name in every if name in layers_with_weights(model, after=LAST_LAYERS[upto] if upto else "")]
    assert operations(upto) == (len(every), len(trained))
    assert operations(upto, remat=True) == (len(every) + len(trained), len(trained))


def test_counts_of_parameters_leave_out_running_statistics():
    model = network()
    whole = kw.Structure.parse(STRUCTURE).parameters(classes=CLASSES, width=0.125)
    assert parameter_counts(model) == (whole, whole)
    kw.freeze(model)
    head = model.get_layer("linear10").count_params()
    assert parameter_counts(model) == (head, whole)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """The final network of a short run, and the flag to start from it."""
    path = tmp_path_factory.mktemp("start") / "run"
    trained_here(path, *QUICK, "--epochs=1", "--steps_per_epoch=2", "--noverify_images")
    return path / runs.FINAL_FILE


def flags(start, *others):
    return (*QUICK, f"--weights={start}", "--epochs=1", "--steps_per_epoch=2", *others)


def changes(start, saved):
    before, after = (keras.models.load_model(path, compile=False) for path in (start, saved))
    return {
        layer.name
        for layer in before.layers
        if any((one != other).any() for one, other in zip(layer.get_weights(), after.get_layer(layer.name).get_weights(), strict=True))
    }


def test_run_trains_what_is_not_frozen_and_reports_it(start, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="keras_widerresnet")
    trained_here(tmp_path / "run", *flags(start, "--freeze=B5", "--ema=0.5", "--weight_decay=0.01"), task=Classification)
    expected = layers_with_weights(keras.models.load_model(start, compile=False), after="res5a")
    for saved in (runs.FINAL_FILE, runs.BEST_FILE):
        assert changes(start, tmp_path / "run" / saved) == expected
    model = keras.models.load_model(tmp_path / "run" / runs.FINAL_FILE, compile=False)
    count, whole = parameter_counts(model)
    facts = json.loads((tmp_path / "run" / runs.FACTS_FILE).read_text())
    assert (facts["trained_parameters"], facts["parameters"]) == (count, whole) and 0 < count < whole
    report = (tmp_path / "run" / runs.REPORT_FILE).read_text()
    assert f"the stem and the stages up to B5, as in {start}" in report
    assert f"{count:,} of {whole:,} ({count / whole:.2%})" in report
    assert f"Frozen: the stem and the stages up to B5; {count:,} of {whole:,} parameters are trained" in caplog.text
    assert "--freeze=B5" in (tmp_path / "run" / runs.FLAGS_FILE).read_text()


@pytest.mark.parametrize(
    "options",
    [
        ("--freeze=backbone", "--remat", "--accumulate_steps=2"),
        ("--freeze=B3", "--jit_compile", "--remat", "--mixed_precision=bfloat16"),
        ("--freeze=B1", "--mixed_precision=float16", "--strategy=one_device"),
    ],
)
def test_frozen_layers_stay_in_every_form_of_the_step(start, tmp_path, options):
    trained_here(tmp_path / "run", *flags(start, *options))
    last = {"backbone": "relu7", "B3": "res3a", "B1": "conv1a"}[options[0].partition("=")[2]]
    network = keras.models.load_model(start, compile=False)
    changed = changes(start, tmp_path / "run" / runs.FINAL_FILE)
    assert changed <= layers_with_weights(network, after=last)
    assert "linear10" in changed and (last == "relu7" or "bn7" in changed)


def test_frozen_layers_stay_on_three_replicas(start, tmp_path):
    """A mean over three of the same number need not be that number."""
    trained(tmp_path / "run", *flags(start, "--freeze=B5", "--logical_devices=3", "--batch_size=48", "--ema=0.5"))
    expected = layers_with_weights(keras.models.load_model(start, compile=False), after="res5a")
    assert changes(start, tmp_path / "run" / runs.FINAL_FILE) == expected


def test_stopped_run_resumes_with_what_is_frozen(start, tmp_path, monkeypatch, capsys):
    options = flags(start, "--freeze=B4", "--epochs=2", "--deterministic", "--ema=0.9")
    trained_here(tmp_path / "whole", *options)
    train_step = Steps.train

    def stops(steps, iterator):
        if int(steps.done.numpy()) == 3:
            raise RunStopped("here", 1)
        return train_step(steps, iterator)

    monkeypatch.setattr(Steps, "train", stops)
    with pytest.raises(RunStopped):
        trained_here(tmp_path / "stopped", *options)
    monkeypatch.setattr(Steps, "train", train_step)
    for other in ("--freeze=B5", "--freeze="):
        line = refused(capsys, monkeypatch, "train", *options, f"--output_dir={tmp_path / 'stopped'}", "--resume", other)
        assert line.endswith(f"--resume needs the same ones. Changed: {other}")
    trained_here(tmp_path / "stopped", *options, "--resume")
    assert changes(tmp_path / "whole" / runs.FINAL_FILE, tmp_path / "stopped" / runs.FINAL_FILE) == set()
    expected = layers_with_weights(keras.models.load_model(start, compile=False), after="res4a")
    assert changes(start, tmp_path / "stopped" / runs.FINAL_FILE) == expected


def test_frozen_run_is_gone_on_with_and_analysed(start, tmp_path):
    """Its saved network has frozen layers; neither a second run from it nor its analysis is frozen by them."""
    trained_here(tmp_path / "first", *flags(start, "--freeze=backbone"))
    first = tmp_path / "first" / runs.FINAL_FILE
    trained_here(tmp_path / "second", *flags(first))
    assert changes(first, tmp_path / "second" / runs.FINAL_FILE) == layers_with_weights(keras.models.load_model(start, compile=False))
    few = ("--images=2", "--path_images=0", "--lesion_images=0", f"--output_dir={tmp_path / 'analysis'}")
    main(["analyze", str(first), "--data=digits", *few])
    assert (tmp_path / "analysis" / runs.REPORT_FILE).is_file()


class Unreported(Segmentation):
    def write_report(self, run):
        pass


@pytest.mark.parametrize("norms", ["--frozen_batch_norm", "--nofrozen_batch_norm"])
def test_segmentation_run_trains_the_head_alone(tmp_path, norms):
    keras.utils.set_random_seed(0)
    source = kw.WideResNetA1(width=0.0625, classes=7)
    source.save_weights(tmp_path / "source.weights.h5")
    options = (*BRIEF, "--structure=A1", norms, f"--weights={tmp_path / 'source.weights.h5'}", "--freeze=backbone", "--dropout_b6=0.3")
    brief = ("--epochs=1", "--steps_per_epoch=2", "--learning_rate=0.01", f"--output_dir={tmp_path / 'run'}")
    train(parsed(SEGMENTATION_COMMAND, [*options, *brief]), Segmentation if norms == "--frozen_batch_norm" else Unreported)
    tuned = keras.models.load_model(tmp_path / "run" / runs.FINAL_FILE, compile=False)
    for layer in source.layers[:-1]:
        for ours, theirs in zip(tuned.get_layer(layer.name).get_weights() if layer.weights else [], layer.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    if norms == "--frozen_batch_norm":
        report = (tmp_path / "run" / runs.REPORT_FILE).read_text()
        assert "the backbone, all but the head, as in" in report and "trained parameters" in report


@pytest.mark.parametrize("command", ["train", "train-segmentation"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--freeze=b4", "--weights=imagenet-a1"), "Received: 'b4'. Did you mean 'B4'?"),
        (("--freeze=head", "--weights=imagenet-a1"), "--freeze must be one of backbone, B1, B2, B3, B4, B5, B6, B7. Received: 'head'"),
        (("--freeze=backbone", "--weights="), "--freeze keeps layers as --weights has them; without --weights they would stay untrained"),
        (
            ("--structure=28-0-1-1-1-0-0-0", "--freeze=B6", "--weights=x"),
            "28-0-1-1-1-0-0-0 has no units in B6: it can be frozen up to B1, B2",
        ),
    ],
)
def test_bad_flags_give_one_line_and_exit_code_2(tmp_path, capsys, monkeypatch, command, options, message):
    data = "--data=digits" if command == "train" else "--data=shapes"
    line = refused(capsys, monkeypatch, command, data, f"--output_dir={tmp_path / 'run'}", "--structure=A1", *options)
    assert message in line and not (tmp_path / "run").exists()


def test_help_names_the_stages(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "--freeze=backbone|B1|B2|B3|B4|B5|B6|B7" in capsys.readouterr().out
    assert parsed(COMMAND, ["--output_dir=x"]).freeze == ""
