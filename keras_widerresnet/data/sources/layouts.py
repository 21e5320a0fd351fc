"""Folder layouts of public segmentation data sets, and plain pairs of folders or lists: finds the pairs of image and mask files."""

from __future__ import annotations

import collections
import dataclasses
import logging
import os
import pathlib
from collections.abc import Callable

from keras_widerresnet.data.sources.entries import ABSENT, IMAGE_ENDINGS, Entries, is_junk, problem_of_file
from keras_widerresnet.data.sources.parts import PART_NAMES, TEST, TRAIN, VALIDATION, WANTED, same_part
from keras_widerresnet.errors import InputError
from keras_widerresnet.texts import printable, read_lines, some

logger = logging.getLogger(__name__)

Pair = tuple[pathlib.Path, pathlib.Path]  # image, mask
TRAIN_IDS = "labelTrainIds"
_CITYSCAPES_MASKS = ("gtFine", "gtCoarse")
_CAMVID_ORIGINAL = ("701_StillsRaw_full", "LabeledApproved_full")


@dataclasses.dataclass(frozen=True)
class Layout:
    """The layout of a data set on disk.

    Args:
        root: function from the given path to the folder that contains the data set.
        default_parts: function from this folder to the names of its training and test parts.
        pairs: function from this folder, a part's name and `Entries` to the part's pairs, sorted or in the list's order.
        validation_part: function from this folder to the name of a further part for validation; empty if there is none.
        labels: function from all pairs to the name of their label map, if it depends on the files; empty for that of the kind.
    """

    root: Callable[[pathlib.Path], pathlib.Path]
    default_parts: Callable[[pathlib.Path], tuple[str, str]]
    pairs: Callable[[pathlib.Path, str, Entries], list[Pair]]
    validation_part: Callable[[pathlib.Path], str] = lambda root: ""
    labels: Callable[[list[Pair]], str] = lambda pairs: ""


def voc_parts(root: pathlib.Path) -> tuple[str, str]:
    """Returns `train` and `val`, or `trainaug` and `val` if there is a folder `SegmentationClassAug` (SBD's masks)."""
    return "trainaug" if (root / "SegmentationClassAug").is_dir() else "train", "val"


def voc_pairs(root: pathlib.Path, part: str, entries: Entries) -> list[Pair]:
    """Pairs listed in `ImageSets/Segmentation/PART.txt`; masks in `SegmentationClass`, or `SegmentationClassAug` if PART ends in `aug`."""
    masks = "SegmentationClassAug" if part.endswith("aug") else "SegmentationClass"
    return _named(root / "ImageSets" / "Segmentation" / f"{part}.txt", root / "JPEGImages", root / masks)


def sbd_pairs(root: pathlib.Path, part: str, entries: Entries) -> list[Pair]:
    """Pairs listed in `PART.txt`: `img/NAME.jpg` and `cls/NAME.mat`."""
    return _named(root / f"{part}.txt", root / "img", root / "cls", ".mat")


def with_sbd(train: list[Pair], test: list[Pair], path: pathlib.Path, entries: Entries) -> list[Pair]:
    """Adds SBD's images that are in neither part of VOC: with VOC's train and val, the usual 10,582 training images (trainaug)."""
    root = LAYOUTS["sbd"].root(path)
    known = {image.stem for image, _ in (*train, *test)}
    every = [pair for part in LAYOUTS["sbd"].default_parts(root) for pair in sbd_pairs(root, part, entries)]
    return train + [pair for pair in dict.fromkeys(every) if pair[0].stem not in known]


def context_pairs(root: pathlib.Path, part: str, entries: Entries) -> list[Pair]:
    """Pairs listed in `ImageSets/SegmentationContext/PART.txt`; masks in `SegmentationClassContext` (mmsegmentation's layout)."""
    return _named(root / "ImageSets" / "SegmentationContext" / f"{part}.txt", root / "JPEGImages", root / "SegmentationClassContext")


def cityscapes_pairs(root: pathlib.Path, part: str, entries: Entries) -> list[Pair]:
    """Pairs of `leftImg8bit/PART/CITY/NAME_leftImg8bit.png` and `gtFine/PART/CITY/NAME_gtFine_labelIds.png`.

    A part without a folder in `gtFine`, such as `train_extra`, has its masks in `gtCoarse`. If there are no `labelIds`, but files
    `labelTrainIds` of the public scripts, those are the masks.
    """
    kind = next((kind for kind in _CITYSCAPES_MASKS if (root / kind / part).is_dir()), _CITYSCAPES_MASKS[0])
    endings = [f"_{kind}_{ids}.png" for ids in ("labelIds", TRAIN_IDS)]
    ending = next((ending for ending in endings if any((root / kind / part).glob(f"*/*{ending}"))), endings[0])
    return _matched(root / "leftImg8bit" / part, ("_leftImg8bit.png",), root / kind / part, (ending,), entries)


