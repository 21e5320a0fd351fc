"""Masks that are no index PNGs: colours (VOC, CamVid) and SBD's MATLAB files; and the layouts that hold them."""

import io
import re

import numpy as np
import pytest
import scipy.io
import scipy.sparse
import tensorflow as tf
from PIL import Image
from test_segmentation_data import HEIGHT, WIDTH, png, values, write_image, write_mask

from keras_widerresnet.data import masks
from keras_widerresnet.data.validation import with_validation
from keras_widerresnet.label_maps import IGNORED, LABEL_MAPS, LabelMap
from keras_widerresnet.tasks.segmentation.data import load_segmentation_data

VOC = LABEL_MAPS["voc"]
# CamVid's label_colors.txt, and the classes of each of SegNet's eleven, in its order.
CAMVID_COLORS = """
    64 128 64 Animal; 192 0 128 Archway; 0 128 192 Bicyclist; 0 128 64 Bridge; 128 0 0 Building; 64 0 128 Car; 64 0 192 CartLuggagePram;
    192 128 64 Child; 192 192 128 Column_Pole; 64 64 128 Fence; 128 0 192 LaneMkgsDriv; 192 0 64 LaneMkgsNonDriv; 128 128 64 Misc_Text;
    192 0 192 MotorcycleScooter; 128 64 64 OtherMoving; 64 192 128 ParkingBlock; 64 64 0 Pedestrian; 128 64 128 Road;
    128 128 192 RoadShoulder; 0 0 192 Sidewalk; 192 128 128 SignSymbol; 128 128 128 Sky; 64 128 192 SUVPickupTruck; 0 0 64 TrafficCone;
    0 64 64 TrafficLight; 192 64 128 Train; 128 128 0 Tree; 192 128 192 Truck_Bus; 64 0 64 Tunnel; 192 192 0 VegetationMisc; 0 0 0 Void;
    64 192 0 Wall
"""
SEGNET = """
    Sky; Archway Bridge Building Tunnel Wall; Column_Pole TrafficCone; Road LaneMkgsDriv LaneMkgsNonDriv;
    Sidewalk ParkingBlock RoadShoulder; Tree VegetationMisc; TrafficLight Misc_Text SignSymbol; Fence;
    Car OtherMoving SUVPickupTruck Train Truck_Bus; Animal CartLuggagePram Child Pedestrian; Bicyclist MotorcycleScooter
"""


def camvid_reference():
    """Colours (32, 3), and the train id of each."""
    rows = [row.split() for row in CAMVID_COLORS.split(";")]
    ids = {name: index for index, group in enumerate(SEGNET.split(";")) for name in group.split()}
    return np.array([row[:3] for row in rows], np.uint8), np.array([ids.get(row[3], IGNORED) for row in rows])


def decoded(encoded, labels):
    """As in the graph of a pipeline."""
    dataset = tf.data.Dataset.from_tensors(encoded).map(lambda raw: masks.decode_mask(raw, labels))
    return next(dataset.as_numpy_iterator())


# ---- colours


def test_voc_masks_in_colour_are_pils_conversion_of_palette_masks():
    stored = values(VOC)
    palette = png(stored, "P")
    buffer = io.BytesIO()
    Image.open(io.BytesIO(palette)).convert("RGB").save(buffer, "PNG")
    assert buffer.getvalue()[25] == 2  # RGB
    np.testing.assert_array_equal(decoded(buffer.getvalue(), VOC), decoded(palette, VOC))
    np.testing.assert_array_equal(masks.stored_values(tf.constant(buffer.getvalue()), VOC), stored)
    assert masks.mask_problem(buffer.getvalue(), VOC) == ""


