"""Models that normalise by themselves: found, asked about, and served as their own users call them."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from photographs import REAL_PHOTOGRAPHS, write_folder

import keras_widerresnet as kw
from keras_widerresnet.analysis.config import Settings
from keras_widerresnet.analysis.measure import measure
from keras_widerresnet.analysis.snapshots import snapshots
from keras_widerresnet.cli import main
from keras_widerresnet.data.images import decode_rgb
from keras_widerresnet.data.resize import test_view as seen_view
from keras_widerresnet.errors import InputError
from keras_widerresnet.export import ExportConfig, export
from keras_widerresnet.export.fold import inference_network
from keras_widerresnet.export.run import single_function
from keras_widerresnet.export.source import find_exported
from keras_widerresnet.loading import layers_before_convolution, takes_pixels
from keras_widerresnet.models import BuildOptions, ModelOptions, SegmenterOptions, find_source
from keras_widerresnet.tasks.classification.data import load_data
from keras_widerresnet.tasks.classification.network import load_classifier
from keras_widerresnet.tasks.segmentation.network import load_segmenter

STRUCTURE, SIZE, CLASSES = "28-0-1-1-1-1-1-0", 32, 7
MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
PHOTOGRAPHS = list(REAL_PHOTOGRAPHS.values())


@keras.saving.register_keras_serializable("tests")
class Halved(keras.layers.Layer):
    def call(self, inputs):
        return inputs / 2


@keras.saving.register_keras_serializable("tests")
def scaled(images):
    return images / 127.5 - 1


def backbone(**options):
    """A narrow network whose batch-norm statistics are those of normalised photographs, so that normalising twice shows."""
    keras.utils.set_random_seed(1)
    network = kw.WiderResNet(STRUCTURE, width=0.0625, classes=CLASSES, input_shape=(SIZE, SIZE, 3), **options)
    shown = kw.preprocess_input(pixels())
    for _ in range(40):
        network(shown, training=True)
    return network


def pixels():
    return np.stack([seen_view(decode_rgb(tf.constant(photograph)), SIZE) for photograph in PHOTOGRAPHS])


def image_input():
    return keras.Input((SIZE, SIZE, 3))


def wrapped(before, network):
    inputs = image_input()
    return keras.Model(inputs, network(before(inputs)))


def in_graph(before, _):
    inputs = image_input()
    return kw.WiderResNet(STRUCTURE, width=0.0625, classes=CLASSES, input_tensor=before(inputs))


def normalisation(**options):
    layer = keras.layers.Normalization(**({"mean": 255 * MEAN, "variance": (255 * DEVIATION) ** 2} | options))
    layer.build((None, SIZE, SIZE, 3))
    return layer


def adapted(axis):
    layer = keras.layers.Normalization(axis=axis)
    layer.adapt(pixels())
    return layer


def nested_preprocessing():
    inputs = image_input()
    return keras.Model(inputs, keras.layers.Rescaling(1 / 255)(inputs), name="before")


def padded(images):
    return keras.layers.Rescaling(2.0)(keras.layers.ZeroPadding2D(0)(images))


def one_by_one():
    layer = keras.layers.DepthwiseConv2D(1, name="colours")
    layer.build((None, SIZE, SIZE, 3))
    return layer


# What users put into a model, and words by which it is named.
INSIDE = {
    "preprocess_input": (lambda network: wrapped(kw.preprocess_input, network), "TrueDivide"),
    "preprocess_input, one graph": (lambda network: in_graph(kw.preprocess_input, network), "TrueDivide"),
    "Keras' own": (lambda network: wrapped(keras.applications.imagenet_utils.preprocess_input, network), "GetItem|Subtract|Add"),
    "Rescaling": (lambda network: wrapped(keras.layers.Rescaling(1 / 255), network), "Rescaling"),
    "Normalization": (lambda network: wrapped(normalisation(), network), "Normalization"),
    "Normalization, adapted": (lambda network: wrapped(adapted(-1), network), "Normalization"),
    "Normalization, each pixel": (lambda network: wrapped(adapted((1, 2, 3)), network), "Normalization"),
    "BatchNormalization": (lambda network: wrapped(keras.layers.BatchNormalization(), network), "BatchNormalization"),
    "LayerNormalization": (lambda network: wrapped(keras.layers.LayerNormalization(axis=(1, 2, 3)), network), "LayerNormalization"),
    "Lambda": (lambda network: wrapped(keras.layers.Lambda(scaled), network), "Lambda"),
    "a layer of one's own": (lambda network: wrapped(Halved(), network), "Halved"),
    "raw operations": (lambda network: wrapped(lambda x: (x - 127.5) / 127.5, network), "Subtract"),
    "BGR": (lambda network: wrapped(lambda x: x[..., ::-1], network), "GetItem"),
    "clipped": (lambda network: wrapped(lambda x: keras.ops.clip(x, 0, 1), network), "Clip"),
    "behind padding": (lambda network: wrapped(padded, network), "Rescaling"),
    "nested preprocessing": (lambda network: wrapped(nested_preprocessing(), network), "before/.*Rescaling"),
    "Sequential": (lambda network: keras.Sequential([image_input(), keras.layers.Rescaling(1 / 255), network]), "Rescaling"),
    "Sequential of Sequential": (
        lambda network: keras.Sequential([image_input(), keras.Sequential([keras.layers.Rescaling(1 / 255)]), network]),
        "Rescaling",
    ),
    "inside the nested network": (lambda network: wrapped(lambda x: x, keras.Sequential([image_input(), Halved(), network])), "Halved"),
    "1x1 convolution": (lambda network: wrapped(one_by_one(), network), "colours"),
    "two branches": (
        lambda network: wrapped(lambda x: keras.layers.Add()([x, keras.layers.Rescaling(0.5)(x)]), network),
        "Rescaling",
    ),
}  # fmt: skip
NOTHING = {
    "ours": lambda network: network,
    "ours, without the top": lambda _: kw.WiderResNet(STRUCTURE, width=0.0625, include_top=False, input_shape=(SIZE, SIZE, 3)),
    "strided": lambda _: kw.WideResNetA1(width=0.0625, classes=3),
    "segmentation": lambda _: kw.WideResNetFCN(STRUCTURE, 5, output_stride=None, width=0.0625, upsample=True),
    "for inference": inference_network,
    "wrapped": lambda network: keras.Sequential([image_input(), network]),
    "padded": lambda network: wrapped(keras.layers.ZeroPadding2D(0), network),
    "dropout": lambda network: wrapped(keras.layers.Dropout(0.1), network),
}


@pytest.fixture(scope="module")
def network():
    return backbone()


@pytest.mark.parametrize("case", INSIDE)
def test_what_is_inside_is_found_and_asked_about(network, tmp_path, case):
    build, words = INSIDE[case]
    model = build(network)
    model.save(tmp_path / "model.keras")
    with pytest.raises(InputError, match=f"between its input and its first convolution, .*({words}).*--preprocessing=none"):
        load_classifier(ModelOptions(weights=str(tmp_path / "model.keras")))


@pytest.mark.parametrize("case", ["preprocess_input", "Sequential", "Normalization, adapted"])
def test_what_is_said_is_done(network, tmp_path, case):
    model = INSIDE[case][0](network)
    model.save(tmp_path / "model.keras")
    for preprocessing, seen in (("none", pixels()), ("release", kw.preprocess_input(pixels()))):
        found = load_classifier(ModelOptions(weights=str(tmp_path / "model.keras"), preprocessing=preprocessing))
        np.testing.assert_allclose(found.predict(pixels()), model.predict_on_batch(seen), rtol=1e-3, atol=1e-5)
        assert found.preprocessing == preprocessing


@pytest.mark.parametrize("case", NOTHING)
def test_nothing_is_found_in_our_own(network, case):
    assert layers_before_convolution(NOTHING[case](network)) == []


def test_a_model_of_which_nothing_can_be_seen_is_asked_about():
    class Mine(keras.Model):
        def call(self, inputs):
            return inputs / 255

    (found,) = layers_before_convolution(Mine(name="mine"))
    assert "mine (Mine, which cannot be inspected)" in found


# Of the cases above those that normalise as the release does, or nearly: their exports are right when asked with pixels.
SERVED = [("preprocess_input", False), ("preprocess_input, one graph", True), ("Normalization, adapted", True), ("Sequential", True)]


@pytest.mark.parametrize(("case", "fold"), SERVED)
def test_exports_are_the_model_as_its_user_calls_it(network, tmp_path, case, fold):
    model = INSIDE[case][0](network)
    model.save(tmp_path / "model.keras")
    options = {"weights": str(tmp_path / "model.keras"), "output": str(tmp_path / "net"), "fold": fold, "warmup": False}
    with pytest.raises(InputError, match="--preprocessing=none"):
        export(ExportConfig(**options))
    assert not (tmp_path / "net").exists()
    done = export(ExportConfig(**options, preprocessing="none"))
    loaded = tf.saved_model.load(str(done.path))
    expected = model.predict_on_batch(pixels())
    served = loaded.signatures["tensor"](images=tf.constant(pixels()))["probabilities"]
    np.testing.assert_allclose(served, expected, atol=1e-4)
    answers = loaded.signatures["serving_default"](image_bytes=tf.constant(PHOTOGRAPHS))
    np.testing.assert_allclose(answers["probabilities"], np.sort(expected, axis=1)[:, ::-1][:, :5], atol=1e-4)
    card = (done.path / "MODEL_CARD.md").read_text()
    assert "RGB values 0..255 unchanged" in card and "the model normalises its inputs itself, by its own " in card
    assert "--preprocessing=none" in card and "less (0.485" not in card


def test_single_files_take_pixels_too(network, tmp_path):
    model = INSIDE["preprocess_input"][0](network)
    model.save(tmp_path / "model.keras")
    config = ExportConfig(
        weights=str(tmp_path / "model.keras"), output=str(tmp_path / "net"), preprocessing="none", tflite=("float16",), warmup=False
    )
    done = export(config)
    interpreter = tf.lite.Interpreter(str(done.path / "model_float16.tflite"))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels()[:1])
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, model.predict_on_batch(pixels()[:1]), atol=0.02)
    source = find_exported(config)
    np.testing.assert_allclose(single_function(source.model, source.prepare)(pixels()), model.predict_on_batch(pixels()), atol=1e-5)


def test_the_check_of_an_export_does_not_double_what_the_graph_does(network, tmp_path, monkeypatch):
    """An export that normalised although the model does it itself would be refused."""
    from keras_widerresnet.export import source

    INSIDE["preprocess_input"][0](network).save(tmp_path / "model.keras")
    monkeypatch.setattr(source, "as_floats", source.normalise)
    with pytest.raises(InputError, match="SavedModel, tensor failed its check, so nothing is written"):
        export(ExportConfig(weights=str(tmp_path / "model.keras"), output=str(tmp_path / "net"), preprocessing="none", warmup=False))


def test_probabilities_of_a_nested_model_are_not_made_probabilities_again(network, tmp_path):
    INSIDE["Sequential"][0](network).save(tmp_path / "model.keras")
    config = ExportConfig(weights=str(tmp_path / "model.keras"), output=str(tmp_path / "net"), preprocessing="none")
    model = INSIDE["Sequential"][0](network)
    np.testing.assert_allclose(find_exported(config).model(pixels()), model.predict_on_batch(pixels()), atol=1e-6)
    by_operation = keras.Model(network.inputs, keras.ops.softmax(keras.ops.log(network.output)))
    by_operation.save(tmp_path / "operation.keras")
    config = ExportConfig(weights=str(tmp_path / "operation.keras"), output=str(tmp_path / "net"))
    shown = kw.preprocess_input(pixels())
    np.testing.assert_allclose(find_exported(config).model(shown), network.predict_on_batch(shown), atol=1e-5)


def test_folding_leaves_alone_what_operations_read(network):
    """The output of a convolution that an operation takes too is no batch norm's alone."""
    output = network.get_layer("res2a_branch2a").output
    both = keras.Model(network.inputs, network.output + 0 * keras.ops.mean(output, axis=(1, 2, 3))[:, None])
    shown = kw.preprocess_input(pixels())
    np.testing.assert_allclose(inference_network(both)(shown), both.predict_on_batch(shown), atol=1e-5)
    assert not inference_network(both).get_layer("res2a_branch2a").use_bias


