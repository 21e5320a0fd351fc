"""The files of class activation maps: which images they are of, and the folder that holds them. Imports neither TensorFlow nor Keras."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from keras_widerresnet.data.sources.entries import Entries
from keras_widerresnet.errors import InputError
from keras_widerresnet.files import is_absent, replacing
from keras_widerresnet.models import Source
from keras_widerresnet.tasks.classification.config import ActivationMapsConfig
from keras_widerresnet.texts import printable, read_lines, some

OVERLAYS, ARRAYS, SETTINGS = "overlays", "maps", "settings.json"
# Options on which the maps of an image depend; of the others only which files are written.
_MADE_OF = ("model", "width", "pool_padding", "preprocessing", "output_stride", "scales", "flip", "size", "classes", "image_classes", "top")


def find_images(given: Sequence[str]) -> dict[str, pathlib.Path]:
    """Returns name -> path of each image file, in order; a folder stands for all JPEG and PNG files in it, at any depth.

    The names, without folder and ending, are those of the files that are written.

    Raises:
        InputError: if a file does not exist, a folder has no images, or two images have the same name.
    """
    found: dict[str, pathlib.Path] = {}
    for text in given:
        path = pathlib.Path(text)
        if path.is_dir():
            entries = Entries()
            files = entries.files(path)
            entries.check("images")
            entries.log(path)
            if not files:
                raise InputError(f"The folder '{printable(path)}' contains no JPEG or PNG files")
        elif path.is_file():
            files = [path]
        else:
            raise InputError(f"No image at {text!r}")
        for file in files:
            other = found.setdefault(file.stem, file)
            if other != file:
                raise InputError(f"'{printable(other)}' and '{printable(file)}' have the same name, and so would their maps")
    return found


def read_image_classes(path: str, images: Mapping[str, pathlib.Path]) -> dict[str, tuple[str, ...]]:
    """Returns the classes, names or numbers, of each image from a file of lines `NAME<TAB>CLASS<TAB>CLASS...`.

    Args:
        path: the file; names of images are given with or without their ending, and may be of other images too.
        images: the images that need classes.

    Raises:
        InputError: if a line has no class, an image is named twice, or has no line.
    """
    found: dict[str, tuple[str, ...]] = {}
    endings = {file.name: name for name, file in images.items()}
    for number, line in enumerate(read_lines(path, "file of the images' classes"), 1):
        name, *classes = (part.strip() for part in line.split("\t"))
        name = endings.get(name, name)
        classes = [one for one in classes if one]
        if not name and not classes:
            continue
        if not name or not classes:
            raise InputError(f"{path}, line {number}: must be an image's name and its classes, separated by tabs. Received: {line!r}")
        if name in found:
            raise InputError(f"{path}, line {number}: {name!r} has a line already")
        found[name] = tuple(dict.fromkeys(classes))
    if lacking := [name for name in images if name not in found]:
        raise InputError(f"{path} has no line for {len(lacking)} of {len(images)} images: {some(lacking)}")
    return found


def seeds_folder(alpha: float) -> str:
    """Returns the name of the folder of seeds with a background exponent."""
    return f"seeds_alpha{alpha:g}"


def files_of(config: ActivationMapsConfig, name: str) -> list[pathlib.Path]:
    """Returns the files of one image, in the order in which they are written."""
    folder = pathlib.Path(config.output_dir)
    files = [folder / OVERLAYS / f"{name}.png"] if config.overlays else []
    files += [folder / seeds_folder(alpha) / f"{name}.png" for alpha in config.alpha] if config.seeds else []
    return files + ([folder / ARRAYS / f"{name}.json", folder / ARRAYS / f"{name}.npy"] if config.arrays else [])


def check_folder(config: ActivationMapsConfig, source: Source) -> None:
    """Raises `InputError` if the folder exists and does not hold maps of the same network with the same options."""
    folder = pathlib.Path(config.output_dir)
    if is_absent(folder):
        return
    path = folder / SETTINGS
    if not path.is_file():
        raise InputError(f"{config.output_dir!r} exists and holds no activation maps ({SETTINGS}): choose another --output_dir")
    try:
        before = json.loads(path.read_text())
    except (OSError, ValueError):
        before = {}
    now = settings(config, source)
    other = [name for name in now if not isinstance(before, dict) or before.get(name) != now[name]]
    if other and not config.overwrite:
        raise InputError(
            f"{config.output_dir!r} holds maps made with other options ({', '.join(other)}): choose another --output_dir, or --overwrite"
        )


def settings(config: ActivationMapsConfig, source: Source) -> dict[str, Any]:
    """Returns what the maps depend on, as it is stored."""
    weights = str(source.path.resolve()) if source.path else source.text
    return json.loads(json.dumps({"weights": weights} | {name: getattr(config, name) for name in _MADE_OF}))


def write_settings(config: ActivationMapsConfig, source: Source) -> None:
    """Writes the settings, so that a later call of the same options continues."""
    with replacing(pathlib.Path(config.output_dir) / SETTINGS) as temporary:
        temporary.write_text(json.dumps(settings(config, source), indent=1) + "\n")
