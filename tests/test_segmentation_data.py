import dataclasses
import io
import pathlib
import shutil
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from photographs import PHOTOGRAPHS
from PIL import Image

from keras_widerresnet.data import masks
from keras_widerresnet.data.pairs import SegmentationSplit
from keras_widerresnet.data.split import IndexedSplit, Share
from keras_widerresnet.label_maps import IGNORED, LABEL_MAPS, numbered, voc_palette
from keras_widerresnet.tasks.segmentation.data import load_segmentation_data

HEIGHT, WIDTH = 20, 30
CAMVID = pathlib.Path(__file__).parents[2] / "shared" / "data" / "camvid-480x360.tar"
PARTS = {"train": 3, "test": 2}


def png(array, mode="L", palette=None, **options):
    image = Image.fromarray(array)
    if mode == "P":
        image.putpalette((voc_palette() if palette is None else palette).ravel().tolist())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def write_image(path, number=0, size=(HEIGHT, WIDTH)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PHOTOGRAPHS[0][7 * number : 7 * number + size[0], : size[1]]).save(path)


def write_mask(path, values, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(values, mode))


def values(labels, number=0):
    """A mask of all stored values of a label map."""
    allowed = np.flatnonzero(labels.known())
    return allowed[np.arange(HEIGHT * WIDTH) * (number + 1) % len(allowed)].reshape(HEIGHT, WIDTH).astype(np.uint8)


def camvid_like(root, labels):
    for part, count in PARTS.items():
        for k in range(count):
            write_image(root / part / f"{k}.jpg", k)
            write_mask(root / f"{part}annot" / f"{k}.png", values(labels, k))
    return root


# ---- masks


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("transparency", [None, 0, b"\0\1"])
def test_palette_masks_are_read_by_their_index(bits, transparency):
    """Whatever the palette: VOC's, or one whose colours are all the same."""
    stored = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 2**bits).astype(np.uint8)
    options = {} if transparency is None else {"transparency": transparency}
    for palette in (voc_palette(), np.zeros((256, 3), np.uint8)):
        encoded = png(stored, "P", palette, bits=bits, **options)
        assert encoded[24:26] == bytes([bits, 3])
        np.testing.assert_array_equal(masks.stored_values(tf.constant(encoded)), stored)


def grey_png_of_few_bits(stored, bits):
    """PIL writes no grey PNG of 2 or 4 bits: the same file as a palette one, without its palette."""
    rows = np.unpackbits(stored[..., None], axis=-1)[..., -bits:].reshape(len(stored), -1)
    packed = zlib.compress(b"".join(b"\0" + np.packbits(row).tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", *stored.shape[::-1], bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    blocks = (struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(blocks)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_masks_of_few_bits_are_read_by_their_value(bits):
    stored = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 2**bits).astype(np.uint8)
    np.testing.assert_array_equal(masks.stored_values(tf.constant(grey_png_of_few_bits(stored, bits))), stored)


@pytest.mark.parametrize("mode", ["L", "P"])
@pytest.mark.parametrize("name", LABEL_MAPS)
def test_masks_to_train_ids(name, mode):
    labels = LABEL_MAPS[name]
    stored = values(labels)
    expected = np.full((HEIGHT, WIDTH), IGNORED)
    for train_id, value in enumerate(labels.stored_ids):
        expected[stored == value] = train_id
    assert set(expected.ravel()) == {*range(labels.classes), IGNORED}
    encoded = png(stored, mode)
    np.testing.assert_array_equal(tf.function(lambda raw: masks.decode_mask(raw, labels))(tf.constant(encoded)), expected)
    assert masks.mask_problem(encoded, labels) == ""


STORED = np.zeros((HEIGHT, WIDTH), np.uint8)
GOOD_PNG = png(STORED)
GOOD_PALETTE = png(STORED, "P")
JPEG = io.BytesIO()
Image.fromarray(STORED).save(JPEG, "JPEG")
BAD_MASKS = {
    "RGB": (png(voc_palette()[STORED]), "is an RGB image; a mask must be a grey or palette PNG"),
    "RGBA": (png(np.zeros((HEIGHT, WIDTH, 4), np.uint8)), "is an RGB image with alpha"),
    "grey and alpha": (png(np.zeros((HEIGHT, WIDTH, 2), np.uint8)), "is grey with alpha"),
    "16 bits": (png(np.full((HEIGHT, WIDTH), 5, np.uint16)), "is a 16-bit PNG; a mask must be .* of at most 8 bits"),
    "JPEG": (JPEG.getvalue(), "is not a PNG"),
    "empty": (b"", "is not a PNG"),
    "short": (GOOD_PNG[:20], "is not a PNG"),
    "truncated": (GOOD_PNG[:-20], "cannot be decoded"),
    "damaged palette header": (GOOD_PALETTE[:20] + b"\xff" + GOOD_PALETTE[21:], "cannot be decoded"),
    "out of range": (
        png(STORED + 21),
        r"holds the value 21 at 600 pixels; .* 0\.\.20 for the 21 classes and 255 \(ignored\)",
    ),
    "several out of range": (png(STORED + np.arange(30, dtype=np.uint8)), "holds the value 21 at 20 pixels and 8 other unknown values"),
}


@pytest.mark.parametrize("kind", BAD_MASKS)
def test_bad_masks_are_refused_in_training_and_named_before(kind, tmp_path):
    encoded, message = BAD_MASKS[kind]
    with pytest.raises(tf.errors.OpError):
        masks.decode_mask(tf.constant(encoded), dataclasses.replace(LABEL_MAPS["voc"], mask_colors=()))
    root = camvid_like(tmp_path, numbered("", ("",) * 21))
    bad = root / "trainannot" / "1.png"
    bad.write_bytes(encoded)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=rf"^1 of 5 pairs of image and mask cannot be used: {bad} {message}"):
        load_segmentation_data(f"pairs:{root},classes=21")
    data = load_segmentation_data(f"pairs:{root},classes=21", verify=False)
    assert list(data.find_unreadable()) == [str(bad)]
    assert sorted(tmp_path.rglob("*")) == before


