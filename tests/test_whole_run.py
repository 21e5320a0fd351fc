"""The benchmark of whole training commands: its images, its programs' settings and its table. No time is asserted."""

import csv
import dataclasses
import json
import subprocess
import sys

import pytest
from PIL import Image
from test_benchmark import command, workload

from benchmarks import class_folders, whole_run
from keras_widerresnet import preprocessing
from keras_widerresnet.cli import train
from keras_widerresnet.cli.command import parsed
from keras_widerresnet.data import augment
from keras_widerresnet.errors import InputError


def images_in(folder):
    """Label -> number of images, for each part of class folders."""
    return {part.name: {int(one.name): len(list(one.iterdir())) for one in part.iterdir()} for part in folder.iterdir()}


def test_images_of_whole_runs(tmp_path):
    class_folders.write_generated(tmp_path / "made", 24, 28)
    assert images_in(tmp_path / "made") == {"train": dict.fromkeys(range(4), 6), "test": dict.fromkeys(range(4), 1)}
    with Image.open(next((tmp_path / "made").rglob("*.jpg"))) as image:
        assert (image.size, image.mode) == ((28, 28), "RGB")
    class_folders.write_chosen(tmp_path / "chosen", str(tmp_path / "made"), 12)
    assert images_in(tmp_path / "chosen") == {"train": dict.fromkeys(range(4), 3), "test": dict.fromkeys(range(4), 1)}
    made, chosen = ({path.read_bytes() for path in (tmp_path / name).rglob("*.jpg")} for name in ("made", "chosen"))
    assert len(chosen) == 16 and chosen < made
    with pytest.raises(InputError, match=r"made has 24 training images\. Received: --images=25"):
        class_folders.write_chosen(tmp_path / "more", str(tmp_path / "made"), 25)
    with pytest.raises(InputError, match=r"3 train images leave some of the 4 classes .* give more --images"):
        class_folders.write_chosen(tmp_path / "few", str(tmp_path / "made"), 3)


def test_rows_of_whole_runs_compare_with_the_first():
    ours, theirs, failed = whole_run.PROGRAMS[:3]
    found = [
        whole_run.Timed(ours, [10.0, 30.0, 20.0], [400.0, 500.0, 300.0], 0.5),
        whole_run.Timed(theirs, [40.0], [200.0], 0.75),
        whole_run.Timed(failed, error="ended with exit code 1"),
    ]
    rows = whole_run.rows(found, 8, 800)
    assert (rows[0]["s_whole"], rows[0]["s_lowest"], rows[0]["s_highest"]) == (20, 10, 30)
    assert [row.get("images_per_second") for row in rows] == [40, 20, None] and [row.get("speed") for row in rows] == [1, 0.5, None]
    assert rows[1]["training_images_per_second"] == 200 and rows[1]["training_speed"] == 0.5 and rows[1]["test_accuracy"] == 0.75
    assert rows[2] == {"contender": failed.name, "batch": 8, "note": "ended with exit code 1"}
    (_, alone) = whole_run.rows([found[2], found[1]], 8, 800)
    assert alone["images_per_second"] == 20 and "speed" not in alone and "training_speed" not in alone


def test_programs_do_the_same_job():
    work = dataclasses.replace(workload(), folder="/images")
    ours, *theirs = (program.command(work, "/output") for program in whole_run.PROGRAMS)
    config = parsed(train.COMMAND, ours[2:])
    jobs = [json.loads(words[-1]) for words in theirs]
    for job in jobs:
        for name in ("output_dir", "structure", "width", "batch_size", "epochs", "learning_rate", "momentum", "weight_decay"):
            assert job[name] == getattr(config, name), name
        assert (job["size"], f"folder:{job['folder']}") == (config.crop_size, config.data)
    assert config.crop == "padded" and config.flip and config.nesterov and config.augmentation().lighting == config.color_jitter == 0
    assert {(job["workers"], job["channels_last"]) for job in jobs} == {(workers, last) for workers in (0, 2) for last in (False, True)}


def test_pytorchs_program_starts_without_keras():
    """And normalises as we do."""
    pytest.importorskip("torch")
    names = "run.MEAN, run.STD, run.PADDING_FRACTION"
    code = f"import sys, benchmarks.torch_run as run; print('keras' in sys.modules or 'tensorflow' in sys.modules, {names})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if "No module named 'torchvision'" in ran.stderr:
        pytest.skip("torchvision is not installed")
    assert ran.stdout.strip() == f"False {preprocessing.MEAN} {preprocessing.STD} {augment.PADDING_FRACTION}", ran.stderr


@pytest.mark.slow
def test_whole_runs_of_every_program(tmp_path):
    ran = command("--batch_sizes=8", "--images=16", "--passes=1", f"--output_dir={tmp_path}", kind="run")
    with (tmp_path / "run.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["contender"] == "ours: train.py" and len(rows) in (1, 5), ran.stderr
    for row in rows:
        assert not row["note"] and float(row["images_per_second"]) > 0 and float(row["training_images_per_second"]) > 0
    assert len(rows) == 5 or "PyTorch, channels last, 2 workers is skipped: " in ran.stderr


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    ran = command(f"--data=folder:{tmp_path / 'none'}", kind="run")
    assert ran.returncode == 2 and len(ran.stderr.splitlines()) == 1 and "No folder at" in ran.stderr
