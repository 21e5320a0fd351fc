"""The import of KerasHub, which is optional."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import keras

from keras_widerresnet.errors import InputError, first_line
from keras_widerresnet.heads import HOW_TO_INSTALL

PACKAGE = "keras_hub"


def keras_hub(what: str) -> ModuleType:
    """Imports KerasHub.

    Args:
        what: what needs it, for the message.

    Raises:
        InputError: if it or one of its dependencies is not installed.
    """
    try:
        return importlib.import_module(PACKAGE)
    except ImportError as error:
        raise InputError(f"{what} needs KerasHub: {HOW_TO_INSTALL} ({first_line(error)})") from None


@contextlib.contextmanager
def dtype_policy(policy: Any) -> Iterator[None]:
    """Sets Keras' global dtype policy for the layers built in the context; None keeps it."""
    before = keras.config.dtype_policy()
    if policy is not None:
        keras.config.set_dtype_policy(keras.dtype_policies.get(policy))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
