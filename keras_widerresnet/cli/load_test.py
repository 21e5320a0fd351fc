"""`keras-widerresnet load-test`: latency and throughput of a server."""

from __future__ import annotations

import functools
import pathlib

from keras_widerresnet.cli.checks import check_file
from keras_widerresnet.cli.command import Command
from keras_widerresnet.options import values_of
from keras_widerresnet.serving.config import LoadTestConfig, check_server


def check(config: LoadTestConfig) -> None:
    """Checks what can be found from the options alone."""
    check_server(config)
    for image in config.images:
        check_file(image, "image")


def run(config: LoadTestConfig) -> None:
    """Runs the load test and prints latency percentiles and throughput."""
    from tabulate import tabulate

    from keras_widerresnet.serving.client import connect
    from keras_widerresnet.serving.load_test import measure_load

    # No retries, which would turn failures into latency.
    given = values_of(config, ("version", "grpc", "deadline"))
    make_client = functools.partial(connect, config.server, config.served_model, retries=0, **given)
    make_client().check_ready()
    encoded = [pathlib.Path(image).read_bytes() for image in config.images]
    load = measure_load(make_client, encoded, **values_of(config, ("requests", "concurrency", "batch_size", "warm_up", "seconds")))
    rows = [(f"latency, {percent}th percentile", f"{value:.1f} ms") for percent, value in load.percentiles().items()]
    rows += [("requests", f"{load.requests_per_second:.1f} /s"), ("images", f"{load.images_per_second:.1f} /s")]
    title = f"{len(load.seconds)} requests of batch size {config.batch_size}, {config.concurrency} concurrent"
    print(tabulate(rows, (title, ""), "github", disable_numparse=True))


COMMAND = Command(
    "load-test",
    "Measures the latency and throughput of a server that serves exported networks.",
    "keras-widerresnet load-test photograph.jpg --server=localhost:8501 --served_model=digits",
    LoadTestConfig,
    run,
    check,
)