def cityscapes_labels(pairs: list[Pair]) -> str:
    """Returns the name of the label map of masks that hold train ids; empty for ids.

    Raises:
        InputError: if some masks hold ids and some train ids.
    """
    are_train_ids = {mask.name.endswith(f"_{TRAIN_IDS}.png") for _, mask in pairs}
    if len(are_train_ids) > 1:
        raise InputError(f"Some of the parts have masks ..._labelIds.png, others only ..._{TRAIN_IDS}.png: both must have the same kind")
    return "cityscapes_train_ids" if are_train_ids == {True} else ""


def camvid_root(path: pathlib.Path) -> pathlib.Path:
    """Returns the folder that contains CamVid's lists or the folders of its parts: the path itself, or `CamVid` inside it."""
    inner = _folder(path, "camvid")
    return inner if inner and not _camvid_places(path, "train") else path


def camvid_pairs(root: pathlib.Path, part: str, entries: Entries) -> list[Pair]:
    """Pairs of `NAME.png` and `NAME_L.png` (colours of the 32 classes) or `NAME.png` (SegNet's values).

    They are those of the folders `PART` and `PART_labels` or `PARTannot`; or, of the original folders `701_StillsRaw_full` and
    `LabeledApproved_full` (or `images` and `labels`), those listed in `PART.txt`.
    """
    places = _camvid_places(root, part)
    if not places:
        raise InputError(
            f"No {part!r} part in {str(root)!r}; camvid: needs the folders {part} and {part}_labels (or {part}annot), or a list {part}.txt "
            f"of image names beside {' and '.join(_CAMVID_ORIGINAL)}"
        )
    images, masks = places
    pairs = _matched(images, IMAGE_ENDINGS, masks, ("_L.png", ".png"), entries)
    listed = _entry(root, f"{part}.txt")
    if images.name.lower() == part.lower() or not listed:
        return pairs
    of_name = {image.stem: (image, mask) for image, mask in pairs}
    names = [pathlib.PurePath(line.split()[0]).stem for line in read_lines(listed, "list of images", any_bytes=True) if line.strip()]
    if lacking := [name for name in names if name not in of_name]:
        raise InputError(f"{listed} lists {len(lacking)} images that are not in {images}: {some(lacking)}")
    return _existing([of_name[name] for name in names], listed)


def camvid_validation_part(root: pathlib.Path) -> str:
    """Returns `val` if there is such a part; empty otherwise."""
    return "val" if _camvid_places(root, "val") else ""


def _camvid_places(root: pathlib.Path, part: str) -> tuple[pathlib.Path, pathlib.Path] | None:
    """Returns the folders of images and masks that hold a part; None if there are none."""
    places = [(part, f"{part}_labels"), (part, f"{part}annot")]
    places += [_CAMVID_ORIGINAL, ("images", "labels")] if _entry(root, f"{part}.txt") else []
    for images, masks in places:
        found = _folder(root, images), _folder(root, masks)
        if found[0] and found[1]:
            return found[0], found[1]
    return None


def ade20k_root(path: pathlib.Path) -> pathlib.Path:
    """Returns the folder of the benchmark's data; the full data set, with its own classes, is recognised and refused.

    Raises:
        InputError: if there is no such folder.
    """
    try:
        return _root("ADEChallengeData2016", holds="annotations")(path)
    except InputError:
        full = [folder for folder in (path, *sorted(path.glob("ADE20K_20*"))) if _is_full_ade20k(folder)]
        if not full:
            raise
    raise InputError(
        f"{str(full[0])!r} is the full ADE20K data set, whose masks are colours of thousands of objects and parts; ade20k: needs the "
        "150 classes of the benchmark, ADEChallengeData2016.zip of http://sceneparsing.csail.mit.edu"
    )


def _is_full_ade20k(folder: pathlib.Path) -> bool:
    """Whether a folder is ADE20K of 2016 or 2021 as it is distributed: an index, and images beside their masks NAME_seg.png."""
    has_index = any((folder / f"index_ade20k.{ending}").is_file() for ending in ("mat", "pkl"))
    return has_index or (folder.name.startswith("ADE20K_20") and (folder / "images").is_dir()) or (folder / "images" / "ADE").is_dir()


def ade20k_pairs(root: pathlib.Path, part: str, entries: Entries) -> list[Pair]:
    """Pairs of `images/PART/NAME.jpg` and `annotations/PART/NAME.png`."""
    return _matched(root / "images" / part, IMAGE_ENDINGS, root / "annotations" / part, (".png",), entries)


