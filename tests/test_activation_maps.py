"""Class activation maps: against NumPy, against psa's procedure computed by PyTorch and PIL, and as files."""

import json
import pathlib
import shutil

import keras
import numpy as np
import psa_maps
import pytest
from conftest import DATA, reference_array
from photographs import REAL_PHOTOGRAPHS
from PIL import Image

import keras_widerresnet as kw
from keras_widerresnet.activation_maps import MAPS, OUTPUTS, background_scores, map_network
from keras_widerresnet.cli import main
from keras_widerresnet.label_maps import LABEL_MAPS
from keras_widerresnet.loading import load_network
from keras_widerresnet.models import find_source
from keras_widerresnet.tasks.classification.activation_maps import Mapper, seeds
from keras_widerresnet.weights.official import assign_official, official_shapes

DIGITS = pathlib.Path(__file__).parent.parent / "saved_models" / "digits" / "run"
NARROW = {"width": 0.0625, "input_shape": (None, None, 3)}


def filled(model):
    assign_official(model, {name: reference_array(name, shape) for name, shape in official_shapes(model).items()}, "refparams")
    return model


def random_images(*shape, seed=0):
    return np.random.RandomState(seed).normal(size=shape).astype(np.float32)


def fine_tuned():
    """A backbone as one layer of a larger model, dropout before the dense layer, and the softmax after it."""
    backbone = kw.WiderResNet("112-0-1-1-1-1-0-0", include_top=False, **NARROW)
    head = (keras.layers.GlobalAveragePooling2D(), keras.layers.Dropout(0.5), keras.layers.Dense(6), keras.layers.Softmax())
    return keras.Sequential([keras.Input((None, None, 3)), backbone, *head])


