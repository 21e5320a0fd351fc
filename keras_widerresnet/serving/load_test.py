"""Measures a server's latency percentiles and throughput under concurrent clients."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence

import numpy as np

from keras_widerresnet.errors import InputError
from keras_widerresnet.progress import progress_bar
from keras_widerresnet.serving.client import Client

PERCENTILES = (50, 90, 95, 99)


@dataclasses.dataclass(frozen=True)
class Load:
    """The result of a load test.

    Args:
        seconds: float array (requests,), the latency of each request.
        elapsed: seconds from the first request to the last response.
        images: number of processed images.
    """

    seconds: np.ndarray
    elapsed: float
    images: int

    @property
    def requests_per_second(self) -> float:
        return len(self.seconds) / self.elapsed

    @property
    def images_per_second(self) -> float:
        return self.images / self.elapsed

    def percentiles(self) -> dict[int, float]:
        """Returns percentile -> latency in milliseconds."""
        return {percent: float(np.percentile(self.seconds, percent) * 1e3) for percent in PERCENTILES}


def measure_load(
    make_client: Callable[[], Client],
    images: Sequence[bytes],
    *,
    requests: int = 200,
    concurrency: int = 4,
    batch_size: int = 1,
    warm_up: int = 8,
    seconds: float = 300.0,
) -> Load:
    """Sends a fixed number of requests from concurrent clients, each waiting for its response (a closed loop).

    Args:
        make_client: creates the client of each thread.
        images: encoded images, used in turn.
        requests: number of measured requests.
        concurrency: number of concurrent clients.
        batch_size: images per request.
        warm_up: number of unmeasured requests at the start.
        seconds: maximum duration; no request starts later, and those sent until then are measured.

    Raises:
        InputError: if a request fails or a number is out of range.
    """
    if min(requests, concurrency, batch_size) < 1 or warm_up < 0:
        raise InputError(f"Requests, concurrency and batch size must be at least 1. Received: {requests}, {concurrency}, {batch_size}")
    clients = [make_client() for _ in range(concurrency)]
    endless = itertools.cycle(images)
    batches = [[next(endless) for _ in range(batch_size)] for _ in range(min(requests, len(images)))]
    for number in range(warm_up):
        clients[number % concurrency].predict(batches[number % len(batches)])
    numbers, latencies = iter(range(requests)), []
    begin = time.perf_counter()

    def ask(client: Client, bar) -> None:
        for number in numbers:  # shared: each number goes to one client
            started = time.perf_counter()
            if started - begin > seconds:
                return
            client.predict(batches[number % len(batches)])
            latencies.append(time.perf_counter() - started)
            bar.update(batch_size)

    with progress_bar(total=requests * batch_size) as bar, concurrent.futures.ThreadPoolExecutor(concurrency) as pool:
        for future in [pool.submit(ask, client, bar) for client in clients]:
            future.result()
    return Load(np.array(latencies), time.perf_counter() - begin, len(latencies) * batch_size)
