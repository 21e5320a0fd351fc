"""Every flag file is a recipe that its command takes, and says what the sources say."""

import dataclasses

import pytest
from test_training import ROOT, refused

from keras_widerresnet.cli import train, train_segmentation
from keras_widerresnet.cli.command import parsed

SEGMENTATION = ["ade20k", "camvid", "cityscapes", "cityscapes_2", "pascal_context", "shapes", "voc"]
NAMES = sorted({path.stem for path in (ROOT / "scripts" / "flags").glob("*.flags")} - set(SEGMENTATION))
OURS = {"digits", "shapes", "camvid"}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    """Flag files name one another from there."""
    monkeypatch.chdir(ROOT)


@pytest.fixture
def recipe(tmp_path):
    """Function of a flag file's name to all its options."""
    needed = tmp_path / "needed.flags"
    needed.write_text("--output_dir=unused\n--data=unused\n")

    def recipe(name):
        command = train_segmentation.COMMAND if name in SEGMENTATION else train.COMMAND
        return dataclasses.asdict(parsed(command, [f"--flagfile={needed}", f"--flagfile=scripts/flags/{name}.flags"]))

    return recipe


def changed(recipe, name, base):
    before = recipe(base)
    return {key: value for key, value in recipe(name).items() if value != before[key]}


def test_recipe_of_the_release(recipe):
    """Batch 256, 0.1 falling linearly over 90 epochs, decay 1e-4, colour jitter 0.4, lighting 0.1 (official release)."""
    expected = {
        "structure": "A", "batch_size": 256, "learning_rate": 0.1, "schedule": "linear", "epochs": 90, "momentum": 0.9,
        "weight_decay": 1e-4, "color_jitter": 0.4, "lighting": 0.1, "crop": "random_sized", "flip": True, "warmup_epochs": 0.0,
        "ema": 0.0, "label_smoothing": 0.0, "mixup": 0.0, "cutmix": 0.0, "rand_augment": 0,
    }  # fmt: skip
    found = recipe("imagenet")
    assert {key: found[key] for key in expected} == expected


def test_a1_is_tuned_from_a(recipe):
    tuned = changed(recipe, "imagenet_a1_from_a", "imagenet")
    tuned.pop("output_dir")
    assert tuned == {"structure": "A1", "weights": "imagenet-a", "learning_rate": 0.01, "epochs": 9}


@pytest.mark.parametrize("letter", "bcdef")
def test_the_papers_other_networks_differ_in_their_structure_alone(recipe, letter):
    other = changed(recipe, f"imagenet_{letter}", "imagenet")
    assert set(other) == {"structure", "output_dir"} and other["structure"] == letter.upper()


def test_segmentation_recipes_of_the_release(recipe):
    """Rates and lengths of VOC, ADE20K and PASCAL Context are not published (official release)."""
    shared = {
        "structure": "A1", "output_stride": 8, "classifier_convs": 2, "crop_size": 500, "batch_size": 16, "momentum": 0.9,
        "nesterov": False, "weight_decay": 5e-4, "shift_rate": 2.0, "frozen_batch_norm": True, "dropout_b6": 0.3, "dropout_b7": 0.5,
        "loss": "bootstrapped", "threshold": 0.6, "min_kept": 256, "scale_low": 0.7, "scale_high": 1.3, "flip": True, "color_jitter": 0.0,
    }  # fmt: skip
    for name in ("voc", "cityscapes", "cityscapes_2", "ade20k", "pascal_context"):
        found = recipe(name)
        assert {key: found[key] for key in shared} == shared
    first, second = recipe("cityscapes"), recipe("cityscapes_2")
    keys = ("weights", "learning_rate", "schedule", "epochs", "origin_size")
    assert [first[key] for key in keys] == ["imagenet-a1", 0.0016, "constant", 140, 2048]
    assert [second[key] for key in keys] == [f"{first['output_dir']}/final.keras", 0.0008, "linear", 64, 2048]
    assert recipe("voc")["origin_size"] == 500


@pytest.mark.parametrize("name", [*NAMES, *SEGMENTATION])
def test_published_protocols_train_on_all_training_images(recipe, name):
    """Published numbers are of networks that saw them all; our own runs hold a tenth out, or use images of the data set for that."""
    assert recipe(name)["validation"] == ("auto" if name in OURS else "none")


def test_every_flag_file_is_tested():
    assert {path.stem for path in (ROOT / "scripts" / "flags").glob("*.flags")} == {*NAMES, *SEGMENTATION}


DIGITS = "--flagfile=scripts/flags/digits.flags"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--epochs=3", "--noresume", DIGITS),
        (DIGITS, "--epochs=3", "--noresume"),
        ("--epochs=3", DIGITS, "--noresume"),
        ("--epochs", "3", *DIGITS.split("="), "--resume=false"),
    ],
    ids=["before", "behind", "around", "in two words"],
)
def test_a_flag_beside_a_flag_file_holds_wherever_it_stands(arguments):
    alone = parsed(train.COMMAND, [DIGITS])
    assert (alone.epochs, alone.resume) == (20, True)
    assert parsed(train.COMMAND, arguments) == dataclasses.replace(alone, epochs=3, resume=False)


@pytest.mark.parametrize("arguments", [("--overwrite", DIGITS), (DIGITS, "--overwrite"), (*DIGITS.split("="), "--overwrite=true")])
def test_overwrite_beside_a_files_resume_overwrites(arguments):
    config = parsed(train.COMMAND, arguments)
    assert config.overwrite and not config.resume
    assert config == dataclasses.replace(parsed(train.COMMAND, [DIGITS]), overwrite=True, resume=False)


def test_resume_beside_a_files_overwrite_resumes(tmp_path):
    (tmp_path / "own.flags").write_text("--output_dir=unused\n--data=digits\n--overwrite\n")
    config = parsed(train.COMMAND, ["--resume", f"--flagfile={tmp_path / 'own.flags'}"])
    assert config.resume and not config.overwrite


def test_overwrite_and_resume_side_by_side_are_refused(capsys, monkeypatch, tmp_path):
    line = refused(capsys, monkeypatch, "train", DIGITS, "--overwrite", "--resume", f"--output_dir={tmp_path / 'run'}")
    assert line.endswith("--overwrite and --resume exclude each other: use only one of them")
    assert not (tmp_path / "run").exists()


def test_a_flag_file_that_overwrites_and_resumes_is_refused(capsys, monkeypatch, tmp_path):
    (tmp_path / "own.flags").write_text(f"--output_dir={tmp_path / 'run'}\n--data=digits\n--overwrite\n--resume\n")
    assert "exclude each other" in refused(capsys, monkeypatch, "train", "--flagfile", str(tmp_path / "own.flags"))
