"""Names of data sets, such as `digits` or `folder:PATH`: the known kinds, and checks of a name before TensorFlow is imported."""

from __future__ import annotations

import dataclasses
import os
import re
import typing

from keras_widerresnet.data.sources.parts import find_class_folders
from keras_widerresnet.errors import InputError
from keras_widerresnet.options import did_you_mean
from keras_widerresnet.texts import check_class_names, is_utf8, printable

if typing.TYPE_CHECKING:
    from keras_widerresnet.label_maps import LabelMap

NO_VALIDATION, OWN_VALIDATION = "none", "auto"
NUMBER, PATH = "SIZE", "PATH"
VOID = 255  # ignored in masks by default
_SAYS_VALUE = re.compile(r"\d{1,9}=")
_DIGITS = 3


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of data set.

    Args:
        name: the word before the colon.
        takes: what follows the colon: `PATH`, an existing folder; `NUMBER`; another word, for a name; empty for nothing.
        is_optional: whether the part after the colon may be omitted.
        meanings: options that define the classes, with an example of each; exactly one of them must be given.
        parts: options that select other parts than the default ones.
        others: further options, with the value that each accepts.
    """

    name: str
    takes: str = ""
    is_optional: bool = False
    meanings: tuple[tuple[str, str], ...] = ()
    parts: tuple[str, ...] = ()
    others: tuple[tuple[str, str], ...] = ()

    @property
    def forms(self) -> tuple[str, ...]:
        """All forms in which such a name can be written."""
        if not self.takes:
            return (self.name,)
        full = f"{self.name}:{self.takes}"
        if self.meanings:
            return tuple(f"{full},{key}={value}" for key, value in self.meanings)
        return (self.name, full) if self.is_optional else (full,)

    @property
    def options(self) -> tuple[str, ...]:
        return (*self.parts, *(key for key, _ in (*self.meanings, *self.others)))


@dataclasses.dataclass(frozen=True)
class Kinds:
    """All kinds of data sets for a task; `noun` is the term for a data set in error messages."""

    noun: str
    kinds: tuple[Kind, ...]

    def __getitem__(self, name: str) -> Kind:
        """Returns the kind of a known name."""
        return {kind.name: kind for kind in self.kinds}[name]

    def find(self, name: str) -> Kind | None:
        """Returns the kind of a name, or None if it is unknown."""
        return next((kind for kind in self.kinds if kind.name == name), None)


PARTS = ("train", "test")
FOLDER, SBD = "folder", "sbd"
CLASSIFICATION = Kinds(
    "data set",
    (
        Kind("digits"),
        Kind(FOLDER, PATH),
        Kind("idx", PATH),
        Kind("tfds", "NAME"),
        Kind("tfrecord", PATH),
        Kind("fake", NUMBER, is_optional=True),
    ),
)
SEGMENTATION = Kinds(
    "segmentation data set",
    (
        Kind("voc", PATH, parts=PARTS, others=((SBD, PATH),)),
        Kind(SBD, PATH, parts=PARTS),
        Kind("cityscapes", PATH, parts=PARTS),
        Kind("camvid", PATH, parts=PARTS),
        Kind("ade20k", PATH, parts=PARTS),
        Kind("pascal_context", PATH, parts=PARTS),
        Kind("pairs", PATH, parts=PARTS, meanings=(("classes", "N"), ("names", "sky+road+…")), others=(("ignore", "VALUE"),)),
        Kind("shapes"),
    ),
)


def describe(kinds: Kinds) -> str:
    """Describes the names of all kinds in words, for help texts and error messages."""
    with_parts = [kind for kind in kinds.kinds if kind.parts]
    plain = [form for kind in kinds.kinds if not kind.parts for form in kind.forms]
    if not with_parts:
        return _either(plain)
    parts = ", ".join(f"{part}=PART" for part in with_parts[0].parts)
    others = [f"; {kind.name}: also accepts {key}={value}" for kind in with_parts for key, value in kind.others]
    others += [", and VALUE=NAME in names=" for kind in with_parts if kind.meanings]
    note = f"(each with {parts} to select other parts{''.join(others)})"
    return f"{_either([form for kind in with_parts for form in kind.forms])} {note}, or {_either(plain)}"


def parse_name(name: str, kinds: Kinds, *, needs_classes: bool = True) -> tuple[str, str]:
    """Splits a data set's name into its kind and what follows the colon, with `~` expanded and the options, if there are any.

    Args:
        name: e.g. `"digits"`, `"folder:~/photographs"`, `"pairs:camvid,classes=11,ignore=11"`.
        kinds: `CLASSIFICATION` or `SEGMENTATION`.
        needs_classes: whether a folder must have class folders.

    Raises:
        InputError: for an unknown kind, a missing or invalid argument, a path that is not a folder or has no class folders, or invalid
            options.
    """
    before, _, argument = name.partition(":")
    kind = kinds.find(before)
    if kind is None or not _fits(name, argument, kind):
        nearest = did_you_mean(before, [known.name for known in kinds.kinds]) if kind is None else ""
        raise InputError(f"Unknown {kinds.noun} {name!r}; a data set is one of: {describe(kinds)}{nearest}")
    if kind.takes != PATH:
        return kind.name, argument
    path, options = path_and_options(argument, kind)
    expanded = os.path.expanduser(path)
    if not is_utf8(expanded):
        # Flag files, reports and TensorFlow write this path; names below it are not restricted.
        raise InputError(f"The path '{printable(path)}' is not valid UTF-8: rename its folders, or give a link to it")
    if not os.path.isdir(expanded):
        raise InputError(f"No folder at {path!r}; {kind.name}: needs the path of a folder")
    for key in (key for key, value in kind.others if value == PATH and key in options):
        options[key] = os.path.expanduser(options[key])
        if not os.path.isdir(options[key]):
            raise InputError(f"No folder at {options[key]!r}; {key}= needs the path of a folder")
    if kind.name == FOLDER and needs_classes:
        find_class_folders(expanded)
    return kind.name, ",".join([expanded, *(f"{key}={value}" for key, value in options.items())])


def path_and_options(argument: str, kind: Kind) -> tuple[str, dict[str, str]]:
    """Splits `PATH,KEY=VALUE,…` into path and options; for a kind without options, all of it is the path.

    Raises:
        InputError: for options that the kind does not accept, or that are given twice or without a value.
    """
    if not kind.options:
        return argument, {}
    path, *given = re.split(r",(?=[a-z]+=)", argument)
    options = dict(option.split("=", 1) for option in given)
    wrong = [key for key, value in options.items() if key not in kind.options or not value]
    if wrong or len(options) < len(given):
        allowed = ", ".join(f"{key}=…" for key in kind.options)
        raise InputError(f"{kind.name}: accepts the options {allowed}, each at most once. Received: {argument!r}")
    _check_meanings(kind, options)
    return path, options


def held_out_share(choice: str) -> float | None:
    """Returns the share of the training images that `--validation=CHOICE` holds out; None if it is a keyword or a part's name.

    Raises:
        InputError: for a number that is not between 0 and 1.
    """
    try:
        share = float(choice)
    except ValueError:
        return None
    if not 0 < share < 1:
        raise InputError(f"--validation must be a share of the training images between 0 and 1, such as 0.1. Received: {choice!r}")
    return share


def _fits(name: str, argument: str, kind: Kind) -> bool:
    if not argument:
        return name == kind.name and (kind.is_optional or not kind.takes)
    return bool(kind.takes) and (kind.takes != NUMBER or (argument.isdecimal() and int(argument) > 0))


def label_map_of(options: dict[str, str]) -> LabelMap:
    """Builds the label map from the options of a kind with `meanings`.

    In `names=background+255=object`, a name may be preceded by its value; without one, it has the value after that of the preceding
    name, starting at 0. `classes=2` means the values 0 and 1. 255 is ignored unless it is the value of a class.

    Args:
        options: from `path_and_options`.

    Raises:
        InputError: for values that do not fit in a byte or have two meanings, and for names that are invalid or occur twice.
    """
    from keras_widerresnet.label_maps import numbered  # needs NumPy, which help texts do not

    names: list[str] = []
    values: list[int] = []
    for word in options["names"].split("+") if "names" in options else []:
        value, _, name = word.partition("=") if _SAYS_VALUE.match(word) else ("", "", word)
        names.append(name)
        values.append(int(value) if value else values[-1] + 1 if values else 0)
    if "classes" in options:
        values = list(range(int(options["classes"])))
        names = [f"class {k}" for k in values]
    check_class_names(names, f"names={printable(options.get('names', ''))}")
    if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise InputError(f"names= must not repeat a class name: {', '.join(map(repr, repeated))}. Received: {options['names']}")
    ignored = [int(number) for number in options.get("ignore", "").split("+") if number]
    ignored += [] if VOID in values else [VOID]
    return numbered(f"classes:{len(names)}", tuple(names), tuple(dict.fromkeys(ignored)), tuple(values))


def _check_meanings(kind: Kind, options: dict[str, str]) -> None:
    if not kind.meanings:
        return
    if sum(key in options for key, _ in kind.meanings) != 1:
        wanted = " or ".join(f"{key}={value}" for key, value in kind.meanings)
        raise InputError(
            f"{kind.name}: needs either {wanted} (the classes of the masks' values 0, 1, …; write VALUE=sky for a class with another value)"
        )
    numbers = [number for number in (*options.get("ignore", "").split("+"), options.get("classes", "")) if number]
    if not all(number.isdecimal() and len(number) <= _DIGITS for number in numbers):
        raise InputError(f"classes= and ignore= must be whole numbers of a byte; ignore= may list several (11+12). Received: {options}")
    label_map_of(options)


def _either(forms: list[str]) -> str:
    *first, last = forms
    return f"{', '.join(first)} or {last}" if first else last
