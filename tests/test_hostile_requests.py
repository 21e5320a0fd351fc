"""The exported model behind the test server, asked eight times at once, a tenth of the requests hostile: none is lost, none mixed up."""

import base64
import collections
import concurrent.futures
import io
import os
import pathlib
import random
import re
import struct
import subprocess
import sys
import time
import zlib

import grpc
import numpy as np
import pytest
import requests
from photographs import REAL_PHOTOGRAPHS
from PIL import Image
from sklearn.datasets import load_digits
from test_training import ENVIRONMENT, ROOT

from keras_widerresnet.serving import connect

AT_ONCE, HOSTILE_SHARE, MOST_IMAGES = 8, 0.1, 4
MOST_GROWTH = 1 << 30  # bytes; eight ordinary photographs at once take a tenth of it


def encoded(image, kind, **options):
    output = io.BytesIO()
    image.save(output, kind, **options)
    return output.getvalue()


def good_images():
    """Digits at several sizes and in several formats, and photographs."""
    images = []
    for index, pixels in enumerate(load_digits().images[:12]):
        image = Image.fromarray(np.uint8(pixels * 15)).resize((8 + 7 * index, 8 + 5 * index))
        image = image.convert("RGB" if index % 2 else "L")
        images.append(encoded(image, "PNG") if index % 3 else encoded(image, "JPEG", quality=95))
    return [*images, *list(REAL_PHOTOGRAPHS.values())[:3]]