def test_camvids_32_colours_are_segnets_11_classes():
    colors, train_ids = camvid_reference()
    labels = LABEL_MAPS["camvid"]
    assert len(labels.mask_colors) == len(colors) == 32
    assert labels.class_names == ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "cyclist")
    which = np.random.RandomState(0).permutation(np.arange(HEIGHT * WIDTH) % 32).reshape(HEIGHT, WIDTH)
    np.testing.assert_array_equal(decoded(png(colors[which]), labels), train_ids[which])
    assert masks.mask_problem(png(colors[which]), labels) == ""
    # SegNet's own masks: the same ids as values, 11 for what is not labelled.
    np.testing.assert_array_equal(
        decoded(png(np.where(train_ids == IGNORED, 11, train_ids)[which].astype(np.uint8)), labels), train_ids[which]
    )


@pytest.mark.parametrize(
    ("name", "near"), [("voc", (129, 0, 0)), ("camvid", (64, 128, 65)), ("voc", (224, 224, 193)), ("camvid", (7, 7, 7))]
)
def test_a_colour_in_no_map_is_named_with_its_pixel(name, near, tmp_path):
    """One level beside a colour of the map, or far from all."""
    labels = LABEL_MAPS[name]
    color = np.array(labels.mask_colors[0][0], np.uint8)
    mask = np.broadcast_to(color, (HEIGHT, WIDTH, 3)).copy()
    mask[7, 11] = mask[9, 2] = near
    problem = f"has the colour {near} at row 7, column 11, and 2 pixels of colours that are none of {name}'s"
    assert masks.mask_problem(png(mask), labels) == problem
    with pytest.raises(tf.errors.InvalidArgumentError, match="belong to no class"):
        decoded(png(mask), labels)


