"""Which folders of a data set are its parts and which its classes, by their names and by what lies in them; refused where that is open."""

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
# What parts are called, in any letter case.
PART_NAMES = {TRAIN: ("train", "training"), VALIDATION: ("val", "valid", "validation"), TEST: ("test", "testing")}
PART_OF = {name: part for part, names in PART_NAMES.items() for name in names}
WANTED = "its parts are called train (training), val (valid, validation) and test (testing), in any letter case"
# Names of what is a part in other people's words: never taken for a class beside others of that kind.
_LIKE_A_PART = re.compile(
    r"(?:^|[^a-z])(?:train|test|val|valid|validation|dev|eval|evaluation|hold[-_ ]?out|held[-_ ]?out|trainval|extra|unlabell?ed)"
    r"(?:ing)?[-_ ]?(?:set|data|images?|imgs?|part|split|annot|label|mask)?s?(?:[^a-z]|$)"
)
# The same, of folders that hold folders of the same names: parts of a cross-validation, say.
_LIKE_A_SHARE = re.compile(r"(?:^|[^a-z])(?:fold|split|part|batch|set)[-_ ]?\d*$")
_IMAGES = frozenset(("images", "image", "imgs", "img", "jpegimages", "leftimg8bit"))
_MASKS = frozenset(("masks", "mask", "annotations", "annotation", "labels", "label", "segmentationclass", "segmentations", "gtfine"))
_ENGLISH = "valid"  # which is also a class, beside "invalid"
_SHOWN = 8
_DEEPEST = 8  # levels in which class folders are looked for, to suggest them


@dataclasses.dataclass(frozen=True)
class ClassFolders:
    """The layout of a data set of class folders.

    Args:
        train: the folder that holds the class folders of the training images, or of all images.
        class_names: the names of its class folders, sorted.
        test: the same of the test images; None where some images are to be held out for testing.
        validation: of the validation images; None where there are none besides.
        notes: what was decided, in sentences for the log.
    """

    train: pathlib.Path
    class_names: tuple[str, ...]
    test: pathlib.Path | None = None
    validation: pathlib.Path | None = None
    notes: tuple[str, ...] = ()


def find_class_folders(path: str | pathlib.Path, entries: Entries | None = None) -> ClassFolders:
    """The layout at `path`: `PATH/<class>`, or `PATH/train/<class>` with `PATH/val/<class>`, `PATH/test/<class>` or both.

    Parts have the names of `PART_NAMES` in any letter case. With `train` and `val` alone, `val` is for testing. A part whose images lie in
    no folder of a class, such as the test images of a competition, has no labels: it is left out, with a note, if another part is left.
    Images are not looked at, and no folder is walked through further than its own entries.

    Args:
        path: `~` is expanded.
        entries: keeps account of what is passed over.

    Raises:
        InputError: if there are no class folders or one alone, or it is open what is a part and what a class.
    """
    root = pathlib.Path(os.path.expanduser(path))
    if not root.is_dir():
        raise InputError(
            f"No folder at '{printable(path)}'; folder: takes a folder with one sub-folder of JPEG or PNG files for each class"
        )
    entries = entries or Entries()
    folders = {folder.name: folder for folder in entries.folders(root)}
    parts = named_parts(folders)
    if TRAIN in parts or set().union(*parts.values()) == set(folders):
        for names in parts.values():
            if len(names) > 1:
                raise InputError(f"{_quoted(names)} in '{printable(root)}' mean the same part: {WANTED}, each there once")
    found = {part: folders[names[0]] for part, names in parts.items()}
    others = [name for name in folders if name.lower() not in PART_OF]
    if TRAIN in found and (len(found) > 1 or _is_nested(found[TRAIN], entries)):
        layout = _of_parts(root, found, others, entries)
    else:
        layout = _of_classes(root, folders, entries)
    _check_classes(layout.train, layout.class_names, entries)
    return layout


