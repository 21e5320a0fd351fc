"""`weights="imagenet"` against a local HTTP server: narrow files stand in for the published ones, with checksums of their own."""

import dataclasses
import hashlib
import http.server
import logging
import pathlib
import threading

import numpy as np
import pytest
from conftest import reference_array
from test_convert import run_script, write_full_size

import keras_widerresnet as kw
from keras_widerresnet.segmentation import WideResNetFCN
from keras_widerresnet.structures import STRUCTURES
from keras_widerresnet.weights import PRETRAINED, find, find_weights, registry
from keras_widerresnet.weights.mxnet_params import write_params
from keras_widerresnet.weights.official import official_shapes

TINY = "224-0-1-1-1-1-1-1"
OPTIONS = {"classifier_activation": None, "input_shape": (32, 32, 3)}


class Server(http.server.ThreadingHTTPServer):
    """Serves one file under /good, half of it under /half, another under /wrong, and itself again under /loop."""

    def __init__(self, content):
        self.content = content
        self.requests = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        content = self.server.content
        if self.path == "/loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
            self.end_headers()
            return
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        sent = {"/good": content, "/half": content[: len(content) // 2], "/wrong": content[:-1] + b"?"}[self.path]
        self.wfile.write(sent)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A narrow network in the official file format."""
    path = tmp_path_factory.mktemp("original") / "official.params"
    shapes = official_shapes(kw.WiderResNet(TINY, width=0.0625, classes=10, **OPTIONS))
    write_params(path, {f"arg:{name}": reference_array(name, shape) for name, shape in shapes.items()})
    return path


@pytest.fixture
def place(tmp_path, monkeypatch, original):
    """A home, a working directory, a server; and the registry with our file as `"imagenet"` of the smallest structure."""
    monkeypatch.setenv("KERAS_WIDERRESNET_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KERAS_WIDERRESNET_WEIGHTS_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(find, "REPOSITORY_FOLDER", tmp_path / "repository")
    server = Server(original.read_bytes())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    record = registry.Pretrained("tiny", TINY, 10, (), "none")

    def publish(*paths, **changes):
        addresses = tuple(f"http://127.0.0.1:{server.server_port}{path}" for path in paths)
        file = registry.OriginalFile("tiny_ep-0001.params", md5=hashlib.md5(server.content).hexdigest(), addresses=addresses)
        monkeypatch.setitem(PRETRAINED, "tiny", dataclasses.replace(record, files=(dataclasses.replace(file, **changes),)))
        monkeypatch.setitem(registry.IMAGENET, TINY, "tiny")

    narrow = find.write_converted
    monkeypatch.setattr(find, "write_converted", lambda source, structure, output: narrow(source, structure, output, width=0.0625))
    yield publish, server, tmp_path
    server.shutdown()


def build():
    return kw.WiderResNet(TINY, weights="imagenet", width=0.0625, classes=10, **OPTIONS)


def kernel(model):
    return model.get_layer("conv1a").get_weights()[0].transpose(3, 2, 0, 1)


def everything_under(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_download_conversion_and_cache(place):
    publish, server, folder = place
    publish("/good")
    np.testing.assert_array_equal(kernel(build()), reference_array("conv1a_weight", (8, 3, 3, 3)))
    assert server.requests == ["/good"] and everything_under(folder) == ["home/tiny.weights.h5"]
    np.testing.assert_array_equal(kernel(build()), reference_array("conv1a_weight", (8, 3, 3, 3)))
    assert server.requests == ["/good"]


@pytest.mark.parametrize("path", ["/half", "/wrong", "/loop", "/missing"])
def test_failed_download_leaves_nothing_and_the_next_succeeds(place, path):
    publish, _, folder = place
    publish(path)
    with pytest.raises(ValueError, match=f"Refused or failed:\n  http://127.0.0.1.*{path}"):
        build()
    assert everything_under(folder) == [] and list((folder / "home").iterdir()) == []
    publish(path, "/good")
    np.testing.assert_array_equal(kernel(build()), reference_array("conv1a_weight", (8, 3, 3, 3)))
    assert everything_under(folder) == ["home/tiny.weights.h5"]


def test_no_network_gives_the_whole_story(place):
    publish, server, folder = place
    publish(addresses=("http://127.0.0.1:9/tiny",))  # nobody listens there
    with pytest.raises(ValueError) as error:
        build()
    text = str(error.value)
    checksum = f"tiny_ep-0001.params, md5 {hashlib.md5(server.content).hexdigest()}"
    for words in (
        str(folder / "home" / "tiny.weights.h5"),
        str(folder / "saved_models"),
        str(folder / "repository"),
        "KERAS_WIDERRESNET_WEIGHTS_DIR (not set)",
        "http://127.0.0.1:9/tiny (",
        checksum,
        "python scripts/convert_weights.py --source=FILE --model=tiny",
        "academic use",
    ):
        assert words in text, text
    assert list((folder / "home").iterdir()) == []


@pytest.mark.parametrize("where", ["saved_models", "repository", "pointed", "pointed file"])
def test_original_is_recognised_by_its_checksum_whatever_its_name(place, monkeypatch, where):
    publish, server, folder = place
    publish("/good")
    target = folder / where.split()[0]
    target.mkdir()
    (target / "unrelated.params").write_bytes(b"something else")
    (target / "renamed.params").write_bytes(server.content)
    if where.startswith("pointed"):
        monkeypatch.setenv("KERAS_WIDERRESNET_WEIGHTS_DIR", str(target / "renamed.params" if "file" in where else target))
    np.testing.assert_array_equal(kernel(build()), reference_array("conv1a_weight", (8, 3, 3, 3)))
    assert (folder / "home" / "tiny.weights.h5").is_file() and not server.requests
    (target / "renamed.params").unlink()
    build()


def test_converted_file_in_saved_models_is_used_where_it_lies(place):
    publish, server, folder = place
    publish("/good")
    build()
    (folder / "saved_models").mkdir()
    (folder / "home" / "tiny.weights.h5").rename(folder / "saved_models" / "tiny.weights.h5")
    build()
    assert server.requests == ["/good"] and everything_under(folder) == ["saved_models/tiny.weights.h5"]


def test_file_of_the_right_name_and_wrong_checksum_is_refused(place, monkeypatch, caplog):
    publish, server, folder = place
    publish()
    (folder / "saved_models").mkdir()
    (folder / "saved_models" / "tiny_ep-0001.params").write_bytes(server.content[:-1])
    with pytest.raises(ValueError, match=r"Refused or failed:\n.*tiny_ep-0001.params \(its checksum is md5 \w{32}, not md5 \w{32}\)"):
        build()
    publish("/good")
    with caplog.at_level(logging.WARNING):
        build()
    assert "Refused" in caplog.text


def test_cache_that_cannot_be_made_is_told(place, monkeypatch):
    publish, server, folder = place
    (folder / "file").write_text("in the way")
    monkeypatch.setenv("KERAS_WIDERRESNET_HOME", str(folder / "file" / "home"))
    publish("/good")
    with pytest.raises(ValueError, match="KERAS_WIDERRESNET_HOME names another"):
        build()
    (folder / "saved_models").mkdir()
    (folder / "saved_models" / "mine.params").write_bytes(server.content)
    with pytest.raises(ValueError, match="cannot be written"):
        build()


def test_every_record_is_whole():
    for name, record in PRETRAINED.items():
        assert name == record.name and record.structure in STRUCTURES and record.licence and record.result and record.preprocessing
        for file in record.files:
            assert len(file.md5) in (0, 32) and len(file.sha256) in (0, 64) and bool(file.md5) != bool(file.sha256)
    assert set(registry.IMAGENET.values()) <= set(PRETRAINED)


@pytest.mark.parametrize(
    ("build", "options", "words"),
    [
        (kw.WideResNetA, {"weights": "imagenet-a1"}, "use WideResNetA1"),
        (kw.WideResNetA2, {"weights": "imagenet"}, "for Model A and Model A1 only"),
        (kw.WideResNetA1, {"weights": "cityscapes"}, "use WideResNetFCN, or include_top=False"),
        (WideResNetFCN, {"weights": "imagenet-a", "backbone": "A1"}, "use WideResNetA"),
        (kw.WideResNetA, {"weights": "imagenet-inplace-abn"}, "need activation='leaky_relu'"),
        (kw.WideResNetA, {"weights": "imagenet-inplace-abn", "activation": "leaky_relu"}, "need pool_padding='symmetric'"),
        (kw.WideResNetA, {"weights": "imagnet"}, "or one of imagenet, imagenet-a, imagenet-a1"),
    ],
)
def test_weights_of_another_network_are_refused(build, options, words):
    with pytest.raises(ValueError, match=words):
        build(**options)


def test_full_size_imagenet_end_to_end(tmp_path, monkeypatch, official_names, expected, image):
    """The script with a registry name refuses a stranger's file; the right one lands in the cache and serves A1's features, and the FCN."""
    from test_parity import assert_official

    monkeypatch.setenv("KERAS_WIDERRESNET_HOME", str(tmp_path / "home"))
    source = tmp_path / "a1.params"
    write_full_size(source, official_names, 0)
    result = run_script(f"--source={source}", "--model=imagenet-a1")
    assert result.returncode == 2 and "is refused" in result.stderr
    digest = hashlib.md5(source.read_bytes()).hexdigest()
    record = PRETRAINED["imagenet-a1"]
    file = dataclasses.replace(record.files[0], md5=digest)
    monkeypatch.setitem(PRETRAINED, "imagenet-a1", dataclasses.replace(record, files=(file,)))
    output, values = find.convert_to(source, "imagenet-a1", None)
    assert output == pathlib.Path(tmp_path / "home" / "imagenet-a1.weights.h5") and values == 109_215_656
    with pytest.raises(ValueError, match="it is of Model A1"):
        kw.WideResNetA(weights=str(source))
    source.unlink()
    model = kw.WideResNetA1(weights="imagenet", input_shape=(64, 96, 3), classifier_activation=None)
    assert_official(expected, "a1/logits", model.predict_on_batch(image(64, 96)))
    fcn = WideResNetFCN(weights="imagenet")
    np.testing.assert_array_equal(fcn.get_layer("bn7").get_weights()[0], model.get_layer("bn7").get_weights()[0])
    assert find_weights("imagenet", STRUCTURES["A1"], include_top=False).keys() >= {"conv1a", "bn7"}