def plain_parts(root: pathlib.Path) -> tuple[str, str]:
    """Returns the names of the training and the test part; without a test part that has masks, the validation part is the test part."""
    names = _named_parts(root)
    if TEST not in names and VALIDATION in names and (alone := _images_alone(root)):
        logger.warning("%r in %s has images but no masks: it is ignored; %r is the test part", alone, root, names[VALIDATION])
    return names.get(TRAIN, "train"), names.get(TEST) or names.get(VALIDATION) or "test"


def plain_validation_part(root: pathlib.Path) -> str:
    """Returns the name of the validation part if there is a test part too; empty otherwise."""
    names = _named_parts(root)
    return names[VALIDATION] if {TEST, VALIDATION} <= names.keys() else ""


def plain_pairs(root: pathlib.Path, part: str, entries: Entries) -> list[Pair]:
    """Pairs in the list `PART.txt`, the folders `PART` and `PARTannot`, or `images/PART` and `masks/PART`, in any letter case.

    If there is nothing of this name, a synonym is accepted, e.g. `valid` for `val`.

    A list file has one image and its mask per line, as paths relative to the list's folder, separated by a tab or, if the paths contain
    no spaces, by spaces.
    """
    listed, folders = _plain_places(root, part)
    if not listed and not any(images and masks for images, masks in folders):
        meant = next((name for name in _named_parts(root).values() if same_part(name, part)), part)
        listed, folders = _plain_places(root, meant)
    if listed:
        return _listed(listed)
    for images, masks in folders:
        if images and masks:
            return _matched(images, IMAGE_ENDINGS, masks, (".png",), entries)
    raise InputError(
        f"No {part!r} part in {str(root)!r}; pairs: needs a list {part}.txt (image and mask on each line), "
        f"or the folders {part} and {part}annot, or images/{part} and masks/{part}"
    )


def _named_parts(root: pathlib.Path) -> dict[str, str]:
    """Maps each part to its name on disk; a part needs a list, or folders of images and masks of which the first is not empty."""

    def is_there(name: str) -> bool:
        listed, folders = _plain_places(root, name)
        return bool(listed) or any(images and masks and any(images.iterdir()) for images, masks in folders)

    found = {part: [name for name in names if is_there(name)] for part, names in PART_NAMES.items()}
    for names in found.values():
        if len(names) > 1:
            raise InputError(f"{' and '.join(map(repr, names))} in {str(root)!r} name the same part: {WANTED}, each given once")
    return {part: names[0] for part, names in found.items() if names}


def _images_alone(root: pathlib.Path) -> str:
    """Returns the name of a test part with a folder of images but none of masks; empty if there is none."""
    places = {name: _plain_places(root, name)[1] for name in PART_NAMES[TEST]}
    return next((name for name, folders in places.items() if any(images and not masks for images, masks in folders)), "")


def _plain_places(root: pathlib.Path, part: str) -> tuple[pathlib.Path | None, list[tuple[pathlib.Path | None, pathlib.Path | None]]]:
    """Returns a part's list file and its possible folders of images and masks; None for those that do not exist."""
    listed = _entry(root, f"{part}.txt")
    beside = _folder(root, part), _folder(root, f"{part}annot")
    inside = _folder(_folder(root, "images"), part), _folder(_folder(root, "masks"), part)
    return listed if listed and listed.is_file() else None, [beside, inside]


def _folder(parent: pathlib.Path | None, name: str) -> pathlib.Path | None:
    found = _entry(parent, name) if parent else None
    return found if found and found.is_dir() else None


def _entry(parent: pathlib.Path, name: str) -> pathlib.Path | None:
    """Returns the entry of a folder that has a name, in any letter case; None if there is none.

    Raises:
        InputError: if there are several.
    """
    try:
        found = [entry for entry in sorted(parent.iterdir()) if entry.name.lower() == name.lower() and not is_junk(entry.name)]
    except OSError as error:
        raise InputError(f"The folder {printable(parent)} cannot be read: {error.strerror}") from None
    if len(found) > 1:
        raise InputError(f"{' and '.join(repr(entry.name) for entry in found)} in {str(parent)!r} differ only in letter case: keep one")
    return found[0] if found else None


def _root(*inner: str, holds: str) -> Callable[[pathlib.Path], pathlib.Path]:
    """Returns the function that finds the folder containing `holds`: the path itself, or one of the usual folders inside it."""

    def find(path: pathlib.Path) -> pathlib.Path:
        for root in (path, *(path / name for name in inner)):
            if (root / holds).is_dir():
                return root
        raise InputError(f"No folder {holds} in {str(path)!r}" + "".join(f" or its {name}" for name in inner))

    return find