def test_commands(network, tmp_path, capsys):
    """Refused in one line without the option, with it as right as in Keras; numbers and report say how it was."""
    write_folder(tmp_path / "set", tuple(f"class{k}" for k in range(CLASSES)), count=5, suffix=".png")
    (tmp_path / "image.jpg").write_bytes(PHOTOGRAPHS[0])
    model = INSIDE["preprocess_input"][0](network)
    model.save(tmp_path / "model.keras")
    data, weights = f"--data=folder:{tmp_path / 'set'}", f"--weights={tmp_path / 'model.keras'}"
    quick = ["--images=1", "--path_images=0", "--lesion_images=0"]
    for number, arguments in enumerate(
        (
            ["evaluate", weights, data, f"--output_dir={tmp_path / 'out'}"],
            ["predict", str(tmp_path / "image.jpg"), weights],
            ["export", weights, f"--output={tmp_path / 'net'}", "--nowarmup"],
            ["analyze", str(tmp_path / "model.keras"), data, f"--output_dir={tmp_path / 'analysis'}", *quick],
        )
    ):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("keras-widerresnet ")]
        assert stopped.value.code == 2 and "--preprocessing=none" in line and "TrueDivide" in line, number
    main(["evaluate", weights, data, f"--output_dir={tmp_path / 'out'}", "--preprocessing=none"])
    images = load_data(f"folder:{tmp_path / 'set'}").test
    shown = np.stack([seen_view(images.image(index), SIZE) for index in range(images.size)])
    wrong = np.mean(model.predict_on_batch(shown).argmax(axis=1) != images.labels)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["top1_error"] == pytest.approx(wrong) and results["preprocessing"] == "none"
    main(["predict", str(tmp_path / "image.jpg"), weights, "--preprocessing=none", "--top=1"])
    best = model.predict_on_batch(seen_view(decode_rgb(tf.constant(PHOTOGRAPHS[0])), SIZE)[None])[0]
    assert f"class {best.argmax()}" in (said := capsys.readouterr().out) and f"{best.max():.2%}" in said


