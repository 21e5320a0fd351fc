"""`predict` on real photographs, as a function, a command and a script."""

import io
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from photographs import REAL_PHOTOGRAPHS
from PIL import Image

import keras_widerresnet as kw
from keras_widerresnet.cli import main
from keras_widerresnet.imagenet import imagenet_classes
from keras_widerresnet.tasks.classification.config import PredictionConfig
from keras_widerresnet.tasks.classification.prediction import predict

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    tmp_path, paths = tmp_path_factory.mktemp("photographs"), []
    for number, photograph in enumerate(("china", "cat odd", "coffee upright", "rocket", "astronaut")):
        paths.append(tmp_path / f"{number}.jpg")
        paths[-1].write_bytes(REAL_PHOTOGRAPHS[photograph])
    with Image.open(io.BytesIO(REAL_PHOTOGRAPHS["cat odd"])) as cat:
        cat.save(tmp_path / "cat.png")
    return [str(path) for path in (*paths, tmp_path / "cat.png")]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("network")
    model = kw.WideResNetA1(width=0.125, input_shape=(64, 64, 3))
    model.save_weights(tmp_path / "a1.weights.h5")
    return model, str(tmp_path / "a1.weights.h5")


def test_probabilities_are_the_models_on_pils_crops(images, saved):
    model, path = saved
    decoded = predict(PredictionConfig(images=tuple(images), weights=path, model="A1", width=0.125, crop_size=64))
    for file, predictions in zip(images, decoded, strict=True):
        with Image.open(file) as opened:
            opened = opened.convert("RGB")
            scale = 64 / min(opened.size)
            opened = opened.resize([max(64, int(side * scale + 0.5)) for side in opened.size], Image.BICUBIC)
        left, top = ((side - 63) // 2 for side in opened.size)
        crop = np.asarray(opened.crop((left, top, left + 64, top + 64)))
        expected = model.predict_on_batch(kw.preprocess_input(crop[None]))[0]
        assert len(predictions) == 5
        for synset, name, probability in predictions:
            assert probability == pytest.approx(expected[imagenet_classes().index((synset, name))], abs=0.01)
        assert predictions[0][2] == pytest.approx(expected.max(), abs=0.01)


def test_script_prints_bars_and_draws_a_sheet(tmp_path, images, saved, capsys):
    _, path = saved
    sheet = tmp_path / "sheet.png"
    arguments = (*images, f"--weights={path}", "--model=A1", "--width=0.125", "--top=3", f"--output={sheet}")
    command = [sys.executable, str(ROOT / "scripts" / "predict.py"), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("%") == 3 * len(images) and all(file in result.stdout for file in images)
    with Image.open(sheet) as picture:
        assert picture.format == "PNG" and min(picture.size) > 300
    with pytest.raises(SystemExit, match="2"):
        main(["predict", *arguments])
    assert "--overwrite replaces it" in capsys.readouterr().err


def test_model_file_with_class_names(tmp_path, images, capsys):
    model = kw.WideResNetE(width=0.125, classes=3, input_shape=(32, 32, 3))
    model.save(tmp_path / "mine.keras")
    (tmp_path / "names.txt").write_text("cat\ndog\nowl\n")
    main(["predict", images[0], f"--weights={tmp_path / 'mine.keras'}", f"--class_names={tmp_path / 'names.txt'}"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("cat", "dog", "owl"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give either at least one IMAGE or --data. Received: neither"),
        (("{folder}/none.jpg",), "No image at"),
        (("{folder}/text.jpg",), "is in an unknown format"),
        (("{image}", "--weights={weights}"), "--model is needed"),
        (("{image}", "--weights=a.weights.h5", "--model=A"), "No model found at 'a.weights.h5'"),
        (("{image}", "--weights=imagenet", "--model=A2"), "published for Model A and Model A1 only"),
        (("{image}", "--weights=cityscapes"), "segmentation network"),
        (("{image}", "--output=sheet.jpg"), "--output must be a .png file"),
        (("{image}",), "The weights 'imagenet-a' were not found"),
    ],
)
def test_bad_input_gives_one_message_and_exit_code_2(tmp_path, images, saved, monkeypatch, capsys, arguments, words):
    monkeypatch.setenv("KERAS_WIDERRESNET_HOME", str(tmp_path / "home"))
    (tmp_path / "text.jpg").write_text("not an image")
    with pytest.raises(SystemExit, match="2"):
        main(["predict", *(argument.format(folder=tmp_path, image=images[0], weights=saved[1]) for argument in arguments)])
    said = capsys.readouterr().err
    assert words in said and "keras-widerresnet predict: " in said


def test_imagenet_classes_are_those_of_tfds():
    """Order and number of TFDS' list, which comes with its package; a few names by position."""
    classes = imagenet_classes()
    listed = (tfds.core.tfds_path() / "image_classification" / "imagenet_resized_labels.txt").read_text().split()
    assert len(classes) == 1000 and {synset for synset, _ in classes} == set(listed)
    assert [synset for synset, _ in classes] == sorted(listed)
    for index, name in ((0, "tench"), (1, "goldfish"), (281, "tabby"), (282, "tiger cat"), (388, "giant panda"), (999, "toilet tissue")):
        assert classes[index][1] == name
