"""The client against a server of the official protobufs and the REST contract, on the loopback address."""

import base64
import http.server
import json
import pathlib
import subprocess
import sys
import threading
import time
import urllib.request

import numpy as np
import pytest
import serving_server
import tensorflow as tf
from google.protobuf import text_format
from photographs import REAL_PHOTOGRAPHS
from tensorflow_serving.config import model_server_config_pb2

from keras_widerresnet.cli import main
from keras_widerresnet.errors import InputError
from keras_widerresnet.serving import connect
from keras_widerresnet.serving.load_test import measure_load
from keras_widerresnet.tasks.classification.prediction import predict_served

ROOT = pathlib.Path(__file__).parent.parent
DIGITS = ROOT / "saved_models" / "digits"
IMAGES = [*list(REAL_PHOTOGRAPHS.values())[:3], b"no image"]
KINDS = [pytest.param(False, id="REST"), pytest.param(True, id="gRPC")]


@pytest.fixture(scope="module")
def ports():
    with serving_server.serving(DIGITS, "digits", grpc_port=0) as found:
        yield found


@pytest.fixture(scope="module")
def expected():
    signature = tf.saved_model.load(str(DIGITS / "1")).signatures["serving_default"]
    return {name: array.numpy() for name, array in signature(image_bytes=tf.constant(IMAGES)).items()}


def address(ports, grpc):
    return f"127.0.0.1:{ports[grpc]}"


@pytest.mark.parametrize("grpc", KINDS)
def test_answers_are_the_models(ports, expected, grpc):
    client = connect(address(ports, grpc), "digits", grpc=grpc)
    assert client.check_ready() == [1]
    answers = client.predict(IMAGES)
    assert answers[3] is None and expected["valid"].tolist() == [True, True, True, False]
    for row, answer in enumerate(answers[:3]):
        indices, names, probabilities = zip(*answer, strict=True)
        assert list(indices) == expected["indices"][row].tolist()
        assert [name.encode() for name in names] == expected["classes"][row].tolist()
        np.testing.assert_allclose(probabilities, expected["probabilities"][row], atol=1e-6)
    assert connect(address(ports, grpc), "digits", version=1, grpc=grpc).predict(IMAGES[:1]) == client.predict(IMAGES[:1])


@pytest.mark.parametrize("grpc", KINDS)
@pytest.mark.parametrize(("model", "version"), [("other", 0), ("digits", 7)])
def test_a_wrong_model_name_or_version_is_said(ports, grpc, model, version):
    client = connect(address(ports, grpc), model, version=version, grpc=grpc)
    for ask in (lambda: client.predict(IMAGES), client.check_ready):
        with pytest.raises(InputError, match=f"has no model {model!r}, or not the requested version"):
            ask()


@pytest.mark.parametrize("grpc", KINDS)
def test_an_unreachable_server_is_said_after_limited_retries(grpc):
    with http.server.HTTPServer(("127.0.0.1", 0), None) as taken:
        port = taken.server_port  # free again once closed
    begin = time.perf_counter()
    with pytest.raises(InputError, match=rf"No server responds at 127.0.0.1:{port} over {'gRPC' if grpc else 'REST'} .*refused"):
        connect(f"127.0.0.1:{port}", grpc=grpc, retries=2).predict(IMAGES)
    assert time.perf_counter() - begin < 10


@pytest.mark.parametrize("grpc", KINDS)
def test_a_deadline_ends_the_waiting_and_nothing_is_sent_twice(ports, grpc, monkeypatch):
    asked, answered = [], threading.Event()
    monkeypatch.setattr(serving_server.Served, "run", lambda *_: (asked.append(1), time.sleep(1.5), answered.set(), {})[-1])
    begin = time.perf_counter()
    with pytest.raises(InputError, match=r"did not respond within 0.5 s; --deadline sets a longer limit"):
        connect(address(ports, grpc), "digits", grpc=grpc, deadline=0.5).predict(IMAGES[:1])
    assert time.perf_counter() - begin < 1.5 and len(asked) == 1
    assert answered.wait(10)


