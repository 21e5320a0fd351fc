"""What the values in masks mean: which are classes, which are void, and what is said where that cannot be right."""

import csv
import io
import json
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from test_segmentation_data import HEIGHT, WIDTH, png, write_image
from test_training import refused

from keras_widerresnet.data import masks
from keras_widerresnet.data.mask_values import palette_problem
from keras_widerresnet.data.names import SEGMENTATION, label_map_of, parse_name, path_and_options
from keras_widerresnet.data.pairs import SegmentationSplit
from keras_widerresnet.data.validation import with_validation
from keras_widerresnet.errors import InputError
from keras_widerresnet.label_maps import IGNORED, LABEL_MAPS, numbered, voc_palette
from keras_widerresnet.protocols import SegmentationProtocol
from keras_widerresnet.tasks.segmentation import report
from keras_widerresnet.tasks.segmentation.data import load_segmentation_data
from keras_widerresnet.tasks.segmentation.evaluation import ScoredSplit, score_test_split


def mask_of(*values):
    """A mask in which these values take turns."""
    return np.resize(np.array(values, np.uint8), (HEIGHT, WIDTH))


def write_set(root, train, test=None):
    """Pairs of images and masks; each mask is an array or a file's bytes."""
    for part, contents in (("train", train), ("test", train if test is None else test)):
        (root / f"{part}annot").mkdir(parents=True, exist_ok=True)
        for k, content in enumerate(contents):
            write_image(root / part / f"{k}.jpg", k)
            (root / f"{part}annot" / f"{k}.png").write_bytes(content if isinstance(content, bytes) else png(content))
    return root


# ---- which value a name has


