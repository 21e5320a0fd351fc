"""Every flag file is a recipe that scripts/train.py or scripts/train_segmentation.py takes, and says what the sources say."""

import json
import subprocess
import sys

import pytest
from test_training import ENVIRONMENT, ROOT

SEGMENTATION = ["ade20k", "camvid", "cityscapes", "cityscapes_2", "pascal_context", "shapes", "voc"]
NAMES = sorted({path.stem for path in (ROOT / "scripts" / "flags").glob("*.flags")} - set(SEGMENTATION))
PARSE = """
import dataclasses, importlib, json, sys
sys.path.insert(0, "scripts")
importlib.import_module(sys.argv[1])
from absl import flags
from keras_widerresnet.training import config
Config = getattr(config, sys.argv[2])
names = [field.name for field in dataclasses.fields(Config)]
for path in sys.argv[3:]:
    for name in names:
        flags.FLAGS[name].unparse()
    flags.FLAGS(["script", "--output_dir=unused", "--data=unused", "--flagfile=" + path])
    print(json.dumps(dataclasses.asdict(Config(**{name: flags.FLAGS[name].value for name in names}))))
"""


def parsed(script, config, names):
    """Name of the flag file -> its whole configuration, parsed by the script's own flags."""
    command = [sys.executable, "-c", PARSE, script, config, *(f"scripts/flags/{name}.flags" for name in names)]
    result = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    return dict(zip(names, map(json.loads, result.stdout.splitlines()), strict=True))


@pytest.fixture(scope="module")
def recipes():
    return parsed("train", "TrainingConfig", NAMES)


@pytest.fixture(scope="module")
def segmentation_recipes():
    return parsed("train_segmentation", "SegmentationConfig", SEGMENTATION)


def changed(recipes, name, base):
    return {key: value for key, value in recipes[name].items() if value != recipes[base][key]}


def test_recipe_of_the_release(recipes):
    """Spec section 6: batch 256, 0.1 falling linearly over 90 epochs, decay 1e-4, colour jitter 0.4, lighting 0.1."""
    expected = {
        "structure": "A", "batch_size": 256, "learning_rate": 0.1, "schedule": "linear", "epochs": 90, "momentum": 0.9,
        "weight_decay": 1e-4, "color_jitter": 0.4, "lighting": 0.1, "crop": "random_sized", "flip": True, "warmup_epochs": 0.0,
        "ema": 0.0, "label_smoothing": 0.0, "mixup": 0.0, "cutmix": 0.0, "rand_augment": 0,
    }  # fmt: skip
    assert {key: recipes["imagenet"][key] for key in expected} == expected


def test_a1_is_tuned_from_a(recipes):
    tuned = changed(recipes, "imagenet_a1_from_a", "imagenet")
    tuned.pop("output_dir")
    assert tuned == {"structure": "A1", "weights": "imagenet-a", "learning_rate": 0.01, "epochs": 9}


@pytest.mark.parametrize("letter", "bcdef")
def test_the_papers_other_networks_differ_in_their_structure_alone(recipes, letter):
    other = changed(recipes, f"imagenet_{letter}", "imagenet")
    assert set(other) == {"structure", "output_dir"} and other["structure"] == letter.upper()


def test_segmentation_recipes_of_the_release(segmentation_recipes):
    """Spec section 7; rates and lengths of VOC, ADE20K and PASCAL Context are not published."""
    shared = {
        "structure": "A1", "output_stride": 8, "classifier_convs": 2, "crop_size": 500, "batch_size": 16, "momentum": 0.9,
        "nesterov": False, "weight_decay": 5e-4, "shift_rate": 2.0, "frozen_batch_norm": True, "dropout_b6": 0.3, "dropout_b7": 0.5,
        "loss": "bootstrapped", "threshold": 0.6, "min_kept": 256, "scale_low": 0.7, "scale_high": 1.3, "flip": True, "color_jitter": 0.0,
    }  # fmt: skip
    for name in ("voc", "cityscapes", "cityscapes_2", "ade20k", "pascal_context"):
        assert {key: segmentation_recipes[name][key] for key in shared} == shared
    first, second = segmentation_recipes["cityscapes"], segmentation_recipes["cityscapes_2"]
    keys = ("weights", "learning_rate", "schedule", "epochs", "origin_size")
    assert [first[key] for key in keys] == ["imagenet-a1", 0.0016, "constant", 140, 2048]
    assert [second[key] for key in keys] == [f"{first['output_dir']}/final.keras", 0.0008, "linear", 64, 2048]
    assert segmentation_recipes["voc"]["origin_size"] == 500


def test_every_flag_file_is_tested():
    assert {path.stem for path in (ROOT / "scripts" / "flags").glob("*.flags")} == {*NAMES, *SEGMENTATION}
