"""Limits the CPU threads of all contenders."""

from __future__ import annotations

import os

from keras_widerresnet.errors import InputError


def take(threads: int) -> int:
    """Restricts this process and its children to a number of CPU threads (0 for all), and returns that number.

    Raises:
        InputError: if the process has fewer threads, or the system does not support CPU affinity.
    """
    if not hasattr(os, "sched_setaffinity"):
        if threads not in (0, os.cpu_count()):
            raise InputError(f"Only Linux can restrict processes to some of the threads: omit --threads. Received: {threads}")
        return os.cpu_count()
    own = sorted(os.sched_getaffinity(0))
    if threads > len(own):
        raise InputError(f"This process has {len(own)} CPU threads. Received: --threads={threads}")
    os.sched_setaffinity(0, own[: threads or len(own)])
    return threads or len(own)
