"""What commands print: their own lines without prefixes, none of TensorFlow's start-up noise, every error; and bars that count."""

import io
import logging
import os
import pathlib
import subprocess
import sys

import pytest

from keras_widerresnet import progress
from keras_widerresnet.cli import process, stderr_filter

ROOT = pathlib.Path(__file__).parents[1]
PREAMBLE = "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR"
ONEDNN = "port.cc:153] oneDNN custom operations are on. You may see slightly different numerical results"
NOISE = [
    PREAMBLE,
    f"I0000 00:00:1795615094.428461    5110 {ONEDNN}",
    f"2025-11-25 13:58:12.123456: I tensorflow/core/util/{ONEDNN}",
    "E0000 00:00:1795615094.428461    5110 util.cc:131] oneDNN supports DT_UINT8 only on platforms with AVX-512.",
    "2025-11-25 13:58:12.123456: E tensorflow/core/util/util.cc:131] oneDNN supports DT_HALF only on platforms with AVX-512.",
    "I0000 00:00:1795615094.428461 5110 cpu_feature_guard.cc:227] This TensorFlow binary is optimized to use available CPU instructions",
    "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow with the appropriate compiler flags.",
    "E0000 00:00:1795615094.428461    5110 cuda_dnn.cc:8579] Unable to register cuDNN factory: Attempting to register factory",
    "E0000 00:00:1795615094.428461    5110 cuda_blas.cc:1407] Unable to register cuBLAS factory: Attempting to register factory",
    "W0000 00:00:1795615094.428461    5110 computation_placer.cc:177] computation placer already registered.",
    "2025-11-25 13:58:12.123456: E external/local_xla/xla/cuda_driver.cc:152] failed call to cuInit: UNKNOWN ERROR (303)",
    "W0000 00:00:1795615094.428461    5110 gpu_device.cc:2341] Cannot dlopen some GPU libraries.",
    "Skipping registering GPU devices...",
    "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.",
]
SAID = [
    "E0000 00:00:1795615094.428461    5110 gpu_device.cc:2341] failed to allocate memory",
    "2025-11-25 13:58:12.123456: E external/local_xla/cuda_driver.cc:152] failed call to cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    "F0000 00:00:1795615094.428461    5110 tensor.cc:12] Check failed: oneDNN supports DT_UINT8 only",
    "2025-11-25 13:58:12.123456: F tensorflow/core/framework/tensor.cc:733] Check failed: 1 == NDIMS()",
    "train.py: --epochs must be at least 1. Received: 0",
    "WARNING: something of mine",
    "I0000 is the name of my file",
    "Traceback (most recent call last):",
    "warning: 3 images have no class: oneDNN supports DT_UINT8 only",
    "",
    "terminate called after throwing an instance of 'std::bad_alloc'",
]


@pytest.mark.parametrize("line", NOISE)
def test_noise(line):
    assert stderr_filter.is_noise(line.encode(), lowest=2)


@pytest.mark.parametrize("line", SAID)
def test_what_is_said(line):
    assert not stderr_filter.is_noise(line.encode(), lowest=2)


def test_warnings_are_shown_to_those_who_ask_for_them():
    warning = b"W0000 00:00:1795615094.428461    5110 cpu_allocator_impl.cc:84] Allocation of 1 exceeds 10% of free system memory."
    assert stderr_filter.is_noise(warning, lowest=2) and not stderr_filter.is_noise(warning, lowest=1)


CHILD = """
import os, sys
from keras_widerresnet.cli import process
{before}
process.quieten_tensorflow()
process.filter_tensorflow()
print("of Python", file=sys.stderr)
os.write(2, b"{noise}\\nof C++\\nE0000 00:00:1.5 1 a.cc:1] real\\n")
{after}
"""


