"""`kill -9` at any moment, and a full disk: what a command leaves is whole, and the same command again ends as if nothing had happened.

Commands run in children of a process that has TensorFlow imported, see `fork_server.py`. How many points: `KILL_POINTS` and `DISK_POINTS`.
"""

import csv
import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from conftest import reference_array
from test_training import ENVIRONMENT, QUICK, ROOT, metrics

import keras_widerresnet as kw
from keras_widerresnet import files
from keras_widerresnet.models import find_source
from keras_widerresnet.weights.keras_file import read_keras_weights
from keras_widerresnet.weights.mxnet_params import write_params
from keras_widerresnet.weights.official import official_shapes

STRUCTURE, OLD_STRUCTURE, WIDTH = "28-0-1-0-0-0-0-0", "28-0-2-0-0-0-0-0", 0.0625
TRAIN = (*QUICK, f"--structure={STRUCTURE}", "--epochs=3", "--steps_per_epoch=2", "--dropout=0.2", "--deterministic", "--resume")
IMAGES = [path.read_bytes() for path in sorted((ROOT / "docs" / "results").glob("*/curves.png"))]
OWN_MOUNTS = subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0


class ForkServer:
    """A running `fork_server.py`."""

    def __init__(self):
        start = [sys.executable, str(ROOT / "tests" / "fork_server.py")]
        command = ["unshare", "-rm", *start] if OWN_MOUNTS else start
        self.process = subprocess.Popen(
            command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.process.stdout.readline()

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


@pytest.fixture(scope="module")
def server():
    running = ForkServer()
    yield running
    running.close()


@dataclasses.dataclass
class Work:
    """A command that may be ended.

    Args:
        name: what it is called.
        arguments: of the folder that it writes to.
        begin: makes that folder as it is before the command.
        check: what is whole in a folder, at any moment; with `is_done`, that the command has done its work and left nothing else.
        code: the exit code where the disk is full.
        written: what it writes in that folder.
        operations: file operations that it does.
        kilobytes: what it needs on the disk.
    """

    name: str
    arguments: Callable[[pathlib.Path], list[str]]
    begin: Callable[[pathlib.Path], None]
    check: Callable[[pathlib.Path, bool], None]
    code: int
    written: str = ""
    operations: int = 0
    kilobytes: int = 0

    def run(self, server, folder, log=None, **ending):
        log = log or folder.parent / f"{folder.name}.log"
        log.unlink(missing_ok=True)
        answer = server.ask(arguments=self.arguments(folder), folder=str(folder), log=str(log), **ending)
        return answer, log.read_text()


def entries(folder):
    """Relative paths of all files, hidden ones too; TensorBoard's have the time in their names."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and "tfevents" not in path.name}


def same_arrays(path, expected):
    found = read_keras_weights(path)
    return found.keys() == expected.keys() and all(all(map(np.array_equal, found[name], arrays)) for name, arrays in expected.items())


def whole_run(reference):
    expected, names = read_keras_weights(reference / "final.keras"), entries(reference)
    flags = (reference / "flags.txt").read_text().splitlines()

    def check(folder, is_done):
        for name in ("best.keras", "final.keras"):
            assert not (folder / name).exists() or read_keras_weights(folder / name)
        if (folder / "flags.txt").exists():
            assert len((folder / "flags.txt").read_text().splitlines()) == len(flags)
        for name in ("run.json", "versions.json"):
            assert not (folder / name).exists() or json.loads((folder / name).read_text())
        assert not (folder / "report.md").exists() or names <= entries(folder)
        if is_done:
            assert entries(folder) == names
            assert metrics(folder) == metrics(reference)
            assert same_arrays(folder / "final.keras", expected)
            assert (folder / "predictions.csv").read_text() == (reference / "predictions.csv").read_text()
            with open(folder / "metrics.csv", newline="") as file:
                assert len(list(csv.reader(file))) == 1 + 3

    return check


def answers(version):
    outputs = tf.saved_model.load(str(version)).signatures["serving_default"](image_bytes=tf.constant(IMAGES))
    return {name: array.numpy().tolist() for name, array in outputs.items()}


def whole_versions(old, new):
    known = [(entries(version), answers(version)) for version in (old, new)]

    def check(folder, is_done):
        for version in folder.iterdir() if folder.exists() else ():
            assert version.name.isdecimal() or files.is_leftover(version)
            if version.name.isdecimal():
                found = (entries(version), answers(version))
                assert found in known
                if is_done:
                    assert found == (known[0] if version.name == "1" and any(folder.glob("2")) else known[1])
        if is_done:
            assert all(version.name.isdecimal() for version in folder.iterdir())

    return check


def whole_pair(old, new):
    known = [(read_keras_weights(path), find_source(str(path)).facts) for path in (old, new)]

    def check(folder, is_done):
        path = folder / "net.weights.h5"
        if path.exists() or is_done:
            facts = find_source(str(path)).facts
            assert any(facts == other and same_arrays(path, arrays) for arrays, other in known[1:] if is_done) or (
                not is_done and any(facts == other and same_arrays(path, arrays) for arrays, other in known)
            )
        if is_done:
            assert entries(folder) == {"net.weights.h5", "net.weights.json"}

    return check


def write_original(path, structure):
    network = kw.WiderResNet(structure, width=WIDTH, classes=10, input_shape=(16, 16, 3))
    write_params(path, {f"arg:{name}": reference_array(name, shape) for name, shape in official_shapes(network).items()})


@pytest.fixture(scope="module")
def works(server, tmp_path_factory):
    """The commands by name, each done once without an end."""
    root = tmp_path_factory.mktemp("undisturbed")

    def nothing(folder):
        pass

    def train(folder):
        return ["train", f"--output_dir={folder}", *TRAIN]

    def export(output, *flags):
        return ["export", f"--weights={root / 'train'}", f"--output={output}", *flags]

    def convert(folder, structure=STRUCTURE):
        options = (f"--model={structure}", f"--width={WIDTH}", f"--output={folder / 'net.weights.h5'}", "--overwrite")
        return ["convert", f"--source={root / f'{structure}.params'}", *options]

    def old_version(folder):
        shutil.copytree(root / "old", folder)

    def old_pair(folder):
        shutil.copytree(root / "old pair", folder)

    def unchecked(folder, is_done):
        pass

    made = [
        Work("train", train, nothing, unchecked, 1),
        Work("export", export, old_version, unchecked, 2, "2"),
        Work("export again", lambda folder: export(folder / "1", "--overwrite"), old_version, unchecked, 2, "1"),
        Work("convert", convert, old_pair, unchecked, 2),
    ]
    (root / "old pair").mkdir()
    for structure in (STRUCTURE, OLD_STRUCTURE):
        write_original(root / f"{structure}.params", structure)
    found, log = made[0].run(server, root / "train")
    assert found["code"] == 0, log
    made[0].operations = found["operations"]
    for before in (export(root / "old", "--top=2"), convert(root / "old pair", OLD_STRUCTURE)):
        assert server.ask(arguments=before, folder="/nowhere", log=str(root / "log"))["code"] == 0, (root / "log").read_text()
    for work in made[1:]:
        folder = root / work.name
        work.begin(folder)
        found, log = work.run(server, folder)
        assert found["code"] == 0, log
        work.operations = found["operations"]
    made[0].check = whole_run(root / "train")
    made[1].check = made[2].check = whole_versions(root / "old" / "1", root / "export" / "2")
    made[3].check = whole_pair(root / "old pair" / "net.weights.h5", root / "convert" / "net.weights.h5")
    for work in made:
        work.kilobytes = kilobytes(root / work.name / work.written)
        work.check(root / work.name, True)
    return {work.name: work for work in made}


def kilobytes(folder):
    return sum(-(-path.stat().st_size // 4096) * 4 if path.is_file() else 4 for path in folder.rglob("*"))


def ended(server, work, folder, kill_at, delay):
    """Ends a command at one point, checks, and lets it do its work; returns whether it was ended at all."""
    folder.parent.mkdir(exist_ok=True)
    work.begin(folder)
    found, log = work.run(server, folder, kill_at=kill_at, delay=delay)
    assert found["code"] in (-signal.SIGKILL, 0), log
    where = (
        f"{work.name}, operation {kill_at} of {work.operations}, {delay:.3f} s later, {sorted(entries(folder)) if folder.exists() else ''}"
    )
    try:
        work.check(folder, False)
        again, log = work.run(server, folder)
        assert again["code"] == 0, log
        work.check(folder, True)
    except Exception as error:
        raise AssertionError(where) from error
    return found["code"] == -signal.SIGKILL


@pytest.mark.parametrize(
    ("name", "share"),
    [("train", 0.02), ("train", 0.6), ("export", 0.5), ("export again", 0.99), ("convert", 0.99)],
)
def test_killed_at_an_operation(server, works, tmp_path, name, share):
    work = works[name]
    assert ended(server, work, tmp_path / "made", max(1, int(share * work.operations)), 0.0)


@pytest.mark.slow
def test_killed_at_a_hundred_random_points(server, works, tmp_path):
    seed, points = int(os.environ.get("KILL_SEED", random.SystemRandom().randrange(1000))), int(os.environ.get("KILL_POINTS", 100))
    print("seed:", seed)
    generator = random.Random(seed)
    shares = {"train": 0.5, "export": 0.12, "export again": 0.13, "convert": 0.25}
    latest = {"train": 0.5, "export": 0.2, "export again": 0.2, "convert": 0.02}  # seconds
    failed, begin, number = [], time.perf_counter(), 0
    for name, share in shares.items():
        killed, work = 0, works[name]
        while killed < round(points * share):
            folder = tmp_path / f"{number}"
            number += 1
            delay = generator.choice([0.0, generator.uniform(0, latest[name])])
            try:
                # A command that has done its work before its end is checked as well, and not counted.
                killed += ended(server, work, folder / "made", generator.randint(1, work.operations), delay)
            except AssertionError as error:
                killed += 1
                failed.append(f"{error}: {error.__cause__!r}")
                print(failed[-1])
            shutil.rmtree(folder)
        print(f"{name}: killed {killed} times")
    print(f"{number - points} more had done their work, {len(failed)} failed, {time.perf_counter() - begin:.0f} s")
    assert not failed


def full(server, work, folder, share):
    """Runs a command on a disk that holds a share of what it needs, then again with room; returns how full it was at first."""
    small = folder / "small"
    folder.mkdir()
    server.ask(mount=str(small), size="100m")
    # What is there before is copied in by the server: only it sees the disk.
    work.begin(folder / "before")
    before = 0
    if (folder / "before").exists():
        server.ask(copy=[str(folder / "before"), str(small / "made")])
        before = kilobytes(folder / "before") + 4
    size = before + max(4, int(share * work.kilobytes) // 4 * 4)
    server.ask(mount=str(small), size=f"{size}k")
    found, log = work.run(server, small / "made", folder / "log")
    where = f"{work.name} on {size} KB, {share:.2f} of what it needs"
    try:
        said = [line for line in log.splitlines() if line.startswith(f"keras-widerresnet {work.name.split()[0]}: ")]
        assert found["code"] == work.code and len(said) == 1 and "he disk is full" in said[0] and "Traceback" not in log, log[-3000:]
        if found["operations"]:
            server.ask(copy=[str(small), str(folder / "full")])
            work.check(folder / "full" / "made", False)
        server.ask(mount=str(small), size="100m")
        found, log = work.run(server, small / "made", folder / "log")
        assert found["code"] == 0, log[-3000:]
        server.ask(copy=[str(small / "made"), str(folder / "done")])
        work.check(folder / "done", True)
    except Exception as error:
        raise AssertionError(where) from error


needs_mounts = pytest.mark.skipif(not OWN_MOUNTS, reason="no mount of one's own may be made here")


@needs_mounts
@pytest.mark.parametrize(("name", "share"), [("train", 0.02), ("export", 0.5), ("convert", 0.5)])
def test_full_disk(server, works, tmp_path, name, share):
    full(server, works[name], tmp_path / "disk", share)


@needs_mounts
@pytest.mark.slow
def test_full_disk_at_twenty_points(server, works, tmp_path):
    points = int(os.environ.get("DISK_POINTS", 20))
    counts = {"train": points * 2 // 5, "export": points // 5, "export again": points // 5, "convert": points - points * 4 // 5}
    failed, begin = [], time.perf_counter()
    for name, count in counts.items():
        for index in range(count):
            try:
                full(server, works[name], tmp_path / f"{name} {index}", (index + 0.5) / count * 0.95)
            except AssertionError as error:
                failed.append(f"{error}: {error.__cause__!r}")
                print(failed[-1])
    print(f"{counts}, {len(failed)} failed, {time.perf_counter() - begin:.0f} s")
    assert not failed