def test_other_data_sets_still_refuse_colours():
    rgb = png(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    for name in ("cityscapes", "ade20k", "pascal_context", "sbd"):
        assert "is an RGB image; a mask must be a grey or palette PNG" in masks.mask_problem(rgb, LABEL_MAPS[name])
        with pytest.raises(tf.errors.OpError):
            decoded(rgb, LABEL_MAPS[name])
    for encoded, words in ((png(np.zeros((HEIGHT, WIDTH, 4), np.uint8)), "with alpha"), (rgb[:-30], "cannot be decoded")):
        assert words in masks.mask_problem(encoded, VOC)
        with pytest.raises(tf.errors.OpError):
            decoded(encoded, VOC)


@pytest.mark.parametrize("colors", [(((0, 0, 0), 0), ((0, 0, 0), 1)), (((0, 0, 0), 0), ((9, 0, 0), 2))])
def test_maps_of_colours_that_make_no_sense(colors):
    with pytest.raises(ValueError, match="Colours of masks must be different, and stand for stored values"):
        LabelMap("mine", ("a", "b"), ((0, 0, 0), (1, 1, 1)), (0, 1), mask_colors=colors)


def test_voc_in_colour_is_a_data_set(tmp_path):
    voc_tree(tmp_path, {"train": ["2007_a"], "val": ["2007_b"]})
    for k, name in enumerate(("2007_a", "2007_b")):
        path = tmp_path / "SegmentationClass" / f"{name}.png"
        with Image.open(path) as mask:
            colored = mask.convert("RGB")
        colored.save(path)
        np.testing.assert_array_equal(
            getattr(load_segmentation_data(f"voc:{tmp_path}"), ("train", "test")[k]).mask(0) if k else VOC.to_train()[values(VOC, 0)],
            VOC.to_train()[values(VOC, k)],
        )
    wrong = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    wrong[3, 5] = (1, 2, 3)
    path.write_bytes(png(wrong))
    with pytest.raises(ValueError, match=rf"1 of 2 pairs .*: {path} has the colour \(1, 2, 3\) at row 3, column 5, and 1 pixels"):
        load_segmentation_data(f"voc:{tmp_path}")


# ---- SBD


def mat(segmentation, **options):
    """A file of SBD as MATLAB writes it: a 1x1 structure with cells of sparse boundaries beside the segmentation."""
    boundaries = np.empty((20, 1), object)
    for k in range(20):
        boundaries[k, 0] = scipy.sparse.csc_matrix(np.eye(HEIGHT, WIDTH))
    present = np.unique(segmentation)[:, None]
    buffer = io.BytesIO()
    structure = {"Boundaries": boundaries, "Segmentation": segmentation, "CategoriesPresent": present[present > 0]}
    scipy.io.savemat(buffer, {"GTcls": structure}, do_compression=True, **options)
    return buffer.getvalue()


def voc_tree(root, lists):
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    for part, names in lists.items():
        (root / "ImageSets" / "Segmentation" / f"{part}.txt").write_text("\n".join(names) + "\n")
    for k, name in enumerate(dict.fromkeys(name for names in lists.values() for name in names)):
        write_image(root / "JPEGImages" / f"{name}.jpg", k)
        write_mask(root / "SegmentationClass" / f"{name}.png", values(VOC, k), "P")


def sbd_values(number):
    return ((np.arange(HEIGHT * WIDTH) + 5 * number) % 21).reshape(HEIGHT, WIDTH).astype(np.uint8)


def sbd_tree(root, lists):
    (root / "cls").mkdir(parents=True)
    for part, names in lists.items():
        (root / f"{part}.txt").write_text("\n".join(names) + "\n")
    for k, name in enumerate(name for names in lists.values() for name in names):
        write_image(root / "img" / f"{name}.jpg", k)
        (root / "cls" / f"{name}.mat").write_bytes(mat(sbd_values(k)))


def test_sbd(tmp_path):
    root = tmp_path / "benchmark_RELEASE" / "dataset"
    sbd_tree(root, {"train": ["2008_a", "2008_b"], "val": ["2008_c"]})
    for path in (tmp_path, root):
        data = load_segmentation_data(f"sbd:{path}")
        assert (data.class_names, data.train.size, data.test.size, data.test.name_of(0)) == (VOC.class_names, 2, 1, "2008_c")
    for k in range(2):
        np.testing.assert_array_equal(data.train.mask(k), sbd_values(k))
        assert data.train.image(k).shape == (HEIGHT, WIDTH, 3)
    shuffled = data.train.shuffled(0, batch_size=2).map(lambda _, image, mask: data.train.decode(image, mask)[1])
    assert all(np.any([(one == sbd_values(k)).all() for k in range(2)]) for one in shuffled.take(8).as_numpy_iterator())
    assert data.train.occurs.all()


BAD_MAT = {
    "another variable": (lambda: written({"other": np.zeros((3, 3))}), "cannot be read as one of SBD's MATLAB files"),
    "another field": (lambda: written({"GTcls": {"Boundaries": np.zeros((3, 3))}}), "cannot be read as one of SBD's MATLAB files"),
    "truncated": (lambda: mat(sbd_values(0))[:300], "cannot be read as one of SBD's MATLAB files"),
    "HDF5 of MATLAB 7.3": (lambda: b"MATLAB 7.3 MAT-file, Platform".ljust(124) + b"\0\2IM" + bytes(500), "cannot be read as one of SBD's"),
    "no whole numbers": (lambda: mat(sbd_values(0) + 0.5), "must hold whole numbers of a byte"),
    "three axes": (lambda: mat(np.zeros((HEIGHT, WIDTH, 3), np.uint8)), "must hold whole numbers of a byte for each pixel"),
    "21": (lambda: mat(np.full((HEIGHT, WIDTH), 21, np.uint8)), "holds the value 21 at 600 pixels"),
    "another size": (lambda: mat(sbd_values(0)[:, :-1]), f"has {WIDTH - 1}×{HEIGHT} pixels, its image 2008_a.jpg {WIDTH}×{HEIGHT}"),
    "69 MB of zeros in 70 kB": (lambda: mat(np.zeros((8300, 8300), np.uint8)), "holds more than 64 MB of decompressed values"),
    "no MATLAB file": (lambda: b"GIF89a" + bytes(100), "is not a PNG"),
}


def written(content):
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, content)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", BAD_MAT)
def test_bad_files_of_sbd_are_named_and_refused_in_training(kind, tmp_path):
    encoded, words = BAD_MAT[kind]
    sbd_tree(tmp_path, {"train": ["2008_a"], "val": ["2008_b"]})
    bad = tmp_path / "cls" / "2008_a.mat"
    bad.write_bytes(encoded())
    with pytest.raises(ValueError, match=rf"^1 of 2 pairs of image and mask cannot be used: {bad} {re.escape(words)}"):
        load_segmentation_data(f"sbd:{tmp_path}")
    data = load_segmentation_data(f"sbd:{tmp_path}", verify=False)
    with pytest.raises(tf.errors.OpError):
        next(iter(data.train.ordered().map(data.train.decode)))


