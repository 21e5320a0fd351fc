"""Outputs that are whole or absent: what killed processes left, what is replaced, and a disk without room."""

import errno
import json
import os
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf

from keras_widerresnet import files, runs
from keras_widerresnet.errors import InputError
from keras_widerresnet.files import check_room, created, is_absent, is_disk_full, is_leftover, remove, replacing
from keras_widerresnet.runs import Run
from keras_widerresnet.tasks.classification.config import TrainingConfig
from keras_widerresnet.training.callbacks import Checkpoint


def dead_process():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def hidden(path, process, machine=None, word="unfinished"):
    return path.with_name(f".{word}-{process}-{machine or files._machine()}-{path.name}")


@pytest.fixture
def output(tmp_path):
    return tmp_path / "table.csv"


def test_what_killed_processes_left_is_removed_at_the_next_writing(output):
    process = dead_process()
    left = [hidden(output, process), hidden(output.with_name("other"), process, word="removed")]
    left[0].write_text("half")
    left[1].mkdir()
    (left[1] / "file").write_text("half")
    with replacing(output) as temporary:
        temporary.write_text("whole")
    assert {path.name for path in output.parent.iterdir()} == {"table.csv"} and output.read_text() == "whole"


def test_what_may_still_be_written_is_left(output):
    kept = [
        hidden(output, os.getppid()),  # a living process
        hidden(output, 1),  # another user's, or the first of all
        hidden(output, dead_process(), "00000000"),  # of another machine
        output.with_name(".unfinished-business"),  # somebody else's word
        output.with_name(f".unfinished-{dead_process()}-table.csv"),  # no machine is named
        hidden(output, 10**30),
    ]
    for path in kept:
        path.write_text("mine")
    with replacing(output) as temporary:
        temporary.write_text("whole")
    assert {path.name for path in output.parent.iterdir()} == {"table.csv", *(path.name for path in kept)}


def test_two_at_once_leave_each_other_alone(output):
    """In one process, as threads do: a nested output of the same folder."""
    with replacing(output) as first, replacing(output.with_name("second.csv")) as second:
        first.write_text("1")
        second.write_text("2")
    assert [path.name for path in sorted(output.parent.iterdir())] == ["second.csv", "table.csv"]


def test_the_temporary_name_keeps_the_suffixes_and_is_hidden(tmp_path):
    for name in ("final.keras", "net.weights.h5", "curves.png", "1"):
        with replacing(tmp_path / name) as temporary:
            temporary.write_text("")
        assert temporary.name.startswith(".") and temporary.name.endswith(name) and is_leftover(temporary)
        assert temporary.suffixes[-1:] == pathlib.PurePath(name).suffixes[-1:] and not is_leftover(tmp_path / name)


def test_an_evaluation_that_is_replaced_is_never_half(tmp_path, monkeypatch):
    """Removing its files one by one comes after it has lost its name."""
    old = tmp_path / "evaluation"
    old.mkdir()
    for name in ("report.md", "results.json"):
        (old / name).write_text("old")

    def ends(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.shutil, "rmtree", ends)
    with pytest.raises(KeyboardInterrupt), created(old) as folder:
        (folder / "report.md").write_text("new")
    assert not old.exists()
    assert [sorted(entry.name for entry in path.iterdir()) for path in tmp_path.iterdir() if ".removed-" in path.name] == [
        ["report.md", "results.json"]
    ]