@pytest.mark.parametrize(("retries", "failures", "succeeds"), [(3, 2, True), (1, 2, False), (0, 0, True)])
def test_rest_retries_what_is_not_available(retries, failures, succeeds):
    served = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            served.append(self.path)
            self.send_response(503 if len(served) <= failures else 200)
            self.end_headers()
            self.wfile.write(json.dumps({"error": "loading", "predictions": []}).encode())

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = connect(f"127.0.0.1:{server.server_port}", "net", retries=retries)
        if succeeds:
            assert client.predict([]) == []
        else:
            with pytest.raises(InputError, match=r"rejected the request \(503\): loading"):
                client.predict([])
        server.shutdown()
    assert served == ["/v1/models/net:predict"] * min(retries + 1, failures + 1)


@pytest.mark.parametrize(("retries", "failures", "succeeds"), [(3, 2, True), (1, 2, False)])
def test_grpc_retries_what_is_not_available(ports, retries, failures, succeeds, monkeypatch):
    asked, run = [], serving_server.Served.run

    def fails_first(self, *arguments):
        asked.append(1)
        if len(asked) <= failures:
            raise serving_server.NotAvailable
        return run(self, *arguments)

    monkeypatch.setattr(serving_server.Served, "run", fails_first)
    client = connect(address(ports, True), "digits", grpc=True, retries=retries)
    if succeeds:
        assert len(client.predict(IMAGES)) == len(IMAGES)
    else:
        with pytest.raises(InputError, match="No server responds"):
            client.predict(IMAGES)
    assert len(asked) == min(retries + 1, failures + 1)


def test_rest_contract_by_hand(ports):
    """Rows and columns, named and bare, as TF Serving documents them; by urllib alone."""

    def post(body):
        request = urllib.request.Request(f"http://127.0.0.1:{ports[0]}/v1/models/digits:predict", json.dumps(body).encode())
        return json.loads(urllib.request.urlopen(request).read())

    encoded = [{"b64": base64.b64encode(image).decode()} for image in IMAGES]
    rows = post({"instances": encoded})["predictions"]
    assert rows == post({"signature_name": "serving_default", "instances": [{"image_bytes": one} for one in encoded]})["predictions"]
    columns = post({"inputs": {"image_bytes": encoded}})["outputs"]
    assert [row["indices"] for row in rows] == columns["indices"] and [row["valid"] for row in rows] == columns["valid"]
    pixels = np.zeros((1, 28, 28, 3)).tolist()
    (probabilities,) = post({"signature_name": "tensor", "instances": pixels})["predictions"]
    assert len(probabilities) == 10 and sum(probabilities) == pytest.approx(1, abs=1e-5)
    for wrong in ({"instances": [1.5]}, {"signature_name": "none", "instances": encoded}):
        with pytest.raises(urllib.error.HTTPError, match="400"):
            post(wrong)


def test_models_config_is_what_the_official_server_parses():
    text = (ROOT / "docs" / "serving" / "models.config").read_text()
    (model,) = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert (model.name, model.model_platform, model.model_version_policy.latest.num_versions) == ("digits", "tensorflow", 2)


@pytest.mark.parametrize("server", ["localhost", "localhost:", ":8501", "http://localhost:8501", "localhost:8501/v1"])
def test_an_address_is_host_and_port(server):
    with pytest.raises(InputError, match="The server address must be HOST:PORT"):
        connect(server)


