"""Scores of segmentation networks, their files and pictures; against scikit-learn, cityscapesscripts and PIL."""

import csv
import json
import os
import pathlib
import subprocess
import sys
import weakref

import keras
import numpy as np
import pytest
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as cityscapes_script
from photographs import PHOTOGRAPHS
from PIL import Image
from scipy.special import softmax
from sklearn.metrics import confusion_matrix, jaccard_score, recall_score
from test_dense import keys_enlarged

import keras_widerresnet as kw
from keras_widerresnet.colors import class_colors
from keras_widerresnet.label_maps import LABEL_MAPS, voc_palette
from keras_widerresnet.models import KERAS_FILE, Facts, SegmenterOptions, Source, find_source
from keras_widerresnet.protocols import SegmentationProtocol
from keras_widerresnet.runs import PREDICTIONS_FOLDER, SEGMENTATION_EVALUATION
from keras_widerresnet.tasks.segmentation import evaluation as segmentation
from keras_widerresnet.tasks.segmentation.config import EvaluationConfig
from keras_widerresnet.tasks.segmentation.data import load_segmentation_data
from keras_widerresnet.tasks.segmentation.evaluation import evaluate_segmentation, score_test_split, shown_images, write_mask
from keras_widerresnet.tasks.segmentation.figures import Example, panels
from keras_widerresnet.tasks.segmentation.network import Segmenter, load_segmenter, predictor, stride_of

ROOT = pathlib.Path(__file__).parent.parent
CLASSES, IGNORED, STRUCTURE = 4, 255, "224-0-1-1-1-1-1-1"
SIZES = ((40, 56), (47, 33), (24, 65), (56, 56))