def test_a_link_to_a_folder_is_removed_and_not_the_folder(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    remove(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["precious"] and (tmp_path / "precious" / "file").exists()


def test_room_is_asked_for_before_a_library_writes_that_does_not_survive_its_lack(tmp_path):
    check_room(tmp_path / "new", 1 << 20)
    with pytest.raises(OSError) as told:
        check_room(tmp_path / "new", 1 << 60)
    assert told.value.errno in (errno.ENOSPC, errno.EFBIG) and is_disk_full(told.value)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_known_in_pythons_and_in_tensorflows_words():
    assert is_disk_full(OSError(errno.ENOSPC, "No space left on device")) and is_disk_full(OSError(errno.EDQUOT, "quota"))
    assert is_disk_full(tf.errors.ResourceExhaustedError(None, None, "/x/part; No space left on device"))
    assert not is_disk_full(OSError(errno.EACCES, "Permission denied")) and not is_disk_full(tf.errors.NotFoundError(None, None, "no file"))
    assert files.reason(OSError(errno.EACCES, "Permission denied")) == "Permission denied"


def config(output_dir, **options):
    return TrainingConfig(data="digits", output_dir=str(output_dir), structure="28-0-1-0-0-0-0-0", **options)


@pytest.mark.parametrize("left", [(), (".unfinished-1-00000000-flags.txt",)])
def test_a_run_that_was_killed_before_its_first_file_starts_anew(tmp_path, left):
    for name in left:
        (tmp_path / name).write_text("")
    assert is_absent(tmp_path) and not runs.may_start(config(tmp_path))[1]


def test_a_run_is_one_from_its_first_file_on(tmp_path, monkeypatch):
    """Killed before its facts are written, it is gone on with by its own command."""

    def ends(*_):
        raise KeyboardInterrupt

    settings = config(tmp_path / "run", resume=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runs, "_write_json", ends)
        runs.prepare(settings, {"task": "classification"})
    assert runs.may_start(settings) == (settings, False)
    assert runs.prepare(settings, {"task": "classification"}).facts == {"task": "classification"}


@pytest.mark.parametrize("tail", ["1", "12", "12,0.5", "12,0.5,0.2\r\n", ""], ids=["digit", "epoch", "half", "whole", "none"])
def test_a_row_that_was_cut_short_is_forgotten(tmp_path, tail):
    rows = [f"{epoch},0.{epoch},0.5\r\n" for epoch in range(12)]
    (tmp_path / "metrics.csv").write_text("".join(["epoch,val_accuracy,loss\r\n", *rows]) + tail)
    assert runs.forget_later_epochs(Run(tmp_path), 12, "accuracy") == 0.9
    assert [row["epoch"] for row in Run(tmp_path).metrics()] == list(range(12))


class FewSteps:
    """What a checkpoint is made of, without a network."""

    def __init__(self):
        self.network = self.optimizer = tf.train.Checkpoint(value=tf.Variable(1.0))
        self.network.variables = []
        self.kept_metrics, self.done = tf.train.Checkpoint(), tf.Variable(0)
        self.averaged_statistics, self.averaged_steps = [], tf.Variable(0)

    def recall_metrics(self):
        pass


def test_checkpoints_half_written_or_not_listed_are_removed(tmp_path):
    checkpoint = Checkpoint(tmp_path, FewSteps())
    for _ in range(3):
        checkpoint.save()
    whole = {path.name for path in tmp_path.iterdir()}
    assert {path.split(".")[0] for path in whole} == {"checkpoint", "ckpt-2", "ckpt-3"}
    for name in (
        "ckpt-1.index",
        "ckpt-4.index",
        "ckpt-4.data-00000-of-00001",
        "ckpt-3.index.tempstate123",
        "ckpt-4.data-00000-of-00001.tempstate9",
    ):
        (tmp_path / name).write_text("")
    (tmp_path / "ckpt-4_temp").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    again = Checkpoint(tmp_path, FewSteps())
    again.restore()
    again.remove_leftovers()
    assert {path.name for path in tmp_path.iterdir()} == whole | {"notes.txt"}


def test_without_the_list_whole_checkpoints_are_left(tmp_path):
    checkpoint = Checkpoint(tmp_path, FewSteps())
    checkpoint.save()
    (tmp_path / "checkpoint").unlink()
    (tmp_path / "ckpt-2.data-00000-of-00001.tempstate9").write_text("")
    again = Checkpoint(tmp_path, FewSteps())
    again.remove_leftovers()
    assert {path.name for path in tmp_path.iterdir()} == {"ckpt-1.index", "ckpt-1.data-00000-of-00001"}


FACTS = {"task": "classification", "class_names": ["a"], "protocol": {"scales": [16]}, "results": [["images", "3"]]}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("flags.txt", b"--width=\xff\n", "flags.txt' is damaged"),
        ("flags.txt", b"--width=wide\n", "--width must be a finite number. Received: 'wide'"),
        ("run.json", b"", "run.json' is damaged"),
        ("run.json", b'{"task": "clas', "run.json' is damaged"),
        ("run.json", b"null", "it does not contain a JSON object"),
        ("run.json", b"[" * 100_000, "run.json' is damaged"),
        ("run.json", json.dumps({**FACTS, "task": "detection"}).encode(), "'task' must be .* Received: 'detection'"),
        ("run.json", json.dumps({**FACTS, "class_names": "ab"}).encode(), "'class_names' must be a list of strings. Received: 'ab'"),
        ("run.json", json.dumps({**FACTS, "protocol": [1]}).encode(), r"'protocol' must be an object. Received: '\[1\]'"),
        ("run.json", json.dumps({**FACTS, "protocol": {"scale": 1}}).encode(), "run.json' is damaged.*scale"),
        ("run.json", json.dumps({**FACTS, "results": {"images": 3}}).encode(), "'results' must be pairs of strings"),
        ("metrics.csv", b"epoch,loss\n0,0.\xff\n", "metrics.csv' is damaged"),
        ("metrics.csv", b"epoch,loss\n0\n", "metrics.csv' is damaged"),
        ("metrics.csv", b"epoch,loss\n0,many\n", "metrics.csv' is damaged"),
        ("metrics.csv", b"epoch,loss\n0,0.5,7\n", "metrics.csv' is damaged"),
    ],
)
def test_a_run_whose_files_were_changed_by_hand_is_named(tmp_path, name, content, words):
    (tmp_path / "flags.txt").write_text("--width=1\n")
    (tmp_path / "run.json").write_text(json.dumps(FACTS))
    (tmp_path / name).write_bytes(content)
    run = Run(tmp_path)
    with pytest.raises(InputError, match=words):
        _ = run.number("width", 1), run.facts, run.protocol, run.metrics(), run.results()
