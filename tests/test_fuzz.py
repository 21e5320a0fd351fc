"""Damaged input to every reader: only an answer or an `InputError` comes out, in bounded time and memory.

What is tried stands in `fuzzing.py`. `FUZZ_SECONDS=100 pytest -m slow tests/test_fuzz.py -s` tries each reader for so long.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys

import fuzzing
import pytest
from test_training import ENVIRONMENT, ROOT


def needed(name):
    module = fuzzing.TARGETS[name].needs
    if module and importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


@pytest.mark.parametrize("name", fuzzing.TARGETS)
def test_damaged_input_is_refused(name):
    """A short look, with the same inputs whenever it is run."""
    needed(name)
    found = fuzzing.run(name, None, fuzzing.TARGETS[name].examples)
    assert found.findings == {}
    assert 0 < found.refused < found.inputs


@pytest.mark.slow
@pytest.mark.parametrize("name", fuzzing.TARGETS)
def test_damaged_input_for_a_while(name, tmp_path):
    """In a process of its own: what ends it is seen, and the input is kept."""
    needed(name)
    seconds, last = float(os.environ.get("FUZZ_SECONDS", 5)), tmp_path / "last"
    seed = int.from_bytes(os.urandom(2), "big")
    command = [sys.executable, str(ROOT / "tests" / "fuzzing.py"), name, str(seconds), str(seed)]
    environment = {**ENVIRONMENT, "FUZZ_LAST": str(last), "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "data")])}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds + 300)
    assert ran.returncode == 0, f"{_ended(ran.returncode)} at {last.read_text()[:2000]}\n{ran.stderr[-2000:]}"
    found = json.loads(ran.stdout.splitlines()[-1])
    rate, megabytes = found["inputs"] / found["seconds"], found["most_bytes"] / 2**20
    print(
        f"{name} (seed {seed}): {found['inputs']:,} inputs, {rate:.0f} a second, {found['refused']:,} refused, "
        f"{len(found['findings'])} findings, at most {found['longest']:.2f} s and {megabytes:.0f} MB"
    )
    assert found["findings"] == {}


def _ended(code):
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
