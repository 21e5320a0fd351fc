"""What lies in a folder of data: images and folders, without what other programs leave there."""

from __future__ import annotations

import collections
import logging
import os
import pathlib
import stat
from collections.abc import Sequence

from keras_widerresnet.errors import InputError
from keras_widerresnet.texts import printable, some

logger = logging.getLogger(__name__)

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")
OTHER_IMAGE_ENDINGS = (".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".tif", ".tiff", ".webp")
# Besides all names that begin with a dot: of macOS, Windows, Linux, Synology, QNAP, and Python.
JUNK_NAMES = frozenset({
    "__macosx", "network trash folder", "temporary items", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin",
    "system volume information", "found.000", "lost+found", "__pycache__", "@eadir", "@tmp", "@sharebin", "#recycle", "#snapshot",
    "@recycle", "@recently-snapshot", "@__thumb", "_vti_cnf",
})  # fmt: skip
_JUNK_STARTS = (".", "~$")
_KINDS = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is hidden or another program's, at whatever depth it lies."""
    return name.startswith(_JUNK_STARTS) or name.lower() in JUNK_NAMES


def problem_of_file(path: str | os.PathLike[str]) -> str:
    """What keeps a path from being read as a file, to follow its name; "" if nothing does."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return f"is a broken link to {printable(os.readlink(path))}" if os.path.islink(path) else "is not there"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if stat.S_ISDIR(mode):
        return "is a folder"
    if not stat.S_ISREG(mode):
        return f"is {next((kind for test, kind in _KINDS if test(mode)), 'something else')}, not a file"
    return "" if os.access(path, os.R_OK) else "cannot be read (permission denied)"


class Entries:
    """Reads the folders of one data set, and keeps account of what it passes over.

    Links to folders are followed, but for those to a folder that they lie in. Hidden files and those of other programs are passed over at
    every depth. A folder is a folder, whatever its name; a broken link, a pipe or a file that may not be read in an image's place is a
    problem.

    Attributes:
        problems: path -> what keeps it from being read, of what lies where an image or a folder of images could be.
    """

    def __init__(self) -> None:
        self.problems: dict[str, str] = {}
        self._junk: dict[str, None] = {}  # in order, once each
        self._circles: dict[str, None] = {}
        self._others: collections.Counter[str] = collections.Counter()

    def folders(self, folder: pathlib.Path) -> list[pathlib.Path]:
        """The folders in a folder, sorted by their names."""
        return [path for path, is_folder in self._listed(folder) if is_folder]

    def images_beside(self, folder: pathlib.Path) -> list[pathlib.Path]:
        """What lies in a folder itself, is no folder and has an image's name."""
        return [path for path, is_folder in self._listed(folder) if not is_folder and path.name.lower().endswith(IMAGE_ENDINGS)]

    def files(self, folder: pathlib.Path, endings: Sequence[str] = IMAGE_ENDINGS) -> list[pathlib.Path]:
        """The files at any depth in a folder whose names end so, in any letter case, sorted by their paths as text."""
        wanted = tuple(ending.lower() for ending in endings)
        found: list[pathlib.Path] = []
        seen: set[tuple[int, int]] = set()
        waiting: list[pathlib.Path] = [folder]
        linked: list[pathlib.Path] = []  # links come last: a folder that is here anyway keeps its own path
        while waiting or linked:
            current = (waiting or linked).pop()
            if (identity := _identity(current)) in seen:
                continue
            seen.add(identity)
            for path, is_folder in self._listed(current):
                name = path.name.lower()
                if is_folder and not path.is_symlink():
                    waiting.append(path)
                elif is_folder and _holds(path, current):
                    self._circles[str(path)] = None
                elif is_folder:
                    linked.append(path)
                elif name.endswith(wanted):
                    if problem := problem_of_file(path):
                        self.problems[str(path)] = problem
                    else:
                        found.append(path)
                elif name.endswith(OTHER_IMAGE_ENDINGS):
                    self._others[path.suffix.lower()] += 1
        return sorted(found, key=str)

    def check(self, what: str = "files") -> None:
        """Raises `InputError` if anything in an image's place could not be read."""
        if self.problems:
            lines = some(f"{path} {problem}" for path, problem in self.problems.items())
            raise InputError(f"{len(self.problems)} {what} cannot be used: {lines}")

    def log(self, path: str | pathlib.Path) -> None:
        """One line about all that was passed over in a data set at `path`, if anything was."""
        lines = []
        if self._junk:
            lines.append(f"{len(self._junk)} hidden or other programs' files and folders ({some(self._junk)})")
        if self._others:
            kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(self._others.items()))
            lines.append(f"images that are neither JPEG nor PNG by their names ({kinds})")
        if self._circles:
            lines.append(f"links to folders that they lie in ({some(self._circles)})")
        if lines:
            logger.warning("Passed over in %s: %s", printable(path), "; ".join(lines))

    def _listed(self, folder: pathlib.Path) -> list[tuple[pathlib.Path, bool]]:
        """What lies in a folder but for junk, sorted by name, and whether it is a folder."""
        try:
            with os.scandir(folder) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"The folder {printable(folder)} cannot be read: {error.strerror}") from None
        kept = []
        for entry in entries:
            path = folder / entry.name
            is_folder = entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(path))
            if is_junk(entry.name):
                self._junk[str(path)] = None
            elif entry.is_symlink() and not path.suffix and not os.path.exists(path):
                self.problems[str(path)] = problem_of_file(path)  # a folder, probably
            else:
                kept.append((path, is_folder))
        return kept


def _identity(folder: pathlib.Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _holds(link: pathlib.Path, folder: pathlib.Path) -> bool:
    """Whether what a link points to is `folder` or holds it."""
    target, inner = link.resolve(), folder.resolve()
    return target == inner or target in inner.parents