def blobs(height, width, values, seed):
    """A mask of blocks of 6 x 6 pixels."""
    blocks = np.random.default_rng(seed).choice(values, (-(-height // 6), -(-width // 6)))
    return np.kron(blocks, np.ones((6, 6)))[:height, :width].astype(np.uint8)


def write_pairs(root, values, sizes=SIZES, images="{}/{}.jpg", masks="{}annot/{}.png", parts=("train", "test")):
    for part in parts:
        for index, (height, width) in enumerate(sizes):
            top = 30 * index
            for pattern, pixels in (
                (images, PHOTOGRAPHS[0][top : top + height, 100 : 100 + width]),
                (masks, blobs(height, width, values, index)),
            ):
                path = root / pattern.format(part, f"a{index}")
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return root


def network(**options):
    """A narrow network of random weights whose logits differ from cell to cell."""
    keras.utils.set_random_seed(0)
    model = kw.WideResNetFCN(STRUCTURE, CLASSES, width=0.0625, **options)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_variance.assign(layer.moving_variance * 0.3)
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The network as .keras and .weights.h5, and a tree of pairs of images and masks."""
    root = tmp_path_factory.mktemp("segmentation")
    model = network()
    model.save(root / "fcn.keras")
    model.save_weights(root / "fcn.weights.h5")
    write_pairs(root / "set", [0, 1, 2, 3, IGNORED], images="{}/{}.png")
    return root, model


@pytest.fixture
def quick(monkeypatch):
    """Networks need no loading: whatever the weights, they are `noisy`."""
    source = Source("any", KERAS_FILE, None, Facts())
    monkeypatch.setattr(segmentation, "load_segmenter", lambda _: Segmenter(noisy(CLASSES), CLASSES, 8, source))


def data_name(root):
    return f"pairs:{root / 'set'},classes={CLASSES}"


def evaluated(root, output_dir, **options):
    """`evaluate_segmentation` of the saved network on its pairs, where the options name no others."""
    given = {"weights": str(root / "fcn.keras"), "data": data_name(root), "output_dir": str(output_dir)}
    return evaluate_segmentation(EvaluationConfig(**(given | options)))


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def stored(path):
    with Image.open(path) as image:
        return np.asarray(image)


def noisy(classes, stride=8):
    """A 'network' of random logits that are a function of the image."""

    def predict(images):
        seeds = np.abs(images[:, ::stride, ::stride].sum(axis=-1) * 1e4).astype(np.int64)
        weights = np.random.default_rng(0).random((997, classes), np.float32)
        return 5 * weights[seeds % 997]

    return predict


def test_scores_are_scikit_learns_on_the_saved_predictions(saved, tmp_path):
    root, _ = saved
    found = evaluated(root, tmp_path / "out", flip=True)
    truth = np.concatenate([stored(root / "set" / "testannot" / f"a{k}.png").ravel() for k in range(4)])
    predicted = np.concatenate([stored(tmp_path / "out" / "predictions" / f"a{k}.png").ravel() for k in range(4)])
    truth, predicted = truth[truth != IGNORED], predicted[truth != IGNORED]
    labels = range(CLASSES)
    np.testing.assert_array_equal(found.scored.matrix, confusion_matrix(truth, predicted, labels=labels))
    assert len(set(predicted)) > 1  # or all this would say little
    rows, results = read_csv(tmp_path / "out" / "per_class.csv"), json.loads((tmp_path / "out" / "results.json").read_text())
    assert [int(row["pixels"]) for row in rows] == [int((truth == k).sum()) for k in labels]
    ious, recalls = (
        jaccard_score(truth, predicted, average=None, labels=labels),
        recall_score(truth, predicted, average=None, labels=labels),
    )
    np.testing.assert_allclose([float(row["IoU"]) for row in rows], ious, atol=1e-6)
    np.testing.assert_allclose([float(row["accuracy"]) for row in rows], recalls, atol=1e-6)
    expected = {"pixel_accuracy": (truth == predicted).mean(), "mean_accuracy": recalls.mean(), "mean_iou": ious.mean()}
    assert {name: results[name] for name in expected} == pytest.approx(expected)
    assert results["images"] == 4 and results["flip"] and results["output_stride"] == 8


def test_predictions_are_the_networks(saved, tmp_path):
    """Keras' predict on the padded image, softmax, Keys' cubic: pixel by pixel what is in the files."""
    root, model = saved
    evaluated(root, tmp_path / "out")
    for index, (height, width) in enumerate(SIZES):
        with Image.open(root / "set" / "test" / f"a{index}.png") as opened:
            image = kw.preprocess_input(np.asarray(opened))
        padded = np.pad(image, ((0, -height % 8), (0, -width % 8), (0, 0)))
        cells = softmax(model.predict(padded[None], verbose=0)[0], axis=-1)
        rows = keys_enlarged(cells.reshape(len(cells), -1), 8, height).reshape(height, -1, CLASSES).transpose(1, 0, 2)
        pixels = keys_enlarged(rows.reshape(len(rows), -1), 8, width).reshape(width, height, CLASSES).transpose(1, 0, 2)
        clear = np.ptp(np.sort(pixels, axis=-1)[..., -2:], axis=-1) > 1e-5
        predicted = stored(tmp_path / "out" / "predictions" / f"a{index}.png")
        np.testing.assert_array_equal(predicted[clear], pixels.argmax(axis=-1)[clear])
        assert clear.mean() > 0.99


def test_cityscapes_predictions_and_scores_are_its_own_scripts(tmp_path):
    names = {"images": "leftImg8bit/{}/ulm/ulm_{}_000019_leftImg8bit.png", "masks": "gtFine/{}/ulm/ulm_{}_000019_gtFine_labelIds.png"}
    write_pairs(tmp_path, [*range(34)], parts=("train", "val"), **names)
    data = load_segmentation_data(f"cityscapes:{tmp_path}", verify=False)
    (tmp_path / "out").mkdir()
    scored = score_test_split(noisy(19), data, SegmentationProtocol(), 8, tmp_path / "out", masks=True, shown=3)
    args = cityscapes_script.args
    args.predictionPath, args.predictionWalk = str(tmp_path / "out" / "predictions"), None
    args.evalInstLevelScore, args.JSONOutput, args.quiet = False, False, True
    truths = sorted(str(path) for path in (tmp_path / "gtFine" / "val" / "ulm").glob("*_labelIds.png"))
    theirs = cityscapes_script.evaluateImgLists([cityscapes_script.getPrediction(args, truth) for truth in truths], truths, args)
    rows = read_csv(tmp_path / "out" / "per_class.csv")
    scores = [theirs["classScores"][row["class"]] for row in rows]
    np.testing.assert_allclose([float(row["IoU"]) for row in rows], scores, atol=1e-6)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["mean_iou"] == pytest.approx(theirs["averageScoreClasses"], abs=1e-9)
    assert scored.matrix.sum() > 0 and max(scores) > 0
    with Image.open(tmp_path / "out" / "predictions" / "ulm_a0_000019_leftImg8bit.png") as image:
        assert image.mode == "L"


@pytest.mark.parametrize(("name", "mode"), [("voc", "P"), ("cityscapes", "L"), ("ade20k", "L"), ("pascal_context", "P")])
def test_mask_files_are_as_each_benchmark_has_them(tmp_path, name, mode):
    labels = LABEL_MAPS[name]
    predicted = np.arange(labels.classes, dtype=np.uint8)[None].repeat(3, axis=0)
    write_mask(tmp_path / "mask.png", predicted, labels)
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == mode
        np.testing.assert_array_equal(np.asarray(image), np.broadcast_to(labels.stored_ids, predicted.shape))
        if mode == "P":
            np.testing.assert_array_equal(np.asarray(image.convert("RGB"))[0], labels.colors)
        if name == "voc":
            np.testing.assert_array_equal(np.reshape(image.getpalette(), (256, 3)), voc_palette())
            assert image.getpalette()[3 * 15 : 3 * 16] == [192, 128, 128]  # the person's colour in every VOC mask
    assert (labels.stored_ids[0], labels.stored_ids[-1]) == {"cityscapes": (7, 33), "ade20k": (1, 150)}.get(name, (0, labels.classes - 1))


def test_a_voc_tree_has_its_predictions_as_its_masks(tmp_path):
    """The prediction of a network that knows the truth is the mask file, value by value."""
    for part in ("train", "val"):
        names = tmp_path / "ImageSets" / "Segmentation" / f"{part}.txt"
        names.parent.mkdir(parents=True, exist_ok=True)
        names.write_text("a0\na1\n")
        write_pairs(tmp_path, range(21), SIZES[:2], "JPEGImages/{1}.jpg", "SegmentationClass/{1}.png", (part,))
    data = load_segmentation_data(f"voc:{tmp_path}")
    truths = iter([0, 1, 0, 1])  # each is asked twice: for the scores, then for the picture, the worse first

    def knowing(images):
        mask = stored(tmp_path / "SegmentationClass" / f"a{next(truths)}.png")
        return (
            9.0 * np.eye(21, dtype=np.float32)[np.pad(mask, [(0, a - b) for a, b in zip(images.shape[1:3], mask.shape, strict=True)])][None]
        )

    (tmp_path / "out").mkdir()
    scored = score_test_split(knowing, data, SegmentationProtocol(), 1, tmp_path / "out", masks=True, shown=2)
    assert scored.scores == {"pixel_accuracy": 1, "mean_accuracy": 1, "mean_iou": 1}
    for name in ("a0", "a1"):
        np.testing.assert_array_equal(
            stored(tmp_path / "out" / "predictions" / f"{name}.png"), stored(tmp_path / "SegmentationClass" / f"{name}.png")
        )


def test_every_kind_of_file_gives_the_same(saved, tmp_path):
    root, model = saved
    upsampled = network(upsample=True)
    upsampled.set_weights(model.get_weights())
    upsampled.save(tmp_path / "upsampled.keras")
    image = np.random.default_rng(0).normal(size=(2, 40, 24, 3)).astype(np.float32)
    expected = model.predict(image, verbose=0)
    for weights, options in (
        (root / "fcn.keras", {}),
        (root / "fcn.weights.h5", {"model": STRUCTURE, "width": 0.0625}),
        (tmp_path / "upsampled.keras", {}),
    ):
        found = load_segmenter(SegmenterOptions(weights=str(weights), **options))
        assert (found.classes, found.stride, found.record) == (CLASSES, 8, None)
        np.testing.assert_allclose(found.predict(image), expected, atol=1e-5)


@pytest.mark.parametrize(("convs", "stride"), [(1, 8), (2, 16), (1, None)])
def test_strides_and_heads_are_found(tmp_path, convs, stride):
    model = network(classifier_convs=convs, output_stride=stride)
    assert stride_of(model, "it") == (stride or 32)
    model.save_weights(tmp_path / "a.weights.h5")
    options = {"model": STRUCTURE, "width": 0.0625, "output_stride": stride or 32}
    found = load_segmenter(SegmenterOptions(weights=str(tmp_path / "a.weights.h5"), **options))
    assert found.stride == (stride or 32) and found.classes == CLASSES
    assert found.predict(np.zeros((1, 64, 32, 3), np.float32)).shape == (1, 64 // found.stride, 32 // found.stride, CLASSES)


def test_sizes_share_one_graph(monkeypatch):
    traces = []

    class Traced(keras.layers.Layer):
        def call(self, inputs):
            traces.append(inputs.shape)
            return inputs

    inputs = keras.Input((None, None, 3))
    predict = predictor(keras.Model(inputs, Traced()(inputs)))
    traces.clear()
    for shape in ((1, 8, 16, 3), (2, 24, 16, 3), (4, 8, 8, 3)):
        images = np.random.default_rng(0).random(shape, np.float32)
        np.testing.assert_array_equal(predict(images), images)
    assert len(traces) == 1


def test_one_image_is_held_at_a_time(saved, tmp_path, monkeypatch):
    root, _ = saved
    alive, most, own = weakref.WeakSet(), [0], segmentation.pixel_classes

    class Tracked(np.ndarray):
        pass

    def counted(*arguments):
        result = own(*arguments).view(Tracked)
        alive.add(result)
        most[0] = max(most[0], len(alive))
        return result

    monkeypatch.setattr(segmentation, "pixel_classes", counted)
    monkeypatch.setattr(Tracked, "__hash__", object.__hash__)
    monkeypatch.setattr(Tracked, "__eq__", object.__eq__)
    data = load_segmentation_data(data_name(root))
    score_test_split(noisy(CLASSES), data, SegmentationProtocol(), 8, tmp_path, masks=False, shown=1)
    assert most[0] <= 2 < data.test.size


def test_images_worth_a_look():
    ious = np.array([0.5, 0.1, np.nan, 0.9, 0.3, 0.7, 0.2, 0.8])
    assert shown_images(ious, 3) == [("worst", 1), ("median", 0), ("best", 3)]
    assert shown_images(ious, 4) == [("worst", 1), ("worst", 6), ("median", 0), ("best", 3)]
    for count in range(1, 12):
        chosen = [index for _, index in shown_images(ious, count)]
        assert len(set(chosen)) == len(chosen) == min(count, 7)
        assert (np.diff(ious[chosen]) >= 0).all()
    assert shown_images(np.full(2, np.nan), 3) == []


def test_pictures_show_what_is_wrong_and_what_is_ignored():
    labels = LABEL_MAPS["voc"]
    truth = np.array([[0, 1, IGNORED, IGNORED]], np.uint8)
    image, *shown = panels(Example("", np.full((1, 4, 3), 100, np.uint8), truth, np.array([[0, 2, 3, 3]], np.uint8)), labels)
    (true, predicted, errors) = (picture[0].astype(int) for picture in shown)
    assert (image == 100).all()
    for picture, classes in ((true[:2], [0, 1]), (predicted, [0, 2, 3, 3])):
        np.testing.assert_allclose(picture, 0.8 * np.array(class_colors(labels.class_names))[classes] + 20, atol=1)
    assert errors[0].min() > 190 and np.ptp(errors[0]) == 0  # right: pale, no colour
    assert errors[1].max() == 0  # wrong: black
    np.testing.assert_array_equal(errors[2:], true[2:])
    assert np.ptp(true[2:], axis=1).max() == 0


def test_settings_of_every_kind_reach_the_network_and_the_report(saved, tmp_path, quick):
    root, _ = saved
    options = {"sizes": (40, 64), "test_steps": 2, "flip": True, "tile": 48, "overlap": 16}
    found = evaluated(root, tmp_path / "out", masks=False, **options)
    assert {path.name for path in (tmp_path / "out").iterdir()} == SEGMENTATION_EVALUATION
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {name: results[name] for name in options} == {**options, "sizes": [40, 64]}
    report = found.report.read_text()
    given = "--sizes=40,64 --test_steps=2 --flip --tile=48 --overlap=16 --nomasks"
    assert given in report and f"--data={data_name(root)}" in report and "keras-widerresnet evaluate-segmentation " in report
    assert "longer side 40, 64; 2 × 2 shifts; mirrored too; tiles of 48, overlapping by 16" in report
    assert f"{found.scored.scores['mean_iou'] * 100:.2f}" in report and "published" not in report
    plain = evaluated(root, tmp_path / "plain")
    assert (plain.scored.matrix != found.scored.matrix).any() and plain.scored.matrix.sum() == found.scored.matrix.sum()


def test_published_row_stands_beside_named_weights(saved, tmp_path, monkeypatch):
    root, _ = saved
    source = find_source("ade20k")
    monkeypatch.setattr(segmentation, "load_segmenter", lambda _: Segmenter(noisy(150), 150, 8, source))
    found = evaluated(root, tmp_path / "out", weights="ade20k", data=f"pairs:{root / 'set'},classes=150", sizes=(48,))
    # Without a word the published protocol, but for what the options say.
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["sizes"], results["test_steps"], results["flip"], results["model"]) == ([48], 2, True, "A1")
    assert found.rows()[1][:2] == ("published", "ADE20K val (500, flip, test_steps 2): pixel accuracy 80.55, 43.34 mIoU")
    assert "pixel accuracy 80.55, 43.34 mIoU" in found.report.read_text()
    rows = read_csv(tmp_path / "out" / "per_class.csv")
    assert (rows[149]["pixels"], rows[149]["accuracy"]) == ("0", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": (0,)}, r"--sizes must be at least 1\. Received: 0"),
        ({"sizes": (40, 40)}, "Sizes must be different"),
        ({"test_steps": 3}, "divisor of the output stride, 8"),
        ({"tile": 16, "overlap": 16}, "larger than `overlap`"),
        ({"tile": 20}, "multiple of the output stride, 8"),
        ({"shown": 0}, r"--shown must be at least 1\. Received: 0"),
        ({"data": "shapes"}, "has 4 classes, but 'shapes' has"),
        ({"data": "folder:x"}, "Unknown segmentation data set"),
        ({"weights": "missing.keras"}, "No model found at 'missing.keras'"),
        ({"weights": "missing.weights.h5"}, "No model found at 'missing.weights.h5'"),
        ({"weights": "imagenet"}, "is a classification network; a segmentation network can be voc, voc-coco, cityscapes, ade20k"),
        ({"weights": "imagenet-a1"}, "is a classification network"),
        ({"weights": "WEIGHTS"}, "--model is needed"),
        ({"weights": "CLASSIFIER"}, "not a segmentation network: its outputs must have shape"),
        ({"weights": "CLASSIFIER_WEIGHTS", "model": STRUCTURE, "width": 0.0625}, "not a segmentation network: its outputs must have shape"),
        ({"weights": "FIXED"}, "must accept RGB images of any size"),
        ({"weights": "SOFTMAX"}, "ends in softmax"),
        ({"weights": "FOLDER"}, "is a folder, but neither a run directory nor a SavedModel"),
    ],
)
def test_bad_input_is_named_and_nothing_is_left(saved, tmp_path, options, message):
    root, model = saved
    made = tmp_path / "made"
    made.mkdir()
    weights = options.get("weights", str(root / "fcn.keras"))
    if weights in ("CLASSIFIER", "CLASSIFIER_WEIGHTS"):
        classifier = kw.WiderResNet(STRUCTURE, width=0.0625, classes=CLASSES, input_shape=(32, 32, 3))
        classifier.save(made / "classifier.keras")
        classifier.save_weights(made / "classifier_weights.weights.h5")
    elif weights == "FIXED":
        network(input_shape=(32, 32, 3)).save(made / "fixed.keras")
    elif weights == "SOFTMAX":
        keras.Model(model.inputs, keras.layers.Softmax()(model.output)).save(made / "softmax.keras")
    files = {path.name.split(".")[0].upper(): str(path) for path in made.iterdir()}
    files |= {"WEIGHTS": str(root / "fcn.weights.h5"), "FOLDER": str(made)}
    with pytest.raises(ValueError, match=message):
        evaluated(root, tmp_path / "out", **(options | {"weights": files.get(weights, weights)}))
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize("damage", ["image", "mask", "size"])
def test_unreadable_files_are_named_and_nothing_is_left(tmp_path, quick, damage):
    write_pairs(tmp_path / "set", [0, 1, 2, 3])
    broken = tmp_path / "set" / {"image": "test/a2.jpg", "mask": "testannot/a2.png", "size": "testannot/a2.png"}[damage]
    if damage == "size":
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(broken)
    else:
        broken.write_text("nothing")
    with pytest.raises(ValueError, match=rf"cannot be read: .*{broken.name}"):
        evaluated(tmp_path, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_whole_evaluation_by_the_script(saved, tmp_path):
    root, _ = saved
    flags = [f"--weights={root / 'fcn.weights.h5'}", f"--model={STRUCTURE}", "--width=0.0625", f"--data={data_name(root)}", "--sizes=48"]

    def script(output_dir, *more):
        command = [sys.executable, str(ROOT / "scripts" / "evaluate_segmentation.py"), *flags, f"--output_dir={output_dir}", *more]
        return subprocess.run(command, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True)

    done = script(tmp_path / "out", "--flip")
    assert done.returncode == 0 and "Report: " in done.stdout, done.stderr[-2000:]
    assert {path.name for path in (tmp_path / "out").iterdir()} == SEGMENTATION_EVALUATION | {PREDICTIONS_FOLDER}
    assert sorted(path.name for path in (tmp_path / "out" / "predictions").iterdir()) == [f"a{k}.png" for k in range(4)]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("mine")
    foreign = script(tmp_path / "mine", "--overwrite")
    assert foreign.returncode == 2 and "is not an evaluation" in foreign.stderr and "Traceback" not in foreign.stderr
    assert (tmp_path / "mine" / "precious.txt").read_text() == "mine"


def test_results_are_not_overwritten_unasked(saved, tmp_path, quick):
    root, _ = saved
    evaluated(root, tmp_path / "out", shown=1)
    with pytest.raises(ValueError, match="--overwrite replaces it"):
        evaluated(root, tmp_path / "out")
    evaluated(root, tmp_path / "out", sizes=(30,), masks=False, overwrite=True, shown=1)
    assert json.loads((tmp_path / "out" / "results.json").read_text())["sizes"] == [30]
    assert {path.name for path in (tmp_path / "out").iterdir()} == SEGMENTATION_EVALUATION
