"""Distinguishes a data set's parts from its classes by the folders' names and contents; ambiguous layouts raise errors."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterable, Sequence

from keras_widerresnet.data.sources.entries import Entries
from keras_widerresnet.errors import InputError
from keras_widerresnet.texts import check_class_names, printable

TRAIN, VALIDATION, TEST = "train", "validation", "test"
# The names of parts, in any letter case.
PART_NAMES = {TRAIN: ("train", "training"), VALIDATION: ("val", "valid", "validation"), TEST: ("test", "testing")}
PART_OF = {name: part for part, names in PART_NAMES.items() for name in names}
WANTED = "parts must be named train (training), val (valid, validation) and test (testing), in any letter case"
# Other common names of parts: not accepted as classes if all folders have such names.
_LIKE_A_PART = re.compile(
    r"(?:^|[^a-z])(?:train|test|val|valid|validation|dev|eval|evaluation|hold[-_ ]?out|held[-_ ]?out|trainval|extra|unlabell?ed)"
    r"(?:ing)?[-_ ]?(?:set|data|images?|imgs?|part|split|annot|label|mask)?s?(?:[^a-z]|$)"
)
# The same, for folders that contain folders of the same names, e.g. the parts of a cross-validation.
_LIKE_A_SHARE = re.compile(r"(?:^|[^a-z])(?:fold|split|part|batch|set)[-_ ]?\d*$")
_IMAGES = frozenset(("images", "image", "imgs", "img", "jpegimages", "leftimg8bit"))
_MASKS = frozenset(("masks", "mask", "annotations", "annotation", "labels", "label", "segmentationclass", "segmentations", "gtfine"))
_ENGLISH = "valid"  # may also be a class, next to "invalid"
_SHOWN = 8
_DEEPEST = 8  # levels that are searched for class folders to suggest


@dataclasses.dataclass(frozen=True)
class ClassFolders:
    """The layout of a data set of class folders.

    Args:
        train: the folder that contains the class folders of the training images, or of all images.
        class_names: the names of its class folders, sorted.
        test: the same for the test images; None if images are to be held out for testing.
        validation: the same for separate validation images; None if there are none.
        notes: messages about the decisions made, for the log.
    """

    train: pathlib.Path
    class_names: tuple[str, ...]
    test: pathlib.Path | None = None
    validation: pathlib.Path | None = None
    notes: tuple[str, ...] = ()


def find_class_folders(path: str | pathlib.Path, entries: Entries | None = None) -> ClassFolders:
    """Finds the layout at `path`: `PATH/<class>`, or `PATH/train/<class>` with `PATH/val/<class>`, `PATH/test/<class>` or both.

    Parts have the names in `PART_NAMES`, in any letter case. With `train` and `val` alone, `val` is the test part. A part without class
    folders, such as the test images of a competition, has no labels: it is ignored, with a note, if another part remains. Only folder
    listings are read, not images, and folders are not searched recursively.

    Args:
        path: `~` is expanded.
        entries: records which files and folders are skipped.

    Raises:
        InputError: if there are fewer than two class folders, or if parts and classes cannot be told apart.
    """
    root = pathlib.Path(os.path.expanduser(path))
    if not root.is_dir():
        raise InputError(
            f"No folder at '{printable(path)}'; folder: needs a folder with one sub-folder of JPEG or PNG files for each class"
        )
    entries = entries or Entries()
    folders = {folder.name: folder for folder in entries.folders(root)}
    parts = named_parts(folders)
    if TRAIN in parts or set().union(*parts.values()) == set(folders):
        for names in parts.values():
            if len(names) > 1:
                raise InputError(f"{_quoted(names)} in '{printable(root)}' name the same part: {WANTED}, each given once")
    found = {part: folders[names[0]] for part, names in parts.items()}
    others = [name for name in folders if name.lower() not in PART_OF]
    if TRAIN in found and (len(found) > 1 or _is_nested(found[TRAIN], entries)):
        layout = _of_parts(root, found, others, entries)
    else:
        layout = _of_classes(root, folders, entries)
    _check_classes(layout.train, layout.class_names, entries)
    return layout


def named_parts(names: Iterable[str]) -> dict[str, list[str]]:
    """Maps each part (`TRAIN`, `VALIDATION` or `TEST`) to those of the given names that stand for it."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        if part := PART_OF.get(name.lower()):
            found.setdefault(part, []).append(name)
    return found


def same_part(name: str, other: str) -> bool:
    """Whether two names stand for the same part, such as `val` and `Valid`, or differ only in letter case."""
    one, two = name.lower(), other.lower()
    return PART_OF.get(one, one) == PART_OF.get(two, two)


def check_two_classes(names: Sequence[str], source: str) -> tuple[str, ...]:
    """Returns a data set's checked class names: at least two, each a single line of text.

    Raises:
        InputError: if there are fewer, or a name is not valid.
    """
    if len(names) < 2:
        only = f": {names[0]!r}" if names else ""
        raise InputError(f"{source} has {len(names)} {'class' if names else 'classes'}{only}. Classification needs at least two classes")
    return check_class_names(names, source)


