"""Shared measurement functions: running in a separate process, and median times."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import time
from collections.abc import Callable

import numpy as np


def in_own_process(function: Callable, *arguments):
    """Calls `function` in a new process, so that its memory is freed: converting 109 M parameters needs gigabytes."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def median_seconds(call: Callable[[], object], repeats: int) -> float:
    """Returns the median time of `repeats` calls in seconds, after a first call that may also trace."""
    call()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))
