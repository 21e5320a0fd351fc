"""Original checkpoints of every kind through the converter, against networks that are not ours."""

import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest
from conftest import reference_array
from test_parity import assert_official
from test_readme import ROOT

import keras_widerresnet as kw
from keras_widerresnet.cli import main
from keras_widerresnet.conversion import convert
from keras_widerresnet.export.source import _with_probabilities
from keras_widerresnet.fcn import WideResNetFCN
from keras_widerresnet.label_maps import LABEL_MAPS
from keras_widerresnet.loading import load_network
from keras_widerresnet.models import Facts, find_source
from keras_widerresnet.structures import STRUCTURES, Unit
from keras_widerresnet.weights import read_original
from keras_widerresnet.weights.mxnet_params import write_params
from keras_widerresnet.weights.official import official_shapes

HEAD_NAMES = ("conv6a_weight", "conv6a_bias", "linear21_weight", "linear21_bias")
WIDTH = 0.125
SIZE = 64


def run_script(*arguments):
    command = [sys.executable, str(ROOT / "scripts" / "convert_weights.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def write_full_size(path, official_names, version, segmentation=False):
    """An official file of 109 M parameters, or 124 M with the 21-class head."""
    absent = ("linear1000_weight", "linear1000_bias") if segmentation else HEAD_NAMES
    rows = [row for row in official_names if row[1] not in absent]
    write_params(path, {f"{kind}:{name}": reference_array(name, shape) for kind, name, shape in rows}, version)


@pytest.mark.parametrize(
    ("model", "version", "segmentation", "build", "cases"),
    [
        ("A", 0, False, kw.WideResNetA, [("a_ceil/output", "ceil", (64, 96)), ("a_symmetric/output", "symmetric", (64, 96)),
                                         ("a_valid/output", "valid", (96, 96))]),
        ("A1", 1, False, kw.WideResNetA1, [("a1/logits", "ceil", (64, 96))]),
        ("A2", 2, False, kw.WideResNetA2, [("a2_ceil/output", "ceil", (64, 96))]),
        ("A1", 0, True, WideResNetFCN, [("fcn_a1_s8_21/output", "ceil", (104, 152))]),
    ],
    ids=["A", "A1", "A2", "fcn"],
)  # fmt: skip
def test_full_size_official_file_gives_the_official_outputs(
    tmp_path, official_names, expected, image, model, version, segmentation, build, cases
):
    source, output = tmp_path / "official.params", tmp_path / "ours.weights.h5"
    write_full_size(source, official_names, version, segmentation)
    result = run_script(f"--source={source}", f"--model={model}", f"--output={output}", "--verify")
    assert result.returncode == 0, result.stderr
    assert ("124,0" if segmentation else "109,215,656") in result.stdout
    source.unlink()
    options = {} if segmentation else {"classifier_activation": None}
    for key, pool_padding, size in cases:
        network = build(weights=str(output), input_shape=(*size, 3), pool_padding=pool_padding, **options)
        assert_official(expected, key, network.predict_on_batch(image(*size)))
        del network


def random_parameters(structure, **options):
    """Official names -> random arrays, for a narrow network."""
    shapes = official_shapes(kw.WiderResNet(structure, width=WIDTH, classes=10, input_shape=(SIZE, SIZE, 3), **options))
    return {name: reference_array(name, shape) for name, shape in shapes.items()}


def torch_network(structure, naming, halving, activation):
    """The network in plain torch.nn with the attribute names of a port; `naming` gives (container, block, part names)."""
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Norm(nn.BatchNorm2d):
        """Batch norm and activation; InPlace-ABN scales by |γ| + ε."""

        def forward(self, x):
            weight = self.weight.abs() + self.eps if activation == "leaky_relu" else self.weight
            x = nn.functional.batch_norm(x, self.running_mean, self.running_var, weight, self.bias, False, 0.0, self.eps)
            return nn.functional.leaky_relu(x, 0.01) if activation == "leaky_relu" else nn.functional.relu(x)

    def norm_of(channels):
        return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU()) if naming.get("sequential") else Norm(channels)

    class Block(nn.Module):
        def __init__(self, unit):
            super().__init__()
            channels = (unit.in_channels, *unit.filters)
            self.unit = unit
            self.order = []
            inner = nn.ModuleDict()
            for i, kernel in enumerate(unit.kernels):
                norm, conv = naming["norms"][i], naming["convs"][i]
                stride = unit.stride if i == 0 else 1
                padding = unit.dilations[i] * (kernel // 2)
                layers = {
                    norm: norm_of(channels[i]),
                    conv: nn.Conv2d(channels[i], channels[i + 1], kernel, stride, padding, unit.dilations[i], bias=False),
                }
                for name, layer in layers.items():
                    if name.startswith("convs."):
                        inner[name.removeprefix("convs.")] = layer
                    else:
                        self.add_module(name, layer)
                self.order.append((layers[norm], layers[conv]))
            if inner:
                self.convs = inner
            if unit.projection:
                self.add_module(naming["projection"], nn.Conv2d(unit.in_channels, unit.filters[-1], 1, unit.stride, bias=False))

        def forward(self, x):
            shortcut = x
            for i, (norm, conv) in enumerate(self.order):
                x = norm(x)
                if i == 0 and self.unit.projection:
                    shortcut = getattr(self, naming["projection"])(x)
                x = conv(x)
            return shortcut + x

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.steps = []  # in a list, so that PyTorch does not name them again
            stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
            naming["place"](self, "stem", stem)
            self.steps.append(stem)
            for item in structure.plan(width=WIDTH, output_stride=None if halving == "pool" else 8):
                step = Block(item) if isinstance(item, Unit) else nn.MaxPool2d(3, 2, 1)
                if isinstance(item, Unit):
                    naming["place"](self, item.name, step)
                self.steps.append(step)
            last = norm_of(512)
            naming["place"](self, "last", last)
            self.steps.append(last)
            if naming["classifier"]:
                self.classifier = nn.ModuleDict({"fc": nn.Linear(512, 10)})

        def forward(self, x):
            for step in self.steps:
                x = step(x)
            return self.classifier["fc"](x.mean((2, 3))) if naming["classifier"] else x

    network = Network().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.ndim > 1:
                value.copy_(torch.randn(value.shape, generator=generator) * (0.7 / value[0].numel()) ** 0.5)
            elif name.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
            elif value.ndim == 1:  # scales of both signs
                value.copy_(torch.randn(value.shape, generator=generator))
    return torch, network


def place_like_psa(network, unit, layer):
    stage, _, index = unit.partition("b")
    names = {"stem": "conv1a", "last": "bn7"}
    network.add_module(names.get(unit) or f"b{stage.removesuffix('a')}" + (f"_{index}" if index else ""), layer)


def place_like_inplace_abn(network, unit, layer):
    torch = pytest.importorskip("torch")
    if unit == "last":
        network.bn_out = layer
        return
    container, name = ("mod1", "conv1")
    if unit != "stem":
        stage, _, index = unit.partition("b")
        container, name = f"mod{stage.removesuffix('a')}", f"block{int(index or 0) + 1}"
    if not hasattr(network, container):
        network.add_module(container, torch.nn.ModuleDict())
    getattr(network, container)[name] = layer


PSA = {
    "norms": ("bn_branch2a", "bn_branch2b1", "bn_branch2b2"),
    "convs": ("conv_branch2a", "conv_branch2b1", "conv_branch2b2"),
    "projection": "conv_branch1",
    "classifier": False,
    "place": place_like_psa,
}
INPLACE_ABN = {
    "norms": ("bn1", "convs.bn2", "convs.bn3"),
    "convs": ("convs.conv1", "convs.conv2", "convs.conv3"),
    "projection": "proj_conv",
    "classifier": True,
    "place": place_like_inplace_abn,
}
NVIDIA = INPLACE_ABN | {"sequential": True}


def assert_close(ours, theirs):
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()
    assert np.abs(theirs).max() > 1e-3


def test_psa_network_in_pytorch(tmp_path, image):
    torch, network = torch_network(STRUCTURES["A1"], PSA, "stride", "relu")
    torch.save(network.state_dict(), tmp_path / "psa.pth")
    convert(tmp_path / "psa.pth", "A1", tmp_path / "psa.weights.h5", width=WIDTH)
    options = {"include_top": False, "output_stride": 8, "width": WIDTH, "input_shape": (None, None, 3)}
    x = image(SIZE, SIZE + 16)
    with torch.no_grad():
        theirs = network(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy().transpose(0, 2, 3, 1)
    for weights in ("psa.weights.h5", "psa.pth"):
        assert_close(kw.WideResNetA1(weights=str(tmp_path / weights), **options).predict_on_batch(x), theirs)


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "module. in state_dict"])
def test_inplace_abn_network_in_pytorch(tmp_path, image, wrapped):
    torch, network = torch_network(STRUCTURES["A"], INPLACE_ABN, "pool", "leaky_relu")
    state = network.state_dict()
    state = {"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 90} if wrapped else state
    path = tmp_path / "inplace_abn.pth.tar"
    torch.save(state, path)
    convert(path, "A", tmp_path / "ours.weights.h5", width=WIDTH)
    facts = Facts("A", WIDTH, "symmetric", "leaky_relu", "classification", 10)
    assert find_source(str(tmp_path / "ours.weights.h5")).facts == facts
    x = image(SIZE, SIZE + 11)
    with torch.no_grad():
        theirs = network(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    options = {"width": WIDTH, "classes": 10, "classifier_activation": None, "input_shape": (None, None, 3), "pool_padding": "symmetric"}
    ours = kw.WideResNetA(weights=str(tmp_path / "ours.weights.h5"), activation="leaky_relu", **options)
    assert_close(ours.predict_on_batch(x), theirs)
    assert keras.Model.from_config(ours.get_config()).get_layer("relu7").negative_slope == pytest.approx(0.01)
    with pytest.raises(ValueError, match="need activation='leaky_relu'"):
        kw.WideResNetA(weights=str(path), **options)


def theirs_of(torch, network, x):
    with torch.no_grad():
        outputs = network(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    return outputs.transpose(0, 2, 3, 1) if outputs.ndim == 4 else outputs


def test_nvidia_network_in_pytorch(tmp_path, image):
    """The ImageNet network behind its segmentation networks: A2, plain batch norms with scales of both signs and an ε of 1e-5."""
    torch, network = torch_network(STRUCTURES["A2"], NVIDIA, "pool", "relu")
    with torch.no_grad():
        network.bn_out[0].running_var.mul_(1e-6)  # where another ε would change the outputs by 5e-4
    path = tmp_path / "wider_resnet38.pth.tar"
    torch.save({"state_dict": {f"module.{key}": value for key, value in network.state_dict().items()}, "epoch": 90}, path)
    assert "module.mod5.block1.convs.bn2.0.running_var" in torch.load(path)["state_dict"]
    assert read_original(path).kind == "nvidia"
    convert(path, "A2", tmp_path / "ours.weights.h5", width=WIDTH)
    assert find_source(str(tmp_path / "ours.weights.h5")).facts == Facts("A2", WIDTH, "symmetric", "relu", "classification", 10)
    x = image(SIZE, SIZE + 11)
    options = {"width": WIDTH, "classes": 10, "classifier_activation": None, "input_shape": (None, None, 3), "pool_padding": "symmetric"}
    theirs = theirs_of(torch, network, x)
    for weights in ("ours.weights.h5", path.name):
        assert_close(kw.WideResNetA2(weights=str(tmp_path / weights), **options).predict_on_batch(x), theirs)


@pytest.mark.parametrize("of", ["nvidia", "vistas"])
def test_backbones_of_segmentation_networks_in_pytorch(tmp_path, image, caplog, of):
    """NVIDIA's (and GSCNN's) in the legacy format, without a norm behind B7; the InPlace-ABN release's for Vistas, saved in parts."""
    kind, activation = (NVIDIA, "relu") if of == "nvidia" else (INPLACE_ABN, "leaky_relu")
    torch, network = torch_network(STRUCTURES["A2"], kind | {"classifier": False}, "pool", activation)
    head = {"head.red_conv.weight": torch.ones(4, 8, 1, 1), "cls.weight": torch.ones(65, 4, 1, 1), "cls.bias": torch.ones(65)}
    if of == "nvidia":
        network.steps[-1] = torch.nn.ReLU()
        state = {key: value for key, value in network.state_dict().items() if not key.startswith("bn_out")}
        state = {f"module.{key}": value for key, value in (state | {"aspp.features.0.0.weight": torch.ones(4, 512, 1, 1)}).items()}
        saved, left = {"state_dict": state, "optimizer": {"state": {}}, "mean_iu": np.float64(0.8)}, ["module.aspp.features.0.0.weight"]
    else:
        parts = {part: {key.partition(".")[2]: value for key, value in head.items() if key.startswith(part)} for part in ("head", "cls")}
        saved, left = {"state_dict": {"body": network.state_dict(), **parts}, "training_meta": {"epoch": 1}}, list(head)
    path = tmp_path / "net.pth"
    torch.save(saved, path, _use_new_zipfile_serialization=of == "vistas")
    x = image(SIZE, SIZE + 11)
    options = {"include_top": False, "width": WIDTH, "input_shape": (None, None, 3), "pool_padding": "symmetric", "activation": activation}
    with caplog.at_level("WARNING"):
        ours = kw.WideResNetA2(weights=str(path), **options)
    assert_close(ours.predict_on_batch(x), theirs_of(torch, network, x))
    assert any(all(name in line for name in left) for line in caplog.messages)
    assert any("bn7 becomes the identity" in line for line in caplog.messages) == (of == "nvidia")


def write_resnet38d_tf(path, parameters):
    """resnet38d-tf's layout, as tf.keras 2 writes it: a group for each layer, and the layer's name again before each weight."""
    units = [f"2{'a' if i == 0 else f'b{i}'}" for i in range(3)]
    units += [f"{stage}{'a' if i == 0 else f'b{i}'}" for stage, count in ((3, 3), (4, 6), (5, 3)) for i in range(count)]
    groups = {unit: f"s{int(unit[0]) - 1}/g{unit.partition('b')[2] or 0}" for unit in units} | {"6a": "s5/b0", "7a": "s5/b1"}
    layers = {"conv1a": "s0/g0/cv", "bn7": "s5/bn"}
    for unit, group in groups.items():
        layers |= {f"bn{unit}_branch2a": f"{group}/b0/bn", f"res{unit}_branch2a": f"{group}/b2/cv", f"res{unit}_branch1": f"{group}/b1/cv"}
        layers |= {f"bn{unit}_branch2b1": f"{group}/b2/bn", f"res{unit}_branch2b1": f"{group}/b3/cv"}
        layers |= {f"bn{unit}_branch2b2": f"{group}/b3/bn", f"res{unit}_branch2b2": f"{group}/b4/cv"}
    suffixes = {"weight": "kernel", "moving_var": "moving_variance"}
    with h5py.File(path, "w") as file:
        for official, array in parameters.items():
            layer = next(name for name in sorted(layers, key=len, reverse=True) if official.startswith(f"{name}_"))
            suffix = official.removeprefix(f"{layer}_")
            name = f"{layers[layer]}/{suffixes.get(suffix, suffix)}:0"
            file[f"{layers[layer]}/{name}"] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def test_resnet38d_tf_file(tmp_path, image, fill):
    parameters = random_parameters("A1")
    features = {name: array for name, array in parameters.items() if not name.startswith("linear")}
    write_resnet38d_tf(tmp_path / "theirs.h5", features)
    original = read_original(tmp_path / "theirs.h5")
    assert original.kind == "resnet38d-tf" and original.parameters.keys() == features.keys()
    convert(tmp_path / "theirs.h5", "A1", tmp_path / "ours.weights.h5", width=WIDTH)
    assert find_source(str(tmp_path / "ours.weights.h5")).facts == Facts("A1", WIDTH, "symmetric")
    options = {"include_top": False, "width": WIDTH, "input_shape": (SIZE, SIZE, 3)}
    ours = kw.WideResNetA1(weights=str(tmp_path / "ours.weights.h5"), **options)
    np.testing.assert_array_equal(
        ours.predict_on_batch(image(SIZE, SIZE)), fill(kw.WideResNetA1(**options)).predict_on_batch(image(SIZE, SIZE))
    )


def test_classifier_without_bias_of_resnet38d_tf(tmp_path, image):
    """resnet38d-tf's VOC file holds psa's classifier, a 1x1 convolution: predictions are the sigmoid of its mean map at stride 8."""
    features = {name: array for name, array in random_parameters("A1").items() if not name.startswith("linear")}
    source, output = tmp_path / "voc.h5", tmp_path / "voc.weights.h5"
    write_resnet38d_tf(source, features)
    kernel = np.random.default_rng(0).normal(0, 0.1, (512, 20)).astype(np.float32)
    with h5py.File(source, "a") as file:
        file["logits/logits/kernel:0"] = kernel[None, None]
    convert(source, "A1", output, width=WIDTH)
    x = image(SIZE, SIZE)
    options = {"include_top": False, "width": WIDTH, "output_stride": 8}
    maps = kw.WideResNetA1(weights=str(source), **options).predict_on_batch(x)
    expected = 1 / (1 + np.exp(-(maps @ kernel).mean((1, 2))))
    for weights in (output, source):
        found = find_source(str(weights), "A1")
        np.testing.assert_allclose(load_network(found, width=WIDTH).predict_on_batch(x), expected, atol=1e-5)
    named, converted = find_source("voc-backbone").facts, find_source(str(output)).facts
    assert named.class_names == converted.class_names == LABEL_MAPS["voc"].class_names[1:] and len(named.class_names) == 20
    for facts in (named, converted):
        assert (facts.task, facts.classes, facts.classifier_activation, facts.classifier_stride) == ("classification", 20, "sigmoid", 8)


def test_sigmoid_outputs_are_exported_as_they_are():
    """Each is the probability of its class by itself: no softmax is added."""
    network = kw.WideResNetE(width=WIDTH, classes=5, classifier_activation="sigmoid", classifier_bias=False)
    assert _with_probabilities(network) is network
    assert _with_probabilities(kw.WideResNetE(width=WIDTH, classes=5, classifier_activation=None)).layers[-1].name == "probabilities"


@pytest.mark.parametrize(
    ("structure", "known"),
    [
        ("E", "E"),
        ("112-1-1-1-1-5-1-1", "E"),
        ("56-1-1-1-1-1-1-1", "56-1-1-1-1-1-1-1"),
        (STRUCTURES["E"].replace(downsampling=("stride",) * 5), ""),  # neither a name nor the notation says it
    ],
)
def test_sidecar_says_what_network_the_weights_are_of(tmp_path, structure, known):
    write_params(tmp_path / "a.params", {f"arg:{name}": array for name, array in random_parameters(structure).items()})
    values = convert(tmp_path / "a.params", structure, tmp_path / "a.weights.h5", width=WIDTH)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.params", "a.weights.h5", "a.weights.json"]
    source = find_source(str(tmp_path / "a.weights.h5"))
    assert source.facts == Facts(known, WIDTH, "", "relu", "classification", 10)
    if known:
        options = {"width": source.width(), "classes": source.facts.classes, "input_shape": (SIZE, SIZE, 3)}
        network = kw.WiderResNet(source.structure, weights=str(source.path), **options)
        assert network.count_params() == values


@pytest.mark.parametrize("classifier_convs", [1, 2])
def test_sidecar_of_a_segmentation_network(tmp_path, classifier_convs):
    shapes = official_shapes(WideResNetFCN("A1", 5, classifier_convs, width=WIDTH))
    write_params(tmp_path / "a.params", {f"arg:{name}": reference_array(name, shape) for name, shape in shapes.items()})
    convert(tmp_path / "a.params", "A1", tmp_path / "a.weights.h5", width=WIDTH)
    facts = find_source(str(tmp_path / "a.weights.h5")).facts
    assert facts == Facts("A1", WIDTH, "", "relu", "segmentation", 5, classifier_convs)


def test_failed_write_leaves_no_weights(tmp_path, monkeypatch):
    write_params(tmp_path / "a.params", {f"arg:{name}": array for name, array in random_parameters("E").items()})

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(Facts, "save", fail)
    with pytest.raises(ValueError, match=r"a\.weights\.h5' cannot be written: no space left"):
        convert(tmp_path / "a.params", "E", tmp_path / "a.weights.h5", width=WIDTH)
    assert [path.name for path in tmp_path.iterdir()] == ["a.params"]


def test_misfits_are_one_table_and_leave_no_output(tmp_path):
    parameters = random_parameters("A1")
    parameters["bn2a_branch2a_gamma"] = np.ones(3, np.float32)
    parameters["extra_weight"] = parameters.pop("res4b5_branch2a_weight")
    write_params(tmp_path / "bad.params", {f"arg:{name}": array for name, array in parameters.items()})
    with pytest.raises(ValueError) as error:
        convert(tmp_path / "bad.params", "A1", tmp_path / "out.weights.h5", width=WIDTH)
    for line in ("missing     res4b5_branch2a", "unused      extra", "mismatched  bn2a_branch2a"):
        assert line in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.params"]


def test_script_refuses_in_one_line(tmp_path, capsys):
    write_params(tmp_path / "a.params", {f"arg:{name}": array for name, array in random_parameters("A1").items()})
    source, output = tmp_path / "a.params", tmp_path / "out.weights.h5"
    output.write_bytes(b"mine")
    for arguments, words in (
        ((f"--source={source}", "--model=A1", f"--output={output}", f"--width={WIDTH}"), "--overwrite replaces it"),
        ((f"--source={source}", "--model=imagenet-a1"), "is not a file of 'imagenet-a1', which is published as"),
        ((f"--source={source}", "--model=A1"), "--output is needed"),
        ((f"--source={source}", "--model=A9", f"--output={tmp_path / 'b.weights.h5'}"), "A structure is written"),
        ((f"--source={tmp_path / 'no'}", "--model=A1", f"--output={tmp_path / 'b.weights.h5'}"), "No weights file can be read"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["convert", *arguments])
        said = capsys.readouterr().err
        assert stopped.value.code == 2 and words in said and said.startswith("keras-widerresnet convert: "), said
    assert output.read_bytes() == b"mine" and len(list(tmp_path.iterdir())) == 2
