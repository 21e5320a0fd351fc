"""`weights="hf://…"` and `"kaggle://…"`, with a local server in place of the Hugging Face Hub, and a folder as from Kaggle's client."""

import http.server
import json
import threading
import urllib.parse
import zipfile
from typing import ClassVar

import keras
import numpy as np
import pytest
from huggingface_hub import constants

import keras_widerresnet as kw
from keras_widerresnet.cli import main
from keras_widerresnet.errors import InputError
from keras_widerresnet.models import find_source
from keras_widerresnet.weights import hubs

COMMIT = "0123456789abcdef0123456789abcdef01234567"
STRUCTURE, WIDTH = "28-0-1-1-0-0-0-0", 0.0625


class Hub(http.server.BaseHTTPRequestHandler):
    """The two requests of a download: the repository's description, and a file of it."""

    repositories: ClassVar[dict[str, dict[str, bytes]]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self):
        self.answer(with_body=True)

    def do_HEAD(self):
        self.answer(with_body=False)

    def answer(self, with_body):
        path = urllib.parse.urlsplit(urllib.parse.unquote(self.path)).path
        type(self).asked.append(path)
        if path.startswith("/api/models/"):
            user, name, *rest = path.removeprefix("/api/models/").split("/")
            files = self.repositories.get(f"{user}/{name}")
            if files is not None and rest[1:] in ([], ["v1"]):
                described = {"id": f"{user}/{name}", "sha": COMMIT, "siblings": [{"rfilename": one} for one in files]}
                return self.send(json.dumps(described | {"cardData": {"license": "apache-2.0"}}).encode(), with_body)
        elif "/resolve/" in path:
            repository, _, rest = path[1:].partition("/resolve/")
            revision, _, file = rest.partition("/")
            content = self.repositories.get(repository, {}).get(file)
            if content is not None and revision in ("main", "v1"):
                return self.send(content, with_body, {"X-Repo-Commit": COMMIT, "ETag": f'"{abs(hash(content)):x}"'})
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        return self.end_headers()

    def send(self, content, with_body, headers=()):
        self.send_response(200)
        for name, value in {"Content-Length": str(len(content)), **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(1)
    return kw.WiderResNet(STRUCTURE, width=WIDTH, classes=3)


@pytest.fixture(scope="module")
def files(network, tmp_path_factory):
    """A converted file and its sidecar, and the network as Keras saves it, whole and in a folder."""
    folder = tmp_path_factory.mktemp("files")
    network.save_weights(folder / "net.weights.h5")
    facts = {"structure": STRUCTURE, "width": WIDTH, "task": "classification", "classes": 3, "class_names": ["cat", "dog", "owl"]}
    (folder / "net.weights.json").write_text(json.dumps(facts))
    network.save(folder / "net.keras")
    network.save(folder / "uploaded", zipped=False)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def hub(monkeypatch, tmp_path, files):
    converted = {name: files[name] for name in ("net.weights.h5", "net.weights.json")}
    uploaded = {name.removeprefix("uploaded/"): content for name, content in files.items() if name.startswith("uploaded/")}
    readme = {"README.md": b"# A network", ".gitattributes": b""}
    Hub.repositories = {
        "ann/converted": converted | readme,
        "ann/saved": {"net.keras": files["net.keras"]} | readme,
        "ann/uploaded": uploaded | readme,
        "ann/both": converted | {"deep/net.keras": files["net.keras"]},
        "ann/preset": uploaded | {"task.json": b"{}"},
        "ann/empty": readme,
    }
    Hub.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    hubs._fetched.cache_clear()
    yield server
    hubs._fetched.cache_clear()
    server.shutdown()
    server.server_close()


def same_weights(ours, theirs):
    for one, other in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "weights",
    [
        "hf://ann/converted",
        "hf://ann/converted@v1",
        "hf://ann/converted/net.weights.h5",
        "hf://ann/saved",
        "hf://ann/uploaded",
        "hf://ann/both/deep/net.keras",
    ],
)
def test_a_network_has_the_hubs_weights(hub, network, weights):
    keras.utils.set_random_seed(2)
    same_weights(kw.WiderResNet(STRUCTURE, width=WIDTH, classes=3, weights=weights), network)