@pytest.mark.parametrize("type_", [np.uint8, np.uint16, np.float64])
def test_sbd_masks_of_any_number_type(type_):
    np.testing.assert_array_equal(decoded(mat(sbd_values(1).astype(type_)), LABEL_MAPS["sbd"]), sbd_values(1))


def test_voc_with_sbd_is_trainaug(tmp_path):
    """VOC's training images with VOC's masks, and SBD's that are in neither part: none of VOC's validation images."""
    voc, sbd = tmp_path / "VOC2012", tmp_path / "sbd"
    voc_tree(voc, {"train": ["a", "b"], "val": ["c", "d"], "trainval": ["a", "b", "c", "d"]})
    sbd_tree(sbd, {"train": ["b", "c", "e"], "val": ["d", "f"]})
    data = load_segmentation_data(f"voc:{tmp_path},sbd={sbd}")
    assert [data.train.name_of(k) for k in range(data.train.size)] == ["a", "b", "e", "f"]
    assert [data.test.name_of(k) for k in range(data.test.size)] == ["c", "d"]
    np.testing.assert_array_equal(data.train.mask(1), VOC.to_train()[values(VOC, 1)])
    np.testing.assert_array_equal(data.train.mask(2), sbd_values(2))
    np.testing.assert_array_equal(data.train.mask(3), sbd_values(4))
    # Of all images, for a submission to the server: only c is left out.
    (voc / "ImageSets" / "Segmentation" / "c.txt").write_text("c\n")
    data = load_segmentation_data(f"voc:{tmp_path},sbd={sbd},test=c")
    assert [data.train.name_of(k) for k in range(data.train.size)] == ["a", "b", "e", "d", "f"]
    with pytest.raises(ValueError, match="1 images of the part 'val' are also training images"):
        with_validation(data, "val", 0)


# ---- Cityscapes, CamVid, ADE20K


def cityscapes_tree(root, part, kind, ids, count=2):
    labels = LABEL_MAPS["cityscapes" if ids == "labelIds" else "cityscapes_train_ids"]
    for k in range(count):
        stem = f"city_{part}_{k}"
        write_image(root / "leftImg8bit" / part / "city" / f"{stem}_leftImg8bit.png", k)
        write_mask(root / kind / part / "city" / f"{stem}_{kind}_{ids}.png", values(labels, k))
    return labels


def test_cityscapes_coarse(tmp_path):
    labels = cityscapes_tree(tmp_path, "train", "gtFine", "labelIds")
    cityscapes_tree(tmp_path, "val", "gtFine", "labelIds", 1)
    cityscapes_tree(tmp_path, "train_extra", "gtCoarse", "labelIds", 3)
    data = load_segmentation_data(f"cityscapes:{tmp_path},train=train_extra")
    assert (data.train.size, data.test.size, data.labels) == (3, 1, labels)
    np.testing.assert_array_equal(data.train.mask(2), labels.to_train()[values(labels, 2)])
    assert load_segmentation_data(f"cityscapes:{tmp_path}").train.size == 2