@pytest.mark.parametrize(
    ("options", "names", "stored", "ignored"),
    [
        ("names=sky+road", ("sky", "road"), (0, 1), (255,)),
        ("names=background+255=object", ("background", "object"), (0, 255), ()),
        ("names=255=object+0=background", ("object", "background"), (255, 0), ()),
        ("names=background+255=object,ignore=128", ("background", "object"), (0, 255), (128,)),
        ("names=background+128=edge+255=object", ("background", "edge", "object"), (0, 128, 255), ()),
        ("names=1=a+b+c,ignore=0", ("a", "b", "c"), (1, 2, 3), (0, 255)),
        ("names=1=a+b+10=c+d", ("a", "b", "c", "d"), (1, 2, 10, 11), (255,)),
        ("names=a=b+c==d", ("a=b", "c==d"), (0, 1), (255,)),  # no numbers before them
        ("names=7=x=y+z", ("x=y", "z"), (7, 8), (255,)),
        ("classes=2,ignore=255", ("class 0", "class 1"), (0, 1), (255,)),
    ],
)
def test_names_say_their_values(options, names, stored, ignored):
    _, options = path_and_options(f"PATH,{options}", SEGMENTATION["pairs"])
    labels = label_map_of(options)
    assert (labels.class_names, labels.stored_ids, labels.ignored_ids) == (names, stored, ignored)
    values = np.flatnonzero(labels.known()).astype(np.uint8)
    assert sorted(values) == sorted([*stored, *ignored])
    for mode in ("L", "P"):
        ids = masks.decode_mask(tf.constant(png(np.stack([values, values]), mode)), labels).numpy()[0]
        assert [names[k] if k != IGNORED else None for k in ids] == [
            names[stored.index(value)] if value in stored else None for value in values
        ]
    np.testing.assert_array_equal(labels.to_stored()[: len(names)], stored)
    assert labels.to_stored()[IGNORED] not in stored


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("names=a+256=b", "different whole numbers"),
        ("names=a+0=b", "different whole numbers"),
        ("names=255=a+b", "different whole numbers"),
        ("names=a+255=b,ignore=255", "different whole numbers"),
        ("names=a+1=b,ignore=1", "different whole numbers"),
        ("names=a+a", "must not repeat a class name: 'a'"),
        ("names=a+", r"The class name '' \(class 1\) is empty; .* names=a\+$"),
        ("names=a+7=", "is empty"),
        ("names=a+ b", r"The class name ' b' .* begins or ends with white space"),
        ("names=a+b\nc", r"The class name 'b\\nc' .* contains a line break"),
        ("classes=0", "1 to 254 classes"),
        ("classes=255", "1 to 254 classes"),
        ("classes=1000000000000", "whole numbers of a byte"),
        ("classes=2,ignore=256", "different whole numbers"),
        ("classes=2,names=a+b", "either classes=N or names="),
    ],
)
def test_values_that_cannot_be(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        parse_name(f"pairs:{tmp_path},{options}", SEGMENTATION)


def test_predictions_have_the_stored_values(tmp_path):
    root = write_set(tmp_path / "set", [mask_of(0, 255, 255), mask_of(0, 0, 128)])
    data = load_segmentation_data(f"pairs:{root},names=background+255=object,ignore=128")

    def network(images):  # that sees objects everywhere
        return np.broadcast_to(np.array([0, 1], np.float32), (len(images), images.shape[1] // 8, images.shape[2] // 8, 2))

    (tmp_path / "out").mkdir()
    score_test_split(network, data, SegmentationProtocol(), 8, tmp_path / "out", masks=True, shown=1)
    with Image.open(tmp_path / "out" / "predictions" / "0.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.full((HEIGHT, WIDTH), 255))
    with (tmp_path / "out" / "per_class.csv").open() as file:
        assert [(row["class"], int(row["pixels"])) for row in csv.DictReader(file)] == [("background", 600), ("object", 400)]


# ---- classes that do not occur, and masks of nothing


BINARY = [mask_of(0, 0, 255), mask_of(0)]


@pytest.mark.parametrize(
    ("train", "options", "message"),
    [
        (
            BINARY,
            "names=background+object",
            r"0, 255: 255 would be ignored, and 'object' would never.* names=background\+255=object\. If .* ignored, write ignore=255$",
        ),
        (BINARY, "classes=2", r".*'class 1' would never be learned.*names=class 0\+255=class 1"),
        ([mask_of(0, 1, 255)], "names=background+edge+object", r"0\.\.1, 255: 255 would .*'object' would .*=background\+edge\+255=object"),
        (BINARY, "names=object", r"0, 255: 255 would be ignored, and 'object' would be the only class.* names=background\+255=object\. If"),
        ([mask_of(0, 255)], "names=a+b+c", r".*'b', 'c' would never be learned"),
    ],
)
def test_255_beside_a_class_that_never_occurs_is_refused(tmp_path, train, options, message):
    root = write_set(tmp_path, train)
    with pytest.raises(InputError, match=f"^The training masks contain the values {message}"):
        load_segmentation_data(f"pairs:{root},{options}")


def test_the_command_ends_with_one_line(tmp_path, capsys, monkeypatch):
    name = f"pairs:{write_set(tmp_path / 'set', BINARY)},names=background+object"
    output_dir = tmp_path / "run"
    line = refused(capsys, monkeypatch, "train-segmentation", f"--output_dir={output_dir}", f"--data={name}", "--nofrozen_batch_norm")
    assert "names=background+255=object" in line and not output_dir.exists()


def test_what_the_refusal_offers_works(tmp_path, caplog):
    root = write_set(tmp_path, BINARY)
    with pytest.raises(InputError) as caught:
        load_segmentation_data(f"pairs:{root},names=background+object")
    (offered,) = re.findall(r"names=\S+255=\w+", str(caught.value))
    data = load_segmentation_data(f"pairs:{root},{offered}")
    np.testing.assert_array_equal(data.train.mask(0), mask_of(0, 0, 1))
    assert (data.train.absent, caplog.records) == ((), [])
    data = load_segmentation_data(f"pairs:{root},names=background+object,ignore=255")
    np.testing.assert_array_equal(data.train.mask(0), mask_of(0, 0, 255))
    assert data.train.absent == ("object",) and "NEVER LEARNED: no pixel of the training masks belongs to 'object'" in caplog.text


def test_255_where_every_class_occurs_is_void_as_before(tmp_path, caplog):
    data = load_segmentation_data(f"pairs:{write_set(tmp_path, [mask_of(0, 1, 255)])},classes=2")
    np.testing.assert_array_equal(data.train.mask(0), mask_of(0, 1, 255))
    assert not caplog.records


@pytest.mark.parametrize(
    ("train", "options", "message"),
    [
        ([mask_of(0, 128, 255)], "names=a+b+c", r"holds the value 128.*values 0, 128, 255; .*, e\.g\. names=0=a\+128=b\+255=c$"),
        ([mask_of(1, 2), mask_of(3)], "names=a+b+c", r"holds the value 3.*contain the values 1\.\.3; .*, e\.g\. names=1=a\+2=b\+3=c$"),
        ([mask_of(0, 100, 200)], "classes=2", r"holds the value 100 .*contain the values 0, 100, 200; names=VALUE=NAME\+… assigns values"),
    ],
)
def test_other_values_are_refused_with_what_to_write(tmp_path, train, options, message):
    with pytest.raises(InputError, match=message):
        load_segmentation_data(f"pairs:{write_set(tmp_path, train)},{options}")


def test_masks_of_nothing(tmp_path, caplog):
    root = write_set(tmp_path, [mask_of(255), mask_of(11, 255)], [mask_of(0)])
    with pytest.raises(InputError, match=r"^No pixel of the 2 training masks belongs to a class: .* values 11, 255; ignored are 11, 255"):
        load_segmentation_data(f"pairs:{root},classes=1,ignore=11")
    write_set(root, [mask_of(0)], [mask_of(255)])
    with pytest.raises(InputError, match=r"^No pixel of the 1 test masks belongs to a class"):
        load_segmentation_data(f"pairs:{root},classes=1,ignore=11+255")
    assert load_segmentation_data(f"pairs:{root},classes=1", verify=False).test.size == 1
    write_set(root, [mask_of(255), mask_of(0), mask_of(255)], [mask_of(0)])
    caplog.clear()
    assert load_segmentation_data(f"pairs:{root},classes=1,ignore=255").train.size == 3
    (record,) = caplog.records
    assert record.message.startswith(f"2 of 3 training masks have no labelled pixel: {root}/trainannot/0.png; {root}/trainannot/2.png")


def test_absent_classes_are_named_in_one_line(tmp_path, caplog):
    root = write_set(tmp_path, [mask_of(0, 2), mask_of(2)], [mask_of(0, 1, 2, 3)])
    data = load_segmentation_data(f"pairs:{root},names=a+b+c+d")
    assert [record.message for record in caplog.records] == [
        "NEVER LEARNED: no pixel of the training masks belongs to 'b', 'd'; the masks contain the values 0, 2"
    ]
    assert (data.train.absent, data.test.absent) == (("b", "d"), ())
    assert data.train.occurs.tolist() == [[True, False, True, False], [False, False, True, False]]
    held_out = with_validation(data, "0.5", seed=0)[0]
    assert {held_out.train.absent, held_out.validation.absent} == {("b", "d"), ("a", "b", "d")}
    unseen = load_segmentation_data(f"pairs:{root},names=a+b+c+d", verify=False)
    assert (unseen.train.occurs, unseen.train.absent) == (None, ())


def test_the_report_marks_them(tmp_path):
    root = write_set(tmp_path, [mask_of(0, 2)], [mask_of(0, 1, 2)])
    scored = ScoredSplit(("a", "b", "c"), np.array([[5, 0, 0], [3, 0, 1], [0, 0, 9]]), np.ones(1))
    table = report._class_table(scored, load_segmentation_data(f"pairs:{root},names=a+b+c"))
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
    assert rows[2:] == ["a", "b ⚠", "c"] and table.endswith("⚠: not in any training mask, so it could not be learned.")
    plain = report._class_table(scored, load_segmentation_data(f"pairs:{root},names=a+b+c", verify=False))
    assert "⚠" not in plain


# ---- palettes


def voc_set(root, encoded):
    for part, name in (("train", "a"), ("val", "b")):
        lists = root / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{part}.txt").write_text(f"{name}\n")
        write_image(root / "JPEGImages" / f"{name}.jpg")
        (root / "SegmentationClass").mkdir(exist_ok=True)
        (root / "SegmentationClass" / f"{name}.png").write_bytes(encoded)
    return f"voc:{root}"


VOC_MASK = mask_of(0, 15, 255, 7)


def reindexed():
    """As image editors save a mask: the colours that occur, numbered anew (PIL)."""
    image = Image.fromarray(VOC_MASK)
    image.putpalette(voc_palette().ravel().tolist())
    buffer = io.BytesIO()
    image.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=4).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_palette_of_other_colours_is_refused_in_voc(tmp_path):
    with pytest.raises(
        InputError,
        match=r"^1 of 1 training masks cannot be used, because different colours mean.*a\.png has a different palette: ",
    ):
        load_segmentation_data(voc_set(tmp_path, reindexed()))


@pytest.mark.parametrize(
    ("mode", "palette", "bits"),
    [("P", voc_palette(), 8), ("L", None, 8), ("P", np.arange(256)[:, None].repeat(3, axis=1).astype(np.uint8), 8)],
)
def test_the_sets_own_palette_and_none_pass(tmp_path, mode, palette, bits, caplog):
    data = load_segmentation_data(voc_set(tmp_path, png(VOC_MASK, mode, palette, bits=bits)))
    np.testing.assert_array_equal(data.train.mask(0), mask_of(0, 15, 255, 7))
    assert [record.message[:13] for record in caplog.records] == ["NEVER LEARNED"]  # of 18 classes


def test_only_colours_of_values_that_are_used_count(tmp_path):
    palette = voc_palette()
    palette[[3, 254]] = 77
    (tmp_path / "mask.png").write_bytes(png(VOC_MASK, "P", palette))
    used = np.unique(VOC_MASK)
    assert palette_problem(tmp_path / "mask.png", used, LABEL_MAPS["voc"]) == ""
    palette[15] = palette[8]
    (tmp_path / "mask.png").write_bytes(png(VOC_MASK, "P", palette))
    assert palette_problem(tmp_path / "mask.png", used, LABEL_MAPS["voc"]) == (
        "has a different palette: its value 15 has the colour (64, 0, 0) instead of voc's (192, 128, 128) (person)"
    )


def test_other_sets_have_any_palette(tmp_path):
    root = write_set(tmp_path, [png(mask_of(0, 1), "P", voc_palette()[::-1])])
    assert load_segmentation_data(f"pairs:{root},classes=2").train.size == 1


def test_a_split_that_nobody_looked_at_has_no_absent_classes():
    assert SegmentationSplit(["a"], lambda index: (index, index), numbered("", ("a",))).absent == ()
    assert json.dumps(load_segmentation_data("shapes").train.absent) == "[]"