def test_grpc_without_its_package_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    with pytest.raises(InputError, match="gRPC needs TF Serving's protobufs: pip install"):
        connect("localhost:8500", grpc=True)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_files_go_in_batches_and_the_unreadable_one_is_named(ports, tmp_path, batch_size, monkeypatch):
    client, batches = connect(address(ports, False), "digits"), []
    predict = client.predict
    monkeypatch.setattr(client, "predict", lambda images: (batches.append(len(images)), predict(images))[1])
    paths = [str(tmp_path / f"{number}.jpg") for number in range(4)]
    for path, content in zip(paths, IMAGES, strict=True):
        pathlib.Path(path).write_bytes(content)
    decoded = predict_served(paths[:3], client, top=2, batch_size=batch_size)
    assert [len(row) for row in decoded] == [2, 2, 2]
    assert batches == {1: [1, 1, 1], 2: [2, 1], 16: [3]}[batch_size]
    with pytest.raises(InputError, match=r"The server cannot use '.*3.jpg', which is in an unknown format"):
        predict_served(paths, client, batch_size=batch_size)


@pytest.fixture
def asking(ports, tmp_path):
    """Arguments that ask the server for a photograph, by the port of REST or of gRPC."""
    (tmp_path / "photograph.jpg").write_bytes(IMAGES[0])
    return lambda grpc: [str(tmp_path / "photograph.jpg"), f"--server={address(ports, grpc)}", "--served_model=digits"]


def test_predict_asks_a_server(ports, asking, tmp_path, capsys):
    answer = connect(address(ports, False), "digits").predict(IMAGES[:1])[0]
    sheet = tmp_path / "sheet.png"
    main(["predict", *asking(False), "--top=3", f"--output={sheet}"])
    printed = capsys.readouterr().out
    assert all(f"{score:.2%}" in printed for _, _, score in answer[:3]) and printed.count("%") == 3
    assert sheet.is_file() and f"Contact sheet: {sheet}" in printed


def test_load_test_names_the_model_that_is_not_there(asking, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["load-test", *asking(False), "--served_model=other"])
    assert "has no model 'other'" in capsys.readouterr().err


LOAD = ("--requests=12", "--batch_size=2", "--warm_up=1")


def assert_measured(printed):
    assert "| 12 requests of batch size 2, 4 concurrent " in printed and "latency, 99th percentile" in printed


def test_load_test_script(asking):
    command = [sys.executable, str(ROOT / "scripts" / "load_test.py"), *asking(False), *LOAD]
    measured = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert measured.returncode == 0, measured.stderr
    assert_measured(measured.stdout)


def test_load_test_by_grpc(asking, capsys):
    main(["load-test", *asking(True), "--grpc", *LOAD])
    assert_measured(capsys.readouterr().out)


class Sleeper:
    """A server of known latency that counts."""

    running, most, asked = 0, 0, []
    lock = threading.Lock()

    def predict(self, images):
        with self.lock:
            type(self).running += 1
            type(self).most = max(self.most, self.running)
            self.asked.append(list(images))
        time.sleep(0.02)
        with self.lock:
            type(self).running -= 1
        return [None] * len(images)


def test_load_is_measured_as_it_was():
    load = measure_load(Sleeper, [b"a", b"b", b"c"], requests=30, concurrency=5, batch_size=2, warm_up=3)
    assert len(load.seconds) == 30 and load.images == 60 and len(Sleeper.asked) == 33 and Sleeper.most == 5
    assert Sleeper.asked[0] == [b"a", b"b"] and sorted({len(images) for images in Sleeper.asked}) == [2]
    percentiles = load.percentiles()
    assert list(percentiles) == [50, 90, 95, 99] and sorted(percentiles.values()) == list(percentiles.values())
    assert 20 <= percentiles[50] == pytest.approx(float(np.median(load.seconds)) * 1e3)
    assert load.requests_per_second == pytest.approx(30 / load.elapsed) and load.images_per_second == pytest.approx(60 / load.elapsed)
    assert load.elapsed >= 30 / 5 * 0.02
    few = measure_load(Sleeper, [b"a"], requests=10_000, concurrency=2, warm_up=0, seconds=0.2)
    assert 2 <= len(few.seconds) < 100
