"""A small server of one SavedModel with TF Serving's interfaces, for tests and for trying the client where TF Serving is not at hand.

`python tests/serving_server.py saved_models/digits --served_model=digits` answers gRPC (`PredictionService.Predict`,
`ModelService.GetModelStatus`) on port 8500 and REST on port 8501. It does not batch, poll or reload.
"""

import base64
import concurrent.futures
import contextlib
import http.server
import json
import pathlib
import re
import sys
import threading

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc

# What reading a request of another form raises.
BAD_REQUEST = (ValueError, KeyError, IndexError, TypeError, AttributeError, StopIteration, RecursionError)
STATUS = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}


class NotAvailable(Exception):
    """What a server that is overloaded or loading answers with."""


class Served:
    """The latest version of a model's folder, loaded as any TensorFlow program loads it."""

    def __init__(self, folder, name):
        self.name = name
        self.version = max(int(entry.name) for entry in pathlib.Path(folder).iterdir() if entry.name.isdecimal())
        self._loaded = tf.saved_model.load(str(pathlib.Path(folder) / str(self.version)))

    def has(self, name, version):
        return name == self.name and version in (0, self.version)

    def run(self, signature, inputs):
        """Arrays by name to arrays by name; raises `ValueError` for what the signature does not take."""
        if signature not in self._loaded.signatures:
            raise ValueError(f'Serving signature name: "{signature}" not found in signature def')
        function = self._loaded.signatures[signature]
        specs = function.structured_input_signature[1]
        if set(inputs) != set(specs):
            raise ValueError(f"inputs are {sorted(specs)}, received {sorted(inputs)}")
        tensors = {name: tf.constant(inputs[name], specs[name].dtype) for name in specs}
        for name, tensor in tensors.items():
            if not specs[name].shape.is_compatible_with(tensor.shape):
                raise ValueError(f"input {name} must be {specs[name].shape}, received {tensor.shape}")
        return {name: output.numpy() for name, output in function(**tensors).items()}

    def only_input(self, signature):
        return next(iter(self._loaded.signatures[signature].structured_input_signature[1]))


def rest_handler(served):
    """TF Serving's REST interface: status, and prediction by rows (`instances`) or columns (`inputs`)."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body in one packet: apart, the second waits for the first to be acknowledged

        def do_GET(self):
            match = re.fullmatch(r"/v1/models/([^/:]+)(?:/versions/(\d+))?", self.path)
            if not match or not served.has(match[1], int(match[2] or 0)):
                return self._send(404, {"error": f"Could not find any versions of model {match[1] if match else self.path}"})
            return self._send(200, {"model_version_status": [{"version": str(served.version), **STATUS}]})

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            match = re.fullmatch(r"/v1/models/([^/:]+)(?:/versions/(\d+))?:predict", self.path)
            if not match or not served.has(match[1], int(match[2] or 0)):
                return self._send(404, {"error": f"Servable not found for request: Latest({match[1] if match else self.path})"})
            try:
                return self._send(200, _predicted(served, json.loads(body)))
            except (*BAD_REQUEST, tf.errors.OpError) as error:
                return self._send(400, {"error": str(error)})

        def _send(self, status, content):
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


def _predicted(served, request):
    signature = request.get("signature_name", "serving_default")
    rows = request.get("instances")
    if rows is None:
        return {"outputs": {name: _json(array) for name, array in served.run(signature, _bytes(request["inputs"])).items()}}
    rows = [_bytes(row) for row in rows]
    is_named = isinstance(rows[0], dict)
    columns = {name: [row[name] for row in rows] for name in rows[0]} if is_named else {served.only_input(signature): rows}
    outputs = served.run(signature, columns)
    if len(outputs) == 1:
        return {"predictions": _json(next(iter(outputs.values())))}
    return {"predictions": [{name: _json(array[k]) for name, array in outputs.items()} for k in range(len(rows))]}


def _bytes(value):
    """`{"b64": ...}`, wherever it stands, as bytes."""
    if isinstance(value, dict):
        return (
            base64.b64decode(value["b64"], validate=True) if set(value) == {"b64"} else {key: _bytes(item) for key, item in value.items()}
        )
    return [_bytes(item) for item in value] if isinstance(value, list) else value


def _json(array):
    array = np.asarray(array)
    return np.vectorize(bytes.decode, otypes=[object])(array).tolist() if array.dtype == object else array.tolist()


def grpc_server(served, port=0):
    """A started server of the official services, and its port."""

    def check(spec, context):
        if not served.has(spec.name, spec.version.value):
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({spec.name})")

    class Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            check(request.model_spec, context)
            response = predict_pb2.PredictResponse(model_spec=request.model_spec)
            response.model_spec.version.value = served.version
            try:
                inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
                outputs = served.run(request.model_spec.signature_name or "serving_default", inputs)
            except (*BAD_REQUEST, tf.errors.OpError) as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            except NotAvailable:
                context.abort(grpc.StatusCode.UNAVAILABLE, "not available")
            for name, array in outputs.items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
            return response

    class Models(model_service_pb2_grpc.ModelServiceServicer):
        def GetModelStatus(self, request, context):
            check(request.model_spec, context)
            response = get_model_status_pb2.GetModelStatusResponse()
            response.model_version_status.add(version=served.version, state="AVAILABLE")
            return response

    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Predictions(), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(), server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, port


@contextlib.contextmanager
def serving(folder, name, *, rest_port=0, grpc_port=None):
    """Serves a model's folder on the loopback address; yields the REST port, and the gRPC port if one was asked for (0: any)."""
    served = Served(folder, name)
    rest = http.server.ThreadingHTTPServer(("127.0.0.1", rest_port), rest_handler(served))
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    server, port = grpc_server(served, grpc_port) if grpc_port is not None else (None, None)
    try:
        yield rest.server_port, port
    finally:
        rest.shutdown()
        rest.server_close()
        if server:
            server.stop(None)


def main():
    from absl import app, flags

    flags.DEFINE_string("served_model", "wide_resnet", "The model's name.")
    flags.DEFINE_integer("rest_port", 8501, "0 for any.")
    flags.DEFINE_integer("grpc_port", 8500, "0 for any.")

    def serve(arguments):
        if len(arguments) != 2:
            sys.exit("give the folder of a model, with its versions in it")
        with serving(arguments[1], flags.FLAGS.served_model, rest_port=flags.FLAGS.rest_port, grpc_port=flags.FLAGS.grpc_port) as ports:
            print("REST at 127.0.0.1:{}, gRPC at 127.0.0.1:{}".format(*ports), flush=True)
            threading.Event().wait()

    app.run(serve)


if __name__ == "__main__":
    main()