def test_ranges():
    assert masks.ranges([3, 1, 2, 7, 255, 9, 10]) == "1..3, 7, 9..10, 255"


# ---- layouts


def test_voc(tmp_path):
    labels = LABEL_MAPS["voc"]
    lists = {"train": ["2007_a", "2007_b"], "val": ["2007_c"], "trainval": ["2007_a", "2007_b", "2007_c"]}
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for name, names in lists.items():
        (root / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("\n".join(names) + "\n")
    for k, name in enumerate(lists["trainval"]):
        write_image(root / "JPEGImages" / f"{name}.jpg", k)
        write_mask(root / "SegmentationClass" / f"{name}.png", values(labels, k), "P")
    for path in (tmp_path, root):
        data = load_segmentation_data(f"voc:{path}")
        assert (data.classes, data.class_names[20], data.train.size, data.test.size) == (21, "tvmonitor", 2, 1)
        assert [data.train.name_of(k) for k in range(2)] == lists["train"] and data.test.name_of(0) == "2007_c"
        for k in range(2):
            np.testing.assert_array_equal(data.train.mask(k), labels.to_train()[values(labels, k)])
            with Image.open(root / "JPEGImages" / f"{lists['train'][k]}.jpg") as image:
                assert np.abs(data.train.image(k).astype(int) - np.asarray(image)).max() <= 1
    assert load_segmentation_data(f"voc:{tmp_path},train=trainval").train.size == 3

    # SBD: more masks, and lists that give both files.
    write_image(root / "JPEGImages" / "2008_d.jpg", 3)
    write_mask(root / "SegmentationClassAug" / "2008_d.png", values(labels, 3))
    with pytest.raises(ValueError, match=r"No list of images at .*trainaug\.txt"):
        load_segmentation_data(f"voc:{tmp_path}")
    (root / "ImageSets" / "Segmentation" / "trainaug.txt").write_text("/JPEGImages/2008_d.jpg /SegmentationClassAug/2008_d.png\n")
    data = load_segmentation_data(f"voc:{tmp_path}")
    assert (data.train.size, data.train.name_of(0), data.test.name_of(0)) == (1, "2008_d", "2007_c")
    np.testing.assert_array_equal(data.train.mask(0), labels.to_train()[values(labels, 3)])
    assert load_segmentation_data(f"voc:{tmp_path},train=train").train.size == 2

    (root / "SegmentationClass" / "2007_c.png").unlink()
    with pytest.raises(ValueError, match=r"val\.txt lists 1 files that do not exist: .*SegmentationClass/2007_c\.png$"):
        load_segmentation_data(f"voc:{tmp_path}")
    with pytest.raises(ValueError, match=r"No folder JPEGImages in .* or its VOC2012"):
        load_segmentation_data(f"voc:{root / 'ImageSets'}")


def test_pascal_context(tmp_path):
    labels = LABEL_MAPS["pascal_context"]
    lists = tmp_path / "ImageSets" / "SegmentationContext"
    lists.mkdir(parents=True)
    for k, part in enumerate(("train", "val")):
        (lists / f"{part}.txt").write_text(f"2008_{k}\n")
        write_image(tmp_path / "JPEGImages" / f"2008_{k}.jpg", k)
        write_mask(tmp_path / "SegmentationClassContext" / f"2008_{k}.png", values(labels, k), "P")
    data = load_segmentation_data(f"pascal_context:{tmp_path}")
    assert (data.classes, data.train.name_of(0), data.test.name_of(0)) == (60, "2008_0", "2008_1")
    np.testing.assert_array_equal(data.test.mask(0), labels.to_train()[values(labels, 1)])
    (lists / "val.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"val\.txt lists no images"):
        load_segmentation_data(f"pascal_context:{tmp_path}")


def test_cityscapes(tmp_path):
    labels = LABEL_MAPS["cityscapes"]
    for part, cities in {"train": ("aachen", "bochum"), "val": ("lindau",)}.items():
        for k, city in enumerate(cities):
            stem = f"{city}_000000_000019"
            write_image(tmp_path / "leftImg8bit" / part / city / f"{stem}_leftImg8bit.png", k)
            folder = tmp_path / "gtFine" / part / city
            write_mask(folder / f"{stem}_gtFine_labelIds.png", values(labels, k))
            (folder / f"{stem}_gtFine_color.png").write_bytes(b"not read")
    data = load_segmentation_data(f"cityscapes:{tmp_path}")
    assert (data.classes, data.train.size, data.test.size) == (19, 2, 1)
    assert data.train.name_of(1) == "bochum_000000_000019_leftImg8bit"
    np.testing.assert_array_equal(data.train.mask(1), labels.to_train()[values(labels, 1)])
    np.testing.assert_array_equal(data.train.image(1), PHOTOGRAPHS[0][7 : 7 + HEIGHT, :WIDTH])
    gone = tmp_path / "gtFine" / "train" / "aachen" / "aachen_000000_000019_gtFine_labelIds.png"
    gone.rename(gone.with_name("aachen_000000_000019_gtFine_labelTrainIds.png"))
    with pytest.raises(ValueError, match=r"1 images have no mask \(.*_gtFine_labelIds\.png.*\): .*aachen_000000_000019_leftImg8bit\.png"):
        load_segmentation_data(f"cityscapes:{tmp_path}")
    with pytest.raises(ValueError, match=r"No folder .*leftImg8bit/extra"):
        load_segmentation_data(f"cityscapes:{tmp_path},train=extra")


def test_ade20k(tmp_path):
    labels = LABEL_MAPS["ade20k"]
    root = tmp_path / "ADEChallengeData2016"
    for part, count in {"training": 2, "validation": 1}.items():
        for k in range(count):
            write_image(root / "images" / part / f"ADE_{part}_{k}.jpg", k)
            write_mask(root / "annotations" / part / f"ADE_{part}_{k}.png", values(labels, k))
    data = load_segmentation_data(f"ade20k:{tmp_path}")
    assert (data.classes, data.train.size, data.test.size, data.test.name_of(0)) == (150, 2, 1, "ADE_validation_0")
    np.testing.assert_array_equal(data.train.mask(1), labels.to_train()[values(labels, 1)])
    write_mask(root / "annotations" / "training" / "ADE_training_7.png", STORED)
    with pytest.raises(ValueError, match=r"1 masks have no image \(.*images/training\): .*ADE_training_7\.png"):
        load_segmentation_data(f"ade20k:{tmp_path}")


# ---- pairs


def test_pairs_of_folders(tmp_path):
    labels = numbered("", ("",) * 11, (11, 255))
    root = camvid_like(tmp_path, labels)
    data = load_segmentation_data(f"pairs:{root},classes=11,ignore=11")
    assert (data.labels.name, data.classes, data.class_names[10]) == ("classes:11", 11, "class 10")
    assert {part: getattr(data, part).size for part in PARTS} == PARTS
    for k in range(PARTS["test"]):
        np.testing.assert_array_equal(data.test.mask(k), labels.to_train()[values(labels, k)])
    named = load_segmentation_data(f"pairs:{root},names={'+'.join('abcdefghij')}+traffic sign,ignore=11+12")
    assert named.class_names == (*"abcdefghij", "traffic sign") and named.labels.ignored_ids == (11, 12, 255)

    (root / "val").mkdir()
    (root / "valannot").mkdir()
    assert load_segmentation_data(f"pairs:{root},classes=11,ignore=11").test.name_of(1) == "1"
    with pytest.raises(ValueError, match=r"val contains no files ending in \.jpg"):
        load_segmentation_data(f"pairs:{root},classes=11,ignore=11,test=val")
    for k in range(7):
        write_image(root / "val" / f"alone {k}.png")
    write_mask(root / "valannot" / "alone 6.png", STORED)
    with pytest.raises(ValueError, match=r"6 images have no mask .*valannot\): .*alone 0\.png; .*alone 4\.png; and 1 more$"):
        load_segmentation_data(f"pairs:{root},classes=11,ignore=11,test=val")


def test_pairs_in_other_folders_and_lists(tmp_path):
    for part in ("train", "val"):
        write_image(tmp_path / "images" / part / "deep" / "er" / "a.png")
        write_mask(tmp_path / "masks" / part / "deep" / "er" / "a.png", STORED)
    data = load_segmentation_data(f"pairs:{tmp_path},classes=1")
    assert data.train.size == data.test.size == 1
    write_image(tmp_path / "images" / "train" / "a.jpg")
    (tmp_path / "train.txt").write_text(
        "images/train/deep/er/a.png masks/train/deep/er/a.png\n\nimages/train/a.jpg\tmasks/val/deep/er/a.png\n"
    )
    data = load_segmentation_data(f"pairs:{tmp_path},classes=1")
    assert [data.train.name_of(k) for k in range(2)] == ["images_train_deep_er_a", "images_train_a"]  # "a" would be one file of predictions
    (tmp_path / "train.txt").write_text("images/train/a.jpg\n")
    with pytest.raises(ValueError, match=r"train\.txt, line 1: must be an image and a mask"):
        load_segmentation_data(f"pairs:{tmp_path},classes=1")
    (tmp_path / "train.txt").write_text("images/train/a.jpg masks/b.png\n")
    with pytest.raises(ValueError, match=r"train\.txt lists 1 files that do not exist: .*masks/b\.png"):
        load_segmentation_data(f"pairs:{tmp_path},classes=1")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("camvid", "Unknown segmentation data set 'camvid'; a data set is one of: voc:PATH"),
        ("pairs:", "one of: voc:PATH"),
        ("pairs:{}", "either classes=N or names="),
        ("pairs:{},classes=2,names=a+b", "either classes=N or names="),
        ("pairs:{},classes=two", "whole numbers"),
        ("pairs:{},classes=2,ignore=-1", "whole numbers"),
        ("pairs:{},classes=300", "1 to 254 classes"),
        ("pairs:{},classes=3,ignore=2", "different whole numbers"),
        ("pairs:{},classes=3,classes=2", "each at most once"),
        ("pairs:{},classes=3,color=2", "accepts the options train=…, test=…, classes=…, names=…, ignore=…"),
        ("voc:{},classes=3", "accepts the options train=…, test=…, sbd=…, each at most once"),
        ("sbd:{}", "No folder cls in .* or its benchmark_RELEASE/dataset or its dataset"),
        ("voc:{0},sbd={0}/nowhere", "No folder at .*nowhere.*; sbd= needs the path of a folder"),
        ("camvid:{}", "No 'train' part .*train and train_labels"),
        ("pairs:{}/nowhere,classes=3", "No folder at .*nowhere"),
        ("pairs:{},classes=3", "No 'train' part .*train and trainannot"),
        ("cityscapes:{}", "No folder leftImg8bit"),
        ("ade20k:{}", "No folder annotations in .* or its ADEChallengeData2016"),
    ],
)
def test_bad_names(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        load_segmentation_data(name.format(tmp_path))


def test_images_and_masks_that_do_not_fit(tmp_path):
    root = camvid_like(tmp_path, numbered("", ("a", "b")))
    name = f"pairs:{root},classes=2"
    write_mask(root / "trainannot" / "0.png", STORED[:, :-1])
    (root / "train" / "2.jpg").write_bytes((root / "train" / "2.jpg").read_bytes()[:100])
    with pytest.raises(ValueError) as caught:
        load_segmentation_data(name)
    message = str(caught.value)
    assert message.startswith("2 of 5 pairs") and f"{root / 'train' / '2.jpg'} cannot be decoded" in message
    assert f"{root / 'trainannot' / '0.png'} has 29×20 pixels, its image 0.jpg 30×20; the sizes must be equal" in message
    data = load_segmentation_data(name, verify=False)
    for index in (0, 2):
        with pytest.raises(tf.errors.OpError):
            data.train.decode(*data.train.read(tf.constant(index, tf.int64)))
    (root / "train" / "1.jpg").unlink()  # in the middle of training
    assert "cannot be read" in data.find_unreadable()[str(root / "train" / "1.jpg")]


# ---- order


def test_held_in_memory_or_read_as_they_are_needed(tmp_path, monkeypatch):
    name = f"pairs:{camvid_like(tmp_path, numbered('', ('a', 'b')))},classes=2"
    size = sum(file.stat().st_size for folder in ("train", "trainannot") for file in (tmp_path / folder).iterdir())
    held, read = (load_segmentation_data(name, cache_bytes=size + change).train for change in (0, -1))
    for one, other in zip(held.ordered(), read.ordered(), strict=True):
        assert [part.numpy() for part in one] == [part.numpy() for part in other]
    (tmp_path / "trainannot" / "0.png").unlink()
    held.mask(0)
    with pytest.raises(tf.errors.NotFoundError):
        read.mask(0)


def test_order_is_that_of_classification():
    split = SegmentationSplit("abcdefg", lambda index: (index, -index), numbered("", ("a",)))
    labels = np.zeros(7)
    for options in ({"step": 0}, {"step": 5, "share": Share(1, 2)}):
        ours = list(split.shuffled(3, batch_size=4, **options).take(20).as_numpy_iterator())
        theirs = list(IndexedSplit(labels, lambda index: index).shuffled(3, batch_size=4, **options).take(20).as_numpy_iterator())
        assert [(int(p), int(a), -int(b)) for p, a, b in ours] == [(int(p), int(i), int(i)) for p, i, _ in theirs]
    assert [(int(a), -int(b)) for a, b in split.ordered()] == [(k, k) for k in range(7)]


# ---- the generated set, and CamVid


def test_shapes():
    data, again = load_segmentation_data("shapes"), load_segmentation_data("shapes")
    assert (data.classes, data.train.size, data.test.size, data.find_unreadable()) == (5, 320, 48, {})
    pictures = [data.train.image(k) for k in range(320)] + [data.test.image(k) for k in range(48)]
    assert {picture.shape for picture in pictures} == {(96, 96, 3)} and len({picture.tobytes() for picture in pictures}) == 368
    np.testing.assert_array_equal(again.test.image(5), pictures[325])
    areas = np.stack([np.bincount(data.train.mask(k).ravel(), minlength=5) for k in range(320)])
    assert np.all((areas > 0).mean(axis=0) > 0.25)  # every class is in many images
    # Areas of whole shapes, from the smallest to the largest radius; smaller ones are covered in part, larger ones are several.
    alone = areas[(areas > 0).sum(axis=1) == 2]
    for label, factor in enumerate((np.pi, 4, 2, np.pi * 3 / 4), 1):
        seen = np.sort(alone[alone[:, label] > 0, label])
        low, high = factor * 20**2, factor * 28**2
        assert np.mean((seen >= 0.93 * low) & (seen <= 1.07 * high)) > 0.5
    # Outside the shapes every pixel is the photograph's.
    mask, picture = data.test.mask(0), data.test.image(0)
    places = [np.ones((photograph.shape[0] - 95, photograph.shape[1] - 95), bool) for photograph in PHOTOGRAPHS]
    for y, x in np.argwhere(mask == 0)[::50]:
        for found, photograph in zip(places, PHOTOGRAPHS, strict=True):
            found &= np.all(photograph[y : y + found.shape[0], x : x + found.shape[1]] == picture[y, x], axis=-1)
    ((which, top, left),) = [(k, *place) for k in range(2) for place in np.argwhere(places[k])]
    np.testing.assert_array_equal(picture[mask == 0], PHOTOGRAPHS[which][top : top + 96, left : left + 96][mask == 0])


@pytest.mark.skipif(not CAMVID.is_file(), reason=f"CamVid is not at {CAMVID}")
def test_camvid(tmp_path):
    shutil.unpack_archive(CAMVID, tmp_path)
    root = next(path.parent for path in tmp_path.rglob("trainannot"))
    data = load_segmentation_data(f"pairs:{root},classes=11,ignore=11")
    assert (data.train.size, data.test.size, data.classes) == (367, 233, 11)
    for k in (0, 100, 232):
        with Image.open(root / "testannot" / f"{data.test.name_of(k)}.png") as mask:
            stored = np.asarray(mask)
        np.testing.assert_array_equal(data.test.mask(k), np.where(stored == 11, IGNORED, stored))
        assert data.test.image(k).shape == (360, 480, 3)
    assert load_segmentation_data(f"pairs:{root},classes=11,ignore=11,test=val", verify=False).test.size == 101
