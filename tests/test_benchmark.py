"""The benchmark's arithmetic against closed forms, and that all contenders compute the same network. No time is asserted."""

import csv
import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from benchmarks import inference, report, startup, threads, training, whole_run
from benchmarks.comparison import Comparison
from benchmarks.config import BenchmarkConfig
from benchmarks.contender import Contender
from benchmarks.floor import Rates, floor_seconds
from benchmarks.passes import Measured, installed, measure
from benchmarks.scaling import Growth, fitted_exponent
from benchmarks.training import OURS
from benchmarks.workload import CLASSES, FORMS, Workload, prepare
from keras_widerresnet.cli import process
from keras_widerresnet.compare import difference
from keras_widerresnet.errors import InputError
from keras_widerresnet.label_maps import IGNORED

SCRIPT = str(pathlib.Path(__file__).parents[1] / "scripts" / "benchmark.py")
STRUCTURE = "28-1-1-0-0-1-0-0"  # B1 at 28 pixels, B2 at 14, B5 at 7


def workload(folder="", batch_size=2, size=28):
    return Workload(STRUCTURE, 0.125, size, batch_size, 1, str(folder))


def rates(multiply_adds, copied):
    return Rates({"float32": multiply_adds, "bfloat16": 2 * multiply_adds}, copied)


def test_floor_is_the_longer_of_multiply_adds_and_traffic():
    multiply_adds = 28**2 * 9 * (3 * 8 + 2 * 8 * 8)  # conv1a, B1
    multiply_adds += 14**2 * (9 * (8 * 16 + 16 * 16) + 8 * 16)  # B2 and its projection
    multiply_adds += 7**2 * (9 * (16 * 64 + 64 * 128) + 16 * 128) + 128 * CLASSES  # B5, the classifier
    values = 28**2 * (3 + 8 + 4 * 8) + 14**2 * (8 + 16 + 16 + 16 + 8 + 16) + 7**2 * (16 + 64 + 64 + 128 + 16 + 128)
    weights = workload().record.parameters(classes=CLASSES, width=0.125)
    assert workload().multiply_adds == multiply_adds
    assert floor_seconds(workload(), rates(1e9, 1e30)) == pytest.approx(2 * multiply_adds / 1e9)
    assert floor_seconds(workload(), rates(1e9, 1e30), precision="bfloat16") == pytest.approx(multiply_adds / 1e9)
    assert floor_seconds(workload(), rates(1e30, 1e9)) == pytest.approx(4 * (2 * values + weights) / 1e9)
    assert floor_seconds(workload(), rates(1e9, 1e30), training=True) == pytest.approx(3 * 2 * multiply_adds / 1e9)
    assert floor_seconds(workload(), rates(1e30, 1e9), training=True) == pytest.approx(4 * (3 * (2 * values + weights) + 2 * weights) / 1e9)


SEGMENTATION = {"classes": 5, "output_stride": 8}
DILATED = (("stride", 2), ("pool", 1))


def segmentation(folder="", downsampling="stride", classifier_convs=2, size=96):
    """CamVid's network, of fewer and smaller images."""
    options = {"downsampling": downsampling, "classifier_convs": classifier_convs, **SEGMENTATION}
    return Workload("224-0-1-1-1-1-1-0", 0.125, size, 2, 1, str(folder), **options)


@pytest.mark.parametrize(("downsampling", "classifier_convs"), DILATED)
def test_counts_of_a_segmentation_network_are_those_of_its_layers(downsampling, classifier_convs):
    work = segmentation("", downsampling, classifier_convs)
    model = work.new_model()
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert work.multiply_adds == sum(layer.kernel.shape.num_elements() * layer.output.shape[1] ** 2 for layer in convolutions)
    assert work.parameters == sum(variable.shape.num_elements() for variable in model.trainable_variables)
    read = sum(layer.input.shape[3] * layer.input.shape[1] ** 2 for layer in convolutions if layer.padding == "same")
    strided = [layer for layer in convolutions if layer.padding == "valid"]  # after a border of one pixel on every side
    read += sum(layer.input.shape[3] * (layer.input.shape[1] - 2) ** 2 for layer in strided)
    maps = read + sum(layer.output.shape[3] * layer.output.shape[1] ** 2 for layer in convolutions)
    assert floor_seconds(work, rates(1e30, 1e9)) == pytest.approx(4 * (2 * maps + work.parameters) / 1e9)
    assert bool(strided) == (downsampling == "stride")


