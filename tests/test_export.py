"""Exports against the Keras model, on real photographs; versions that are there whole or not at all."""

import contextlib
import json
import pathlib
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from photographs import REAL_PHOTOGRAPHS
from test_readme import ROOT

import keras_widerresnet as kw
from keras_widerresnet.data.images import decode_rgb
from keras_widerresnet.data.resize import normalise
from keras_widerresnet.data.resize import test_view as seen_view
from keras_widerresnet.errors import InputError
from keras_widerresnet.export import ExportConfig, export, verify
from keras_widerresnet.export.card import write_card
from keras_widerresnet.export.fold import inference_network
from keras_widerresnet.export.graphs import SegmenterGraph
from keras_widerresnet.export.source import Exported, find_exported
from keras_widerresnet.export.version import new_version, remove_old, versions
from keras_widerresnet.protocols import SegmentationProtocol
from keras_widerresnet.tasks.classification.data import load_data
from keras_widerresnet.tasks.segmentation.views import pixel_scores
from keras_widerresnet.weights import PRETRAINED

DIGITS = ROOT / "saved_models" / "digits"
SIZE = 32
STRUCTURE = "28-0-1-1-1-1-1-0"
PHOTOGRAPHS = list(REAL_PHOTOGRAPHS.values())
CORRUPT = [b"", b"no image", PHOTOGRAPHS[0][:2000], b"\x89PNG\r\n\x1a\n and no more"]
# A bare TensorFlow program: neither this package nor Keras can be imported.
FRESH = """
import json, sys
sys.modules["keras_widerresnet"] = sys.modules["keras"] = None
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
images = [open(path, "rb").read() for path in sys.argv[2:]]
outputs = loaded.signatures["serving_default"](image_bytes=tf.constant(images))
names = [[name.decode() for name in row] for row in outputs["classes"].numpy()]
print(json.dumps({name: array.numpy().tolist() for name, array in outputs.items() if name != "classes"} | {"classes": names}))
"""