def png_of_size(width, height, rows=1):
    """A grey PNG whose header claims a size; `rows` of it are there, black."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    compressor, row = zlib.compressobj(1), bytes(min(width, 1 << 20) + 1)
    pixels = b"".join(compressor.compress(row) for _ in range(rows)) + compressor.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def hostile_images():
    """Each must give a flagged row."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
    png, jpeg = encoded(image, "PNG"), encoded(image, "JPEG")
    damaged = bytearray(png)
    damaged[len(png) // 2] ^= 0xFF
    return {
        "nothing": b"",
        "text": b"no image, and longer than any header of one",
        "PNG cut short": png[: len(png) // 2],
        "PNG of a header": png[:33],
        "PNG with a wrong checksum": bytes(damaged),
        "JPEG of a header": jpeg[:20],
        "WebP": encoded(image, "WEBP"),
        "GIF": encoded(image, "GIF"),
        "GIF of three frames": encoded(image, "GIF", save_all=True, append_images=[image.rotate(90), image.rotate(180)]),
        "TIFF": encoded(image, "TIFF"),
        "BMP": encoded(image, "BMP"),
        "PNG that claims 60000 x 60000": png_of_size(60000, 60000),
        "PNG that claims 2147483647 x 1": png_of_size(2**31 - 1, 1, rows=0),
        "PNG of 100000 x 1": png_of_size(100000, 1),
        "PNG of 1 x 100000": png_of_size(1, 100000, rows=100000),
        "PNG of 10000 x 10000": png_of_size(10000, 10000, rows=10000),
    }


def hostile_bodies():
    """Each must be refused with status 400."""
    right = base64.b64encode(good_images()[0]).decode()
    return {
        "no JSON": b"{'instances': [",
        "cut short": f'{{"instances": [{{"b64": "{right}'.encode(),
        "nothing": b"",
        "no text": b"\xff\xfe\x00",
        "null": b"null",
        "a list": b"[]",
        "no input": b"{}",
        "no rows": b'{"instances": []}',
        "no rows at all": b'{"instances": 3}',
        "no base64": b'{"instances": [{"b64": "%%%"}]}',
        "a number for a string": b'{"instances": [{"image_bytes": 3}]}',
        "another input": b'{"instances": [{"pixels": 3}]}',
        "another signature": b'{"signature_name": "train", "instances": [1]}',
        "another shape": b'{"signature_name": "tensor", "instances": [[1, 2], [3]]}',
        "deep": b'{"instances": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    }


GOOD, HOSTILE, BODIES = good_images(), hostile_images(), hostile_bodies()


class Server:
    """`serving_server.py` in a process of its own."""

    def __init__(self):
        command = [sys.executable, str(ROOT / "tests" / "serving_server.py"), str(ROOT / "saved_models" / "digits")]
        command += ["--served_model=digits", "--rest_port=0", "--grpc_port=0"]
        self.process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.rest, self.grpc = re.findall(r"127\.0\.0\.1:\d+", self.process.stdout.readline())

    def megabytes(self, key="VmRSS"):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{key}:\s+(\d+) kB", status)[1]) >> 10

    def close(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server():
    running = Server()
    yield running
    running.close()


@pytest.fixture(scope="module")
def alone(server):
    """The answer to each good image by itself."""
    client = connect(server.rest, "digits")
    return [client.predict([image])[0] for image in GOOD]


def same(answer, expected):
    if answer is None or expected is None:
        return answer is expected
    names, found = [row[:2] for row in answer], [row[:2] for row in expected]
    return names == found and np.allclose([row[2] for row in answer], [row[2] for row in expected], atol=1e-5)


def asked_at_once(server, alone, number, seed=0):
    """What went wrong, and how often each kind of request was made, with its latency."""
    generator = random.Random(seed)
    clients = {
        use_grpc: connect(server.grpc if use_grpc else server.rest, "digits", grpc=use_grpc, deadline=120) for use_grpc in (False, True)
    }
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=AT_ONCE))
    channel = grpc.insecure_channel(server.grpc)
    raw = channel.unary_unary("/tensorflow.serving.PredictionService/Predict", request_serializer=bytes, response_deserializer=bytes)

    def images(use_grpc, rows):
        """Rows are numbers of good images or names of hostile ones."""
        sent = [GOOD[row] if isinstance(row, int) else HOSTILE[row] for row in rows]
        answers = clients[use_grpc].predict(sent)
        wrong = [row for row, answer in zip(rows, answers, strict=True) if not same(answer, alone[row] if isinstance(row, int) else None)]
        return f"{wrong} of {rows} answered wrongly" if wrong else ""

    def body(name):
        response = session.post(f"http://{server.rest}/v1/models/digits:predict", data=BODIES[name], timeout=120)
        return "" if response.status_code == 400 and response.json()["error"] is not None else f"{name}: {response.status_code}"

    def message(content):
        try:
            raw(content, timeout=120)
        except grpc.RpcError as error:
            known = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL, grpc.StatusCode.NOT_FOUND)
            return "" if error.code() in known else f"{content!r}: {error.code()}"
        return f"{content!r} was answered"

    def timed(kind, ask, *arguments):
        begin = time.perf_counter()
        try:
            problem = ask(*arguments)
        except Exception as error:
            problem = f"{arguments}: {error!r}"
        return kind, problem, time.perf_counter() - begin

    hostile = set(generator.sample(range(number), round(number * HOSTILE_SHARE)))
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        futures = []
        for index in range(number):
            use_grpc = generator.random() < 0.5
            rows = [generator.randrange(len(GOOD)) for _ in range(generator.randint(1, MOST_IMAGES))]
            if index not in hostile:
                futures.append(pool.submit(timed, "ordinary", images, use_grpc, rows))
            elif generator.random() < 0.5:
                rows.insert(generator.randint(0, len(rows)), generator.choice(list(HOSTILE)))
                futures.append(pool.submit(timed, "hostile image", images, use_grpc, rows))
            elif use_grpc:
                futures.append(pool.submit(timed, "hostile message", message, generator.randbytes(generator.randint(1, 40))))
            else:
                futures.append(pool.submit(timed, "hostile body", body, generator.choice(list(BODIES))))
        results = [future.result() for future in futures]
    channel.close()
    latencies = collections.defaultdict(list)
    for kind, _, seconds in results:
        latencies[kind].append(seconds)
    return [problem for _, problem, _ in results if problem], latencies


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_image_is_a_flagged_row_beside_others(server, alone, name):
    answers = connect(server.rest, "digits").predict([GOOD[0], HOSTILE[name], GOOD[1]])
    assert answers[1] is None and same(answers[0], alone[0]) and same(answers[2], alone[1])


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_is_refused(server, name):
    response = requests.post(f"http://{server.rest}/v1/models/digits:predict", data=BODIES[name], timeout=60)
    assert response.status_code == 400 and "error" in response.json()


def test_eight_at_once(server, alone):
    problems, latencies = asked_at_once(server, alone, 200)
    assert problems == [] and sum(map(len, latencies.values())) == 200 and len(latencies) == 4


@pytest.mark.slow
def test_a_thousand_requests(server, alone):
    number, before, begin = int(os.environ.get("HOSTILE_REQUESTS", 1000)), server.megabytes(), time.perf_counter()
    problems, latencies = asked_at_once(server, alone, number, seed=1)
    seconds, after, most = time.perf_counter() - begin, server.megabytes(), server.megabytes("VmHWM")
    print(f"{number} requests in {seconds:.1f} s, {len(problems)} wrong; the server held {before} MB before, {after} after, {most} at most")
    for kind, taken in latencies.items():
        print(f"{kind}: {len(taken)}, median {np.median(taken) * 1e3:.0f} ms, longest {max(taken) * 1e3:.0f} ms")
    assert problems == []
    assert most - before < MOST_GROWTH >> 20
