import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels as cityscapes_labels

from keras_widerresnet.label_maps import IGNORED, LABEL_MAPS, LabelMap, numbered, voc_palette


def test_voc_palette_by_the_devkits_loop():
    """The public definition, bit by bit."""
    for index, color in enumerate(voc_palette().tolist()):
        red = green = blue = 0
        rest = index
        for shift in range(7, -1, -1):
            red |= (rest & 1) << shift
            green |= (rest >> 1 & 1) << shift
            blue |= (rest >> 2 & 1) << shift
            rest >>= 3
        assert color == [red, green, blue]
    assert voc_palette()[255].tolist() == [224, 224, 192] and voc_palette(21)[15].tolist() == [192, 128, 128]  # ignored, person


def test_cityscapes_is_the_public_scripts():
    ours = LABEL_MAPS["cityscapes"]
    theirs = sorted((label for label in cityscapes_labels if 0 <= label.trainId < 255), key=lambda label: label.trainId)
    assert list(zip(ours.class_names, ours.colors, ours.stored_ids, strict=True)) == [(t.name, t.color, t.id) for t in theirs]
    assert set(ours.ignored_ids) == {label.id for label in cityscapes_labels if label.trainId == 255}
    to_train = ours.to_train()
    assert all(to_train[label.id] == label.trainId for label in cityscapes_labels if label.id >= 0)
    assert ours.to_stored()[IGNORED] == 0  # unlabeled


@pytest.mark.parametrize(
    ("name", "classes", "first", "last"),
    [
        ("voc", 21, "background", "tvmonitor"),
        ("cityscapes", 19, "road", "bicycle"),
        ("ade20k", 150, "wall", "flag"),
        ("pascal_context", 60, "background", "wood"),
    ],
)
def test_maps_are_one_to_one(name, classes, first, last):
    labels = LABEL_MAPS[name]
    assert (labels.name, labels.classes, labels.class_names[0], labels.class_names[-1]) == (name, classes, first, last)
    assert len(set(labels.class_names)) == len(set(labels.colors)) == classes
    train_ids = np.arange(classes)
    np.testing.assert_array_equal(labels.to_train()[labels.to_stored()[train_ids]], train_ids)
    assert (labels.to_train() != IGNORED).sum() == classes and np.all(labels.to_train()[list(labels.ignored_ids)] == IGNORED)
    assert set(np.flatnonzero(labels.known())) == {*labels.stored_ids, *labels.ignored_ids}


def test_stored_values_of_each_benchmark():
    np.testing.assert_array_equal(LABEL_MAPS["ade20k"].to_train()[:151], [IGNORED, *range(150)])
    np.testing.assert_array_equal(LABEL_MAPS["voc"].to_train(), [*range(21)] + [IGNORED] * 235)
    np.testing.assert_array_equal(LABEL_MAPS["pascal_context"].to_train(), [*range(60)] + [IGNORED] * 196)
    assert [LABEL_MAPS[name].to_stored()[IGNORED] for name in ("ade20k", "voc", "pascal_context")] == [0, 255, 255]
    np.testing.assert_array_equal(LABEL_MAPS["voc"].colors, voc_palette(21))
    # Where many repositories have their classes: VOC's person, ADE20K's person (13 in files), the Context set's water.
    named = {name: LABEL_MAPS[name].class_names for name in LABEL_MAPS}
    assert (named["voc"][15], named["ade20k"][12], named["pascal_context"][57]) == ("person", "person", "water")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": ("a",)}, "1 names, 2 colours"),
        ({"stored_ids": (0, 0)}, "different whole numbers"),
        ({"stored_ids": (0, 255)}, "different whole numbers"),
        ({"stored_ids": (0, 256)}, "0..255"),
        ({"ignored_ids": (0,)}, "each assigned to one class or ignored"),
    ],
)
def test_maps_that_make_no_sense(change, message):
    numbers = {"class_names": ("a", "b"), "colors": ((0, 0, 0), (1, 1, 1)), "stored_ids": (0, 1), "ignored_ids": (255,)}
    with pytest.raises(ValueError, match=message):
        LabelMap("mine", **(numbers | change))


def test_numbered_classes():
    labels = numbered("classes:2", ("sky", "road"), (11, 255))
    assert labels.to_train()[[0, 1, 2, 11, 255]].tolist() == [0, 1, IGNORED, IGNORED, IGNORED]
    assert labels.to_stored()[IGNORED] == 11
    with pytest.raises(ValueError, match="1 to 254 classes"):
        numbered("classes:255", ("",) * 255)
