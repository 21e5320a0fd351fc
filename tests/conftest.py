import functools
import gc
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest
import refparams

DATA = os.path.join(os.path.dirname(__file__), "data")
# One dictionary of 109 M numbers serves every full-width test.
reference_array = functools.lru_cache(maxsize=None)(refparams.array)
# They take one to three minutes each; the order among them does not matter.
LONGEST_FILES = {
    *("test_cli.py", "test_convert.py", "test_documents.py", "test_examples.py", "test_faults.py", "test_freezing.py"),
    *("test_preprocessing_inside.py", "test_segmentation_training.py", "test_training.py"),
}


def pytest_collection_modifyitems(items):
    """The longest files come first: whichever of two workers began one of them last would keep the other waiting for it."""
    items.sort(key=lambda item: item.path.name not in LONGEST_FILES)


def pytest_collection_finish():
    """What has been imported stays: garbage collection need not look through half a million objects each time."""
    gc.freeze()


@pytest.fixture(scope="session")
def expected():
    """Outputs of the official MXNet definition, see tests/data/README.md."""
    with np.load(os.path.join(DATA, "expected.npz")) as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def official_names():
    """[(kind, name, shape)] of tests/data/names.tsv: the classification network's parameters, then the segmentation head's."""
    with open(os.path.join(DATA, "names.tsv")) as file:
        rows = [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]
    return [(kind, name, tuple(int(n) for n in shape.split("x"))) for kind, name, shape in rows]


@pytest.fixture
def fill():
    """Fills a network with the reference parameters."""
    from keras_widerresnet.weights.official import assign_official, official_shapes

    def fill(model):
        assign_official(model, {name: reference_array(name, shape) for name, shape in official_shapes(model).items()}, "refparams")
        return model

    return fill


@pytest.fixture
def image():
    """The reference's input image, NHWC."""
    return lambda height, width: refparams.image((1, 3, height, width)).transpose(0, 2, 3, 1)


@pytest.fixture(autouse=True)
def commands_keep_this_process_as_it_is(monkeypatch):
    """Commands that tests call here neither start pytest anew nor freeze weights, in this process and in those that it starts."""
    monkeypatch.setattr("keras_widerresnet.cli.process.hold_weights_frozen", lambda: None)
    monkeypatch.setattr("keras_widerresnet.cli.process.restart_with_huge_pages", lambda: None)


@pytest.fixture(autouse=True)
def determinism_ends_with_its_test():
    """`--deterministic` in this process would hold for all tests after it: TensorFlow only has a switch of its own to turn it off."""
    yield
    if "tensorflow" in sys.modules:
        from tensorflow.python.framework import config

        config.disable_op_determinism()


@pytest.fixture
def rewritten(monkeypatch):
    """Names of this package's functions that AutoGraph rewrites during the test."""
    from tensorflow.python.autograph.impl import api

    import keras_widerresnet

    names, convert = [], api._convert_actual
    folder = os.path.dirname(keras_widerresnet.__file__) + os.sep

    def recorded(entity, context):
        if entity.__code__.co_filename.startswith(folder):
            names.append(entity.__qualname__)
        return convert(entity, context)

    monkeypatch.setattr(api, "_convert_actual", recorded)
    return names


@pytest.fixture
def autotuned(monkeypatch):
    """Data sets that are read during the test while tf.data's autotuning is on, on a machine of two cores."""
    import tensorflow as tf

    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    found, read = [], tf.data.Dataset.__iter__

    def recorded(dataset):
        if dataset.options().autotune.enabled is not False:
            found.append(dataset)
        return read(dataset)

    monkeypatch.setattr(tf.data.Dataset, "__iter__", recorded)
    return found
