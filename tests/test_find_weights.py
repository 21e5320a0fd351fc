"""`weights="imagenet"` against a local HTTP server: narrow files stand in for the published ones, with checksums of their own."""

import ast
import dataclasses
import hashlib
import http.server
import logging
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import reference_array
from test_convert import run_script, write_full_size
from test_readme import ROOT

import keras_widerresnet as kw
from keras_widerresnet.conversion import convert, convert_file
from keras_widerresnet.conversion_config import ConversionConfig
from keras_widerresnet.fcn import WideResNetFCN
from keras_widerresnet.models import find_source
from keras_widerresnet.protocols import ClassificationProtocol, SegmentationProtocol
from keras_widerresnet.structures import POOL_PADDINGS, STRUCTURES, find_structure, same_network
from keras_widerresnet.weights import PRETRAINED, find, find_weights, list_weights, registry
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
    record = registry.Pretrained("tiny", TINY, 10, (), note="a narrow network")

    def publish(*paths, **changes):
        addresses = tuple(f"http://127.0.0.1:{server.server_port}{path}" for path in paths)
        file = registry.OriginalFile("tiny_ep-0001.params", md5=hashlib.md5(server.content).hexdigest(), addresses=addresses)
        monkeypatch.setitem(PRETRAINED, "tiny", dataclasses.replace(record, files=(dataclasses.replace(file, **changes),)))
        monkeypatch.setitem(registry.IMAGENET, TINY, "tiny")

    yield publish, server, tmp_path
    server.shutdown()


def build():
    return kw.WiderResNet(TINY, weights="imagenet", width=0.0625, classes=10, **OPTIONS)


def kernel(model):
    return model.get_layer("conv1a").get_weights()[0].transpose(3, 2, 0, 1)


