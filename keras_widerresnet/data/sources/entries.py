"""Listing of data folders: images and sub-folders, without hidden files and those that other programs leave there."""

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
# In addition to names that begin with a dot: files and folders of macOS, Windows, Linux, Synology, QNAP and Python.
JUNK_NAMES = frozenset({
    "__macosx", "network trash folder", "temporary items", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin",
    "system volume information", "found.000", "lost+found", "__pycache__", "@eadir", "@tmp", "@sharebin", "#recycle", "#snapshot",
    "@recycle", "@recently-snapshot", "@__thumb", "_vti_cnf",
})  # fmt: skip
ABSENT = "does not exist"
_JUNK_STARTS = (".", "~$")
_KINDS = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is hidden or belongs to another program; its depth does not matter."""
    return name.startswith(_JUNK_STARTS) or name.lower() in JUNK_NAMES


def problem_of_file(path: str | os.PathLike[str]) -> str:
    """Returns why a path cannot be read as a file, as a predicate to follow its name; "" if it can."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return f"is a broken link to {printable(os.readlink(path))}" if os.path.islink(path) else ABSENT
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if stat.S_ISDIR(mode):
        return "is a folder"
    if not stat.S_ISREG(mode):
        return f"is {next((kind for test, kind in _KINDS if test(mode)), 'something else')}, not a file"
    return "" if os.access(path, os.R_OK) else "cannot be read (permission denied)"


class Entries:
    """Lists the folders of one data set, and records what is skipped.

    Links to folders are followed, except links to a folder that contains them. Hidden files and those of other programs are skipped at
    every depth. Folders are recognised whatever their names; a broken link, a pipe or an unreadable file in place of an image is recorded
    as a problem.

    Attributes:
        problems: maps paths that could be images or folders of images, but cannot be read, to the reasons.
    """

    def __init__(self) -> None:
        self.problems: dict[str, str] = {}
        self._junk: dict[str, None] = {}  # in order, once each
        self._circles: dict[str, None] = {}
        self._others: collections.Counter[str] = collections.Counter()

    def folders(self, folder: pathlib.Path) -> list[pathlib.Path]:
        """Returns the sub-folders of a folder, sorted by name."""
        return [path for path, is_folder in self._listed(folder) if is_folder]

    def images_beside(self, folder: pathlib.Path) -> list[pathlib.Path]:
        """Returns the entries directly in a folder that have an image's ending and are not folders."""
        return [path for path, is_folder in self._listed(folder) if not is_folder and path.name.lower().endswith(IMAGE_ENDINGS)]

    def files(self, folder: pathlib.Path, endings: Sequence[str] = IMAGE_ENDINGS) -> list[pathlib.Path]:
        """Returns the files at any depth in a folder with these endings, in any letter case, sorted by their paths as text."""
        wanted = tuple(ending.lower() for ending in endings)
        found: list[pathlib.Path] = []
        seen: set[tuple[int, int]] = set()
        waiting: list[pathlib.Path] = [folder]
        linked: list[pathlib.Path] = []  # links come last, so that a folder that is also reached without a link keeps its own path
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
        """Raises `InputError` if anything in place of an image could not be read."""
        if self.problems:
            lines = some(f"{path} {problem}" for path, problem in self.problems.items())
            raise InputError(f"{len(self.problems)} {what} cannot be used: {lines}")

    def log(self, path: str | pathlib.Path) -> None:
        """Logs in one line what was skipped in a data set at `path`, if anything was."""
        lines = []
        if self._junk:
            lines.append(f"{len(self._junk)} files and folders that are hidden or belong to other programs ({some(self._junk)})")
        if self._others:
            kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(self._others.items()))
            lines.append(f"images whose endings are neither JPEG's nor PNG's ({kinds})")
        if self._circles:
            lines.append(f"links to folders that contain them ({some(self._circles)})")
        if lines:
            logger.warning("Skipped in %s: %s", printable(path), "; ".join(lines))

    def _listed(self, folder: pathlib.Path) -> list[tuple[pathlib.Path, bool]]:
        """Returns a folder's entries except junk, sorted by name, each with whether it is a folder."""
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
                self.problems[str(path)] = problem_of_file(path)  # probably a link to a folder
            else:
                kept.append((path, is_folder))
        return kept


def _identity(folder: pathlib.Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _holds(link: pathlib.Path, folder: pathlib.Path) -> bool:
    """Whether a link's target is `folder` or contains it."""
    target, inner = link.resolve(), folder.resolve()
    return target == inner or target in inner.parents