def settled(model, side=SIZE):
    """With batch-norm statistics of real photographs, so that probabilities are neither 0 nor 1."""
    keras.utils.set_random_seed(1)
    shown = tf.stack([seen_view(decode_rgb(tf.constant(photograph)), side) for photograph in PHOTOGRAPHS])
    for _ in range(40):
        model(normalise(shown), training=True)
    return model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A narrow network and the file that holds it."""
    network = settled(kw.WiderResNet(STRUCTURE, width=0.0625, classes=12, input_shape=(SIZE, SIZE, 3), dropout=0.3))
    path = tmp_path_factory.mktemp("model") / "narrow.keras"
    network.save(path)
    return network, str(path)


@pytest.fixture(scope="module")
def expected(model):
    shown = np.stack([seen_view(decode_rgb(tf.constant(photograph)), SIZE) for photograph in PHOTOGRAPHS])
    return shown, model[0].predict_on_batch(normalise(shown))


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    names = tmp_path_factory.mktemp("names") / "names.txt"
    names.write_text("".join(f"thing {k}\n" for k in range(12)))
    return export(
        ExportConfig(weights=model[1], output=str(tmp_path_factory.mktemp("exports") / "narrow"), class_names=str(names), top=12)
    ).path


def test_a_fresh_process_without_the_package_gives_the_keras_models_probabilities(exported, expected, tmp_path):
    paths = [tmp_path / f"{number}.jpg" for number in range(len(PHOTOGRAPHS) + len(CORRUPT))]
    for path, content in zip(paths, PHOTOGRAPHS[:2] + CORRUPT + PHOTOGRAPHS[2:], strict=True):
        path.write_bytes(content)
    result = subprocess.run([sys.executable, "-c", FRESH, str(exported), *map(str, paths)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found = {name: np.array(values) for name, values in json.loads(result.stdout).items()}
    is_real = np.array([True] * 2 + [False] * len(CORRUPT) + [True] * (len(PHOTOGRAPHS) - 2))
    assert found["valid"].tolist() == is_real.tolist()
    indices, probabilities = found["indices"][is_real], found["probabilities"][is_real]
    assert expected[1].max() < 0.999 and (np.diff(probabilities) <= 0).all()
    np.testing.assert_allclose(probabilities, np.take_along_axis(expected[1], indices, axis=1), atol=1e-5)
    assert found["classes"][is_real].tolist() == [[f"thing {k}" for k in row] for row in indices]
    assert (found["indices"][~is_real] == -1).all() and not found["probabilities"][~is_real].any()
    assert set(found["classes"][~is_real].ravel()) == {""}


def test_other_signatures_and_batches(model, exported, expected):
    loaded = tf.saved_model.load(str(exported))
    shown, probabilities = expected
    found = loaded.signatures["tensor"](images=tf.constant(shown))["probabilities"]
    np.testing.assert_allclose(found, probabilities, atol=1e-5)
    pooled = keras.Model(model[0].inputs, model[0].get_layer("pool7").output)
    features = loaded.signatures["features"](images=tf.constant(shown))["features"]
    np.testing.assert_allclose(features, pooled.predict_on_batch(normalise(shown)), rtol=1e-4, atol=1e-4)
    serve = loaded.signatures["serving_default"]
    for images in ([b"none"], [b"none"] * 3):
        answers = serve(image_bytes=tf.constant(images, tf.string, [len(images)]))
        assert answers["valid"].numpy().tolist() == [False] * len(images)
        assert answers["probabilities"].shape == (len(images), 12)


def test_the_graph_is_for_inference_and_carries_its_labels(model, exported):
    assert (exported / "assets" / "labels.txt").read_text().split("\n")[:2] == ["thing 0", "thing 1"]
    loaded = tf.saved_model.load(str(exported))
    nodes = list(loaded.signatures["tensor"].graph.as_graph_def().node)
    for function in loaded.signatures["tensor"].graph.as_graph_def().library.function:
        nodes += function.node_def
    operations = [node.op for node in nodes]
    assert not [op for op in operations if "Random" in op or "Dropout" in op or "Gradient" in op or "PyFunc" in op]
    norms = [node for node in nodes if node.op.startswith("FusedBatchNorm")]
    assert not any(node.attr["is_training"].b for node in norms)
    plain = [layer for layer in model[0].layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert 0 < len(norms) < len(plain)
    stored = tf.train.list_variables(str(exported / "variables" / "variables"))
    numbers = sum(np.prod(shape) for name, shape in stored if name.startswith("_network"))
    assert numbers == sum(np.prod(weight.shape) for weight in inference_network(model[0]).weights)  # no optimizer, no seeds


def test_warm_up_requests_are_prediction_logs_that_the_model_answers(exported):
    from tensorflow_serving.apis import prediction_log_pb2

    loaded = tf.saved_model.load(str(exported))
    records = tf.data.TFRecordDataset(str(exported / "assets.extra" / "tf_serving_warmup_requests"))
    asked = []
    for record in records.as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
        outputs = loaded.signatures[request.model_spec.signature_name](**inputs)
        assert outputs.get("valid", tf.constant([True])).numpy().all()
        asked.append(request.model_spec.signature_name)
    assert asked == ["serving_default", "tensor", "features"]


def test_half_precision_tflite_and_onnx_agree(model, expected, tmp_path):
    import onnxruntime

    forms = {"weight_type": "float16", "tflite": ("float16", "int8"), "onnx": True}
    config = ExportConfig(weights=str(DIGITS / "run"), output=str(tmp_path / "all"), images="digits", **forms)
    done = export(config)
    kept = {one.form: one for one in done.checked}
    assert {"SavedModel, tensor", "TFLite, float16", "TFLite, int8", "ONNX"} <= set(kept)
    data = load_data("digits")
    shown = np.stack([seen_view(data.test.image(index), 28) for index in range(64)])
    keras_model = keras.models.load_model(DIGITS / "run" / "final.keras", compile=False)
    wanted = keras_model.predict_on_batch(normalise(shown))
    half = tf.saved_model.load(str(done.path)).signatures["tensor"](images=tf.constant(shown))["probabilities"]
    assert 0 < np.abs(half - wanted).max() < 0.02
    size, full_size = ((folder / "variables" / "variables.data-00000-of-00001").stat().st_size for folder in (done.path, DIGITS / "1"))
    assert size < 0.6 * full_size
    for kind, tolerance in (("float16", 0.02), ("int8", 0.1)):
        interpreter = tf.lite.Interpreter(str(done.path / f"model_{kind}.tflite"))
        interpreter.allocate_tensors()
        found = []
        for image in shown:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
            interpreter.invoke()
            found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
        assert 0 < np.abs(np.array(found) - wanted).max() < tolerance
        assert (np.argmax(found, axis=1) == wanted.argmax(axis=1)).mean() > 0.98
    session = onnxruntime.InferenceSession(str(done.path / "model.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"images": shown})[0], wanted, atol=1e-5)


def test_what_differs_too_much_is_refused_and_leaves_nothing(model, tmp_path, monkeypatch):
    monkeypatch.setitem(verify.TOLERANCES, "float16", 1e-7)
    with pytest.raises(InputError, match=r"SavedModel, tensor failed its check, so nothing is written: .* differ .* tolerance of 1e-07"):
        export(ExportConfig(weights=model[1], output=str(tmp_path / "refused"), weight_type="float16"))
    assert not list(tmp_path.iterdir())


def test_a_network_trained_in_16_bits_is_served_in_float32(model, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = kw.WiderResNet(STRUCTURE, width=0.0625, classes=12, input_shape=(SIZE, SIZE, 3))
    finally:
        keras.config.set_dtype_policy("float32")
    names = [layer.name for layer in model[0].layers if layer.weights and "_do" not in layer.name]
    for name in names:
        mixed.get_layer(name).set_weights(model[0].get_layer(name).get_weights())
    mixed.save(tmp_path / "mixed.keras")
    source = find_exported(ExportConfig(weights=str(tmp_path / "mixed.keras"), output=str(tmp_path / "net")))
    images = np.random.default_rng(0).normal(size=(2, SIZE, SIZE, 3)).astype(np.float32)
    wanted = model[0].predict_on_batch(images)
    assert np.abs(mixed.predict_on_batch(images) - wanted).max() > 1e-4
    np.testing.assert_allclose(source.model.predict_on_batch(images), wanted, atol=1e-6)


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="failed its check"):
        verify.check("SavedModel, tensor", "float32", np.array([[np.nan, 1.0]]), np.array([[0.5, 0.5]]))


def test_segmentation_is_the_evaluations(tmp_path):
    model = settled(kw.WideResNetFCN(STRUCTURE, 5, output_stride=None, width=0.0625), 64)
    model.save(tmp_path / "dense.keras")
    done = export(ExportConfig(weights=str(tmp_path / "dense.keras"), output=str(tmp_path / "dense")))
    loaded = tf.saved_model.load(str(done.path))
    resizing = SegmenterGraph(model, 4, 96, done.path / "assets" / "labels.txt")
    sides = ((90, 120), (61, 91))
    cut = (decode_rgb(tf.constant(raw))[:height, :width] for raw, (height, width) in zip(PHOTOGRAPHS, sides, strict=False))
    photographs = [tf.io.encode_png(image).numpy() for image in cut]
    batch = tf.constant([photographs[0], b"none", photographs[1]])
    for serve, protocol in (
        (loaded.signatures["serving_default"], SegmentationProtocol()),
        (resizing.endpoints["serving_default"], SegmentationProtocol((96,))),
    ):
        answers = {name: array.numpy() for name, array in serve(image_bytes=batch).items()}
        label_maps, scores = answers["label_maps"], answers["scores"]
        assert answers["sizes"].tolist() == [[90, 120], [0, 0], [61, 91]] and answers["valid"].tolist() == [True, False, True]
        assert label_maps.dtype == np.uint8 and label_maps.shape == scores.shape == (3, 90, 120)
        assert (label_maps[1] == 255).all() and (label_maps[2, 61:] == 255).all() and (label_maps[2, :, 91:] == 255).all()
        assert not scores[1].any() and not scores[2, 61:].any()
        for row, raw, (height, width) in zip((0, 2), photographs, sides, strict=True):
            wanted = pixel_scores(lambda images: model(images, training=False), decode_rgb(tf.constant(raw)).numpy(), protocol, 4)
            given = label_maps[row, :height, :width]
            answered = np.take_along_axis(wanted, given[..., None].astype(int), axis=-1)[..., 0]
            np.testing.assert_allclose(answered, wanted.max(axis=-1), atol=1e-5)  # ties may fall either way
            np.testing.assert_allclose(scores[row, :height, :width], wanted.max(axis=-1).clip(0, 1), atol=1e-5)
            assert len(np.unique(given)) > 1
    pixels = tf.cast(decode_rgb(tf.constant(photographs[0])), tf.float32)[None]
    dense = loaded.signatures["tensor"](images=pixels)["probabilities"]
    plain = loaded.signatures["serving_default"](image_bytes=batch)["label_maps"]
    assert dense.shape == (1, 90, 120, 5) and np.array_equal(np.argmax(dense[0], axis=-1), plain[0])


def write(output, **options):
    with new_version(output, **options) as (folder, path):
        (folder / "saved_model.pb").write_text("graph")
    return path


def test_versions_count_up_and_are_not_overwritten(tmp_path):
    base = tmp_path / "net"
    assert [write(base).name for _ in range(2)] == ["1", "2"]
    assert write(base / "9").name == "9" and write(str(base)).name == "10"
    with pytest.raises(InputError, match="exists; --overwrite replaces it"):
        write(base / "9")
    (base / "9" / "old").write_text("")
    assert write(base / "9", overwrite=True) == base / "9" and not (base / "9" / "old").exists()
    (base / "notes").mkdir()
    assert versions(base) == [1, 2, 9, 10]
    assert remove_old(base / "10", keep=2) == [1, 2] and versions(base) == [9, 10]
    assert write(base / "3") and remove_old(base / "3", keep=2) == [] and remove_old(base / "10", keep=0) == []
    assert {entry.name for entry in base.iterdir()} == {"3", "9", "10", "notes"}
    with pytest.raises(InputError, match="cannot be written"):
        write(base / "notes" / ".." / ".." / "net" / "10" / "saved_model.pb" / "deeper")


def test_a_server_that_polls_sees_whole_versions_only(tmp_path):
    """Looks at the folder without pause, as TF Serving does now and then, while versions are written slowly, replaced and removed."""
    base, seen, stop = tmp_path / "net", set(), threading.Event()

    def poll():
        is_last = False
        while not is_last:
            is_last = stop.is_set()  # one more look when all is written
            for number in versions(base):
                folder = base / str(number)
                with contextlib.suppress(FileNotFoundError):
                    before = folder.stat().st_ino
                    names = sorted(entry.name for entry in folder.iterdir())
                    if folder.stat().st_ino == before:  # else it was replaced while it was listed
                        seen.add((number, *names))

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        for output, overwrite in [(base, False)] * 4 + [(base / "4", True)]:
            with new_version(output, overwrite=overwrite) as (folder, path):
                for name in ("a", "b", "c"):
                    (folder / name).write_text(name)
                    time.sleep(0.02)
            remove_old(path, keep=2)
    finally:
        stop.set()
        thread.join()
    assert {(number, "a", "b", "c") for number in (3, 4)} <= seen <= {(number, "a", "b", "c") for number in (1, 2, 3, 4)}


def test_a_failed_or_late_export_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), new_version(tmp_path / "net") as (folder, _):
        (folder / "half").write_text("")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="cannot be written"), new_version(tmp_path / "net") as (folder, path):
        (folder / "late").write_text("")
        (path / "early").mkdir(parents=True)  # another export was faster
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["net", "net/1", "net/1/early"]


def test_the_committed_network_is_what_the_script_makes_of_its_run(tmp_path):
    """And it is small, has its card, and knows the digits."""
    files = [path for path in DIGITS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2e6
    done = export(ExportConfig(weights=str(DIGITS / "run"), output=str(tmp_path / "digits"), images="digits"))
    data = load_data("digits")
    encoded = tf.constant([tf.io.encode_png(data.test.image(index)).numpy() for index in range(data.test.size)])
    ours, committed = (
        tf.saved_model.load(str(path)).signatures["serving_default"](image_bytes=encoded) for path in (done.path, DIGITS / "1")
    )
    np.testing.assert_allclose(ours["probabilities"], committed["probabilities"], atol=1e-5)
    accuracy = np.mean([int(row[0]) == label for row, label in zip(committed["classes"].numpy(), data.test.labels, strict=True)])
    assert accuracy >= 0.99
    card = (DIGITS / "1" / "MODEL_CARD.md").read_text()
    assert (
        f"top-1 accuracy                        | {accuracy:.2%}" in card and "--structure=28-0-1-1-1-1-1-0" in card and "CC BY 4.0" in card
    )
    names = [{path.name for path in folder.rglob("*") if path.is_file()} for folder in (done.path, DIGITS / "1")]
    assert names[0] <= names[1] <= names[0] | {"tf_serving_warmup_requests"}


def test_the_card_of_published_weights_has_licence_and_result(tmp_path):
    record = PRETRAINED["imagenet-a1"]
    model = kw.WideResNetA1(width=0.125)
    source = Exported(model, ("x",) * 1000, 320, structure=kw.STRUCTURES["A1"], width=1.0, record=record)
    checked = [verify.Checked("SavedModel, tensor", 1e-6, 1e-4)]
    folder = tmp_path / "a1" / "1"
    folder.mkdir(parents=True)
    write_card(folder, ExportConfig(weights="imagenet-a1", output="saved_models/a1", size=320, fold=False), source, checked)
    card = (folder / "MODEL_CARD.md").read_text()
    for words in (record.licence, record.result, "shorter side resized to 320 pixels (bicubic", "Model A1", "# a1", "1.0e-06"):
        assert words in card, words
    assert "keras-widerresnet export --weights=imagenet-a1 --output=saved_models/a1 --size=320 --nofold" in card


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": "none.keras"}, "No model found at 'none.keras'"),
        ({"weights": "none.weights.h5"}, "No model found at 'none.weights.h5'"),
        ({"size": 64}, "accepts only images of 32 pixels"),
        ({"top": 0}, "--top must be at least 1"),
        ({"tflite": ("int4",)}, "--tflite must be any of float16, int8"),
        ({"class_names": "none.txt"}, "There is no file of class names"),
        ({"class_names": str(ROOT / "scripts" / "flags" / "shapes.flags")}, "The network has 12 classes, but there are"),
        ({"class_names": __file__}, "class name '' .* is empty"),
        ({"weight_type": "int8"}, "--weight_type must be one of"),
        ({"images": "none"}, "Unknown data set"),
    ],
)
def test_bad_settings_are_refused(model, tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        export(ExportConfig(**{"weights": model[1], "output": str(tmp_path / "net"), **options}))
    assert not list(tmp_path.iterdir())


def test_script(model, tmp_path):
    def script(*arguments):
        command = [sys.executable, str(ROOT / "scripts" / "export.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    first = script(f"--weights={model[1]}", f"--output={tmp_path / 'net'}", "--nofold", "--keep=1")
    assert first.returncode == 0, first.stderr
    assert f"Version: {tmp_path / 'net' / '1'}" in first.stdout and "SavedModel, serving_default" in first.stdout
    again = script(f"--weights={model[1]}", f"--output={tmp_path / 'net' / '1'}")
    assert again.returncode == 2 and "--overwrite replaces it" in again.stderr and "Traceback" not in again.stderr
    assert [path.name for path in pathlib.Path(tmp_path / "net").iterdir()] == ["1"]