def test_analysis_of_a_model_that_takes_pixels(network, tmp_path):
    """The same network with the normalisation before it has the same effective depth on the same images."""
    plain = tmp_path / "plain.keras"
    network.save(plain)
    inside = in_graph(kw.preprocess_input, None)
    for layer in network.layers:
        if layer.weights:
            inside.get_layer(layer.name).set_weights(layer.get_weights())
    inside.save(tmp_path / "inside.keras")
    write_folder(tmp_path / "set", tuple(f"class{k}" for k in range(CLASSES)), count=5, suffix=".png")
    data, settings = load_data(f"folder:{tmp_path / 'set'}"), Settings(images=2, path_images=0, lesion_images=4, lesion_samples=1)
    with pytest.raises(InputError, match="--preprocessing=none"):
        measure(snapshots([str(tmp_path / "inside.keras")]), data, settings)
    one = measure(snapshots([str(plain)]), data, settings)
    other = measure(snapshots([str(tmp_path / "inside.keras")], BuildOptions(preprocessing="none")), data, settings, "none")
    np.testing.assert_allclose(one.last.shares, other.last.shares, atol=1e-3)
    assert one.lesions.intact == other.lesions.intact


def dense(before=None):
    """A segmentation network, and the same with pixels as its input."""
    keras.utils.set_random_seed(2)
    network = kw.WideResNetFCN(STRUCTURE, 4, output_stride=None, width=0.0625)
    shown = kw.preprocess_input(pixels())
    for _ in range(40):
        network(shown, training=True)
    inputs = keras.Input((None, None, 3))
    return network, keras.Model(inputs, network(kw.preprocess_input(inputs)))