def test_commands_know_the_network_by_its_sidecar(hub, tmp_path, capsys):
    """Structure, width and class names come from the file beside the weights."""
    facts = find_source("hf://ann/converted").facts
    assert (facts.structure, facts.width, facts.class_names) == (STRUCTURE, WIDTH, ("cat", "dog", "owl"))
    main(["predict", "--data=digits", "--weights=hf://ann/converted", f"--output={tmp_path / 'table.parquet'}", "--crop_size=28"])
    assert "Predicted 360 images" in capsys.readouterr().out


def test_a_sidecar_of_another_network_refuses(hub):
    with pytest.raises(InputError, match=r"belongs to 28-0-1-1-0-0-0-0 according to net\.weights\.json"):
        kw.WiderResNet("28-0-1-1-0-0-0-0", width=WIDTH, classes=3, weights="hf://ann/converted", downsampling="stride")


def test_a_file_is_downloaded_once_and_found_again_without_the_hub(hub, network, caplog):
    first = hubs.local_weights("hf://ann/uploaded")
    downloads = [path for path in Hub.asked if "/resolve/" in path]
    assert len({path.rpartition("/")[2] for path in downloads}) == 3  # the configuration, the metadata, the weights: not the README
    with zipfile.ZipFile(first) as archive:
        assert sorted(archive.namelist()) == ["config.json", "metadata.json", "model.weights.h5"]
    same_weights(keras.models.load_model(first), network)
    hubs._fetched.cache_clear()
    hub.shutdown()
    hub.server_close()
    assert hubs.local_weights("hf://ann/uploaded") == first
    assert "cannot be reached; its copy in the cache is used" in caplog.text


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("hf://ann", "are named hf://USER/NAME or hf://USER/NAME/FILE"),
        ("hf://ann/nothing", "'hf://ann/nothing' cannot be downloaded: "),
        ("hf://ann/empty", "contains no model"),
        ("hf://ann/both", "contains 2 models: deep/net.keras; net.weights.h5; name one of them, hf://ann/both/FILE"),
        ("hf://ann/both/other.h5", "does not exist; the repository contains deep/net.keras; net.weights.h5"),
        ("hf://ann/preset", "is a preset of KerasHub: load it with from_preset"),
        ("kaggle://ann/net", "are named kaggle://USER/MODEL/FRAMEWORK/VARIATION"),
    ],
)
def test_what_cannot_be_used_gives_one_message(hub, weights, words, capsys, tmp_path):
    with pytest.raises(InputError) as error:
        kw.WiderResNet(STRUCTURE, width=WIDTH, weights=weights)
    assert words in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(SystemExit, match="2"):
        main(["predict", "--data=digits", f"--weights={weights}", f"--output={tmp_path / 'table.parquet'}"])
    assert words in capsys.readouterr().err


def test_kaggles_client_is_asked_for_the_handle(monkeypatch, tmp_path, network, files):
    asked = []

    def model_download(handle):
        asked.append(handle)
        return str(tmp_path)

    monkeypatch.setattr("kagglehub.model_download", model_download)
    hubs._fetched.cache_clear()
    (tmp_path / "net.weights.h5").write_bytes(files["net.weights.h5"])
    (tmp_path / "net.weights.json").write_bytes(files["net.weights.json"])
    for weights in ("kaggle://ann/net/keras/small", "kaggle://ann/net/keras/small/2", "kaggle://ann/net/keras/small/2/net.weights.h5"):
        same_weights(kw.WiderResNet(STRUCTURE, width=WIDTH, classes=3, weights=weights), network)
    assert asked == ["ann/net/keras/small", "ann/net/keras/small/2", "ann/net/keras/small/2"]
    hubs._fetched.cache_clear()


@pytest.mark.parametrize(("module", "weights"), [("huggingface_hub", "hf://ann/net"), ("kagglehub", "kaggle://ann/net/keras/small")])
def test_a_missing_client_is_named(monkeypatch, module, weights):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    hubs._fetched.cache_clear()
    with pytest.raises(InputError, match=f"needs {module}: pip install {module}"):
        hubs.local_weights(weights)
