"""Options of the server connection and of load tests, as records."""

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
    """Options that identify a model on a TF Serving server."""

    server: str = option("", help="HOST:PORT of TF Serving; its default ports are 8501 for REST and 8500 for gRPC", group=SERVER)
    served_model: str = option(DEFAULT_MODEL, help="the model's name on the server", group=SERVER)
    version: int = option(0, help="version of the served model; 0 for the latest", group=SERVER, least=0)
    grpc: bool = option(False, help="use gRPC instead of REST; needs tensorflow-serving-api", group=SERVER)
    deadline: float = option(30.0, help="maximum seconds of a request", group=SERVER, least=0)


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadTestConfig(ServerOptions):
    """Options of a load test with a fixed number of requests and clients.

    Raises:
        InputError: for a value out of range.
    """

    images: tuple[str, ...] = option(help="IMAGE", group=LOAD, is_positional=True)
    server: str = redefined(ServerOptions, "server", dataclasses.MISSING)
    requests: int = option(200, help="number of measured requests", group=LOAD, least=1)
    concurrency: int = option(4, help="number of concurrent clients", group=LOAD, least=1)
    batch_size: int = option(1, help="images per request", group=LOAD, least=1)
    warm_up: int = option(8, help="unmeasured requests at the start", group=LOAD, least=0)
    seconds: float = option(300.0, help="maximum duration in seconds; no request starts later", group=LOAD, least=1)

    def __post_init__(self):
        check(self)


def check_server(options: ServerOptions) -> None:
    """Raises `InputError` for an invalid address, or if gRPC is requested and TF Serving's protobufs are missing."""
    check_address(options.server)
    if options.grpc:
        check_grpc_installed()


def check_address(server: str) -> None:
    """Raises `InputError` if an address is not of the form `HOST:PORT`."""
    host, _, port = server.rpartition(":")
    if not host or not port.isdecimal() or "/" in server:
        raise InputError(f"The server address must be HOST:PORT, e.g. localhost:8501. Received: {server!r}")


def check_grpc_installed() -> None:
    """Raises `InputError` if TF Serving's protobufs or gRPC itself are missing."""
    if None in (importlib.util.find_spec("tensorflow_serving"), importlib.util.find_spec("grpc")):
        raise InputError(f"gRPC needs TF Serving's protobufs: {SERVING_EXTRA}")
