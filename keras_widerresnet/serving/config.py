"""Which server is asked, and how a load test asks it, as records."""

from __future__ import annotations

import dataclasses
import importlib.util

from keras_widerresnet.errors import InputError
from keras_widerresnet.options import check, documented, option, redefined

SERVER, LOAD = "Server", "Load"
DEFAULT_MODEL = "wide_resnet"
SERVING_EXTRA = "pip install --no-deps tensorflow-serving-api, and grpcio"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """A model on a server of TF Serving."""

    server: str = option("", help="HOST:PORT of TF Serving; its ports are 8501 for REST, 8500 for gRPC", group=SERVER)
    served_model: str = option(DEFAULT_MODEL, help="the model's name on the server", group=SERVER)
    version: int = option(0, help="version of the served model; 0 for the latest", group=SERVER, least=0)
    grpc: bool = option(False, help="speak gRPC, not REST; needs tensorflow-serving-api", group=SERVER)
    deadline: float = option(30.0, help="seconds for a request", group=SERVER, least=0)


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadTestConfig(ServerOptions):
    """A load test: a fixed number of requests, so many at a time.

    Raises:
        InputError: for a value out of range.
    """

    images: tuple[str, ...] = option(help="IMAGE", group=LOAD, is_positional=True)
    server: str = redefined(ServerOptions, "server", dataclasses.MISSING)
    requests: int = option(200, help="requests that are measured", group=LOAD, least=1)
    concurrency: int = option(4, help="clients at once", group=LOAD, least=1)
    batch_size: int = option(1, help="images a request", group=LOAD, least=1)
    warm_up: int = option(8, help="requests before the measurement", group=LOAD, least=0)
    seconds: float = option(300.0, help="no request is started later", group=LOAD, least=1)

    def __post_init__(self):
        check(self)


def check_server(options: ServerOptions) -> None:
    """Raises `InputError` for an address that is none, or if gRPC is wanted and TF Serving's protobufs are missing."""
    check_address(options.server)
    if options.grpc:
        check_grpc_installed()


def check_address(server: str) -> None:
    """Raises `InputError` for what is not `HOST:PORT`."""
    host, _, port = server.rpartition(":")
    if not host or not port.isdecimal() or "/" in server:
        raise InputError(f"A server is HOST:PORT, e.g. localhost:8501. Received: {server!r}")


def check_grpc_installed() -> None:
    """Raises `InputError` if TF Serving's protobufs, or gRPC itself, are missing."""
    if None in (importlib.util.find_spec("tensorflow_serving"), importlib.util.find_spec("grpc")):
        raise InputError(f"gRPC needs TF Serving's protobufs: {SERVING_EXTRA}")
