"""What the environment of a command's process has to be before TensorFlow is imported, and what the process says."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Iterator

TUNABLES = "GLIBC_TUNABLES"
HUGE_PAGES = "glibc.malloc.hugetlb=1"
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
FROZEN_WEIGHTS = "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS"
LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
STDERR = 2
_FILTER = pathlib.Path(__file__).with_name("stderr_filter.py")
# The process that filters, and where standard error went before.
_filtering: tuple[subprocess.Popen, int] | None = None


def quieten_tensorflow() -> None:
    """Leaves out what TensorFlow's C++ code says of no consequence; it reads the setting when it is first imported."""
    os.environ.setdefault(LOG_LEVEL, "2")


def use_onednn() -> None:
    """Makes TensorFlow use oneDNN on every x86 processor, unless the user decided; it reads the setting when it is first imported.

    By default TensorFlow does so only where there are AVX-512 VNNI instructions or the like. On other processors its own convolutions
    take about twice as long in training.
    """
    for name, value in _onednn_settings().items():
        os.environ.setdefault(name, value)


def training_environment() -> dict[str, str]:
    """Returns the environment variables on which the speed of the training commands depends, as they set them where the user did not."""
    return {TUNABLES: HUGE_PAGES, **_onednn_settings()}


def _onednn_settings() -> dict[str, str]:
    return {ONEDNN: "1"} if platform.machine().lower() in ("x86_64", "amd64") else {}


def filter_tensorflow() -> None:
    """Leaves out what TensorFlow says at its import before it reads `TF_CPP_MIN_LOG_LEVEL`, and errors that are none.

    What C++ code writes to standard error goes through a process of `stderr_filter`; what Python writes goes on as before. Does nothing
    where there is no standard error, or where the user asks for all of TensorFlow's messages by TF_CPP_MIN_LOG_LEVEL=0.
    """
    global _filtering
    level = os.environ.get(LOG_LEVEL, "")
    if _filtering or sys.platform == "win32" or not level.isdecimal() or int(level) == 0:
        return
    try:
        shown, is_ours = os.dup(STDERR), sys.stderr.fileno() == STDERR
    except (OSError, AttributeError, ValueError):
        return
    if not is_ours:
        os.close(shown)
        return
    sys.stderr.flush()
    command = [sys.executable, "-I", "-S", str(_FILTER), level]
    # In a session of its own: Ctrl-C is for the command alone, which may have something to say then.
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    assert started.stdin is not None
    os.dup2(started.stdin.fileno(), STDERR)
    started.stdin.close()
    # Not through the pipe, so that a progress bar sees the terminal, and nothing of ours waits for another process.
    sys.stderr = open(shown, "w", encoding=sys.stderr.encoding, errors=sys.stderr.errors, buffering=1, closefd=False)  # noqa: SIM115
    _filtering = started, shown


def restart_with_huge_pages() -> None:
    """Starts this process anew, under its number, with pages of 2 MB for large allocations; does nothing if it has them.

    glibc asks the system for them (Linux, glibc 2.35 and newer) if its environment said so before the process began.
    """
    tunables = os.environ.get(TUNABLES, "")
    if sys.platform == "linux" and HUGE_PAGES.partition("=")[0] not in tunables:
        os.environ[TUNABLES] = f"{tunables}:{HUGE_PAGES}".lstrip(":")
        if _filtering:
            started, shown = _filtering
            os.dup2(shown, STDERR)
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(5)  # it ends, as nobody writes to it any more
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def hold_weights_frozen() -> None:
    """For commands that only run networks: every convolution keeps its weights in oneDNN's own layout from its first call on.

    TensorFlow reads the setting at its first operation. A network whose weights are set after that would go on with the old ones.
    """
    os.environ.setdefault(FROZEN_WEIGHTS, "1")


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Leaves out garbage collection during the first import of TensorFlow, and looks for no garbage in what it imported afterwards.

    It makes half a million objects, which all stay; looking through them, again and again and at the process' end, takes a third of a short
    command's time.
    """
    if "tensorflow" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


class PlainHandler(logging.Handler):
    """Writes log messages as lines of text to standard error, wherever that is now, above a progress bar if one is shown.

    What is not mere information begins with its level, such as `warning:`.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
            line = f"{level}{self.format(record)}"
            if "tqdm" in sys.modules:
                sys.modules["tqdm"].tqdm.write(line, file=sys.stderr)
            else:
                print(line, file=sys.stderr)
        except Exception:
            self.handleError(record)


def log_plainly() -> None:
    """Makes `PlainHandler` the one that all loggers of the process use; TensorFlow adds none of its own where there is one."""
    root = logging.getLogger()
    if not any(isinstance(handler, PlainHandler) for handler in root.handlers):
        root.addHandler(PlainHandler())