def _of_parts(root: pathlib.Path, found: dict[str, pathlib.Path], others: Sequence[str], entries: Entries) -> ClassFolders:
    train = found[TRAIN]
    held_out = {part: found[part] for part in (TEST, VALIDATION) if part in found}
    if not held_out:
        beside = f". Other folders: {_quoted(others)}; if one of them is the test part, rename it" if others else ""
        raise InputError(
            f"'{printable(root)}' contains the training part {train.name!r} (a folder of folders) but no test part; {WANTED}{beside}. "
            f"Alternatively, give '{printable(train)}' as the data set: a fifth of each class is then held out for testing. (If "
            f"{train.name!r} is a class, its images must lie directly in it.)"
        )
    class_names = tuple(folder.name for folder in entries.folders(train))
    if not class_names:
        raise InputError(f"'{printable(train)}' has no class folders, {_contents(train, entries)}. {_right(f'{train.name}/')}")
    unlabelled = {}
    for part, folder in held_out.items():
        if not {inner.name for inner in entries.folders(folder)} & set(class_names):
            unlabelled[part] = f"'{printable(folder)}' has no class folders, {_contents(folder, entries)}"
    labelled = [part for part in held_out if part not in unlabelled]
    if not labelled:
        raise InputError(f"{'; '.join(unlabelled.values())}: testing needs labelled images. {_right(f'{TEST}/')}")
    test = held_out[labelled[0]]
    notes = [f"{what}: it has no labels and is ignored; {test.name!r} is the test part" for what in unlabelled.values()]
    return ClassFolders(train, class_names, test, held_out[labelled[1]] if len(labelled) > 1 else None, tuple(notes))


def _of_classes(root: pathlib.Path, folders: dict[str, pathlib.Path], entries: Entries) -> ClassFolders:
    names = tuple(folders)
    held_out = [name for name in names if PART_OF.get(name.lower(), TRAIN) != TRAIN]
    if held_out and len(held_out) == len(names):
        raise InputError(f"'{printable(root)}' contains {_quoted(names)} but no training images: {WANTED}")
    doubtful = [name for name in held_out if name.lower() != _ENGLISH or _is_nested(folders[name], entries)]
    if doubtful:
        raise InputError(
            f"'{printable(root)}' contains {_quoted(doubtful)} next to {_quoted([name for name in names if name not in doubtful])}: is "
            f"this a part next to classes? If so, {WANTED}, each containing the class folders; if it is a class, rename it, e.g. to "
            f"'{doubtful[0]} images'"
        )
    lower = {name.lower() for name in names}
    if lower & _IMAGES and lower & _MASKS:
        raise InputError(f"'{printable(root)}' contains {_quoted(names)}, which are not classes: use train-segmentation to train on masks")
    alike = [name for name in names if _LIKE_A_PART.search(name.lower())]
    shares = alike + [name for name in names if _LIKE_A_SHARE.search(name.lower())]
    if len(alike) == len(names) > 1 or (shares and _are_parts_inside(folders, shares, entries)):
        raise InputError(f"'{printable(root)}' contains {_quoted(names)}, which look like parts, not like classes: {WANTED}")
    notes = [f"'{printable(folders[name])}' contains images itself: it is treated as a class" for name in names if name.lower() in PART_OF]
    return ClassFolders(root, names, notes=tuple(notes))


def _are_parts_inside(folders: dict[str, pathlib.Path], alike: Sequence[str], entries: Entries) -> bool:
    """Whether a folder that looks like a part and another folder contain folders of the same name."""
    inside = {name: {inner.name for inner in entries.folders(folder)} for name, folder in folders.items()}
    return any(inside[one] & inside[other] for one in alike for other in folders if other != one)


def _check_classes(root: pathlib.Path, class_names: Sequence[str], entries: Entries) -> None:
    if len(class_names) >= 2:
        check_class_names(class_names, f"a folder in '{printable(root)}'; rename the folder")
        return
    if not class_names:
        beside = len(entries.images_beside(root))
        lies = f" but directly contains {beside} images" if beside else ""
        raise InputError(
            f"'{printable(root)}' has no class folders{lies}; folder: needs one sub-folder of JPEG or PNG files for each class"
        )
    inner = root / class_names[0]
    below = entries.folders(inner)
    for _ in range(_DEEPEST):
        if len(below) != 1 or entries.images_beside(inner):
            break
        inner = below[0]
        below = entries.folders(inner)
    nested = f" Did you mean '{printable(inner)}', which contains {_quoted([folder.name for folder in below])}?" if len(below) > 1 else ""
    raise InputError(
        f"'{printable(root)}' contains a single class folder, '{printable(class_names[0])}'. Classification needs at least two classes, "
        f"each with its own folder.{nested}"
    )


def _is_nested(folder: pathlib.Path, entries: Entries) -> bool:
    """Whether a folder contains folders but no images directly."""
    return not entries.images_beside(folder) and bool(entries.folders(folder))


def _contents(folder: pathlib.Path, entries: Entries) -> str:
    images, inner = entries.images_beside(folder), entries.folders(folder)
    if inner:
        return f"but contains {_quoted([one.name for one in inner])}"
    return f"but directly contains {len(images)} images" if images else "and no images"


def _right(part: str) -> str:
    return f"{part} must contain one folder for each class, such as {part}cat and {part}dog"


def _quoted(names: Sequence[str]) -> str:
    shown = [f"'{printable(name)}'" for name in names[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