def torch_logits(work):
    """The call of a contender: PyTorch's segmentation network on the workload's images."""
    import torch

    from benchmarks.torch_weights import load

    network = load(work).eval()

    def call():
        with torch.inference_mode():
            return network(torch.from_numpy(work.images()).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()

    return call


@pytest.mark.parametrize(("downsampling", "classifier_convs"), [DILATED[0], pytest.param(*DILATED[1], marks=pytest.mark.slow)])
def test_pytorch_has_the_segmentation_network(tmp_path, downsampling, classifier_convs):
    """Its logits, and the losses of two steps: of the same weights, and of those that gradients, momentum and decay made of them."""
    work = segmentation(tmp_path, downsampling, classifier_convs)
    logits = Contender("logits", torch_logits, "torch")
    if logits.missing_packages():
        pytest.skip("PyTorch is not installed")
    for form in ("network", "parameters"):
        FORMS[form](work)
    # Each in a process of its own, as in the benchmark.
    by_pytorch, ours, theirs = measure([(one, work) for one in (logits, OURS, training.PYTORCH_LAST)], 1, 1)
    expected = work.model().predict_on_batch(work.images())
    assert expected.shape == (2, 12, 12, 5) and difference(by_pytorch.outputs[0], expected) < 1e-4
    assert work.labels().shape == (2, 12, 12) and (work.labels() == IGNORED).any()
    assert abs(ours.outputs[1] - ours.outputs[0]) > 1e-3
    assert not theirs.error and theirs.differs_from(ours) < 1e-4


def test_rates_are_measured_where_keras_lists_no_devices():
    """On the PyTorch backend: every `--backend=torch` failed."""
    pytest.importorskip("torch")
    code = "from benchmarks import floor; floor.MATRIX_SIDE, floor.COPIED_BYTES = 64, 4096; print(floor.machine_rates(1))"
    run = [sys.executable, "-c", code]
    done = subprocess.run(
        run, cwd=pathlib.Path(SCRIPT).parents[1], env={**os.environ, "KERAS_BACKEND": "torch"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("Rates(multiply_adds={'float32': ")


def test_pytorch_repeats_our_numbers():
    pytest.importorskip("torch")
    from benchmarks import torch_network
    from keras_widerresnet import fcn, units

    numbers = ("BATCH_NORM_EPSILON", "BATCH_NORM_MOMENTUM")
    assert [getattr(torch_network, name) for name in numbers] == [getattr(units, name) for name in numbers]
    assert torch_network.HEAD_DILATION == fcn.HEAD_DILATION


def test_training_measures_every_workload_in_one_table():
    plan = Comparison("training", threads=2, only=("ours", "PyTorch, eager, channels last"), backend="tensorflow").plan()
    assert [one.name for one in plan] == ["Model D", "digits", "CIFAR-10", "CamVid"] and {one.threads for one in plan} == {2}
    assert [(str(one.record)[:6], one.width, one.size, one.batch_size) for one in plan] == [
        *(("112-1-", 1.0, 112, 8), ("28-0-1", 0.125, 28, 64), ("32-0-1", 0.25, 32, 128), ("224-0-", 0.125, 240, 8))
    ]
    assert all(contenders[0] == OURS and len(contenders) >= 3 for contenders in plan.values())
    first, second = list(plan)[:2]
    found = [
        Measured(one, work, [2.0 + step], 9.0, 1, 1, [np.ones(1)]) for work in (first, second) for step, one in enumerate(plan[work][:2])
    ]
    rows = report.comparison(found, rates(1e30, 1e9), training=True)
    assert [(row["workload"], row["speed"]) for row in rows] == [(name, speed) for name in ("Model D", "digits") for speed in (1, 2 / 3)]
    shares = [floor_seconds(work, rates(1e30, 1e9), training=True) / 2 for work in (first, second)]
    assert [rows[0]["share_of_floor"], rows[2]["share_of_floor"]] == pytest.approx(shares)


@pytest.mark.parametrize(
    ("options", "is_described"), [({}, False), ({"passes": 1}, False), ({"width": 0.5}, True), ({"batch_sizes": (8,)}, True)]
)
def test_options_of_the_network_measure_it_alone(options, is_described):
    assert BenchmarkConfig(what=("training",), **options).describes_network == is_described
    assert [one.batch_size for one in Comparison("training", "D", batch_sizes=(4, 8), only=("ours",)).plan()] == [4, 8]


def test_ours_has_the_environment_of_the_training_commands():
    assert OURS.environment == process.training_environment() and process.TUNABLES in OURS.environment


def measured(contender, seconds, outputs, peak_bytes, **fields):
    return Measured(contender, workload(), seconds, 9.0, peak_bytes, workload().multiply_adds, outputs, **fields)


def test_rows_compare_with_the_first():
    first, second = (Contender(name, len, "tensorflow") for name in "ab")
    other = Contender("c", len, "tensorflow", multiply_adds=len)
    machine = rates(2 * workload().multiply_adds / 0.5, 1e30)  # so that the floor of a batch of two is half a second
    rows = report.comparison(
        [
            measured(first, [1.0, 3.0, 1.2], [np.array([1.0, -4.0])], 10**9),
            measured(second, [0.6], [np.array([1.0, -3.9])], 5 * 10**8),
            Measured(other, workload(), [2.4], 9.0, 10**9, 10**9, [np.zeros(7)]),
            Measured(second, workload(), error="out of memory"),
        ],
        machine,
    )
    assert rows[0]["ms_per_image"] == 600 and (rows[0]["ms_lowest"], rows[0]["ms_highest"]) == (500, 1500)
    assert rows[0]["speed"] == 1 and rows[1]["speed"] == 2 and rows[2]["speed"] == 0.5
    assert rows[0]["share_of_floor"] == pytest.approx(0.5 / 1.2) and rows[1]["share_of_floor"] == pytest.approx(0.5 / 0.6)
    assert rows[1]["difference"] == pytest.approx(0.1 / 4) and rows[1]["memory"] == 0.5
    assert rows[2]["gmac_per_second"] == pytest.approx(2 / 2.4) and "share_of_floor" not in rows[2] and "difference" not in rows[2]
    assert rows[3] == {"contender": "b", "batch": 2, "note": "out of memory"}
    (failed, alone) = report.comparison([Measured(first, workload(), error="out of memory"), measured(second, [0.6], [], 1)], machine)
    assert failed["note"] and alone["share_of_floor"] == pytest.approx(0.5 / 0.6) and "speed" not in alone
    (step,) = report.comparison([measured(first, [1.0, 0.8, 1.4], [np.ones(1)], 1)], machine, training=True)
    assert step["share_of_floor"] == pytest.approx(1.5)
    assert (step["s_per_step"], step["s_lowest"], step["s_highest"]) == (1.0, 0.8, 1.4) and "ms_per_image" not in step


def test_exponents_of_power_laws():
    assert fitted_exponent([1, 2, 4, 8], [3 * value**1.5 for value in (1, 2, 4, 8)]) == pytest.approx(1.5)
    batches = (1.0, 2.0, 8.0)
    counts = tuple(int(batch) * workload().multiply_adds for batch in batches)
    curve = Growth("inference", "batch_size", batches, (0.2, 0.4, 1.6), counts)
    assert curve.exponent == pytest.approx(1) and curve.expected_exponent == pytest.approx(1)


def test_tables_name_each_contender_once():
    for table in (inference.CONTENDERS, inference.TRIED, training.CONTENDERS, training.MEMORY, training.TRIED):
        assert len({contender.name for contender in table}) == len(table)
        assert len({(str(one.start), str(one.backend), str(one.environment)) for one in table}) == len(table)


def test_choice_of_contenders(caplog):
    (named,) = Comparison("inference", "A", only=("ours",), backend="tensorflow").plan().values()
    assert [one.name for one in named] == [one.name for one in inference.CONTENDERS if one.is_ours and one.backend == "tensorflow"]
    with pytest.raises(InputError, match="Contenders are: ours, ours, --mixed_precision"):
        Comparison("training", "A", only=("MXNet",)).plan()
    lacking = Contender("of the future", len, "tensorflow", packages=("no_such_package",))
    assert installed([lacking, OURS]) == [OURS]
    assert "of the future is skipped: no_such_package not installed" in caplog.text
    assert installed([dataclasses.replace(whole_run.PROGRAMS[0], name="a program", packages=("no_such_package",))]) == []
    assert "a program is skipped: no_such_package not installed" in caplog.text
    with pytest.raises(InputError, match=r"Programs are: ours: train\.py, PyTorch, channels first, 0 workers"):
        whole_run.whole_run_speeds(workload(), 8, 1, ("MXNet",))


def fails(_):
    raise MemoryError("no room\nfor this")


def test_a_contender_that_fails_leaves_the_others_their_row(tmp_path):
    (found,) = measure([(Contender("failing", fails, "tensorflow"), workload(tmp_path))], 2, 1)
    assert found.error == "MemoryError: no room" and found.seconds == []


def test_threads_that_are_not_there():
    with pytest.raises(InputError, match=r"Received: .*100000"):
        threads.take(100000)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"what": ("speed",)}, "Benchmarks are inference, training, .* Received: 'speed'"),
        ({"what": ("inferense",)}, "Did you mean 'inference'"),
        ({"what": ("scaling", "a.jpg")}, "only input accepts JPEG files. Received: 'scaling a.jpg'"),
        ({"batch_sizes": (8, 0)}, "--batch_sizes must be at least 1. Received: 0"),
        ({"backend": "mxnet"}, "--backend must be one of all, tensorflow, jax, torch. Received: 'mxnet'"),
        ({"width": 0.0}, "--width must be at least 0.01. Received: 0"),
        ({"structure": "G"}, "'G'"),
        ({"what": ("training",), "data": "folder:images"}, "--data is of run, .* folder:PATH. Received: 'folder:images'"),
        ({"what": ("run",), "data": "digits"}, "--data is of run, .* folder:PATH. Received: 'digits'"),
        ({"what": ("run",), "batch_sizes": (8, 16)}, "run has one batch size. Received: --batch_sizes=8,16"),
    ],
)
def test_refusals(options, said):
    with pytest.raises(InputError, match=said):
        BenchmarkConfig(**{"what": ("inference",), **options})


