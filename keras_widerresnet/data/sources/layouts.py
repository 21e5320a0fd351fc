"""The public folder layouts of segmentation data sets, and plain pairs of folders or lists: from a path to its pairs of files."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable

from keras_widerresnet.data.sources.folder import SUFFIXES, TEST_FOLDERS
from keras_widerresnet.errors import InputError

Pair = tuple[pathlib.Path, pathlib.Path]  # image, mask
SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a data set lies on disk.

    Args:
        root: of the path given, the folder that holds the set.
        default_parts: of that folder, the names of its training and test parts.
        pairs: of that folder and a part's name, the pairs of that part, sorted or in the list's order.
        validation_part: of that folder, the name of a part for validation besides the two; empty where there is none.
    """

    root: Callable[[pathlib.Path], pathlib.Path]
    default_parts: Callable[[pathlib.Path], tuple[str, str]]
    pairs: Callable[[pathlib.Path, str], list[Pair]]
    validation_part: Callable[[pathlib.Path], str] = lambda root: ""


def some(items: Iterable) -> str:
    """The first items of many, and how many more there are."""
    items = list(items)
    return "; ".join(str(item) for item in items[:SHOWN]) + (f"; and {len(items) - SHOWN} more" if len(items) > SHOWN else "")


def voc_parts(root: pathlib.Path) -> tuple[str, str]:
    """`train` and `val`; where there is a folder `SegmentationClassAug` (SBD's masks), `trainaug` and `val`."""
    return "trainaug" if (root / "SegmentationClassAug").is_dir() else "train", "val"


def voc_pairs(root: pathlib.Path, part: str) -> list[Pair]:
    """The names in `ImageSets/Segmentation/PART.txt`; masks from `SegmentationClass`, or `SegmentationClassAug` if PART ends in `aug`."""
    masks = "SegmentationClassAug" if part.endswith("aug") else "SegmentationClass"
    return _named(root / "ImageSets" / "Segmentation" / f"{part}.txt", root / "JPEGImages", root / masks)


def context_pairs(root: pathlib.Path, part: str) -> list[Pair]:
    """The names in `ImageSets/SegmentationContext/PART.txt`; masks from `SegmentationClassContext` (mmsegmentation's layout)."""
    return _named(root / "ImageSets" / "SegmentationContext" / f"{part}.txt", root / "JPEGImages", root / "SegmentationClassContext")


def cityscapes_pairs(root: pathlib.Path, part: str) -> list[Pair]:
    """`leftImg8bit/PART/CITY/NAME_leftImg8bit.png` and `gtFine/PART/CITY/NAME_gtFine_labelIds.png`."""
    return _matched(root / "leftImg8bit" / part, ("_leftImg8bit.png",), root / "gtFine" / part, ("_gtFine_labelIds.png",))


def ade20k_pairs(root: pathlib.Path, part: str) -> list[Pair]:
    """`images/PART/NAME.jpg` and `annotations/PART/NAME.png`."""
    return _matched(root / "images" / part, SUFFIXES, root / "annotations" / part, (".png",))


def plain_parts(root: pathlib.Path) -> tuple[str, str]:
    """`train`, and the first of `test`, `val` and `validation` that is there."""
    return "train", next((part for part in TEST_FOLDERS if any(path.exists() for path in _plain_places(root, part))), "test")


def plain_validation_part(root: pathlib.Path) -> str:
    """Beside `test`, `val` or `validation` if its list is there, or its folder and something in it."""

    def is_there(part: str) -> bool:
        listed, *folders = _plain_places(root, part)
        return listed.is_file() or any(folder.is_dir() and any(folder.iterdir()) for folder in folders[::2])

    _, test = plain_parts(root)
    return next((part for part in TEST_FOLDERS if part != test and is_there(part)), "") if test == "test" else ""


def plain_pairs(root: pathlib.Path, part: str) -> list[Pair]:
    """The list file `PART.txt`, or the folders `PART` and `PARTannot`, or `images/PART` and `masks/PART`.

    A list file has one pair a line, image and mask, relative to its folder, separated by a tab or, in names without blanks, by blanks.
    """
    listed, *folders = _plain_places(root, part)
    if listed.is_file():
        return _listed(listed)
    for images, masks in zip(folders[::2], folders[1::2], strict=True):
        if images.is_dir() and masks.is_dir():
            return _matched(images, SUFFIXES, masks, (".png",))
    raise InputError(
        f"No {part!r} part in {str(root)!r}; pairs: takes a list {part}.txt (image and mask in each line), "
        f"or the folders {part} and {part}annot, or images/{part} and masks/{part}"
    )


