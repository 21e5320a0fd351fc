"""Every flag file is a recipe that scripts/train.py takes, and says what the sources say."""

import json
import subprocess
import sys

import pytest
from test_training import ENVIRONMENT, ROOT

FLAG_FILES = sorted((ROOT / "scripts" / "flags").glob("*.flags"))
PARSE = """
import sys, dataclasses, json
sys.path.insert(0, "scripts")
import train
from absl import flags
from keras_widerresnet.training.config import TrainingConfig
flags.FLAGS(["train.py", "--output_dir=unused", "--flagfile=" + sys.argv[1]])
config = TrainingConfig(**{field.name: flags.FLAGS[field.name].value for field in dataclasses.fields(TrainingConfig)})
print(json.dumps(dataclasses.asdict(config)))
"""


def parsed(path):
    result = subprocess.run([sys.executable, "-c", PARSE, str(path)], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


def test_recipes_of_the_release_and_the_paper():
    """Spec section 6: batch 256, 0.1 falling linearly over 90 epochs, decay 1e-4; A1 from A: 0.01 over 9 epochs."""
    release = parsed("scripts/flags/imagenet.flags")
    expected = {
        "structure": "A", "batch_size": 256, "learning_rate": 0.1, "schedule": "linear", "epochs": 90, "momentum": 0.9,
        "weight_decay": 1e-4, "color_jitter": 0.4, "lighting": 0.1, "crop": "random_sized", "flip": True, "warmup_epochs": 0.0,
        "ema": 0.0, "label_smoothing": 0.0,
    }  # fmt: skip
    assert {key: release[key] for key in expected} == expected
    tuned = parsed("scripts/flags/imagenet_a1_from_a.flags")
    changed = {key for key in release if release[key] != tuned[key]}
    assert changed == {"structure", "weights", "learning_rate", "epochs", "output_dir"}
    assert (tuned["structure"], tuned["weights"], tuned["learning_rate"], tuned["epochs"]) == ("A1", "imagenet-a", 0.01, 9)
    changed = {key for key in release if release[key] != parsed("scripts/flags/imagenet_d.flags")[key]}
    assert changed == {"structure", "output_dir"}


@pytest.mark.parametrize("path", FLAG_FILES, ids=[path.stem for path in FLAG_FILES])
def test_flag_file_can_be_used(path):
    assert parsed(path)["structure"]
