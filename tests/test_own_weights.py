"""Weights of this project by name: a narrow network stands in for the committed one, from its run to every command that loads it."""

import ast
import contextlib
import dataclasses
import io
import json
import logging

import keras
import numpy as np
import pytest
from PIL import Image

import keras_widerresnet as kw
from keras_widerresnet.cli import main
from keras_widerresnet.conversion import convert_named
from keras_widerresnet.conversion_config import ConversionConfig
from keras_widerresnet.errors import InputError
from keras_widerresnet.loading import load_network
from keras_widerresnet.models import find_source
from keras_widerresnet.protocols import ClassificationProtocol
from keras_widerresnet.weights import PRETRAINED, find, registry
from keras_widerresnet.weights.checksums import checksums
from keras_widerresnet.weights.keras_file import read_keras_weights
from keras_widerresnet.weights.listing import network_call

STRUCTURE, WIDTH, SIZE = "64-1-1-1-0-0-0-0", 0.125, 32  # trained on smaller images than the structure's
NAMES = ("ant", "bee", "cow")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory with what its readers need."""
    path = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(3)
    network = kw.WiderResNet(STRUCTURE, width=WIDTH, classes=len(NAMES), input_shape=(SIZE, SIZE, 3))
    network.compile("sgd", "categorical_crossentropy")
    network.save(path / "final.keras")
    (path / "flags.txt").write_text(f"--structure={STRUCTURE}\n--width={WIDTH}\n--crop_size={SIZE}\n--pool_padding=ceil\n")
    (path / "run.json").write_text(json.dumps({"task": "classification", "class_names": NAMES}))
    return path


@pytest.fixture(scope="module")
def converted(run, tmp_path_factory):
    """The file of weights that `convert` makes of the run, and what it prints."""
    path = tmp_path_factory.mktemp("converted") / "own.weights.h5"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        main(["convert", f"--source={run}", f"--output={path}", "--verify"])
    return path, printed.getvalue()


def test_kernels_in_half_precision(run, converted, tmp_path):
    """They are those of the run, rounded; vectors are exact, and the network that loads them computes in float32."""
    path = tmp_path / "half.weights.h5"
    main(["convert", f"--source={run}", f"--output={path}", "--verify", "--weight_type=float16"])
    assert [entry.name for entry in sorted(tmp_path.iterdir())] == ["half.weights.h5", "half.weights.json"]
    whole, half = read_keras_weights(converted[0]), read_keras_weights(path)
    assert whole.keys() == half.keys()
    for name in whole:
        for exact, stored in zip(whole[name], half[name], strict=True):
            assert stored.dtype == (np.float16 if exact.ndim > 1 else np.float32)
            np.testing.assert_array_equal(stored, exact.astype(stored.dtype))
    saved = sum(2 * array.size for arrays in whole.values() for array in arrays if array.ndim > 1)
    assert abs(converted[0].stat().st_size - path.stat().st_size - saved) < 8192
    network = load_network(find_source(str(path)))
    assert network.get_layer("conv1a").kernel.dtype == "float32"
    np.testing.assert_array_equal(network.get_layer("conv1a").get_weights()[0], half["conv1a"][0].astype("float32"))


def test_a_kernel_beyond_half_precision_is_refused(run, tmp_path):
    network = keras.models.load_model(run / "final.keras")
    network.get_layer("conv1a").kernel.assign(network.get_layer("conv1a").kernel * 1e6)
    network.save(tmp_path / "large.keras")
    config = ConversionConfig(
        source=str(tmp_path / "large.keras"), model=STRUCTURE, width=WIDTH, output=str(tmp_path / "half.weights.h5"), weight_type="float16"
    )
    with pytest.raises(InputError, match="float16 cannot hold"):
        convert_named(config)
    assert [entry.name for entry in tmp_path.iterdir()] == ["large.keras"]


@pytest.fixture
def place(tmp_path, monkeypatch, converted):
    """An empty home, working directory and repository; and a function that puts the file into a place."""
    monkeypatch.setenv("KERAS_WIDERRESNET_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KERAS_WIDERRESNET_WEIGHTS_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(find, "REPOSITORY_FOLDER", tmp_path / "repository")
    result = registry.PublishedResult("one 32 crop", 12.5, 0, "us", is_accuracy=True, data="zoo test", images=8)
    record = registry.Pretrained(
        "own",
        STRUCTURE,
        len(NAMES),
        (registry.OriginalFile("own.weights.h5", sha256=checksums(converted[0])[1]),),
        results=(result, dataclasses.replace(result, seen="one 32 crop, mirrored too", top1_error=0)),
        protocol=ClassificationProtocol((SIZE,)),
        width=WIDTH,
        crop_size=SIZE,
        class_names=NAMES,
        licence="ours",
        short_licence="ours",
    )
    monkeypatch.setitem(PRETRAINED, "own", record)

    def put(where, name="own.weights.h5", content=None):
        (tmp_path / where).mkdir(parents=True, exist_ok=True)
        (tmp_path / where / name).write_bytes(converted[0].read_bytes() if content is None else content)
        return tmp_path / where / name

    return put


def kernel(model):
    return model.get_layer("conv1a").get_weights()[0]


def test_a_run_is_converted_with_all_that_it_tells(run, converted):
    path, printed = converted
    trained = keras.models.load_model(run / "final.keras")
    assert f"{trained.count_params():,} parameters" in printed and f"sha256 {checksums(path)[1]}" in printed
    assert path.stat().st_size < (run / "final.keras").stat().st_size  # without the momenta
    facts = find_source(str(path)).facts
    assert (facts.structure, facts.width, facts.crop_size, facts.class_names) == (STRUCTURE, WIDTH, SIZE, NAMES)
    assert (facts.classes, facts.pool_padding, find_source(str(path)).crop_size) == (len(NAMES), "ceil", SIZE)


def test_a_network_file_keeps_its_class_names(run, tmp_path):
    main(["convert", f"--source={run / 'final.keras'}", f"--output={tmp_path / 'a.weights.h5'}"])
    assert find_source(str(tmp_path / "a.weights.h5")).facts.class_names == NAMES


def test_a_finished_run_without_its_network_is_not_to_be_continued(run, tmp_path, capsys):
    (tmp_path / "flags.txt").write_text((run / "flags.txt").read_text())
    (tmp_path / "report.md").write_text("")
    with pytest.raises(SystemExit, match="2"):
        main(["convert", f"--source={tmp_path}", f"--output={tmp_path / 'a.weights.h5'}"])
    assert "is a finished run without its final.keras" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["saved_models", "saved_models/own", "repository", "repository/own", "home", "pointed", "pointed file"])
def test_the_file_is_used_where_it_lies(place, monkeypatch, run, where, tmp_path):
    path = place(where.split()[0])
    if where.startswith("pointed"):
        monkeypatch.setenv("KERAS_WIDERRESNET_WEIGHTS_DIR", str(path if "file" in where else path.parent))
    monkeypatch.setattr(find.keras.utils, "get_file", None)  # no network
    model = kw.WiderResNet(weights="own")
    trained = keras.models.load_model(run / "final.keras")
    images = np.random.default_rng(0).normal(size=(2, SIZE, SIZE, 3)).astype("float32")
    assert model.input_shape == (None, SIZE, SIZE, 3) and model.output_shape == (None, len(NAMES))
    np.testing.assert_array_equal(model.predict_on_batch(images), trained.predict_on_batch(images))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["own.weights.h5"]


def test_the_users_file_comes_before_the_repositorys(place):
    place("repository/own")
    path = place("saved_models")
    assert find.find_file(PRETRAINED["own"]) == path


@pytest.mark.parametrize("where", ["saved_models/own", "home"])
def test_another_file_of_that_name_is_passed_over(place, where, caplog):
    """Also in the cache: it may be of an earlier version of this package."""
    wrong = place(where, content=b"something else")
    with pytest.raises(ValueError, match=r"Rejected or failed:\n.*own.weights.h5 \(its checksum is sha256 \w{64}, not sha256 \w{64}\)"):
        kw.WiderResNet(weights="own")
    right = place("repository/own")
    with caplog.at_level(logging.WARNING):
        assert find.find_file(PRETRAINED["own"]) == right
    assert f"Rejected {wrong}" in caplog.text


def test_where_it_is_not_found_the_message_says_where_it_is(place, tmp_path):
    with pytest.raises(ValueError) as error:
        kw.WiderResNet(weights="own")
    text = str(error.value)
    for words in (
        "The weights 'own' were not found.",
        f"  {tmp_path / 'home' / 'own.weights.h5'}\n",
        f"  {tmp_path / 'saved_models' / 'own'}\n",
        f"  {tmp_path / 'repository' / 'own'}\n",
        "KERAS_WIDERRESNET_WEIGHTS_DIR (not set)",
        f"own.weights.h5, sha256 {PRETRAINED['own'].files[0].sha256}",
        "Licence: ours.",
        "saved_models/own of a clone of this repository",
    ):
        assert words in text, text
    assert text.count("own.weights.h5") == 2 and "convert_weights.py" not in text and "official host" not in text


def test_networks_of_the_weights(place):
    place("repository/own")
    whole = kw.WiderResNet(weights="own")
    features = kw.WiderResNet(weights="own", include_top=False, pooling="avg")
    assert features.input_shape == (None, None, None, 3)
    other = kw.WiderResNet(STRUCTURE, weights="own", input_shape=(48, 48, 3), classifier_activation=None)
    given = kw.WiderResNet(STRUCTURE, weights="own", width=WIDTH, classes=len(NAMES))
    dense = kw.WideResNetFCN(STRUCTURE, classes=5, weights="own", width=WIDTH, output_stride=None)
    for model in (features, other, given, dense):
        np.testing.assert_array_equal(kernel(model), kernel(whole))
    for options, words in (
        ({"classes": 7}, "they are for classes=3, the model has classes=7"),
        ({"width": 0.25}, "mismatched  conv1a"),
        ({"structure": "32-1-1-1-0-0-0-0"}, "belong to Model 64-1-1-1-0-0-0-0;.*use WiderResNet"),
        ({"activation": "leaky_relu"}, "need activation='relu'"),
    ):
        with pytest.raises(ValueError, match=words):
            kw.WiderResNet(**({"weights": "own"} | options))


def test_the_structure_is_needed_where_no_name_implies_it(converted):
    for weights in (None, "imagenet", str(converted[0])):
        with pytest.raises(ValueError, match="`structure` is needed, except with `weights` of a name that implies it: imagenet-a,"):
            kw.WiderResNet(weights=weights)
    assert kw.WiderResNet("32-1-1-1-0-0-0-0", width=WIDTH).output_shape == (None, 1000)


def test_the_list_names_the_call_that_builds_it(place, capsys):
    kw.list_weights()
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| own "))
    assert 'WiderResNet(weights="own")' in row and "ours" in row and "zoo test" in row
    assert ast.parse(network_call(PRETRAINED["own"]), mode="eval")


@pytest.fixture
def folder(tmp_path):
    """Class folders with images of other sizes than the network's."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 2)):
        for name in NAMES:
            (tmp_path / "zoo" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (40, 56, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "zoo" / split / name / f"{number}.png")
    return tmp_path / "zoo"


def test_predict_and_maps_name_the_classes(place, folder, tmp_path, capsys):
    place("repository/own")
    image = str(folder / "test" / "ant" / "0.png")
    main(["predict", image, "--weights=own"])
    printed = capsys.readouterr().out
    assert "Published protocol of own, unless flags override it: centre crop: 32 of scale 32" in printed
    assert all(name in printed for name in NAMES)
    main(["activation-maps", image, "--weights=own", "--output_dir=maps", "--classes=bee"])
    assert list((tmp_path / "maps").rglob("*.npy"))


def test_evaluation_stands_beside_the_records_results(place, folder, tmp_path):
    place("repository/own")
    main(["evaluate", "--weights=own", f"--data=folder:{folder}", "--output_dir=tested"])
    report = (tmp_path / "tested" / "report.md").read_text()
    assert "centre crop: 32 of scale 32" in report and "one 32 crop, mirrored too" in report and "| us" in report
    assert "Published results are on zoo test (8 images), ours on the 6 test images" in report


def test_a_file_of_weights_is_tested_on_the_size_of_its_images(converted, folder, tmp_path):
    """As a name is: not on that of the structure."""
    main(["evaluate", f"--weights={converted[0]}", f"--data=folder:{folder}", f"--output_dir={tmp_path / 'tested'}"])
    report = (tmp_path / "tested" / "report.md").read_text()
    assert "centre crop: 32 of scale 32" in report and "No published result applies" in report


def test_training_starts_from_them_with_other_classes(place, folder, tmp_path):
    place("repository/own")
    for split in ("train", "test"):
        (folder / split / "ant").rename(folder / split / "auk")
        (folder / split / "bee").rename(tmp_path / f"bee of {split}")
    network = [f"--structure={STRUCTURE}", f"--width={WIDTH}", f"--crop_size={SIZE}"]
    course = ["--epochs=1", "--batch_size=4", "--learning_rate=0", "--validation=none"]
    main(["train", "--weights=own", *network, *course, f"--data=folder:{folder}", "--output_dir=tuned"])
    tuned = keras.models.load_model(tmp_path / "tuned" / "final.keras")
    assert tuned.output_shape == (None, 2)
    np.testing.assert_allclose(kernel(tuned), kernel(kw.WiderResNet(weights="own")), atol=1e-5)


def test_the_export_is_the_network_and_its_card_says_what_the_record_does(place, tmp_path):
    place("repository/own")
    main(["export", "--weights=own", "--output=served", "--nowarmup", "--weight_type=float16"])
    card = (tmp_path / "served" / "1" / "MODEL_CARD.md").read_text()
    record = PRETRAINED["own"]
    for words in (f"`own`: `own.weights.h5`, sha256 {record.files[0].sha256}", *map(str, record.results), "| us", "ours", "to 32 pixels"):
        assert words in card, words
    assert f"{STRUCTURE}, width {WIDTH:g}" in card
    assert (tmp_path / "served" / "1" / "assets" / "labels.txt").read_text().split() == list(NAMES)
