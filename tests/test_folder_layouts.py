"""Folders of data as people have them: which are parts, which are classes, and what lies among them that is neither."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unicodedata

import numpy as np
import pytest
from photographs import write_folder
from sklearn.model_selection import train_test_split
from test_segmentation_data import write_image, write_mask
from test_training import refused

from keras_widerresnet.data.names import CLASSIFICATION, parse_name
from keras_widerresnet.data.sources.arrays import array_split
from keras_widerresnet.data.sources.entries import Entries, is_junk
from keras_widerresnet.data.sources.folder import folder
from keras_widerresnet.data.sources.parts import check_two_classes, find_class_folders
from keras_widerresnet.data.split import ImageData, held_out_fifth
from keras_widerresnet.data.validation import with_validation
from keras_widerresnet.errors import InputError
from keras_widerresnet.tasks.segmentation.data import load_segmentation_data

ROOT = pathlib.Path(__file__).parents[1]


def tree(root, *files):
    """Empty files, and folders where a name ends in a slash: layouts are told by names alone."""
    for file in files:
        path = root / file
        (path if file.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not file.endswith("/"):
            path.touch()
    return root


def classes(*parts, names=("cat", "dog")):
    return [f"{part}/{name}/0.jpg" for part in parts for name in names]


def flat(part):
    return [f"{part}/0.jpg", f"{part}/1.PNG"]


def relative(root, path):
    return path and path.relative_to(root).as_posix()


# ---- parts and classes


@pytest.mark.parametrize(
    ("files", "train", "test", "validation"),
    [
        (classes("train", "test"), "train", "test", None),
        (classes("train", "valid"), "train", "valid", None),
        (classes("Train", "Test"), "Train", "Test", None),
        (classes("TRAINING", "Testing", "Val"), "TRAINING", "Testing", "Val"),
        (classes("train", "validation", "test", "extra"), "train", "test", "validation"),
        ([*classes("train", "val", "test"), "train/preview.jpg"], "train", "test", "val"),
    ],
)
def test_parts_by_their_names(tmp_path, files, train, test, validation):
    layout = find_class_folders(tree(tmp_path, *files))
    assert [relative(tmp_path, path) for path in (layout.train, layout.test, layout.validation)] == [train, test, validation]
    assert (layout.class_names, layout.notes) == (("cat", "dog"), ())


@pytest.mark.parametrize("unlabelled", [flat("test"), ["test/"], ["test/images/0.jpg"], ["test/unknown/0.jpg"]])
def test_test_images_without_classes_are_left_out_in_words(tmp_path, unlabelled):
    layout = find_class_folders(tree(tmp_path, *classes("train", "val"), *unlabelled))
    assert (layout.test, layout.validation) == (tmp_path / "val", None)
    (note,) = layout.notes
    assert note.startswith(f"'{tmp_path / 'test'}' has no class folders, ") and note.endswith("ignored; 'val' is the test part")


def test_a_part_is_had_by_any_of_its_names(tmp_path):
    for part, count in (("Train", 4), ("Valid", 3), ("Extra", 2)):
        write_folder(tmp_path / part, count=count)
    data = folder(str(tmp_path))
    assert [data.part(name).size for name in ("Valid", "val", "VALIDATION", "extra")] == [6, 6, 6, 4]
    for name in ("train", "training", "test"):
        with pytest.raises(InputError, match=r"has no part .* other than its training images. Its folders: Extra, Train, Valid"):
            data.part(name)


def test_that_is_said_once(tmp_path, caplog):
    for part in ("train", "val"):
        write_folder(tmp_path / part)
    tree(tmp_path, *flat("test"))
    data = folder(str(tmp_path))
    assert (data.train.size, data.test.size, data.validation) == (10, 10, None)
    assert [record.message for record in caplog.records] == [
        f"'{tmp_path / 'test'}' has no class folders, but directly contains 2 images: it has no labels and is ignored; "
        "'val' is the test part"
    ]


@pytest.mark.parametrize(
    "names",
    [
        ("bus", "car", "train"),
        ("valid", "invalid"),
        ("latest", "oldest"),
        ("train station", "bus station"),
        ("control", "trial"),
        ("part 1", "part 2"),
        ("images", "text"),
    ],
)
def test_classes_that_only_sound_like_parts(tmp_path, names):
    layout = find_class_folders(tree(tmp_path, *(f"{name}/0.jpg" for name in names)))
    assert (layout.class_names, layout.test) == (tuple(sorted(names)), None)
    assert len(layout.notes) == sum(name in ("train", "valid") for name in names)
    assert all("is treated as a class" in note for note in layout.notes)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (classes("train", "val", "Valid"), r"'Valid', 'val' in .* name the same part: parts must be named train"),
        (classes("train", "Train", "test"), r"'Train', 'train' in .* name the same part"),
        (classes("training", "train", "test"), r"'train', 'training' in .* name the same part"),
        (classes("train", "holdout"), r"no test part; parts must be named .*Other folders: 'holdout'; if .* rename it"),
        (classes("train"), r"no test part; .*Alternatively, give '.*/train' as the data set: a fifth"),
        ([*flat("train"), *flat("holdout")], "'holdout', 'train', which look like parts, not like classes"),
        ([*flat("train"), *flat("test")], r"train' has no class folders, but directly contains 2 images.*such as train/cat and train/dog"),
        (["train/", *classes("test")], r"train' has no class folders, and no images"),
        ([*classes("train"), *flat("test")], r"test' has no class folders, but directly contains 2 images: testing needs labelled"),
        ([*classes("train"), *flat("test"), "val/"], r"test' has no class.*val' has no class folders, and no images: testing needs"),
        (classes("test", "val"), "'test', 'val' but no training images"),
        (classes("test"), "'test' but no training images"),
        ([*flat("cat"), *flat("dog"), *flat("test")], r"'test' next to 'cat', 'dog': is this a part next to classes\?"),
        ([*flat("cat"), *flat("dog"), *classes("valid")], r"'valid' next to 'cat', 'dog': is this a part next to classes\?"),
        (classes("training_set", "test_set"), "'test_set', 'training_set', which look like parts"),
        (classes("seg_train", "seg_test"), "'seg_test', 'seg_train', which look like parts"),
        (classes("train2017", "val2017"), "'train2017', 'val2017', which look like parts"),
        (classes("Training Data", "other"), "which look like parts"),
        ([*flat("train_images"), *flat("test_images")], "which look like parts"),
        ([*flat("train"), *flat("trainannot")], "which look like parts"),
        (classes("fold 1", "fold 2", "fold 3"), "'fold 1', 'fold 2', 'fold 3', which look like parts"),
        ([*flat("images"), *flat("masks")], "which are not classes: use train-segmentation"),
        ([*flat("JPEGImages"), *flat("SegmentationClass"), "ImageSets/Segmentation/train.txt"], "which are not classes"),
    ],
)
def test_open_layouts_are_refused(tmp_path, files, message):
    tree(tmp_path, *files)
    for load in (
        find_class_folders,
        lambda path: parse_name(f"folder:{path}", CLASSIFICATION),
        lambda path: folder(str(path), verify=False),
    ):
        with pytest.raises(InputError, match=message):
            load(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (flat("cat"), r"contains a single class folder, 'cat'\. Classification needs at least two classes, each with its own folder\.$"),
        (classes("photos"), r"a single class folder, 'photos'.*Did you mean '.*/photos', which contains 'cat', 'dog'\?$"),
        (classes("photos/images"), r"a single class folder, 'photos'.*Did you mean '.*/photos/images', which contains 'cat', 'dog'\?$"),
        (classes("set/train", "set/test"), r"Did you mean '.*/set', which contains 'test', 'train'\?$"),
        (classes("train", "test", names=("cat",)), "train' contains a single class folder, 'cat'"),
        (["a.jpg", "b.jpg"], "has no class folders but directly contains 2 images; folder: needs one sub-folder"),
        ([], "has no class folders; folder: needs one sub-folder"),
    ],
)
def test_one_class_is_none(tmp_path, files, message):
    with pytest.raises(InputError, match=message):
        find_class_folders(tree(tmp_path, *files))


@pytest.mark.parametrize("command", ["train", "write-tfrecords"])
def test_the_command_ends_with_one_line(tmp_path, capsys, monkeypatch, command):
    tree(tmp_path / "set", *classes("train", "holdout"))
    output = {"train": "output_dir", "write-tfrecords": "output"}[command]
    line = refused(capsys, monkeypatch, command, f"--{output}={tmp_path / 'out'}", f"--data=folder:{tmp_path / 'set'}")
    assert "Other folders: 'holdout'" in line and not (tmp_path / "out").exists()


def test_a_link_to_itself_does_not_go_on_for_ever(tmp_path):
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "again").symlink_to(tmp_path)
    with pytest.raises(InputError, match="a single class folder, 'only'"):
        find_class_folders(tmp_path)


def test_one_class_of_other_sources():
    assert check_two_classes(["a", "b"], "idx:x") == ("a", "b")
    for names in (["a"], []):
        with pytest.raises(InputError, match=r"^idx:x has \d class.*needs at least two classes"):
            check_two_classes(names, "idx:x")


def test_layouts_are_told_without_numeric_libraries(tmp_path):
    code = (
        "import sys; from keras_widerresnet.data.names import CLASSIFICATION, parse_name; parse_name(sys.argv[1], CLASSIFICATION); "
        "print(sorted({'tensorflow', 'keras', 'numpy'} & set(sys.modules)))"
    )
    tree(tmp_path, *classes("train", "test"))
    ran = subprocess.run([sys.executable, "-c", code, f"folder:{tmp_path}"], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout == "[]\n"


def test_one_name_in_two_unicode_forms(tmp_path):
    for part, form in (("train", "NFC"), ("test", "NFD")):
        write_folder(tmp_path / part, (unicodedata.normalize(form, "café"), "tea"))
    with pytest.raises(InputError, match=r"different class folders: \[.*\] \(the same letters in two Unicode forms: rename them\)"):
        folder(str(tmp_path), verify=False)


# ---- held out


def test_a_thousand_and_one_classes_of_two_images():
    """scikit-learn refuses: fewer test images than classes."""
    labels = np.repeat(np.arange(1001), 2)
    with pytest.raises(ValueError):
        train_test_split(labels, test_size=0.2, stratify=labels)
    train, test = held_out_fifth(labels, 0)
    assert sorted([*train, *test]) == list(range(2002))
    assert np.all(np.bincount(labels[test]) == 1) and np.all(np.bincount(labels[train]) == 1)
    np.testing.assert_array_equal(test, held_out_fifth(labels, 0)[1])
    assert not np.array_equal(test, held_out_fifth(labels, 1)[1])


@pytest.mark.parametrize("counts", [(2, 100, 100), (2, 2, 2, 50), (2, 3), (3, 2, 2), (1000, 2, 2, 2, 2, 2, 2)])
@pytest.mark.parametrize("seed", range(5))
def test_every_class_is_on_both_sides(counts, seed):
    labels = np.random.default_rng(9).permutation(np.repeat(np.arange(len(counts)), counts))
    train, test = held_out_fifth(labels, seed)
    assert sorted([*train, *test]) == list(range(len(labels)))
    assert all(set(labels[part]) == set(range(len(counts))) for part in (train, test))


@pytest.mark.parametrize("counts", [(178, 182, 177), (5, 5), (10, 20, 30), (7, 9)])
@pytest.mark.parametrize("seed", [0, 3])
def test_where_every_class_had_an_image_the_split_is_scikit_learns(counts, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    theirs = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=seed)
    for ours, expected in zip(held_out_fifth(labels, seed), theirs, strict=True):
        np.testing.assert_array_equal(ours, np.sort(expected))


def test_folder_of_many_small_classes(tmp_path):
    write_folder(tmp_path, tuple(f"class {k}" for k in range(12)), count=2)
    data = folder(str(tmp_path), verify=False)
    assert sorted(data.train.labels) == sorted(data.test.labels) == list(range(12))
    with pytest.raises(InputError, match=r"no images of 12 of the 12 classes \(the smallest has 1\) would be left .*none"):
        with_validation(data, "auto", seed=0)
    (tmp_path / "class 3" / "0.jpg").unlink()
    with pytest.raises(InputError, match=r"fewer than two images, from which none can be held out for testing: class 3"):
        folder(str(tmp_path), verify=False)


def test_validation_holds_an_image_of_every_class():
    labels = np.repeat([0, 1, 2], (40, 3, 2))
    split = array_split(np.zeros((45, 2, 2), np.uint8), labels)
    reduced, _ = with_validation(ImageData("", ("a", "b", "c"), split, None), "auto", seed=1)
    np.testing.assert_array_equal(np.bincount(reduced.validation.labels), [4, 1, 1])
    np.testing.assert_array_equal(np.bincount(reduced.train.labels), [36, 2, 1])


@pytest.mark.parametrize("share", ["0.1", "0.25", "0.5"])
def test_shares_that_left_no_class_out_are_drawn_as_before(share):
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], (40, 30, 11)))
    split = array_split(np.arange(81, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8), labels)
    generator = np.random.default_rng(4)
    groups = [np.flatnonzero(labels == k) for k in range(3)]
    expected = np.sort(np.concatenate([generator.choice(g, round(len(g) * float(share)), replace=False) for g in groups]))
    validation = with_validation(ImageData("", ("a", "b", "c"), split, None), share, seed=4)[0].validation
    assert [int(raw[0, 0]) if raw.ndim == 2 else int(raw[0, 0, 0]) for raw, _ in validation.ordered()] == expected.tolist()


# ---- hidden files, and those of other programs


JUNK = (
    *("._0.jpg", ".hidden.png", ".DS_Store", "Thumbs.db", "desktop.ini", "~$0.jpg", "__MACOSX/cat/._0.jpg"),
    *("@eaDir/0.jpg/SYNOFILE_THUMB_M.jpg", ".ipynb_checkpoints/0-checkpoint.jpg", "$RECYCLE.BIN/S-1/0.jpg", "lost+found/0.jpg"),
    *("#recycle/0.jpg", ".git/0.jpg", "System Volume Information/0.jpg", "@tmp/0.jpg", ".Trash-1000/files/0.jpg"),
)


@pytest.mark.parametrize("place", ["", "cat", "cat/deep/er"])
def test_junk_is_passed_over_at_every_depth_and_counted(tmp_path, caplog, place):
    write_folder(tmp_path, count=5)
    (tmp_path / "cat" / "deep" / "er").mkdir(parents=True)
    shutil.copy(tmp_path / "cat" / "1.jpg", tmp_path / "cat" / "deep" / "er" / "6.jpg")
    tree(tmp_path / place, *JUNK)
    data = folder(str(tmp_path))
    assert (data.class_names, data.train.size + data.test.size) == (("cat", "dog"), 11)
    (record,) = caplog.records
    assert record.message.startswith(f"Skipped in {tmp_path}: {len(JUNK)} files and folders that are hidden or belong to other programs (")
    assert "; and 11 more" in record.message


def test_junk_in_parts_and_pairs(tmp_path, caplog):
    for part in ("train", "test"):
        write_folder(tmp_path / "a" / part)
        for k in range(2):
            write_image(tmp_path / "b" / part / f"{k}.jpg", k)
            write_mask(tmp_path / "b" / f"{part}annot" / f"{k}.png", np.arange(600, dtype=np.uint8).reshape(20, 30) % 2)
    tree(tmp_path / "a", "train/__MACOSX/0.jpg", "test/.ipynb_checkpoints/0.jpg", "@eaDir/0.jpg")
    tree(tmp_path / "b", "train/._0.jpg", "trainannot/._0.png", "train/@eaDir/0.jpg/x.jpg", "testannot/Thumbs.db", "__MACOSX/train/0.jpg")
    data = folder(str(tmp_path / "a"))
    assert (data.class_names, data.train.size) == (("cat", "dog"), 10)
    assert "3 files and folders that are hidden" in caplog.records[0].message
    assert load_segmentation_data(f"pairs:{tmp_path / 'b'},classes=2").train.size == 2
    assert "4 files and folders that are hidden" in caplog.records[1].message and len(caplog.records) == 2


def test_what_is_junk():
    assert all(is_junk(name) for name in (".x", "._a.jpg", "__MACOSX", "@eaDir", "THUMBS.DB", "#Recycle", "lost+found", "desktop.ini"))
    assert not any(is_junk(name) for name in ("a.jpg", "_a", "@home", "#1", "recycle", "$5", "macosx", "~a", "thumbs", "found", "recycled"))


def test_images_of_other_formats_and_beside_the_classes_are_counted(tmp_path, caplog):
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "test")
    tree(tmp_path, "train/cat/a.webp", "train/cat/b.WEBP", "train/dog/c.tif", "train/stray.jpg")
    assert folder(str(tmp_path)).train.size == 10
    assert [record.message for record in caplog.records] == [
        f"Skipped 1 images outside the class folders, which have no class: {tmp_path / 'train' / 'stray.jpg'}",
        f"Skipped in {tmp_path}: images whose endings are neither JPEG's nor PNG's (1 .tif, 2 .webp)",
    ]


# ---- links, folders and pipes in an image's place


@pytest.mark.parametrize("verify", [True, False])
def test_a_broken_link_is_named_at_once(tmp_path, verify, caplog):
    write_folder(tmp_path)
    (tmp_path / "cat" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "cat" / "gone.txt").symlink_to(tmp_path / "nowhere.txt")  # which would be no image either
    (tmp_path / "cat" / ".#gone.jpg").symlink_to("nobody@host")  # an editor's lock
    os.mkfifo(tmp_path / "dog" / "pipe.png")
    message = rf"^2 .* cannot be used: .*cat/gone\.jpg is a broken link to {tmp_path}/nowhere\.jpg; .*dog/pipe\.png is a pipe, not a file"
    with pytest.raises(InputError, match=message):
        folder(str(tmp_path), verify=verify)
    data = folder(str(tmp_path), verify=verify, skip_corrupt=True)
    assert data.train.size + data.test.size == 10
    assert "Skipped 2 files, links or folders that cannot be read: " in caplog.text


@pytest.mark.parametrize("place", ["cat/more", "emu"])
def test_a_broken_link_in_a_folders_place(tmp_path, place):
    write_folder(tmp_path)
    (tmp_path / place).symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=f"{place} is a broken link to"):
        folder(str(tmp_path), verify=False)


@pytest.mark.parametrize("verify", [True, False])
def test_a_folder_is_a_folder_whatever_its_name(tmp_path, verify):
    write_folder(tmp_path)
    (tmp_path / "cat" / "album.jpg").mkdir()
    assert folder(str(tmp_path), verify=verify).train.size == 8
    shutil.copy(tmp_path / "cat" / "0.jpg", tmp_path / "cat" / "album.jpg" / "5.jpg")
    data = folder(str(tmp_path), verify=verify)
    assert data.train.size + data.test.size == 11


def test_linked_folders_are_followed(tmp_path):
    write_folder(tmp_path / "elsewhere", ("one", "two", "three"))
    root = tmp_path / "set"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
    (root / "cat" / "linked").symlink_to(tmp_path / "elsewhere" / "one")
    (root / "dog" / "a").symlink_to(tmp_path / "elsewhere" / "two")
    (root / "emu").symlink_to(tmp_path / "elsewhere" / "three")
    data = folder(str(root))
    assert (data.class_names, data.train.size + data.test.size) == (("cat", "dog", "emu"), 15)


def test_links_in_circles_and_twice(tmp_path, caplog):
    write_folder(tmp_path)
    inner = tmp_path / "cat" / "inner"
    shutil.copytree(tmp_path / "dog", inner)
    for name, target in (("up", tmp_path), ("self", inner), ("here", tmp_path / "cat")):
        (inner / name).symlink_to(target)
    (tmp_path / "cat" / "again").symlink_to(inner)  # its images are there already
    files = Entries().files(tmp_path / "cat")
    assert [file.relative_to(tmp_path / "cat").as_posix() for file in files] == sorted(
        [f"{k}.jpg" for k in range(5)] + [f"inner/{k}.jpg" for k in range(5)]
    )
    folder(str(tmp_path))
    assert "links to folders that contain them (" in caplog.text and "inner/up" in caplog.text


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_folder(tmp_path / "set")
    assert parse_name("folder:~/set", CLASSIFICATION) == ("folder", f"{tmp_path}/set")
    assert folder("~/set").train.size == 8


def test_what_may_not_be_read():
    """As another user than root, who may read everything."""
    code = """
        import os, pathlib, sys
        import keras_widerresnet.data.sources.entries, keras_widerresnet.errors  # before the folders that they lie in are closed
        if os.getuid() == 0:
            os.setgroups([]), os.setgid(65534), os.setuid(65534)
        entries = keras_widerresnet.data.sources.entries.Entries()
        root = pathlib.Path(sys.argv[1])
        print(len(entries.files(root / "cat")), entries.problems)
        try:
            entries.files(root / "dog")
        except keras_widerresnet.errors.InputError as error:
            print(error)
    """
    place = pathlib.Path(tempfile.mkdtemp())  # pytest's folders are closed to others
    try:
        place.chmod(0o755)
        write_folder(place)
        (place / "cat" / "2.jpg").chmod(0)
        (place / "dog").chmod(0)
        ran = subprocess.run([sys.executable, "-c", textwrap.dedent(code), place], capture_output=True, text=True, cwd=ROOT)
        (place / "dog").chmod(0o755)
    finally:
        shutil.rmtree(place)
    assert ran.stdout.splitlines() == [
        f"4 {{'{place}/cat/2.jpg': 'cannot be read (permission denied)'}}",
        f"The folder {place}/dog cannot be read: Permission denied",
    ], ran.stderr


# ---- pairs


def write_pairs(root, *parts, annotated=True, images="{}", masks="{}annot"):
    for part in parts:
        for k in range(2):
            write_image(root / images.format(part) / f"{part} {k}.jpg", k)
            if annotated:
                write_mask(root / masks.format(part) / f"{part} {k}.png", np.arange(600, dtype=np.uint8).reshape(20, 30) % 2)


@pytest.mark.parametrize(
    ("parts", "validation"),
    [
        (("Train", "Test"), None),
        (("training", "Valid"), None),
        (("TRAIN", "testing", "validation"), "validation 0"),
    ],
)
def test_parts_of_pairs_by_their_names(tmp_path, parts, validation):
    write_pairs(tmp_path, *parts)
    data = load_segmentation_data(f"pairs:{tmp_path},classes=2")
    assert [data.train.name_of(0), data.test.name_of(0)] == [f"{part} 0" for part in parts[:2]]
    assert (data.validation.name_of(0) if data.validation else None) == validation
    assert data.part(parts[1].lower()).name_of(0) == f"{parts[1]} 0"
    other = {"Test": "testing", "Valid": "val", "testing": "test"}[parts[1]]
    assert data.part(other).name_of(0) == f"{parts[1]} 0"


def test_parts_of_pairs_in_other_folders_and_lists(tmp_path):
    write_pairs(tmp_path, "Train", "val", images="Images/{}", masks="MASKS/{}")
    assert load_segmentation_data(f"pairs:{tmp_path},classes=2").test.name_of(0) == "val 0"
    (tmp_path / "Test.txt").write_text("Images/val/val 0.jpg\tMASKS/val/val 0.png\n")
    data = load_segmentation_data(f"pairs:{tmp_path},classes=2")
    assert (data.test.size, data.validation.size) == (1, 2)


def test_parts_of_pairs_that_mean_the_same(tmp_path):
    write_pairs(tmp_path, "train", "val", "Valid")
    with pytest.raises(InputError, match=r"'val' and 'valid' in .* name the same part"):
        load_segmentation_data(f"pairs:{tmp_path},classes=2")
    write_pairs(tmp_path, "Val")
    with pytest.raises(InputError, match=r"'Val' and 'val' in .* differ only in letter case: keep one"):
        load_segmentation_data(f"pairs:{tmp_path},classes=2")


def test_test_images_without_masks_are_left_out_in_words(tmp_path, caplog):
    write_pairs(tmp_path, "train", "val")
    write_pairs(tmp_path, "test", annotated=False)
    assert load_segmentation_data(f"pairs:{tmp_path},classes=2").test.name_of(0) == "val 0"
    assert [record.message for record in caplog.records] == [
        f"'test' in {tmp_path} has images but no masks: it is ignored; 'val' is the test part"
    ]
