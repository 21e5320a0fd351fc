"""The CPU threads that every contender has."""

from __future__ import annotations

import os

from keras_widerresnet.errors import InputError


def take(threads: int) -> int:
    """Keeps this process, and all that it starts, to so many of its CPU threads; 0 for all. Returns how many they are.

    Raises:
        InputError: if there are not so many, or the system cannot do it.
    """
    if not hasattr(os, "sched_setaffinity"):
        if threads not in (0, os.cpu_count()):
            raise InputError(f"Only Linux can keep processes to some of the threads: leave --threads out. Received: {threads}")
        return os.cpu_count()
    own = sorted(os.sched_getaffinity(0))
    if threads > len(own):
        raise InputError(f"This process has {len(own)} CPU threads. Received: --threads={threads}")
    os.sched_setaffinity(0, own[: threads or len(own)])
    return threads or len(own)
