"""File names, class names and lists from user data: reading, checking and printing them on one line."""

from __future__ import annotations

import os
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Sequence

from keras_widerresnet.errors import InputError

SHOWN = 5
# Control characters, surrogates (Python's escapes for bytes that are not UTF-8), and line and paragraph separators.
_NEVER_IN_NAMES = {"Cc", "Cs", "Zl", "Zp"}
_BYTE_ORDER_MARK = "\ufeff"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def some(items: Iterable[object]) -> str:
    """Joins the first items, followed by the number of further ones."""
    items = list(items)
    return "; ".join(printable(item) for item in items[:SHOWN]) + (f"; and {len(items) - SHOWN} more" if len(items) > SHOWN else "")


def printable(text: object) -> str:
    """Returns a text, such as a path, as one line of valid UTF-8; other bytes and control characters are escaped as in Python."""
    return "".join(_escaped(c) if unicodedata.category(c) in _NEVER_IN_NAMES else c for c in str(text))


def short(text: str, letters: int) -> str:
    """A text of at most so many letters: of a longer one the begin and the end."""
    end = (letters - 1) // 2
    return text if len(text) <= letters else f"{text[: letters - 1 - end]}…{text[len(text) - end :]}"


def is_utf8(text: str) -> bool:
    """Whether a text, such as a path, can be encoded as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_class_names(names: Sequence[object], source: str) -> tuple[str, ...]:
    """Returns the checked class names; each must be a single line, because label files have one name per line.

    Args:
        names: class names in class order.
        source: where they come from, for the error message.

    Raises:
        InputError: for a name that is not a string, is empty, begins or ends with white space, or contains a line break or another
            control character.
    """
    for number, name in enumerate(names):
        if problem := _problem_of_name(name):
            shown = f"'{printable(name)}'" if isinstance(name, str) else repr(name)
            raise InputError(
                f"The class name {shown} (class {number}) {problem}; a class name must be one line of text. It comes from {source}"
            )
    return tuple(str(name) for name in names)


def read_lines(path: str | pathlib.Path, what: str, *, any_bytes: bool = False) -> list[str]:
    """Returns the lines of a UTF-8 file with any kind of line breaks, with or without a byte order mark or a final line break.

    Args:
        path: `~` is expanded.
        what: what to call the file in messages, e.g. `"list of images"`.
        any_bytes: whether to accept bytes that are not UTF-8, kept as surrogate escapes as in Python's file names.

    Raises:
        InputError: if the file cannot be read or is not UTF-8 text.
    """
    path = pathlib.Path(os.path.expanduser(path))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"The {what} {printable(path)} cannot be read: {error.strerror}") from None
    if content.startswith(_UTF_16) or b"\0" in content:
        raise InputError(f"The {what} {printable(path)} is not UTF-8 text (perhaps UTF-16): save it as UTF-8")
    try:
        text = content.decode("utf-8", "surrogateescape" if any_bytes else "strict").removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        number = content[: error.start].count(b"\n") + 1
        line = printable(os.fsdecode(content.splitlines()[number - 1]))
        raise InputError(f"The {what} {printable(path)} is not UTF-8 text: line {number} is '{line}'. Save it as UTF-8") from None
    # `str.splitlines` would also break at characters that names may contain.
    lines = re.split(r"\r\n|\n|\r", text)
    return lines[:-1] if not lines[-1] else lines


def read_class_names(path: str | pathlib.Path) -> tuple[str, ...]:
    """Reads a file with one class name per line.

    Raises:
        InputError: if the file cannot be read, or a line is not a valid class name.
    """
    return check_class_names(read_lines(path, "file of class names"), f"{printable(path)}, which must have one class name per line")


def _problem_of_name(name: object) -> str:
    if not isinstance(name, str):
        return "is not text"
    if not name.strip():
        return "is empty"
    if not is_utf8(name):
        return "contains bytes that are not UTF-8"
    if any(unicodedata.category(character) in _NEVER_IN_NAMES for character in name) or _BYTE_ORDER_MARK in name:
        return "contains a line break or another control character"
    return "begins or ends with white space" if name != name.strip() else ""


def _escaped(character: str) -> str:
    # Python represents bytes that are not UTF-8 as U+DC80 and above (surrogate escapes).
    code = ord(character) - 0xDC00
    return f"\\x{code:02x}" if 0x80 <= code <= 0xFF else ascii(character)[1:-1]