BUILDS = {
    "plain": lambda: filled(kw.WiderResNet("112-1-1-1-1-1-0-0", classes=6, **NARROW)),
    "strided, at stride 8": lambda: filled(
        kw.WiderResNet("224-0-1-1-1-1-1-1", classes=6, downsampling="stride", output_stride=8, **NARROW)
    ),
    "pooled, at stride 16, logits": lambda: filled(
        kw.WiderResNet("224-0-1-1-1-1-1-0", classes=6, output_stride=16, classifier_activation=None, **NARROW)
    ),
    "without a bias": lambda: filled(
        kw.WiderResNet("112-0-1-1-1-1-0-0", classes=6, classifier_bias=False, classifier_activation="sigmoid", **NARROW)
    ),
    "fine-tuned": fine_tuned,
}


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_maps_are_the_features_times_the_kernel_and_their_mean_is_the_logit(build):
    model = build()
    x = random_images(2, 64, 96, 3)
    dense = next(layer for layer in reversed(model.layers) if isinstance(layer, keras.layers.Dense))
    pool = next(layer for layer in model.layers if isinstance(layer, keras.layers.GlobalAveragePooling2D))
    parts = [pool.input, dense.input, model.outputs[0]]
    features, pooled, outputs = keras.Model(model.inputs, parts).predict_on_batch(x)
    kernel, *bias = dense.get_weights()
    expected = features.astype(np.float64) @ kernel
    answers = map_network(model).predict_on_batch(x)
    assert answers[MAPS].dtype == np.float32 and expected.shape == answers[MAPS].shape
    np.testing.assert_allclose(answers[MAPS], expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(answers[OUTPUTS], outputs, atol=1e-6)
    logits = pooled @ kernel + (bias or [0])[0]
    np.testing.assert_allclose(expected.mean((1, 2)) + (bias or [0])[0], logits, atol=1e-5)
    # 64 and 96 are multiples of the stride, so that the bilinear enlargement keeps the mean.
    raw = kw.class_activation_maps(model, x, [5, 0], scales=(1,), flip=False, raw=True)
    assert raw.shape == (2, 64, 96, 2) and raw.dtype == np.float32
    np.testing.assert_allclose(raw.mean((1, 2)) + (bias or [np.zeros(6)])[0][[5, 0]], logits[:, [5, 0]], rtol=2e-5, atol=1e-4)


@pytest.fixture(scope="module")
def reference():
    with np.load(pathlib.Path(DATA) / "psa_maps.npz") as arrays:
        found = dict(arrays)
    return found | {name: found[name] / 65535 for name in ("of_bytes", "of_floats")}


@pytest.fixture(scope="module")
def psa_network():
    return filled(kw.WideResNetA1(classes=20, classifier_activation=None, classifier_bias=False, output_stride=8, **NARROW))


@pytest.fixture(scope="module")
def small():
    return filled(kw.WiderResNet("112-0-1-1-1-0-0-0", classes=20, classifier_activation=None, **NARROW))


def test_maps_equal_those_of_psas_procedure_in_pytorch(reference, psa_network):
    """Sizes, mirrored images, ReLU, enlargement and normalisation; the photograph's bytes resized by PIL, and normalised floats."""
    image, classes = reference["image"], psa_maps.CHOSEN
    x = kw.preprocess_input(image[None].astype("float32"))
    np.testing.assert_allclose(psa_network.predict_on_batch(x)[0], reference["logits"], atol=1e-4)
    ours = kw.class_activation_maps(psa_network, x, classes)
    assert ours.shape == (1, *image.shape[:2], 2) and ours.min() >= 0 and ours.max() <= 1
    assert np.abs(ours[0] - reference["of_floats"]).max() < 1e-3
    mapper = Mapper(map_network(psa_network), False, psa_maps.SCALES, True)
    assert np.abs(mapper.maps(image, classes) - reference["of_bytes"]).max() < 1e-3
    np.testing.assert_allclose(mapper.outputs(image), reference["logits"], atol=1e-4)


@pytest.mark.slow
def test_psas_procedure_in_pytorch_again(reference, tmp_path):
    """The stored reference is what PyTorch computes, and a state dict with psa's names gives the same maps."""
    torch = pytest.importorskip("torch")
    from test_checkpoint_names import psa_name

    image = reference["image"]
    np.testing.assert_allclose(psa_maps.maps_of_bytes(image), reference["of_bytes"], atol=1e-4)
    np.testing.assert_allclose(psa_maps.maps_of_floats(image), reference["of_floats"], atol=1e-4)
    shapes = official_shapes(kw.WideResNetA1(include_top=False, **NARROW))
    state = {psa_name(name): torch.from_numpy(reference_array(name, shape).copy()) for name, shape in shapes.items()}
    state["fc8.weight"] = psa_maps.classifier()[..., None, None].contiguous()
    torch.save(state, tmp_path / "psa.pth")
    network = kw.WideResNetA1(weights=tmp_path / "psa.pth", classes=20, classifier_bias=False, output_stride=8, **NARROW)
    ours = Mapper(map_network(network), False, psa_maps.SCALES, True).maps(image, psa_maps.CHOSEN)
    assert np.abs(ours - psa_maps.maps_of_bytes(image)).max() < 1e-3


def test_mirrored_images_and_sizes_are_averaged(small):
    """Raw maps of several views are the mean of those of each view; with the mirrored view, maps of a mirrored image are mirrored."""
    x = random_images(1, 48, 40, 3)
    one, half = (kw.class_activation_maps(small, x, 4, scales=(scale,), flip=False, raw=True) for scale in (1, 0.5))
    both = kw.class_activation_maps(small, x, 4, scales=(0.5, 1), flip=False, raw=True)
    np.testing.assert_allclose(both, (one + half) / 2, atol=1e-5)
    there, back = (kw.class_activation_maps(small, view, 4, scales=(1,)) for view in (x, x[:, :, ::-1]))
    np.testing.assert_allclose(there, back[:, :, ::-1], atol=1e-5)
    mirrored = kw.class_activation_maps(small, x[:, :, ::-1], 4, scales=(1,), flip=False, raw=True)[:, :, ::-1]
    with_flip = kw.class_activation_maps(small, x, 4, scales=(1,), raw=True)
    np.testing.assert_allclose(with_flip, (one + mirrored) / 2, atol=1e-5)


def test_classes_are_chosen_as_numpy_broadcasts(small):
    x = random_images(3, 32, 32, 3)
    every = kw.class_activation_maps(small, x, range(20), scales=(1,), flip=False)
    best = small.predict_on_batch(x).argmax(axis=1)
    for classes, expected in (
        (None, [[k] for k in best]),
        (7, [[7]] * 3),
        ([7, 2], [[7, 2]] * 3),
        (best[:, None], [[k] for k in best]),
        ([[0, 1], [2, 3], [4, 5]], [[0, 1], [2, 3], [4, 5]]),
    ):
        found = kw.class_activation_maps(small, x, classes, scales=(1,), flip=False)
        np.testing.assert_allclose(found, np.stack([every[i][..., own] for i, own in enumerate(expected)]), atol=1e-6)
    assert kw.class_activation_maps(small, x, scales=(0.5,)).shape == (3, 32, 32, 1)  # the class is that of the image as it is
    for wrong in (20, -1, 0.5, [[1, 2]] * 2, [], "cat"):
        with pytest.raises(kw.InputError, match=r"whole numbers 0 to 19 that broadcast to \(batch, n\), here \(3, n\)"):
            kw.class_activation_maps(small, x, wrong)


def test_a_network_of_a_fixed_size_takes_others_and_stays_as_it_is():
    model = keras.models.load_model(DIGITS / "final.keras", compile=False)
    x = random_images(1, 28, 28, 3)
    assert kw.class_activation_maps(model, x).shape == (1, 28, 28, 1)
    large = kw.class_activation_maps(model, random_images(1, 56, 40, 3))
    assert large.shape == (1, 56, 40, 1) and large.max() == pytest.approx(1, abs=1e-3)
    assert model.input_shape == (None, 28, 28, 3) and len(model.get_layer("linear10")._inbound_nodes) == 1
    alone = kw.class_activation_maps(model, x, 3, scales=(1,), flip=False, raw=True)
    other = kw.class_activation_maps(model, np.concatenate([x, x]), 3, scales=(1, 1.0), flip=False, raw=True)
    np.testing.assert_allclose(other, np.concatenate([alone, alone]), atol=1e-4)


def test_maps_follow_the_weights_of_a_model_that_learns():
    """At its own sizes and through the copy for others, which is made once."""
    x = random_images(1, 40, 48, 3)
    fixed = kw.WiderResNet("112-0-1-1-0-0-0-0", classes=4, width=0.0625, input_shape=(40, 48, 3))
    for scales in ((1,), (0.5, 1)):
        before = kw.class_activation_maps(fixed, x, 3, scales, raw=True)
        kernel, bias = fixed.get_layer("linear4").get_weights()
        fixed.get_layer("linear4").set_weights([2 * kernel, bias])
        np.testing.assert_allclose(kw.class_activation_maps(fixed, x, 3, scales, raw=True), 2 * before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: kw.WideResNetE(include_top=False, **NARROW), "'bn7' .* stands there"),
        (lambda: kw.WideResNetE(include_top=False, pooling="avg", **NARROW), "'pool7' .*GlobalAveragePooling2D.* stands there"),
        (lambda: kw.WideResNetFCN("112-0-1-1-1-1-0-0", 3, output_stride=None, width=0.0625), "global average pooling"),
        (lambda: keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]), "global average pooling"),
    ],
)
def test_networks_without_the_classifier_are_refused(build, words):
    with pytest.raises(kw.InputError, match=words):
        kw.class_activation_maps(build(), random_images(1, 32, 32, 3))