def run(before="", after="", **environment):
    code = CHILD.format(before=before, after=after, noise=f"{PREAMBLE}\\nI0000 00:00:1.5 1 {ONEDNN}")
    environment = {**{k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)


def test_what_cpp_code_writes_is_filtered_and_the_rest_comes_through():
    ran = run()
    assert ran.returncode == 0 and sorted(ran.stderr.splitlines()) == ["E0000 00:00:1.5 1 a.cc:1] real", "of C++", "of Python"]


def test_the_last_words_of_a_process_that_crashes_come_through():
    ran = run(after='os.write(2, b"last words\\n"); os.abort()')
    assert ran.returncode < 0 and ran.stderr.splitlines()[-1] == "last words"
    ran = run(after='os.write(2, b"no end of line"); os.kill(os.getpid(), 9)')
    assert ran.returncode == -9 and ran.stderr.endswith("no end of line")
    assert "ZeroDivisionError" in run(after="1 / 0").stderr


def test_ctrl_c_does_not_silence_what_comes_after_it():
    after = 'import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); os.killpg(0, signal.SIGINT); os.write(2, b"after it\\n")'
    assert "after it" in run(before="os.setpgrp()", after=after).stderr


def test_all_is_shown_to_those_who_ask_for_it():
    assert PREAMBLE in run(TF_CPP_MIN_LOG_LEVEL="0").stderr


@pytest.mark.parametrize("before", ["os.close(2)", "sys.stderr = None", "import io; sys.stderr = io.StringIO()"])
def test_a_process_without_standard_error_goes_on(before):
    code = CHILD.format(before=before, after="print('went on')", noise="").replace('print("of Python", file=sys.stderr)', "")
    code = code.replace("os.write(2,", "bool(")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (ran.returncode, ran.stdout) == (0, "went on\n")


def test_a_restarted_process_filters_once_more():
    before = "process.quieten_tensorflow(); process.filter_tensorflow(); process.restart_with_huge_pages()"
    ran = run(before=before, GLIBC_TUNABLES="")
    assert ran.returncode == 0 and sorted(ran.stderr.splitlines()) == ["E0000 00:00:1.5 1 a.cc:1] real", "of C++", "of Python"]


def test_a_command_says_nothing_of_tensorflows(tmp_path):
    """From the first line to the last, with TensorFlow imported and run."""
    image = ROOT / "docs" / "study_depth.png"
    command = [sys.executable, ROOT / "scripts" / "predict.py", image, f"--weights={ROOT / 'saved_models' / 'digits' / 'run'}", "--top=2"]
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    ran = subprocess.run(command, capture_output=True, text=True, env={**environment, "PYTHONPATH": str(ROOT)}, cwd=tmp_path)
    assert ran.returncode == 0 and ran.stderr == ""
    first, *rows = ran.stdout.strip().splitlines()
    assert first == str(image) and len(rows) == 2 and rows[0].split()[0].isdecimal()


def test_log_lines_have_no_prefix_but_their_level(capsys):
    handler = process.PlainHandler()
    logger = logging.getLogger("keras_widerresnet.test_console")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # commands of other tests have the handler at the root
    try:
        logger.info("%d images", 3)
        logger.warning("no class: %s", "a")
        logger.error("worse")
    finally:
        logger.removeHandler(handler)
    said = capsys.readouterr().err
    assert said == "3 images\nwarning: no class: a\nerror: worse\n"


def test_log_handlers_are_one(monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    process.log_plainly()
    process.log_plainly()
    assert [type(one) for one in logging.getLogger().handlers] == [process.PlainHandler]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def stderr(monkeypatch):
    def replace(stream):
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return replace


def train_bar(steps, batch_size=64):
    from keras_widerresnet.training.callbacks import Progress

    bar = Progress(2, steps, batch_size, 0, "mean_iou", "validation")
    bar.on_epoch_begin(0)
    for step in range(steps):
        bar.on_train_batch_end(step, {"loss": 1.25})
    logs = {"val_loss": 1, "val_mean_iou": 0.5, "loss": 1, "mean_iou": 0.5, "images_per_second": 9}
    bar.on_epoch_end(0, logs)
    bar.close()


def test_the_bar_of_a_run_has_steps_and_images(stderr, capsys):
    shown = stderr(Terminal())
    train_bar(30)
    last = shown.getvalue().rstrip().rpartition("\r")[2]
    assert last.startswith("epoch 1/2 step 30/30:  50%|") and "| 1,920/3,840 images [" in last and " images/s" in last
    assert "validation mean IoU 0.5000" in capsys.readouterr().out


def test_a_log_file_has_whole_lines_and_few(stderr, monkeypatch):
    shown = stderr(io.StringIO())
    train_bar(30)
    assert "\r" not in shown.getvalue() and shown.getvalue().count("\n") == 1 and "1,920/3,840 images" in shown.getvalue()
    monkeypatch.setattr(progress, "LOG_SECONDS", 0)
    shown = stderr(io.StringIO())
    train_bar(3)
    lines = shown.getvalue().splitlines()
    assert 3 < len(lines) < 9 and all("images" in line for line in lines)


def test_other_bars_say_what_they_count(stderr):
    shown = stderr(Terminal())
    assert list(progress.progress_bar(range(3), desc="counting", unit="files")) == [0, 1, 2]
    assert "counting: 100%|" in shown.getvalue() and "| 3/3 files [" in shown.getvalue()
    shown = stderr(Terminal())
    assert len(list(progress.progress_bar(iter(range(3))))) == 3  # nobody knows how many
    assert "3 images [" in shown.getvalue()


def test_a_reader_that_wants_no_more_ends_a_command_without_a_traceback():
    """As `| head -1` does, which closes the pipe before the command has written all of its table."""
    command = [sys.executable, str(ROOT / "scripts" / "describe_networks.py")]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    running.stdout.close()
    said = running.stderr.read()
    running.stderr.close()
    assert running.wait() == 1 and said == ""