def test_cityscapes_train_ids(tmp_path):
    """The public scripts' masks of train ids are read where there are no ids; the two are not mixed."""
    for part in ("train", "val"):
        labels = cityscapes_tree(tmp_path, part, "gtFine", "labelTrainIds")
    data = load_segmentation_data(f"cityscapes:{tmp_path}")
    assert (data.labels, data.class_names) == (labels, LABEL_MAPS["cityscapes"].class_names)
    stored = values(labels, 1)
    np.testing.assert_array_equal(data.train.mask(1), np.where(stored < 19, stored, IGNORED))
    cityscapes_tree(tmp_path, "other", "gtFine", "labelIds")
    with pytest.raises(ValueError, match="both must have the same kind"):
        load_segmentation_data(f"cityscapes:{tmp_path},test=other")
    with pytest.raises(ValueError, match="both must have the same kind"):
        with_validation(data, "other", 0)
    cityscapes_tree(tmp_path, "train", "gtFine", "labelIds")
    cityscapes_tree(tmp_path, "val", "gtFine", "labelIds")
    assert load_segmentation_data(f"cityscapes:{tmp_path}").labels == LABEL_MAPS["cityscapes"]


def test_camvid_in_its_three_forms(tmp_path):
    """Folders of parts with colours, the original folders with lists, and SegNet's folders with values: the same masks."""
    colors, train_ids = camvid_reference()
    found = []
    for form in ("parts", "original", "segnet"):
        root = tmp_path / form / "CamVid"
        for part, count in {"train": 2, "val": 1, "test": 1}.items():
            names = [f"{part}_{k}" for k in range(count)]
            for k, name in enumerate(names):
                which = (np.arange(HEIGHT * WIDTH) * (k + 1) % 32).reshape(HEIGHT, WIDTH)
                images, masks_folder = {
                    "parts": (part, f"{part}_labels"),
                    "original": ("701_StillsRaw_full", "LabeledApproved_full"),
                    "segnet": (part, f"{part}annot"),
                }[form]
                write_image(root / images / f"{name}.png", k)
                if form == "segnet":
                    write_mask(root / masks_folder / f"{name}.png", np.where(train_ids == IGNORED, 11, train_ids)[which].astype(np.uint8))
                else:
                    (root / masks_folder).mkdir(exist_ok=True)
                    (root / masks_folder / f"{name}_L.png").write_bytes(png(colors[which]))
            if form == "original":
                (root / f"{part}.txt").write_text("".join(f"{name}.png\n" for name in names))
        data = load_segmentation_data(f"camvid:{root.parent}")
        assert (data.train.size, data.test.size, data.validation.size, data.classes) == (2, 1, 1, 11)
        assert [data.train.name_of(k) for k in range(2)] == ["train_0", "train_1"]
        found.append(np.stack([data.train.mask(k) for k in range(2)]))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[0][1], train_ids[(np.arange(HEIGHT * WIDTH) * 2 % 32).reshape(HEIGHT, WIDTH)])
    lists = tmp_path / "original" / "CamVid"
    (lists / "test.txt").write_text("gone.png\n")
    with pytest.raises(ValueError, match=r"test\.txt lists 1 images that are not in .*701_StillsRaw_full: gone"):
        load_segmentation_data(f"camvid:{lists}")


@pytest.mark.parametrize(
    "files",
    [
        ("ADE20K_2016_07_26/index_ade20k.mat", "ADE20K_2016_07_26/images/training/a/abbey/ADE_train_00000001_seg.png"),
        ("index_ade20k.mat", "images/training/a/abbey/ADE_train_00000001_seg.png"),
        ("ADE20K_2021_17_01/images/ADE/training/urban/street/ADE_train_00016869_seg.png",),
        ("images/ADE/training/urban/street/ADE_train_00016869.jpg",),
    ],
)
def test_the_full_ade20k_says_which_download_is_right(tmp_path, files):
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(
        ValueError, match=r"is the full ADE20K data set, .* needs the 150 classes of the benchmark, ADEChallengeData2016\.zip"
    ):
        load_segmentation_data(f"ade20k:{tmp_path}")