def everything_under(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_download_and_cache(place):
    publish, server, folder = place
    publish("/good")
    np.testing.assert_array_equal(kernel(build()), reference_array("conv1a_weight", (8, 3, 3, 3)))
    assert server.requests == ["/good"] and everything_under(folder) == ["home/tiny_ep-0001.params"]
    assert (folder / "home" / "tiny_ep-0001.params").read_bytes() == server.content
    np.testing.assert_array_equal(kernel(build()), reference_array("conv1a_weight", (8, 3, 3, 3)))
    assert server.requests == ["/good"]


@pytest.mark.parametrize("path", ["/half", "/wrong", "/loop", "/missing"])
def test_failed_download_leaves_nothing_and_the_next_succeeds(place, path):
    publish, _, folder = place
    publish(path)
    with pytest.raises(ValueError, match=f"Rejected or failed:\n  http://127.0.0.1.*{path}"):
        build()
    assert everything_under(folder) == [] and list((folder / "home").iterdir()) == []
    publish(path, "/good")
    np.testing.assert_array_equal(kernel(build()), reference_array("conv1a_weight", (8, 3, 3, 3)))
    assert everything_under(folder) == ["home/tiny_ep-0001.params"]


def test_no_network_gives_the_whole_story(place):
    publish, server, folder = place
    publish(addresses=("http://127.0.0.1:9/tiny",))  # nobody listens there
    with pytest.raises(ValueError) as error:
        build()
    text = str(error.value)
    checksum = f"tiny_ep-0001.params, md5 {hashlib.md5(server.content).hexdigest()}"
    for words in (
        str(folder / "home" / "tiny.weights.h5"),
        str(folder / "home" / "tiny_ep-0001.params"),
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
    assert (folder / "home" / "tiny_ep-0001.params").samefile(target / "renamed.params") and not server.requests
    (target / "renamed.params").unlink()
    monkeypatch.setattr(find, "checksums", None)
    np.testing.assert_array_equal(kernel(build()), reference_array("conv1a_weight", (8, 3, 3, 3)))
    assert not server.requests


def test_original_in_the_cache_is_read_without_a_server_or_a_checksum(place, monkeypatch, original):
    publish, server, folder = place
    publish("/good")
    (folder / "home").mkdir()
    (folder / "home" / "tiny_ep-0001.params").write_bytes(original.read_bytes())
    monkeypatch.setattr(find, "checksums", None)
    np.testing.assert_array_equal(kernel(build()), reference_array("conv1a_weight", (8, 3, 3, 3)))
    assert not server.requests


def test_original_is_copied_into_the_cache_where_links_are_not_possible(place, monkeypatch):
    publish, server, folder = place
    publish()
    (folder / "saved_models").mkdir()
    (folder / "saved_models" / "mine.params").write_bytes(server.content)

    def refuse(*_, **__):
        raise OSError("no links here")

    monkeypatch.setattr(find.os, "link", refuse)
    build()
    kept = folder / "home" / "tiny_ep-0001.params"
    assert kept.read_bytes() == server.content and not kept.samefile(folder / "saved_models" / "mine.params")


def test_files_of_the_official_name_are_looked_at_first(place, monkeypatch):
    publish, server, folder = place
    publish()
    (folder / "saved_models").mkdir()
    for name in ("a.params", "tiny_ep-0001.params", "z.h5"):
        (folder / "saved_models" / name).write_bytes(server.content)
    seen = []
    checksums = find.checksums
    monkeypatch.setattr(find, "checksums", lambda path: seen.append(path.name) or checksums(path))
    build()
    assert seen == ["tiny_ep-0001.params"]


def test_converted_file_in_saved_models_is_used_where_it_lies(place, original):
    publish, server, folder = place
    publish("/good")
    convert(original, TINY, folder / "saved_models" / "tiny.weights.h5", width=0.0625)
    np.testing.assert_array_equal(kernel(build()), reference_array("conv1a_weight", (8, 3, 3, 3)))
    assert not server.requests
    assert everything_under(folder) == ["saved_models/tiny.weights.h5", "saved_models/tiny.weights.json"]


def test_converted_file_in_the_cache_comes_before_the_original(place, original):
    """A published file is converted into the cache when no output is given, with or without its name."""
    publish, server, folder = place
    publish("/good")
    build()
    for model in ("tiny", "", TINY):
        output, values = convert_file(ConversionConfig(source=str(original), model=model, width=0.0625, verify=True, overwrite=True))
        assert output == folder / "home" / "tiny.weights.h5" and values == build().count_params()
    facts = find_source(str(output)).facts
    assert (facts.structure, facts.width, facts.classes, facts.pool_padding) == (TINY, 0.0625, 10, "")
    (folder / "home" / "tiny_ep-0001.params").unlink()
    np.testing.assert_array_equal(kernel(build()), reference_array("conv1a_weight", (8, 3, 3, 3)))
    assert server.requests == ["/good"]


def test_conversion_says_what_is_missing(place, original):
    publish, _, folder = place
    for model, words in (
        ("", "is not a published file: --model must specify its structure"),
        (TINY, "--output is needed"),
        ("imagnet-a1", "Did you mean 'imagenet-a1'"),
        ("A1x", "Received: 'A1x'.*Did you mean 'A1'"),
    ):
        with pytest.raises(ValueError, match=words):
            convert_file(ConversionConfig(source=str(original), model=model))
    publish()
    with pytest.raises(ValueError, match=f"it belongs to Model {TINY}, not to A1"):
        convert_file(ConversionConfig(source=str(original), model="A1", output=str(folder / "a.weights.h5")))
    assert everything_under(folder) == []


def test_file_of_the_right_name_and_wrong_checksum_is_refused(place, monkeypatch, caplog):
    publish, server, folder = place
    publish()
    (folder / "saved_models").mkdir()
    (folder / "saved_models" / "tiny_ep-0001.params").write_bytes(server.content[:-1])
    with pytest.raises(ValueError, match=r"Rejected or failed:\n.*tiny_ep-0001.params \(its checksum is md5 \w{32}, not md5 \w{32}\)"):
        build()
    publish("/good")
    with caplog.at_level(logging.WARNING):
        build()
    assert "Rejected" in caplog.text
    assert "tiny_ep-0001.params), kept in the cache. Licence: " in caplog.text and "academic use" in caplog.text


def test_cache_that_cannot_be_made_is_told(place, monkeypatch):
    publish, server, folder = place
    (folder / "file").write_text("in the way")
    monkeypatch.setenv("KERAS_WIDERRESNET_HOME", str(folder / "file" / "home"))
    publish("/good")
    with pytest.raises(ValueError, match="KERAS_WIDERRESNET_HOME sets another"):
        build()
    (folder / "saved_models").mkdir()
    (folder / "saved_models" / "mine.params").write_bytes(server.content)
    with pytest.raises(ValueError, match="cannot be written"):
        build()


def test_every_record_is_whole():
    for name, record in PRETRAINED.items():
        assert name == record.name and record.licence and record.result and record.preprocessing
        assert record.structure in STRUCTURES or same_network(str(find_structure(record.structure)), record.structure)
        assert len(record.class_names) in (0, record.classes)
        for file in record.files:
            assert len(file.md5) in (0, 32) and len(file.sha256) in (0, 64) and bool(file.md5) != bool(file.sha256)
            assert not file.is_converted or file.name == find.converted_name(record, file)
        kinds = (
            (SegmentationProtocol, registry.PublishedScores)
            if record.classifier_convs
            else (ClassificationProtocol, registry.PublishedResult)
        )
        assert isinstance(record.protocol, (kinds[0], type(None))) and all(isinstance(one, kinds[1]) for one in record.results)
        assert record.results or record.protocol is None
        assert record.tested_pool_padding in ("", *POOL_PADDINGS) and not (record.tested_pool_padding and record.pool_padding)
    assert set(registry.IMAGENET.values()) <= set(PRETRAINED)


PUBLISHED = {
    "imagenet-a": ("ILSVRC 2012 val, one 320 crop: 19.20 / 4.73 top-1 / top-5 error %", ["A, 320 crop | 19.20 / 4.73"]),
    "imagenet-a1": ("ILSVRC 2012 val, one 320 crop: 19.54 / 4.75 top-1 / top-5 error %", ["A1, 320 crop | 19.54 / 4.75"]),
    "imagenet-inplace-abn": (
        "ILSVRC 2012 val, one 224 crop: 79.72 / 94.78 top-1 / top-5 accuracy %",
        ["224; 10 crops; 320 (accuracy) | 79.72 / 94.78; 81.03 / 95.43; 80.69 / 95.27"],
    ),
    "voc-backbone": ("psa's VOC 2012 image classifier; no published result", []),
    "voc": ("VOC 2012 val (500, flip): 80.84 mIoU", ["80.84 mIoU (VOC+SBD)"]),
    "voc-coco": ("VOC 2012 val (500, flip): 82.86 mIoU", ["82.86 (+COCO)"]),
    "cityscapes": ("Cityscapes val: 78.08 mIoU", ["78.08 mIoU"]),
    "ade20k": ("ADE20K val (500, flip, test_steps 2): pixel accuracy 80.55, 43.34 mIoU", ["pixel accuracy 80.55, mIoU 43.34"]),
}


def test_published_results_are_those_of_the_documentation():
    fidelity = (ROOT / "docs" / "fidelity.md").read_text()
    assert PUBLISHED.keys() | {"cifar10"} == PRETRAINED.keys()  # tests/test_cifar10_weights.py has ours
    for name, (sentence, stated) in PUBLISHED.items():
        assert PRETRAINED[name].result == sentence
        assert all(words in fidelity for words in stated)
    errors = [(one.top1_error, one.top5_error) for one in PRETRAINED["imagenet-a"].results]
    assert errors == [(19.20, 4.73), (20.66, 5.27), (19.25, 4.66)]
    accuracies = [(100 - one.top1_error, 100 - one.top5_error) for one in PRETRAINED["imagenet-inplace-abn"].results]
    np.testing.assert_allclose(accuracies, [(79.72, 94.78), (81.03, 95.43), (80.69, 95.27)])


def test_protocols_are_those_of_the_published_results():
    assert PRETRAINED["imagenet-a"].protocol == PRETRAINED["imagenet-a1"].protocol == ClassificationProtocol((320,))
    assert PRETRAINED["imagenet-a"].tested_pool_padding == "valid"
    assert str(PRETRAINED["imagenet-inplace-abn"].protocol) == "centre crop: 224 of scale 256"
    assert PRETRAINED["voc"].protocol == PRETRAINED["voc-coco"].protocol == SegmentationProtocol((500,), flip=True)
    assert PRETRAINED["ade20k"].protocol == SegmentationProtocol((500,), test_steps=2, flip=True)
    assert PRETRAINED["cityscapes"].protocol is PRETRAINED["voc-backbone"].protocol is None


def test_sizes_are_those_of_the_official_networks_parameters():
    statistics = 47_744
    for name, parameters in (("imagenet-a", 109_167_912), ("voc-backbone", 105_070_912 + 20 * 4096), ("voc", 124_042_581)):
        assert registry.size_mb(PRETRAINED[name]) == pytest.approx((parameters + statistics) * 4 / 1e6)
    one_conv = dataclasses.replace(PRETRAINED["voc"], classifier_convs=1)
    assert registry.size_mb(one_conv) == pytest.approx((105_070_912 + 9 * 4096 * 21 + 21 + statistics) * 4 / 1e6)


def test_list_of_weights_names_every_record_and_the_networks_it_is_for(capsys):
    list_weights()
    lines = capsys.readouterr().out.splitlines()
    for name, record in PRETRAINED.items():
        first = next(i for i, line in enumerate(lines) if line.startswith(f"| {name} "))
        end = next(i for i, line in enumerate(lines[first:], first) if line.startswith("+"))
        cells = [" ".join(parts).split() for parts in zip(*(line.strip("|").split("|") for line in lines[first:end]), strict=True)]
        assert cells[2] == [str(record.classes)] and cells[6] == record.result.split()
        assert all(file.name in " ".join(cells[4]) for file in record.files)
        assert ("KERAS_WIDERRESNET_WEIGHTS_DIR" in cells[4]) != bool(record.files[0].addresses or record.files[0].is_converted)
        call = ast.parse(" ".join(cells[1]), mode="eval").body
        assert {word.arg: word.value.value for word in call.keywords}["weights"] == name
        assert call.func.id == ("WideResNetFCN" if record.classifier_convs else record.builder)


def test_registry_needs_neither_keras_nor_numpy():
    code = "import sys; from keras_widerresnet.weights import PRETRAINED, Pretrained, list_weights; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"keras", "numpy", "tensorflow", "tabulate"} & set(modules)


def test_weights_build_no_network():
    code = "import sys; import keras_widerresnet.weights.find; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"keras_widerresnet.networks", "keras_widerresnet.fcn", "keras_widerresnet.conversion"} & set(modules)


@pytest.mark.parametrize(
    ("build", "options", "words"),
    [
        (kw.WideResNetA, {"weights": "imagenet-a1"}, "use WideResNetA1"),
        (kw.WideResNetA2, {"weights": "imagenet"}, "for Model A and Model A1 only"),
        (kw.WideResNetA1, {"weights": "cityscapes"}, "use WideResNetFCN, or include_top=False"),
        (WideResNetFCN, {"weights": "imagenet-a", "backbone": "A1"}, "use WideResNetA"),
        (kw.WideResNetA, {"weights": "imagenet-inplace-abn"}, "need activation='leaky_relu'"),
        (kw.WideResNetA, {"weights": "imagenet-inplace-abn", "activation": "leaky_relu"}, "need pool_padding='symmetric'"),
        (kw.WideResNetA1, {"weights": "voc-backbone"}, "has no bias: use classes=20 and classifier_bias=False, or include_top=False"),
        (kw.WideResNetA, {"weights": "imagnet"}, "or one of imagenet, imagenet-a, imagenet-a1.*Did you mean 'imagenet'"),
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
    assert result.returncode == 2 and "is not a file of 'imagenet-a1'" in result.stderr
    digest = hashlib.md5(source.read_bytes()).hexdigest()
    record = PRETRAINED["imagenet-a1"]
    file = dataclasses.replace(record.files[0], md5=digest)
    monkeypatch.setitem(PRETRAINED, "imagenet-a1", dataclasses.replace(record, files=(file,)))
    output, values = convert_file(ConversionConfig(source=str(source), model="imagenet-a1"))
    assert output == pathlib.Path(tmp_path / "home" / "imagenet-a1.weights.h5") and values == 109_215_656
    with pytest.raises(ValueError, match="it belongs to Model A1"):
        kw.WideResNetA(weights=str(source))
    source.unlink()
    model = kw.WideResNetA1(weights="imagenet", input_shape=(64, 96, 3), classifier_activation=None)
    assert_official(expected, "a1/logits", model.predict_on_batch(image(64, 96)))
    fcn = WideResNetFCN(weights="imagenet")
    np.testing.assert_array_equal(fcn.get_layer("bn7").get_weights()[0], model.get_layer("bn7").get_weights()[0])
    assert find_weights("imagenet", STRUCTURES["A1"], include_top=False).keys() >= {"conv1a", "bn7"}
