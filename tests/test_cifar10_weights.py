"""The committed CIFAR-10 network, `saved_models/cifar10/`: its weights by name, its export and its run are of one network."""

import re
import socket

import numpy as np
import pytest
import tensorflow as tf
from photographs import REAL_PHOTOGRAPHS
from test_readme import ROOT

import keras_widerresnet as kw
from keras_widerresnet.cli import main
from keras_widerresnet.compare import difference
from keras_widerresnet.data.images import decode_rgb
from keras_widerresnet.data.resize import test_view as seen_view
from keras_widerresnet.export.verify import TOLERANCES
from keras_widerresnet.models import find_source
from keras_widerresnet.protocols import ClassificationProtocol
from keras_widerresnet.runs import Run
from keras_widerresnet.structures import same_network
from keras_widerresnet.weights import PRETRAINED, find
from keras_widerresnet.weights.checksums import checksums

FOLDER = ROOT / "saved_models" / "cifar10"
CARD = FOLDER / "1" / "MODEL_CARD.md"
RECORD = PRETRAINED["cifar10"]
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
PHOTOGRAPHS = list(REAL_PHOTOGRAPHS.values())


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """An empty home and working directory, and no network."""

    def refuse(*_):
        raise OSError("no network here")

    monkeypatch.setenv("KERAS_WIDERRESNET_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KERAS_WIDERRESNET_WEIGHTS_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_the_folder_is_small_and_has_a_run_an_export_and_a_file_of_weights():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    for part in ("1", "run", "cifar10.weights.h5"):
        assert sum(path.stat().st_size for path in files if path.is_relative_to(FOLDER / part)) < 10e6
    names = {path.relative_to(FOLDER).as_posix() for path in files}
    assert names >= {"cifar10.weights.h5", "cifar10.weights.json", "1/saved_model.pb", "1/MODEL_CARD.md", "1/assets/labels.txt"}
    assert names >= {f"run/{name}" for name in ("flags.txt", "metrics.csv", "report.md", "curves.png", "versions.json", "run.json")}


def test_the_file_is_the_records():
    (file,) = RECORD.files
    assert find.find_file(RECORD) == FOLDER / file.name
    assert f"sha256 {checksums(FOLDER / file.name)[1]}" == file.checksum


def test_record_sidecar_and_run_describe_one_network():
    beside, run = find_source(str(FOLDER / "cifar10.weights.h5")).facts, Run.finished(FOLDER / "run")
    known = find_source("cifar10").facts
    for name in ("width", "crop_size", "classes", "class_names", "activation", "classifier_activation"):
        assert getattr(beside, name) == getattr(known, name), name
    assert same_network(beside.structure, known.structure) and same_network(run.structure, known.structure)
    assert list(RECORD.class_names) == CLASSES == list(run.class_names) == (FOLDER / "1" / "assets" / "labels.txt").read_text().split()
    size = int(run.number("crop_size")) or run.structure.crop_size
    assert run.number("width") == RECORD.width and size == RECORD.crop_size
    assert RECORD.protocol == run.protocol == ClassificationProtocol((RECORD.crop_size,))


def test_report_card_record_and_documentation_state_the_same_accuracy():
    """That of the weights in float16; the run's report is of the weights in float32, with activations in bfloat16."""
    card, results = CARD.read_text(), dict(Run.finished(FOLDER / "run").results())
    first = RECORD.results[0]
    top1, top5 = f"{100 - first.top1_error:.2f}", f"{100 - first.top5_error:.2f}"
    for name, stated in (("top-1 accuracy", top1), ("top-5 accuracy", top5)):
        assert float(results[name].split("%")[0]) == pytest.approx(float(stated), abs=0.1)
    assert f"{top1} / {top5} top-1 / top-5 accuracy %" in RECORD.result and results["test images"] == f"{first.images:,}"
    assert all(str(result) in card for result in RECORD.results)
    assert f"`cifar10.weights.h5`, {RECORD.files[0].checksum}" in card and RECORD.licence in card
    page = (ROOT / "docs" / "weights.md").read_text()
    assert all(f"{100 - result.top1_error:.2f} %" in page for result in RECORD.results)


def test_weights_by_name_give_the_network_with_and_without_its_top():
    model = kw.WiderResNet(weights="cifar10")
    assert model.input_shape == (None, RECORD.crop_size, RECORD.crop_size, 3) and model.output_shape == (None, len(CLASSES))
    features = kw.WiderResNet(weights="cifar10", include_top=False)
    np.testing.assert_array_equal(features.get_layer("bn7").get_weights()[0], model.get_layer("bn7").get_weights()[0])


def test_the_export_gives_what_the_weights_give():
    """Its kernels are stored in 16 bits, and its card says how far that may be off."""
    model, served = kw.WiderResNet(weights="cifar10"), tf.saved_model.load(str(FOLDER / "1"))
    shown = np.stack([seen_view(decode_rgb(tf.constant(raw)), RECORD.crop_size) for raw in PHOTOGRAPHS])
    expected = model.predict_on_batch(kw.preprocess_input(shown))
    found = served.signatures["tensor"](images=tf.constant(shown, tf.float32))["probabilities"].numpy()
    assert difference(found, expected) <= TOLERANCES["float16"]
    assert re.search(rf"SavedModel, tensor +\| \S+ +\| {TOLERANCES['float16']:g} ", CARD.read_text())
    answers = served.signatures["serving_default"](image_bytes=tf.constant(PHOTOGRAPHS))
    assert [row[0].decode() for row in answers["classes"].numpy()] == [CLASSES[index] for index in found.argmax(axis=1)]


def test_predict_names_cifar10s_classes(tmp_path, capsys):
    (tmp_path / "cat.jpg").write_bytes(REAL_PHOTOGRAPHS["cat odd"])
    main(["predict", "cat.jpg", "--weights=cifar10", "--top=10"])
    printed = capsys.readouterr().out
    assert f"centre crop: {RECORD.crop_size} of scale {RECORD.crop_size}" in printed
    assert all(re.search(rf"^{name} +\d", printed, re.M) for name in CLASSES)