def test_segmentation_networks_that_take_pixels(tmp_path):
    network, inside = dense()
    inside.save(tmp_path / "inside.keras")
    network.save(tmp_path / "plain.keras")
    with pytest.raises(InputError, match="--preprocessing=none"):
        load_segmenter(SegmenterOptions(weights=str(tmp_path / "inside.keras")))
    found = load_segmenter(SegmenterOptions(weights=str(tmp_path / "inside.keras"), preprocessing="none"))
    shown = kw.preprocess_input(pixels())
    np.testing.assert_allclose(found.predict(shown), network.predict_on_batch(shown), rtol=1e-3, atol=1e-3)
    done = {}
    for name, preprocessing in (("inside", "none"), ("plain", "")):
        output = str(tmp_path / name)
        config = ExportConfig(weights=str(tmp_path / f"{name}.keras"), output=output, preprocessing=preprocessing, warmup=False)
        done[name] = tf.saved_model.load(str(export(config).path))
    answers = [done[name].signatures["serving_default"](image_bytes=tf.constant(PHOTOGRAPHS[:1])) for name in ("inside", "plain")]
    np.testing.assert_allclose(answers[0]["scores"], answers[1]["scores"], atol=1e-3)
    with pytest.raises(InputError, match=r"accepts RGB values 0\.\.255"):
        load_segmenter(SegmenterOptions(weights=str(tmp_path / "plain"), preprocessing="release"))


