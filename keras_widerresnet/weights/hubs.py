"""Weights on the Hugging Face Hub and on Kaggle Models: `hf://user/name` and `kaggle://user/model/framework/variation`."""

from __future__ import annotations

import functools
import logging
import os
import pathlib
import re
import zipfile
from collections.abc import Callable, Sequence

from keras_widerresnet.errors import InputError
from keras_widerresnet.files import reason, replacing
from keras_widerresnet.texts import some
from keras_widerresnet.weights.first_bytes import KERAS_SUFFIXES, ORIGINAL_SUFFIXES

logger = logging.getLogger(__name__)

HUGGING_FACE, KAGGLE = "hf://", "kaggle://"
# What `model.save("hf://…")` of Keras and `save_to_preset` of KerasHub upload.
_CONFIG, _WEIGHTS, _OPTIONAL = "config.json", "model.weights.h5", "metadata.json"
_PRESET_FILES = {"preprocessor.json", "task.json"}
_HUGGING_FACE_FORM = re.compile(r"hf://(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/]+))?(?:/(?P<file>.+))?")
_KAGGLE_FORM = re.compile(r"kaggle://(?P<handle>[\w-]+/[\w-]+/\w+/[\w.-]+(?:/\d+)?)(?:/(?P<file>.+))?")
_LETTERS = 300  # of a library's message


def is_on_hub(weights: str) -> bool:
    """Whether weights are named by their place on a hub."""
    return weights.startswith((HUGGING_FACE, KAGGLE))


def local_weights(weights: str) -> str:
    """Returns the path of the local copy of weights on a hub, downloaded if necessary; any other `weights` unchanged.

    Args:
        weights: `"hf://USER/NAME"`, with `@REVISION` and `/FILE` as options, or `"kaggle://USER/MODEL/FRAMEWORK/VARIATION"`, with
            `/VERSION` and `/FILE`. Without a file, the repository must contain exactly one: of this package (`.weights.h5` with its
            sidecar, or `.keras`), an original checkpoint, or a model that Keras itself uploaded (`model.save("hf://USER/NAME")`).

    Returns:
        A path in the hub's own cache; for a model uploaded by Keras, a `.keras` file beside it with the same content.

    Raises:
        InputError: for an invalid name, a missing package, a download that fails without a copy in the cache, or no or several models.
    """
    return _fetched(weights) if is_on_hub(weights) else weights


@functools.cache
def _fetched(weights: str) -> str:
    if weights.startswith(HUGGING_FACE):
        match = _HUGGING_FACE_FORM.fullmatch(weights)
        if not match:
            raise InputError(f"Weights on Hugging Face are named hf://USER/NAME or hf://USER/NAME/FILE. Received: {weights!r}")
        names, download = _hugging_face(weights, match["repository"], match["revision"])
    else:
        match = _KAGGLE_FORM.fullmatch(weights)
        if not match:
            raise InputError(f"Weights on Kaggle are named kaggle://USER/MODEL/FRAMEWORK/VARIATION. Received: {weights!r}")
        names, download = _kaggle(weights, match["handle"])
    chosen = _model_among(names, match["file"], weights)
    paths = [download(name) for name in chosen]
    return str(paths[0] if len(chosen) == 1 or not chosen[0].endswith(_CONFIG) else _archive(paths))


def _hugging_face(weights: str, repository: str, revision: str | None) -> tuple[list[str], Callable[[str], pathlib.Path]]:
    """Returns the names of a repository's files, and the function that downloads one of them."""
    try:
        import huggingface_hub
    except ImportError:
        raise InputError(f"{weights!r} needs huggingface_hub: pip install huggingface_hub") from None
    try:
        info = huggingface_hub.HfApi(library_name="keras_widerresnet").model_info(repository, revision=revision)
    except Exception as error:  # of several libraries
        try:
            folder = pathlib.Path(huggingface_hub.snapshot_download(repository, revision=revision, local_files_only=True))
        except Exception:
            raise _failed(weights, error) from None
        logger.warning("%s cannot be reached; its copy in the cache is used", weights)
        return _names_in(folder), lambda name: folder / name
    licence = getattr(info.card_data, "license", None) or "none is stated"
    logger.info("%s, revision %s; licence: %s", weights, info.sha, licence)

    def download(name: str) -> pathlib.Path:
        try:
            return pathlib.Path(huggingface_hub.hf_hub_download(repository, name, revision=revision, library_name="keras_widerresnet"))
        except Exception as error:
            raise _failed(weights, error) from None

    return [sibling.rfilename for sibling in info.siblings or ()], download


def _kaggle(weights: str, handle: str) -> tuple[list[str], Callable[[str], pathlib.Path]]:
    try:
        import kagglehub
    except ImportError:
        raise InputError(f"{weights!r} needs kagglehub: pip install kagglehub") from None
    try:
        folder = pathlib.Path(kagglehub.model_download(handle))
    except Exception as error:
        raise _failed(weights, error) from None
    return _names_in(folder), lambda name: folder / name


def _model_among(names: Sequence[str], wanted: str | None, weights: str) -> list[str]:
    """Returns the names of the files that make up the model, the main one first.

    Raises:
        InputError: if there is none, several, or one of KerasHub.
    """
    present = set(names)
    if wanted is None:
        if {_CONFIG, _WEIGHTS} <= present:
            if _PRESET_FILES & present:
                raise InputError(f"{weights!r} is a preset of KerasHub: load it with from_preset({weights!r})")
            return [_CONFIG, _WEIGHTS, *({_OPTIONAL} & present)]
        models = [name for name in sorted(present) if name.endswith((*KERAS_SUFFIXES, *ORIGINAL_SUFFIXES))]
        if len(models) != 1:
            found = f"{len(models)} models: {some(models)}; name one of them, {weights}/FILE" if models else "no model"
            raise InputError(f"{weights!r} contains {found}")
        wanted = models[0]
    elif wanted not in present:
        raise InputError(f"{weights!r} does not exist; the repository contains {some(sorted(present)) or 'no files'}")
    sidecar = wanted.removesuffix(".weights.h5") + ".weights.json" if wanted.endswith(".weights.h5") else ""
    return [wanted, *({sidecar} & present)]


def _archive(paths: Sequence[pathlib.Path]) -> pathlib.Path:
    """Puts the files of a model that Keras uploaded into a `.keras` file, which is an archive of just these."""
    archive = paths[0].with_name("model.keras")
    if not archive.is_file():
        try:
            with replacing(archive) as temporary, zipfile.ZipFile(temporary, "w") as written:
                for path in paths:
                    written.write(path, path.name)
        except OSError as error:
            raise InputError(f"{str(archive)!r} cannot be written: {reason(error)}") from None
    return archive


def _names_in(folder: pathlib.Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if os.path.isfile(path)]


def _failed(weights: str, error: Exception) -> InputError:
    return InputError(f"{weights!r} cannot be downloaded: {' '.join(str(error).split())[:_LETTERS]}")