def _plain_places(root: pathlib.Path, part: str) -> tuple[pathlib.Path, ...]:
    return root / f"{part}.txt", root / part, root / f"{part}annot", root / "images" / part, root / "masks" / part


def _root(*inner: str, holds: str) -> Callable[[pathlib.Path], pathlib.Path]:
    """The path itself, or the usual folder inside it, whichever holds the folder `holds`."""

    def find(path: pathlib.Path) -> pathlib.Path:
        for root in (path, *(path / name for name in inner)):
            if (root / holds).is_dir():
                return root
        raise InputError(f"No folder {holds} in {str(path)!r}" + "".join(f" or its {name}" for name in inner))

    return find


def _named(names_file: pathlib.Path, images: pathlib.Path, masks: pathlib.Path) -> list[Pair]:
    """Pairs of the names in a list; of a line only the first word's stem counts (some lists give both files)."""
    if not names_file.is_file():
        raise InputError(f"No list of images {names_file}")
    names = [pathlib.PurePath(line.split()[0]).stem for line in names_file.read_text().splitlines() if line.strip()]
    return _existing([(images / f"{name}.jpg", masks / f"{name}.png") for name in names], names_file)


def _listed(file: pathlib.Path) -> list[Pair]:
    pairs: list[Pair] = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        columns = line.split("\t") if "\t" in line else line.split()
        if columns and len(columns) != 2:
            raise InputError(f"{file}, line {number}: an image and a mask are wanted, separated by a tab. Received: {line!r}")
        if columns:
            image, mask = (file.parent / column.strip() for column in columns)
            pairs.append((image, mask))
    return _existing(pairs, file)


def _existing(pairs: list[Pair], names_file: pathlib.Path) -> list[Pair]:
    if not pairs:
        raise InputError(f"{names_file} names no image")
    missing = [path for pair in pairs for path in pair if not path.is_file()]
    if missing:
        raise InputError(f"{names_file} names {len(missing)} files that are not there: {some(missing)}")
    return pairs


def _matched(images: pathlib.Path, image_endings, masks: pathlib.Path, mask_endings) -> list[Pair]:
    """Pairs of files with the same path but for their endings, in its order."""
    image_of, mask_of = _by_key(images, image_endings), _by_key(masks, mask_endings)
    for kind, have, lack in (("images have no mask", image_of, mask_of), ("masks have no image", mask_of, image_of)):
        alone = [path for key, path in have.items() if key not in lack]
        if alone:
            folder, endings = (masks, mask_endings) if lack is mask_of else (images, image_endings)
            raise InputError(f"{len(alone)} {kind} (the same name, ending in {' or '.join(endings)}, in {folder}): {some(alone)}")
    return [(path, mask_of[key]) for key, path in image_of.items()]


def _by_key(folder: pathlib.Path, endings) -> dict[str, pathlib.Path]:
    if not folder.is_dir():
        raise InputError(f"No folder {folder}")
    found: dict[str, pathlib.Path] = {}
    for path in sorted(folder.rglob("*")):
        ending = next((ending for ending in endings if path.name.lower().endswith(ending.lower())), None)
        if ending is not None and path.is_file():
            key = str(path.relative_to(folder))[: -len(ending)]
            if key in found:
                raise InputError(f"{found[key]} and {path} have the same name")
            found[key] = path
    if not found:
        raise InputError(f"{folder} holds no file ending in {' or '.join(endings)}")
    return found


LAYOUTS = {
    "voc": Layout(_root("VOC2012", "VOCdevkit/VOC2012", holds="JPEGImages"), voc_parts, voc_pairs),
    "cityscapes": Layout(_root("cityscapes", holds="leftImg8bit"), lambda root: ("train", "val"), cityscapes_pairs),
    "ade20k": Layout(_root("ADEChallengeData2016", holds="annotations"), lambda root: ("training", "validation"), ade20k_pairs),
    "pascal_context": Layout(_root("VOC2010", "VOCdevkit/VOC2010", holds="JPEGImages"), lambda root: ("train", "val"), context_pairs),
    "pairs": Layout(lambda path: path, plain_parts, plain_pairs, plain_validation_part),
}
