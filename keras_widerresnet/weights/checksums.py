"""Identifies published files by their checksum, whatever their name."""

from __future__ import annotations

import hashlib
import pathlib

from keras_widerresnet.errors import InputError
from keras_widerresnet.structures import Structure, same_network
from keras_widerresnet.weights.registry import PRETRAINED, OriginalFile, Pretrained

_BLOCK_BYTES = 1 << 20


def checksums(path: str | pathlib.Path) -> tuple[str, str]:
    """Returns md5 and sha256 of a file in hexadecimal, reading it once.

    Raises:
        InputError: if the file cannot be read.
    """
    digests = (hashlib.md5(usedforsecurity=False), hashlib.sha256())
    try:
        with pathlib.Path(path).open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                for digest in digests:
                    digest.update(block)
    except OSError as error:
        raise InputError(f"No weights file can be read at {str(path)!r}: {error.strerror}") from None
    return digests[0].hexdigest(), digests[1].hexdigest()


def recognise(md5: str, sha256: str) -> tuple[Pretrained, OriginalFile] | None:
    """Returns the record and published file with one of these checksums; None for any other file."""
    for record in PRETRAINED.values():
        for file in record.files:
            if md5 == file.md5 or sha256 == file.sha256:
                return record, file
    return None


def check_known(source: str | pathlib.Path, structure: str | Structure) -> None:
    """Raises `InputError` if `source` cannot be read, or is a published file of another structure."""
    known = recognise(*checksums(source))
    if known and not same_network(known[0].structure, structure):
        raise InputError(f"{str(source)!r} is {known[1].name}: it belongs to Model {known[0].structure}, not to {structure}")
