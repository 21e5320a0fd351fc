"""Training in 16 bits on a processor that emulates them is said to be slow, with a figure."""

import logging
import os
import subprocess
import sys

import pytest
from test_readme import ROOT

from keras_widerresnet.training import processor
from keras_widerresnet.training.processor import training_devices, warn_of_slow_precision
from keras_widerresnet.training.strategy import make_strategy

MEASURE = """
import logging
logging.basicConfig()
from keras_widerresnet.training.processor import warn_of_slow_precision
print(warn_of_slow_precision("bfloat16", ["/job:localhost/replica:0/task:0/device:CPU:0"]))
"""


def times(monkeypatch, **seconds):
    monkeypatch.setattr(processor, "_seconds", lambda dtype: seconds[dtype])


def test_the_figure_is_the_measured_one(monkeypatch, caplog):
    times(monkeypatch, float32=0.002, bfloat16=0.02)
    with caplog.at_level(logging.WARNING):
        assert warn_of_slow_precision("bfloat16", ["/cpu:0"]) == pytest.approx(10)
    (line,) = caplog.messages
    assert "--mixed_precision=bfloat16 is 10.0 times slower than none on this processor" in line and "20.0 ms against 2.0 ms" in line


@pytest.mark.parametrize(
    ("precision", "devices"), [("none", ["/cpu:0"]), ("bfloat16", ["/device:GPU:0", "/device:GPU:1"]), ("bfloat16", ["/device:TPU:0"])]
)
def test_nothing_is_measured_where_nothing_can_be_slow(monkeypatch, caplog, precision, devices):
    monkeypatch.setattr(processor, "_seconds", None)
    assert warn_of_slow_precision(precision, devices) == 1 and not caplog.messages


def test_as_fast_is_not_mentioned(monkeypatch, caplog):
    times(monkeypatch, float32=0.002, float16=0.0025)
    assert warn_of_slow_precision("float16", ["/cpu:0"]) == pytest.approx(1.25) and not caplog.messages


def test_a_processor_without_the_instructions_is_found():
    """oneDNN takes only the instructions that it is told the processor has."""
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    ran = subprocess.run([sys.executable, "-c", MEASURE], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    factor = float(ran.stdout)
    assert (factor > processor.SLOWER) == ("times slower than none" in ran.stderr), ran.stderr


def test_devices_are_the_strategys():
    assert any("CPU" in device for device in training_devices())
    with make_strategy("one_device").scope():
        assert len(training_devices()) == 1
