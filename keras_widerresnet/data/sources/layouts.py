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


@dataclasses.dataclass(frozen=True)
class Layout:
    """The layout of a data set on disk.

    Args:
        root: function from the given path to the folder that contains the data set.
        default_parts: function from this folder to the names of its training and test parts.
        pairs: function from this folder, a part's name and `Entries` to the part's pairs, sorted or in the list's order.
        validation_part: function from this folder to the name of a further part for validation; empty if there is none.
    """

    root: Callable[[pathlib.Path], pathlib.Path]
    default_parts: Callable[[pathlib.Path], tuple[str, str]]
    pairs: Callable[[pathlib.Path, str, Entries], list[Pair]]
    validation_part: Callable[[pathlib.Path], str] = lambda root: ""


def voc_parts(root: pathlib.Path) -> tuple[str, str]:
    """Returns `train` and `val`, or `trainaug` and `val` if there is a folder `SegmentationClassAug` (SBD's masks)."""
    return "trainaug" if (root / "SegmentationClassAug").is_dir() else "train", "val"


def voc_pairs(root: pathlib.Path, part: str, entries: Entries) -> list[Pair]:
    """Pairs listed in `ImageSets/Segmentation/PART.txt`; masks in `SegmentationClass`, or `SegmentationClassAug` if PART ends in `aug`."""
    masks = "SegmentationClassAug" if part.endswith("aug") else "SegmentationClass"
    return _named(root / "ImageSets" / "Segmentation" / f"{part}.txt", root / "JPEGImages", root / masks)


def context_pairs(root: pathlib.Path, part: str, entries: Entries) -> list[Pair]:
    """Pairs listed in `ImageSets/SegmentationContext/PART.txt`; masks in `SegmentationClassContext` (mmsegmentation's layout)."""
    return _named(root / "ImageSets" / "SegmentationContext" / f"{part}.txt", root / "JPEGImages", root / "SegmentationClassContext")


def cityscapes_pairs(root: pathlib.Path, part: str, entries: Entries) -> list[Pair]:
    """Pairs of `leftImg8bit/PART/CITY/NAME_leftImg8bit.png` and `gtFine/PART/CITY/NAME_gtFine_labelIds.png`."""
    return _matched(root / "leftImg8bit" / part, ("_leftImg8bit.png",), root / "gtFine" / part, ("_gtFine_labelIds.png",), entries)


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


def _named(names_file: pathlib.Path, images: pathlib.Path, masks: pathlib.Path) -> list[Pair]:
    """Returns the pairs of the names in a list; only the stem of a line's first word is used (some lists contain both files)."""
    if not names_file.is_file():
        raise InputError(f"No list of images at {names_file}")
    lines = read_lines(names_file, "list of images", any_bytes=True)
    names = [pathlib.PurePath(line.split()[0]).stem for line in lines if line.strip()]
    return _existing([(images / f"{name}.jpg", masks / f"{name}.png") for name in names], names_file)


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
    "cityscapes": Layout(_root("cityscapes", holds="leftImg8bit"), lambda root: ("train", "val"), cityscapes_pairs),
    "ade20k": Layout(_root("ADEChallengeData2016", holds="annotations"), lambda root: ("training", "validation"), ade20k_pairs),
    "pascal_context": Layout(_root("VOC2010", "VOCdevkit/VOC2010", holds="JPEGImages"), lambda root: ("train", "val"), context_pairs),
    "pairs": Layout(lambda path: path, plain_parts, plain_pairs, plain_validation_part),
}