def test_what_a_measurement_is():
    chosen = BenchmarkConfig(what=("input", "a.jpg", "b.jpg"))
    assert (chosen.kind, chosen.files) == ("input", ("a.jpg", "b.jpg"))


def command(*arguments, kind="inference", python=()):
    command = [sys.executable, *python, SCRIPT, kind, f"--structure={STRUCTURE}", "--width=0.125", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_one_command_gives_table_picture_and_machine(tmp_path):
    options = ("--batch_sizes=2", "--passes=1", "--repeats=1", "--only=ours: model|ours: exported")
    ran = command(*options, f"--output_dir={tmp_path}")
    with (tmp_path / "inference.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["contender"] for row in rows] == ["ours: model.predict", "ours: exported SavedModel"]
    assert float(rows[1]["difference"]) < 1e-5 and all(row["contender"] in ran.stdout for row in rows)
    machine = json.loads((tmp_path / "inference_machine.json").read_text())
    assert min(machine["gmac_per_second"].values()) > 0 and machine["versions"]["keras"]
    assert (tmp_path / "inference.png").stat().st_size > 5000


def test_files_that_are_not_there_are_told_before_keras_is_imported(tmp_path):
    ran = command(str(tmp_path / "no.jpg"), kind="input", python=("-X", "importtime"))
    imported = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines() if line.startswith("import time:")}
    spoken = [line for line in ran.stderr.splitlines() if not line.startswith("import time:")]
    assert ran.returncode == 2 and len(spoken) == 1 and "no.jpg" in spoken[0]
    assert "absl.flags" in imported and not {"keras", "tensorflow"} & imported


def test_an_earlier_result_is_kept(tmp_path):
    (tmp_path / "inference.csv").write_text("earlier")
    ran = command(f"--output_dir={tmp_path}")
    assert ran.returncode == 2 and "--overwrite" in ran.stderr and "Traceback" not in ran.stderr
    assert (tmp_path / "inference.csv").read_text() == "earlier"


def test_startup_measures_what_it_names():
    found = startup.startup_seconds("28-1-0-0-0-0-0-0", repeats=1)
    assert list(found) == ["import keras", *startup.BOUNDS] and min(found.values()) > 0


@pytest.mark.slow
def test_every_contender_is_the_same_network(tmp_path):
    """PyTorch's own layers, JAX, ONNX Runtime and OpenVINO where installed; other networks than ours aside."""
    work = workload(tmp_path)
    contenders = [one for one in inference.CONTENDERS + inference.TRIED if one.multiply_adds is None and "bfloat16" not in one.name]
    contenders = [one for one in contenders if not one.missing_packages()]
    prepare(work, {form for one in contenders for form in one.forms})
    first, *others = measure([(one, work) for one in contenders], 1, 1)
    assert first.outputs[0].shape == (2, CLASSES) and len(others) > 5
    for other in others:
        assert not other.error and other.differs_from(first) < 1e-5, other.contender.name


@pytest.mark.slow
@pytest.mark.parametrize("make", [functools.partial(workload, batch_size=4), segmentation])
def test_every_contender_takes_the_same_steps(tmp_path, make):
    """The losses of two steps: of the same weights, and of those that gradients, momentum and decay made of them."""
    work = make(tmp_path)
    others = ("bfloat16", "accumulate")  # in parts, each is normalised by its own statistics
    contenders = training.CONTENDERS + training.MEMORY + training.TRIED
    contenders = [one for one in contenders if not any(word in one.name for word in others)]
    contenders = [one for one in contenders_by_start(contenders) if not one.missing_packages()]
    prepare(work, {form for one in contenders for form in one.forms})
    first, *others = measure([(one, work) for one in contenders], 1, 1)
    assert first.outputs[0] != first.outputs[1]
    for other in others:
        assert not other.error and other.differs_from(first) < 1e-4, (other.contender.name, other.outputs, first.outputs)


def contenders_by_start(contenders):
    """One of each start, the environments aside."""

    def key(contender):
        start = contender.start
        return (start.func, tuple(start.keywords.items())) if isinstance(start, functools.partial) else start

    return {key(contender): contender for contender in reversed(contenders)}.values()