def named_parts(names: Iterable[str]) -> dict[str, list[str]]:
    """Part (`TRAIN`, `VALIDATION` or `TEST`) -> the names that mean it, of those that are there."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        if part := PART_OF.get(name.lower()):
            found.setdefault(part, []).append(name)
    return found


def same_part(name: str, other: str) -> bool:
    """Whether two names mean one part: `val` and `Valid`, or any name in two letter cases."""
    one, two = name.lower(), other.lower()
    return PART_OF.get(one, one) == PART_OF.get(two, two)


def check_two_classes(names: Sequence[str], source: str) -> tuple[str, ...]:
    """The names of a data set's classes, of which there must be two and each a line of text.

    Raises:
        InputError: if they are not.
    """
    if len(names) < 2:
        only = f": {names[0]!r}" if names else ""
        raise InputError(f"{source} has {len(names)} class{only}. Classification is between two classes at least")
    return check_class_names(names, source)


def _of_parts(root: pathlib.Path, found: dict[str, pathlib.Path], others: Sequence[str], entries: Entries) -> ClassFolders:
    train = found[TRAIN]
    held_out = {part: found[part] for part in (TEST, VALIDATION) if part in found}
    if not held_out:
        beside = f". Beside it: {_quoted(others)}; if that is the part to test on, rename it" if others else ""
        raise InputError(
            f"'{printable(root)}' holds folders in {train.name!r}, as a part does, and no part to test on; {WANTED}{beside}. Or give "
            f"'{printable(train)}' as the data set: a fifth of each class is held out for testing. (A class has its images in itself.)"
        )
    class_names = tuple(folder.name for folder in entries.folders(train))
    if not class_names:
        raise InputError(f"'{printable(train)}' has no class folders: {_contents(train, entries)}. {_right(f'{train.name}/')}")
    unlabelled = {}
    for part, folder in held_out.items():
        if not {inner.name for inner in entries.folders(folder)} & set(class_names):
            unlabelled[part] = f"'{printable(folder)}' has no class folders, {_contents(folder, entries)}"
    labelled = [part for part in held_out if part not in unlabelled]
    if not labelled:
        raise InputError(f"{'; '.join(unlabelled.values())}: images without labels cannot be tested on. {_right(f'{TEST}/')}")
    test = held_out[labelled[0]]
    notes = [f"{what}: it has no labels and is left out; {test.name!r} is the test part" for what in unlabelled.values()]
    return ClassFolders(train, class_names, test, held_out[labelled[1]] if len(labelled) > 1 else None, tuple(notes))


def _of_classes(root: pathlib.Path, folders: dict[str, pathlib.Path], entries: Entries) -> ClassFolders:
    names = tuple(folders)
    held_out = [name for name in names if PART_OF.get(name.lower(), TRAIN) != TRAIN]
    if held_out and len(held_out) == len(names):
        raise InputError(f"'{printable(root)}' holds {_quoted(names)} and no training images: {WANTED}")
    doubtful = [name for name in held_out if name.lower() != _ENGLISH or _is_nested(folders[name], entries)]
    if doubtful:
        raise InputError(
            f"'{printable(root)}' holds {_quoted(doubtful)} beside {_quoted([name for name in names if name not in doubtful])}: a part "
            f"beside classes? {WANTED}, each with the class folders in it. A class of that name needs another one, such as "
            f"'{doubtful[0]} images'"
        )
    lower = {name.lower() for name in names}
    if lower & _IMAGES and lower & _MASKS:
        raise InputError(f"'{printable(root)}' holds {_quoted(names)}, which are no classes: training on masks is train-segmentation's")
    alike = [name for name in names if _LIKE_A_PART.search(name.lower())]
    shares = alike + [name for name in names if _LIKE_A_SHARE.search(name.lower())]
    if len(alike) == len(names) > 1 or (shares and _are_parts_inside(folders, shares, entries)):
        raise InputError(f"'{printable(root)}' holds {_quoted(names)}, which look like parts and not like classes: {WANTED}")
    notes = [f"'{printable(folders[name])}' holds images itself: it is taken as a class" for name in names if name.lower() in PART_OF]
    return ClassFolders(root, names, notes=tuple(notes))


def _are_parts_inside(folders: dict[str, pathlib.Path], alike: Sequence[str], entries: Entries) -> bool:
    """Whether the folders that look like parts hold folders of the same names, as another does."""
    inside = {name: {inner.name for inner in entries.folders(folder)} for name, folder in folders.items()}
    return any(inside[one] & inside[other] for one in alike for other in folders if other != one)


def _check_classes(root: pathlib.Path, class_names: Sequence[str], entries: Entries) -> None:
    if len(class_names) >= 2:
        check_class_names(class_names, f"the folders in '{printable(root)}'; rename the folder")
        return
    if not class_names:
        beside = len(entries.images_beside(root))
        lies = f", but {beside} images itself" if beside else ""
        raise InputError(f"'{printable(root)}' has no class folders{lies}; folder: takes one sub-folder of JPEG or PNG files a class")
    inner = root / class_names[0]
    below = entries.folders(inner)
    for _ in range(_DEEPEST):
        if len(below) != 1 or entries.images_beside(inner):
            break
        inner = below[0]
        below = entries.folders(inner)
    nested = f" Did you mean '{printable(inner)}', which holds {_quoted([folder.name for folder in below])}?" if len(below) > 1 else ""
    raise InputError(
        f"'{printable(root)}' holds one class folder, '{printable(class_names[0])}': classification is between two classes at least, each "
        f"with a folder of its own.{nested}"
    )


def _is_nested(folder: pathlib.Path, entries: Entries) -> bool:
    """Whether a folder holds folders, and no image itself."""
    return not entries.images_beside(folder) and bool(entries.folders(folder))


def _contents(folder: pathlib.Path, entries: Entries) -> str:
    images, inner = entries.images_beside(folder), entries.folders(folder)
    if inner:
        return f"but {_quoted([one.name for one in inner])}"
    return f"but {len(images)} images itself" if images else "and no image"


def _right(part: str) -> str:
    return f"Wanted is one folder for each class in {part}, such as {part}cat and {part}dog"


def _quoted(names: Sequence[str]) -> str:
    shown = [f"'{printable(name)}'" for name in names[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
