"""What the measurements share: a process of one's own, and the median of some calls."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import time
from collections.abc import Callable

import numpy as np


def in_own_process(function: Callable, *arguments):
    """What `function` returns, called in a new process with which its memory goes: converting 109 M parameters takes gigabytes."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def median_seconds(call: Callable[[], object], repeats: int) -> float:
    """The median of `repeats` calls, after one that may also trace."""
    call()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))