def _named(names_file: pathlib.Path, images: pathlib.Path, masks: pathlib.Path, ending: str = ".png") -> list[Pair]:
    """Returns the pairs of the names in a list; only the stem of a line's first word is used (some lists contain both files)."""
    if not names_file.is_file():
        raise InputError(f"No list of images at {names_file}")
    lines = read_lines(names_file, "list of images", any_bytes=True)
    names = [pathlib.PurePath(line.split()[0]).stem for line in lines if line.strip()]
    return _existing([(images / f"{name}.jpg", masks / f"{name}{ending}") for name in names], names_file)


def _listed(file: pathlib.Path) -> list[Pair]:
    pairs: list[Pair] = []
    for number, line in enumerate(read_lines(file, "list of images and masks", any_bytes=True), 1):
        columns = line.strip().split("\t") if "\t" in line.strip() else line.split()
        if columns and len(columns) != 2:
            raise InputError(f"{file}, line {number}: must be an image and a mask, separated by a tab. Received: '{printable(line)}'")
        if columns:
            image, mask = (file.parent / os.path.expanduser(column.strip()) for column in columns)
            pairs.append((image, mask))
    return _existing(pairs, file)


def _existing(pairs: list[Pair], names_file: pathlib.Path) -> list[Pair]:
    """Returns the pairs of a list without duplicates, after checking that all files exist."""
    if not pairs:
        raise InputError(f"{names_file} lists no images")
    once = list(dict.fromkeys(pairs))
    problems = {path: problem for pair in once for path in pair if (problem := problem_of_file(path))}
    if set(problems.values()) == {ABSENT}:
        raise InputError(f"{names_file} lists {len(problems)} files that do not exist: {some(problems)}")
    if problems:
        lines = some(f"{path} {problem}" for path, problem in problems.items())
        raise InputError(f"{names_file} lists {len(problems)} files that cannot be used: {lines}")
    masks = dict(once)
    if two := [image for image, mask in once if masks[image] != mask]:
        raise InputError(f"{names_file} lists {len(two)} images with two different masks: {some(two)}")
    if len(once) < len(pairs):
        repeated = [image for (image, _), count in collections.Counter(pairs).items() if count > 1]
        logger.warning("%s lists %d images more than once; each is used once: %s", names_file, len(repeated), some(repeated))
    return once


def _matched(images: pathlib.Path, image_endings, masks: pathlib.Path, mask_endings, entries: Entries) -> list[Pair]:
    """Returns the pairs of files whose paths differ only in their endings, sorted by path."""
    image_of, mask_of = _by_key(images, image_endings, entries), _by_key(masks, mask_endings, entries)
    for kind, have, lack in (("images have no mask", image_of, mask_of), ("masks have no image", mask_of, image_of)):
        alone = [path for key, path in have.items() if key not in lack]
        if alone:
            folder, endings = (masks, mask_endings) if lack is mask_of else (images, image_endings)
            raise InputError(f"{len(alone)} {kind} (the same name, ending in {' or '.join(endings)}, in {folder}): {some(alone)}")
    return [(path, mask_of[key]) for key, path in image_of.items()]


def _by_key(folder: pathlib.Path, endings, entries: Entries) -> dict[str, pathlib.Path]:
    if not folder.is_dir():
        raise InputError(f"No folder at {folder}")
    found: dict[str, pathlib.Path] = {}
    for path in sorted(entries.files(folder, endings)):
        ending = next(ending for ending in endings if path.name.lower().endswith(ending.lower()))
        key = str(path.relative_to(folder))[: -len(ending)]
        if key in found:
            raise InputError(f"{printable(found[key])} and {printable(path)} have the same name apart from their endings")
        found[key] = path
    entries.check("images or masks")
    if not found:
        raise InputError(f"{folder} contains no files ending in {' or '.join(endings)}")
    return found


LAYOUTS = {
    "voc": Layout(_root("VOC2012", "VOCdevkit/VOC2012", holds="JPEGImages"), voc_parts, voc_pairs),
    "sbd": Layout(_root("benchmark_RELEASE/dataset", "dataset", holds="cls"), lambda root: ("train", "val"), sbd_pairs),
    "cityscapes": Layout(
        _root("cityscapes", holds="leftImg8bit"), lambda root: ("train", "val"), cityscapes_pairs, labels=cityscapes_labels
    ),
    "camvid": Layout(camvid_root, lambda root: ("train", "test"), camvid_pairs, camvid_validation_part),
    "ade20k": Layout(ade20k_root, lambda root: ("training", "validation"), ade20k_pairs),
    "pascal_context": Layout(_root("VOC2010", "VOCdevkit/VOC2010", holds="JPEGImages"), lambda root: ("train", "val"), context_pairs),
    "pairs": Layout(lambda path: path, plain_parts, plain_pairs, plain_validation_part),
}
