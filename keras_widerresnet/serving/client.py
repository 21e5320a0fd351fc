"""Clients of TensorFlow Serving for the `serving_default` signature of classification exports: REST, and gRPC."""

from __future__ import annotations

import base64
import contextlib
import json
import operator
from collections.abc import Iterator, Sequence
from typing import Protocol

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from keras_widerresnet.errors import InputError
from keras_widerresnet.serving.config import DEFAULT_MODEL, check_address, check_grpc_installed

BACKOFF_SECONDS = 0.2
UNAVAILABLE = (502, 503, 504)
GRPC_ATTEMPTS = 5  # gRPC's own limit
OUTPUTS = ("valid", "indices", "classes", "probabilities")  # outputs of the signature

Answer = list[tuple[int, str, float]]


class Client(Protocol):
    """Client of one model on a server."""

    def predict(self, images: Sequence[bytes]) -> list[Answer | None]:
        """Returns the top classes of a batch of encoded images.

        Returns:
            For each image, `(index, class name, probability)` tuples, best first; None for an image that cannot be decoded.

        Raises:
            InputError: if the server cannot be reached, does not have the model, rejects the request, returns an unexpected response, or
                exceeds the deadline.
        """

    def check_ready(self) -> list[int]:
        """Returns the versions that are ready on the server; raises `InputError` if there are none."""


def connect(
    server: str, model: str = DEFAULT_MODEL, *, version: int = 0, grpc: bool = False, deadline: float = 30.0, retries: int = 3
) -> Client:
    """Creates a client, without sending anything yet.

    Args:
        server: `HOST:PORT`; TF Serving's usual ports are 8501 for REST and 8500 for gRPC.
        model: the model's name on the server.
        version: version of the model; 0 for the latest.
        grpc: whether to use gRPC instead of REST; needs tensorflow-serving-api.
        deadline: maximum seconds of a request; per attempt over REST, in total over gRPC.
        retries: attempts after the first, with exponential backoff, if the server is unreachable or unavailable; at most 4 with gRPC.

    Raises:
        InputError: for an invalid address or number, or if tensorflow-serving-api is needed but missing.
    """
    check_address(server)
    if deadline <= 0 or retries < 0:
        raise InputError(f"The deadline must be positive and retries must not be negative. Received: {deadline:g} and {retries}")
    return (GrpcClient if grpc else RestClient)(server, model, version, deadline, retries)


class RestClient:
    """TF Serving's REST interface; see `connect`."""

    def __init__(self, server: str, model: str, version: int, deadline: float, retries: int):
        self._server, self._model, self._deadline = server, model, deadline
        self._address = f"http://{server}/v1/models/{model}" + (f"/versions/{version}" if version else "")
        # No retry after a read timeout, so that the deadline is kept.
        retry = Retry(
            retries,
            read=False,
            backoff_factor=BACKOFF_SECONDS,
            status_forcelist=UNAVAILABLE,
            allowed_methods=None,
            raise_on_status=False,
        )
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy between the client and the given server
        self._session.mount("http://", HTTPAdapter(max_retries=retry))

    def predict(self, images: Sequence[bytes]) -> list[Answer | None]:
        instances = [{"b64": base64.b64encode(image).decode()} for image in images]
        content = self._asked("POST", f"{self._address}:predict", {"signature_name": "serving_default", "instances": instances})
        with _understood(self._server, self._model):
            rows = content["predictions"]
            return _answers(len(images), *([row[name] for row in rows] for name in OUTPUTS))

    def check_ready(self) -> list[int]:
        content = self._asked("GET", self._address)
        with _understood(self._server, self._model):
            statuses = [(int(status["version"]), status["state"]) for status in content["model_version_status"]]
        return _ready(statuses, self._server, self._model)

    def _asked(self, method: str, address: str, body: dict | None = None) -> dict:
        try:
            response = self._session.request(method, address, json=body, timeout=self._deadline)
        except requests.Timeout:
            raise InputError(_too_late(self._server, self._deadline)) from None
        except requests.RequestException as error:
            reason = getattr(error.args[0], "reason", error) if error.args else error  # of the last attempt
            raise InputError(_unreachable(self._server, "REST", reason)) from None
        try:
            content = response.json()
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise InputError(f"{self._server} is not a model server: it returned status {response.status_code} without a JSON object")
        if response.status_code == 404:
            raise InputError(_no_model(self._server, self._model, str(content.get("error", ""))))
        if response.status_code != 200:
            raise InputError(f"{self._server} rejected the request ({response.status_code}): {content.get('error', content)}")
        return content


