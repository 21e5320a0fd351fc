"""Turns termination signals, full disks, lost workers and NaN losses into a stop from which a run can be resumed."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
from collections.abc import Iterator

import tensorflow as tf

from keras_widerresnet.errors import RunStopped
from keras_widerresnet.files import is_disk_full

TERMINATED = 128 + signal.SIGTERM  # the exit code that shells report
WORKER_LOST = 75  # EX_TEMPFAIL of sysexits.h: the command should be restarted
DIVERGED = 70  # so that a search of learning rates tells a rate that is too high from a run that failed
RESUME = "the same command with --resume continues from the last checkpoint"


@contextlib.contextmanager
def termination() -> Iterator[threading.Event]:
    """Yields an event that SIGTERM sets, instead of ending the process at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread may install signal handlers
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turns a full disk and a lost worker into `RunStopped`."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        text = str(error)
        if is_disk_full(error):
            raise RunStopped(f"The disk is full ({text.splitlines()[0][:200]}). Make room; {RESUME}") from error
        if isinstance(error, (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)):
            message = f"Lost another worker ({text.splitlines()[0][:200]}). Start all workers again: {RESUME}"
            raise RunStopped(message, WORKER_LOST) from error
        raise


def check_finite(values: dict[str, float], first_bad_step: int, step: int) -> None:
    """Raises `RunStopped` for a NaN or infinite training or test loss.

    Args:
        values: `loss`, and `val_loss` after an evaluation.
        first_bad_step: zero-based index of the first step with a NaN or infinite loss; negative if there was none.
        step: number of completed steps.
    """
    bad = [name for name in ("loss", "val_loss") if not math.isfinite(values.get(name, 0.0))]
    if bad or first_bad_step >= 0:
        when = f"The loss of step {first_bad_step}" if first_bad_step >= 0 else f"The test loss after step {step - 1}"
        raise RunStopped(
            f"{when} is NaN or infinite. The last good checkpoint is kept. A lower --learning_rate, a longer --warmup_epochs or "
            f"--mixed_precision=bfloat16 instead of float16 may help, in a new --output_dir",
            DIVERGED,
        )