def test_bad_images_and_scales_are_refused(small):
    for images in (np.zeros((32, 32, 3), np.float32), np.zeros((1, 32, 32, 3), np.uint8)):
        with pytest.raises(kw.InputError, match="`images` must be float of shape"):
            kw.class_activation_maps(small, images)
    for scales in ((), (0,), (1, -1), (float("nan"),)):
        with pytest.raises(kw.InputError, match="`scales` must be positive numbers"):
            kw.class_activation_maps(small, random_images(1, 32, 32, 3), scales=scales)


def test_background_and_seeds_in_closed_form():
    """(1 - max) ** alpha: at 4, a map of 0.3 is below the background's 0.7 ** 4 = 0.2401 and one of 0.2 below 0.4096."""
    maps = np.array([[[0.3, 0.1], [0.2, 0.1], [0.0, 0.0], [0.5, 0.9]]])
    np.testing.assert_allclose(background_scores(maps, 4), [[0.2401, 0.4096, 1, 0.0001]])
    np.testing.assert_array_equal(seeds(maps, (8, 15), 4), [[8, 0, 0, 15]])
    np.testing.assert_array_equal(seeds(maps, (8, 15), 24), [[8, 8, 0, 15]])
    np.testing.assert_array_equal(background_scores(np.zeros((2, 3, 0)), 16), np.ones((2, 3)))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for name in ("china", "cat odd", "rocket"):
        (folder / f"{name.replace(' ', '_')}.jpg").write_bytes(REAL_PHOTOGRAPHS[name])
    return folder


def run_command(*arguments):
    main(["activation-maps", *map(str, arguments)])


