"""Every flag file is a recipe that scripts/train.py takes, and says what the sources say."""

import json
import subprocess
import sys

import pytest
from test_training import ENVIRONMENT, ROOT

NAMES = sorted(path.stem for path in (ROOT / "scripts" / "flags").glob("*.flags"))
PARSE = """
import dataclasses, json, sys
sys.path.insert(0, "scripts")
import train
from absl import flags
from keras_widerresnet.training.config import TrainingConfig
names = [field.name for field in dataclasses.fields(TrainingConfig)]
for path in sys.argv[1:]:
    for name in names:
        flags.FLAGS[name].unparse()
    flags.FLAGS(["train.py", "--output_dir=unused", "--flagfile=" + path])
    print(json.dumps(dataclasses.asdict(TrainingConfig(**{name: flags.FLAGS[name].value for name in names}))))
"""


@pytest.fixture(scope="module")
def recipes():
    """Name of the flag file -> its whole configuration, parsed by the script's own flags."""
    command = [sys.executable, "-c", PARSE, *(f"scripts/flags/{name}.flags" for name in NAMES)]
    result = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    return dict(zip(NAMES, map(json.loads, result.stdout.splitlines()), strict=True))


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