def test_pixels_arrive_as_they_were():
    """To a segmentation network that takes them: whole numbers, whatever was computed on the way."""
    from keras_widerresnet.tasks.segmentation.network import of_pixels

    values = np.arange(256, dtype=np.float32)[:, None].repeat(3, axis=1).reshape(1, 16, 16, 3)
    np.testing.assert_array_equal(of_pixels(lambda images: images)(kw.preprocess_input(values)), values)


def test_saved_models_of_others(network, tmp_path):
    """Without a signature of ours they get normalised images, as before, or pixels if that is said."""
    network.export(str(tmp_path / "plain"), verbose=False)
    INSIDE["preprocess_input"][0](network).export(str(tmp_path / "inside"), verbose=False)
    expected = network.predict_on_batch(kw.preprocess_input(pixels()))
    for name, preprocessing in (("plain", ""), ("plain", "release"), ("inside", "none")):
        found = load_classifier(ModelOptions(weights=str(tmp_path / name), preprocessing=preprocessing))
        np.testing.assert_allclose(found.predict(pixels()), expected, atol=1e-5)


def test_of_our_own_exports_and_published_weights_the_preprocessing_is_known(network, tmp_path):
    network.save(tmp_path / "model.keras")
    done = export(ExportConfig(weights=str(tmp_path / "model.keras"), output=str(tmp_path / "net"), warmup=False))
    expected = network.predict_on_batch(kw.preprocess_input(pixels()))
    for preprocessing in ("", "none"):
        found = load_classifier(ModelOptions(weights=str(done.path), preprocessing=preprocessing))
        np.testing.assert_allclose(found.predict(pixels()), expected, atol=1e-4)
    with pytest.raises(InputError, match=r"accepts RGB values 0\.\.255.* omit --preprocessing"):
        load_classifier(ModelOptions(weights=str(done.path), preprocessing="release"))
    card = (done.path / "MODEL_CARD.md").read_text()
    assert "RGB / 255, minus (0.485, 0.456, 0.406), divided by (0.229, 0.224, 0.225); inside the graph" in card
    with pytest.raises(InputError, match="must be one of release, none"):
        ExportConfig(weights="imagenet", output="x", preprocessing="caffe")
    with pytest.raises(InputError, match="'imagenet-a1' expects images normalised as in the official release"):
        takes_pixels(network, find_source("imagenet-a1"), "none")
    assert not takes_pixels(network, find_source("imagenet-a1"), "")
