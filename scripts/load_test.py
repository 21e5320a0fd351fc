"""Latency and throughput of a server: `python scripts/load_test.py photograph.jpg --server=localhost:8501 --served_model=digits`."""

import functools
import pathlib

import command_line
from absl import flags

flags.DEFINE_string("server", None, "HOST:PORT; TF Serving's ports are 8501 for REST, 8500 for gRPC.", required=True)
flags.DEFINE_string("served_model", "wide_resnet", "The model's name on the server.")
flags.DEFINE_integer("version", 0, "Of the model; 0 for the latest.", lower_bound=0)
flags.DEFINE_bool("grpc", False, "Speak gRPC; needs tensorflow-serving-api.")
flags.DEFINE_float("deadline", 30.0, "Seconds for a request.")
flags.DEFINE_integer("requests", 200, "How many are measured.", lower_bound=1)
flags.DEFINE_integer("concurrency", 4, "Clients at once.", lower_bound=1)
flags.DEFINE_integer("batch_size", 1, "Images a request.", lower_bound=1)
flags.DEFINE_integer("warm_up", 8, "Requests before the measurement.", lower_bound=0)
flags.DEFINE_float("seconds", 300.0, "No request is started later.", lower_bound=1.0)


def main(files):
    from tabulate import tabulate

    from keras_widerresnet.errors import InputError
    from keras_widerresnet.serving.client import connect
    from keras_widerresnet.serving.load import measure_load

    missing = [file for file in files if not pathlib.Path(file).is_file()]
    if missing:
        raise InputError(f"No file at {missing[0]!r}")
    given = {name: flags.FLAGS[name].value for name in ("version", "grpc", "deadline")}
    # No retries: a failure would be hidden in a latency.
    make_client = functools.partial(connect, flags.FLAGS.server, flags.FLAGS.served_model, retries=0, **given)
    make_client().check_ready()
    options = {name: flags.FLAGS[name].value for name in ("requests", "concurrency", "batch_size", "warm_up", "seconds")}
    load = measure_load(make_client, [pathlib.Path(file).read_bytes() for file in files], **options)
    rows = [(f"latency, {percent} % of requests within", f"{value:.1f} ms") for percent, value in load.percentiles().items()]
    rows += [("requests", f"{load.requests_per_second:.1f} /s"), ("images", f"{load.images_per_second:.1f} /s")]
    title = f"{len(load.seconds)} requests of {options['batch_size']}, {options['concurrency']} at once"
    print(tabulate(rows, (title, ""), "github", disable_numparse=True))


if __name__ == "__main__":
    command_line.run(main, arguments="IMAGE")