class GrpcClient:
    """TF Serving's gRPC interface; see `connect`."""

    def __init__(self, server: str, model: str, version: int, deadline: float, retries: int):
        check_grpc_installed()
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        self._server, self._model, self._version, self._deadline = server, model, version, deadline
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        channel = grpc.insecure_channel(server, options=[*options, ("grpc.service_config", _retry_policy(retries))])
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(channel)

    def predict(self, images: Sequence[bytes]) -> list[Answer | None]:
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest(inputs={"image_bytes": tf.make_tensor_proto(list(images), tf.string)})
        self._name(request.model_spec)
        request.model_spec.signature_name = "serving_default"
        outputs = self._asked(self._predictions.Predict, request).outputs
        with _understood(self._server, self._model):
            valid, indices, names, scores = (tf.make_ndarray(outputs[name]).tolist() for name in OUTPUTS)
            return _answers(len(images), valid, indices, [[name.decode() for name in row] for row in names], scores)

    def check_ready(self) -> list[int]:
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        self._name(request.model_spec)
        response = self._asked(self._models.GetModelStatus, request)
        states = get_model_status_pb2.ModelVersionStatus.State
        listed = [(status.version, states.Name(status.state)) for status in response.model_version_status]
        return _ready(listed, self._server, self._model)

    def _name(self, spec) -> None:
        spec.name = self._model
        if self._version:
            spec.version.value = self._version

    def _asked(self, method, request):
        import grpc

        try:
            return method(request, timeout=self._deadline)
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
        if code == grpc.StatusCode.NOT_FOUND:
            raise InputError(_no_model(self._server, self._model, details))
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise InputError(_too_late(self._server, self._deadline))
        if code == grpc.StatusCode.UNAVAILABLE:
            raise InputError(_unreachable(self._server, "gRPC", details))
        raise InputError(f"{self._server} rejected the request ({code.name}): {details}")


def _retry_policy(retries: int) -> str:
    policy = {
        "maxAttempts": min(1 + retries, GRPC_ATTEMPTS),
        "initialBackoff": f"{BACKOFF_SECONDS}s",
        "maxBackoff": "5s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return json.dumps({"methodConfig": [{"name": [{}]} | ({"retryPolicy": policy} if retries else {})]})


@contextlib.contextmanager
def _understood(server: str, model: str) -> Iterator[None]:
    """Turns exceptions from parsing an unexpected response into an `InputError`."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        wanted = f"{', '.join(OUTPUTS)} for every image, as exports of classification networks do (docs/serving.md)"
        raise InputError(f"{model!r} on {server} did not return {wanted}: {type(error).__name__}, {error}") from None


def _answers(images: int, valid, indices, classes, probabilities) -> list[Answer | None]:
    rows = list(zip(valid, indices, classes, probabilities, strict=True))
    if len(rows) != images:
        raise ValueError(f"{len(rows)} results for {images} images")
    return [_answer(*row) for row in rows]


def _answer(valid: bool, indices: Sequence[int], classes: Sequence[str], probabilities: Sequence[float]) -> Answer | None:
    if not isinstance(valid, bool):
        raise TypeError(f"valid is {valid!r}")
    if not valid:
        return None
    answer = list(zip(map(operator.index, indices), classes, map(float, probabilities), strict=True))
    if not all(isinstance(name, str) for _, name, _ in answer):
        raise TypeError(f"classes are {classes!r}")
    return answer


def _ready(statuses: list[tuple[int, str]], server: str, model: str) -> list[int]:
    ready = sorted(version for version, state in statuses if state == "AVAILABLE")
    if not ready:
        raise InputError(f"{server} has no ready version of {model!r}: {statuses}")
    return ready


def _unreachable(server: str, kind: str, reason: object) -> str:
    return f"No server responds at {server} over {kind} ({' '.join(str(reason).split())[:200]})"


def _no_model(server: str, model: str, reason: str) -> str:
    return f"{server} has no model {model!r}, or not the requested version ({reason.strip()}); --served_model is its name on the server"


def _too_late(server: str, deadline: float) -> str:
    return f"{server} did not respond within {deadline:g} s; --deadline sets a longer limit"