def test_command_writes_overlays_arrays_and_seeds(photographs, tmp_path, capsys):
    out = tmp_path / "maps"
    given = (photographs, f"--weights={DIGITS}", "--size=28", f"--output_dir={out}", "--scales=1,2", "--top=2", "--seeds")
    run_command(*given)
    assert "Maps of 3 images: " in capsys.readouterr().out
    names = ["cat_odd", "china", "rocket"]
    assert [path.name for path in sorted((out / "maps").iterdir())] == [f"{n}.{e}" for n in names for e in ("json", "npy")]
    model = keras.models.load_model(DIGITS / "final.keras", compile=False)
    network = map_network(model)
    for name in names:
        maps = np.load(out / "maps" / f"{name}.npy")
        told = json.loads((out / "maps" / f"{name}.json").read_text())
        with Image.open(photographs / f"{name}.jpg") as picture:
            assert maps.shape == (picture.height, picture.width, 2) and maps.dtype == np.float32
            scale = 28 / min(picture.size)
            small = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.BICUBIC)
        pixels = kw.preprocess_input(np.asarray(small, np.float32)[None])
        np.testing.assert_allclose(network.predict_on_batch(pixels)[OUTPUTS][0][told["classes"]], told["outputs"], atol=0.02)
        assert told["names"] == [str(k) for k in told["classes"]] and told["outputs"][0] >= told["outputs"][1]
        for alpha in (4, 24):
            with Image.open(out / f"seeds_alpha{alpha}" / f"{name}.png") as picture:
                assert picture.mode == "P" and picture.getpalette()[:63] == np.ravel(LABEL_MAPS["voc"].colors).tolist()
                found = np.asarray(picture)
            scores = np.concatenate([(1 - maps.max(-1, keepdims=True)) ** alpha, maps], axis=-1)
            np.testing.assert_array_equal(found, np.array([0, *(k + 1 for k in told["classes"])])[scores.argmax(-1)])
        with Image.open(out / "overlays" / f"{name}.png") as picture:
            assert picture.format == "PNG" and picture.width > picture.height > 100


def test_command_continues_and_names_what_it_cannot_use(photographs, tmp_path, capsys):
    folder, out = tmp_path / "images", tmp_path / "maps"
    shutil.copytree(photographs, folder)
    (folder / "broken.jpg").write_bytes(REAL_PHOTOGRAPHS["china"][:2000])
    given = (folder, f"--weights={DIGITS}", "--size=28", f"--output_dir={out}", "--scales=1", "--nooverlays")
    with pytest.raises(SystemExit, match="2"):
        run_command(*given)
    said = capsys.readouterr().err.splitlines()[-1]
    assert "1 of 4 images cannot be used; the maps of the other 3 are there" in said and "broken.jpg' cannot be decoded" in said
    (folder / "broken.jpg").unlink()
    (out / "maps" / "china.npy").unlink()
    before = (out / "maps" / "rocket.npy").stat().st_mtime_ns
    run_command(*given)
    assert "Maps of 3 images, 2 were there already" in capsys.readouterr().out
    assert (out / "maps" / "china.npy").is_file() and (out / "maps" / "rocket.npy").stat().st_mtime_ns == before
    with pytest.raises(SystemExit, match="2"):
        run_command(*given, "--top=3")
    assert "holds maps made with other options (top)" in capsys.readouterr().err
    run_command(*given, "--top=3", "--overwrite")
    assert np.load(out / "maps" / "rocket.npy").shape[-1] == 3


def test_classes_by_name_and_by_image(photographs, tmp_path, capsys):
    image = photographs / "china.jpg"
    common = (f"--weights={DIGITS}", "--size=28", "--scales=1", "--nooverlays")
    run_command(image, *common, "--classes=7,3", f"--output_dir={tmp_path / 'a'}")
    assert json.loads((tmp_path / "a/maps/china.json").read_text())["classes"] == [7, 3]
    (tmp_path / "classes.txt").write_text("china.jpg\t5\nrocket\t0\t9\nabsent\t1\n")
    own = (*common, f"--image_classes={tmp_path / 'classes.txt'}")
    run_command(image, photographs / "rocket.jpg", *own, f"--output_dir={tmp_path / 'b'}")
    assert [json.loads((tmp_path / f"b/maps/{name}.json").read_text())["classes"] for name in ("china", "rocket")] == [[5], [0, 9]]
    with pytest.raises(SystemExit):
        run_command(photographs, *own, f"--output_dir={tmp_path / 'c'}")
    assert "has no line for 1 of 3 images: cat_odd" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run_command(image, *common, "--classes=seven", f"--output_dir={tmp_path / 'd'}")
    assert "one of the 10 class names, or a number 0 to 9. Received: 'seven'" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_a_saved_network_is_built_anew_at_another_stride(tmp_path):
    """The weights of a `.keras` file in a dilated network of the same structure."""
    structure, options = "224-0-1-1-1-1-1-0", {"classes": 6, **NARROW}
    model = filled(kw.WiderResNet(structure, **options))
    model.save(tmp_path / "net.keras")
    dilated = kw.WiderResNet(structure, output_stride=8, **options)
    dilated.set_weights(model.get_weights())
    x = random_images(1, 64, 64, 3)
    loaded = load_network(find_source(str(tmp_path / "net.keras"), structure), width=0.0625, classifier_stride=8)
    np.testing.assert_array_equal(loaded.predict_on_batch(x), dilated.predict_on_batch(x))
    with pytest.raises(kw.InputError, match="--model is needed"):
        load_network(find_source(str(tmp_path / "net.keras")), classifier_stride=8)
