"""Names and lists that others wrote, of files and of classes: read, checked, and shown in one line."""

from __future__ import annotations

import os
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Sequence

from keras_widerresnet.errors import InputError

SHOWN = 5
# Control characters, halves of characters (which is how Python keeps bytes that are no UTF-8), and what other programs break lines at.
_NEVER_IN_NAMES = {"Cc", "Cs", "Zl", "Zp"}
_BYTE_ORDER_MARK = "\ufeff"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def some(items: Iterable[object]) -> str:
    """The first items of many, and how many more there are."""
    items = list(items)
    return "; ".join(printable(item) for item in items[:SHOWN]) + (f"; and {len(items) - SHOWN} more" if len(items) > SHOWN else "")


def printable(text: object) -> str:
    """A text, such as a file's path, in one line of UTF-8: other bytes and control characters are escaped as in Python, the rest stays."""
    return "".join(_escaped(c) if unicodedata.category(c) in _NEVER_IN_NAMES else c for c in str(text))


def short(text: str, letters: int) -> str:
    """A text of at most so many letters: of a longer one the begin and the end."""
    end = (letters - 1) // 2
    return text if len(text) <= letters else f"{text[: letters - 1 - end]}…{text[len(text) - end :]}"


def is_utf8(text: str) -> bool:
    """Whether a text, such as a file's path, is made of characters, not of bytes that are none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_class_names(names: Sequence[object], source: str) -> tuple[str, ...]:
    """The names of classes, each of which must be one line, as lists of labels have one name a line.

    Args:
        names: in the order of the classes.
        source: where they come from, for the message.

    Raises:
        InputError: for a name that is no text, is empty, begins or ends with a blank, or holds a line break or another control character.
    """
    for number, name in enumerate(names):
        if problem := _problem_of_name(name):
            shown = f"'{printable(name)}'" if isinstance(name, str) else repr(name)
            raise InputError(f"The class name {shown} (class {number}) of {source} {problem}: a class name is one line of text")
    return tuple(str(name) for name in names)


def read_lines(path: str | pathlib.Path, what: str, *, any_bytes: bool = False) -> list[str]:
    """The lines of a UTF-8 file, whatever its line breaks and with or without a byte order mark, the last break ending the last line.

    Args:
        path: `~` is expanded.
        what: what to call it in messages, e.g. `"list of images"`.
        any_bytes: keep bytes that are no UTF-8 as Python keeps them in names of files.

    Raises:
        InputError: if it cannot be read or is no such text.
    """
    path = pathlib.Path(os.path.expanduser(path))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"The {what} {printable(path)} cannot be read: {error.strerror}") from None
    if content.startswith(_UTF_16) or b"\0" in content:
        raise InputError(f"The {what} {printable(path)} is no UTF-8 text (UTF-16?): save it as UTF-8")
    try:
        text = content.decode("utf-8", "surrogateescape" if any_bytes else "strict").removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        number = content[: error.start].count(b"\n") + 1
        line = printable(os.fsdecode(content.splitlines()[number - 1]))
        raise InputError(f"The {what} {printable(path)} is no UTF-8 text: line {number} is '{line}'. Save it as UTF-8") from None
    # `str.splitlines` would break at characters that names may hold.
    lines = re.split(r"\r\n|\n|\r", text)
    return lines[:-1] if not lines[-1] else lines


def read_class_names(path: str | pathlib.Path) -> tuple[str, ...]:
    """The names in a file of one class name a line.

    Raises:
        InputError: if it cannot be read, or a line is no name.
    """
    return check_class_names(read_lines(path, "file of class names"), f"the file of one class name a line {printable(path)}")


def _problem_of_name(name: object) -> str:
    if not isinstance(name, str):
        return "is no text"
    if not name.strip():
        return "is empty"
    if not is_utf8(name):
        return "holds bytes that are no UTF-8"
    if any(unicodedata.category(character) in _NEVER_IN_NAMES for character in name) or _BYTE_ORDER_MARK in name:
        return "holds a line break or another control character"
    return "begins or ends with a blank" if name != name.strip() else ""


def _escaped(character: str) -> str:
    # Bytes that are no UTF-8 are U+DC80 and up in Python's names of files.
    code = ord(character) - 0xDC00
    return f"\\x{code:02x}" if 0x80 <= code <= 0xFF else ascii(character)[1:-1]
